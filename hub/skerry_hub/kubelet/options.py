"""The endpoint as a command line asks for it, checked. Decides which file holds what, and that a hub that neither has
a certificate nor asks for one serves no endpoint."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from skerry.errors import ConfigInvalid
from skerry.limits import MIB
from skerry_hub.kubelet.serve import ServingKeys
from skerry_hub.limits import KUBELET_PORTS, KUBELET_SELF_SIGNED_DAYS

PEM_BYTES_MAX = MIB
BOOTSTRAP = "--kubelet-server-tls-bootstrap"


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A PEM file that an `option` names, for one field of ServingKeys."""

    field: str
    option: str
    path: Path

    def read(self) -> str:
        """Its text. Raises ConfigInvalid, also for an empty one: somebody is about to write it."""
        try:
            with self.path.open("rb") as file:
                text = file.read(PEM_BYTES_MAX).decode()
        except OSError as why:
            raise ConfigInvalid(self.option, f"{self.path}: {why.strerror}") from None
        except UnicodeDecodeError:
            raise ConfigInvalid(self.option, f"{self.path}: is not PEM") from None
        if not text.strip():
            raise ConfigInvalid(self.option, f"{self.path}: is empty")
        return text


@dataclass(frozen=True, slots=True)
class EndpointOptions:
    """`listen` is an address of this host, `address` the one that nodes show, `ports` first and last. `keys` are what
    the files held; with `tls_bootstrap` the certificate in them is the hub's own, until the cluster has signed one."""

    keys: ServingKeys
    files: tuple[KeyFile, ...]
    tls_bootstrap: bool
    listen: str
    address: str
    ports: tuple[int, int]


def endpoint_options(
    certificate: Path | None,
    key: Path | None,
    client_ca: Path | None,
    listen: str,
    address: str,
    ports: str,
    tls_bootstrap: bool = False,
) -> EndpointOptions | None:
    """None when no certificate is named or asked for. Raises ConfigInvalid."""
    if certificate is None and key is None and client_ca is None and not tls_bootstrap:
        return None
    if tls_bootstrap and not (certificate is None and key is None):
        raise ConfigInvalid(BOOTSTRAP, "and --kubelet-cert, --kubelet-key are two ways to a certificate: take one")
    shown = address or listen
    for option, value in (("--kubelet-listen", listen), ("--kubelet-address", shown)):
        try:
            found = ipaddress.ip_address(value)
        except ValueError:
            raise ConfigInvalid(option, f"{value!r} is no IP address") from None
    if found.is_unspecified:
        raise ConfigInvalid("--kubelet-address", f"is needed: nodes cannot show {listen}")
    pair = (("certificate", "--kubelet-cert", certificate), ("key", "--kubelet-key", key))
    named = (*(() if tls_bootstrap else pair), ("client_authorities", "--kubelet-client-ca", client_ca))
    files = tuple(_file(*said) for said in named)
    own = _self_signed(shown) if tls_bootstrap else {}
    keys = ServingKeys(**own, **{file.field: file.read() for file in files})
    return EndpointOptions(keys, files, tls_bootstrap, listen, shown, _ports(ports))


def _self_signed(address: str) -> dict[str, str]:
    """Certificate and key by nobody whom anybody trusts: for API servers that do not check."""
    from skerry_hub import pki

    days, now = KUBELET_SELF_SIGNED_DAYS, pki.utc_now()
    authority = pki.new_authority("skerry-hub kubelet endpoint", days, now)
    pair = pki.issue(authority, "skerry-hub", (), (address,), days, now)
    return {"certificate": pair.certificate_pem.decode(), "key": pair.key_pem.decode()}


def _ports(text: str) -> tuple[int, int]:
    if not text:
        return KUBELET_PORTS
    first, dash, last = text.partition("-")
    if not (dash and first.isascii() and first.isdigit() and last.isascii() and last.isdigit()):
        raise ConfigInvalid("--kubelet-ports", f"{text!r} is not FIRST-LAST")
    if not 0 < int(first) <= int(last) <= 0xFFFF:
        raise ConfigInvalid("--kubelet-ports", f"{text!r} is no range within 1 to 65535")
    return int(first), int(last)


def _file(field: str, option: str, path: Path | None) -> KeyFile:
    if path is None:
        raise ConfigInvalid(option, "is needed: certificate, key and client authorities belong together")
    return KeyFile(field, option, path)
