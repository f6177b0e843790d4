"""How the hub comes to its broker, as a command line asks for it: two clients, one for state and one for streams.

With mqtts:// each has a certificate, whose common name is its client id too: signed by the devices' authority for this
process when it connects, or from files. Nothing of it is kept, so nothing of it can expire.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509

from skerry.errors import ConfigInvalid
from skerry.model.streams import streams_name
from skerry.world.dial import refuse_insecure
from skerry_hub import mosquitto, pki, tls
from skerry_hub.enrolment.authority import CERTIFICATE_OPTION, Authority
from skerry_hub.join import broker_url
from skerry_hub.limits import COMMON_NAME_CHARS_MAX

Tls = Callable[[], ssl.SSLContext]  # a new one for each attempt to connect; raises ConfigInvalid


@dataclass(frozen=True, slots=True)
class BrokerFiles:
    """PEM files that options name; None where an option was not given."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    streams_certificate: Path | None = None
    streams_key: Path | None = None

    def given(self) -> dict[str, Path | None]:
        """By option, without the CA."""
        return {
            "--broker-cert": self.certificate,
            "--broker-key": self.key,
            "--broker-streams-cert": self.streams_certificate,
            "--broker-streams-key": self.streams_key,
        }


@dataclass(frozen=True, slots=True)
class BrokerOptions:
    """`client_ids` and `tls` are of the connection for state and of the one for streams; `tls` is None for mqtt://."""

    url: str
    host: str
    port: int
    client_ids: tuple[str, str]
    tls: tuple[Tls, Tls] | None


def broker_options(
    url: str,
    files: BrokerFiles,
    authority: Authority | None,
    *,
    replica: str,
    client_id: str,
    insecure: bool,
    now: Callable[[], datetime] = pki.utc_now,
) -> BrokerOptions:
    """`client_id` is who the hub is to a broker without TLS. Raises ConfigInvalid."""
    host, port, secure = broker_url(url)
    if not secure:
        refuse_insecure(host, insecure, "--broker")
        said = [option for option, path in {"--broker-ca": files.ca, **files.given()}.items() if path is not None]
        if said:
            raise ConfigInvalid(said[0], f"is for mqtts://, and --broker is {url}")
        return BrokerOptions(url, host, port, (client_id, streams_name(client_id)), None)
    if files.ca is None and authority is None:
        raise ConfigInvalid("--broker-ca", f"is needed with mqtts://, or {CERTIFICATE_OPTION}")
    believed = _authorities(files.ca, authority)
    given = files.given()
    missing = [option for option, path in given.items() if path is None]
    paths = [path for path in given.values() if path is not None]
    if not missing:
        names = _names_in(paths[0], paths[2])
        contexts = (_from_files(believed, *paths[:2]), _from_files(believed, *paths[2:]))
    elif paths:
        raise ConfigInvalid(missing[0], "is needed: the certificates and keys for state and for streams go together")
    elif authority is None:
        raise ConfigInvalid("--broker-cert", f"is needed with mqtts://, or {CERTIFICATE_OPTION} and its key")
    else:
        names = _hub_names(replica)
        contexts = _signed(believed, authority, names[0], now), _signed(believed, authority, names[1], now)
    return BrokerOptions(url, host, port, names, contexts)


# --- private ----------------------------------------------------------------------------------------------------------


def _authorities(file: Path | None, authority: Authority | None) -> bytes:
    if file is None:
        assert authority is not None
        return authority.believed_pem
    return _read("--broker-ca", file)


def _hub_names(replica: str) -> tuple[str, str]:
    names = mosquitto.hub_names(replica)
    if len(names[1]) > COMMON_NAME_CHARS_MAX:
        most = len(replica) - (len(names[1]) - COMMON_NAME_CHARS_MAX)
        problem = f"{replica!r} has more than {most} characters, which a certificate for the broker cannot hold"
        raise ConfigInvalid("--replica", problem)
    return names


def _signed(believed: bytes, authority: Authority, name: str, now: Callable[[], datetime]) -> Tls:
    def context() -> ssl.SSLContext:
        pair = authority.client(name, now())
        return tls.client_context(believed, pair.certificate_pem, pair.key_pem)

    return context


def _from_files(believed: bytes, certificate: Path, key: Path) -> Tls:
    """Read anew for each attempt: whoever renews them does so under a running hub."""

    def context() -> ssl.SSLContext:
        return tls.client_context(believed, _read("--broker-cert", certificate), _read("--broker-key", key))

    return context


def _names_in(*certificates: Path) -> tuple[str, str]:
    names = [_name_in(one) for one in certificates]
    if names[0] == names[1]:
        raise ConfigInvalid("--broker-streams-cert", f"is for {names[0]!r} too: a broker takes both for one client")
    return names[0], names[1]


def _name_in(certificate: Path) -> str:
    try:
        name = pki.common_name(x509.load_pem_x509_certificate(_read("--broker-cert", certificate)))
    except ValueError:
        raise ConfigInvalid("--broker-cert", f"{certificate}: is no certificate in PEM") from None
    if not name:
        raise ConfigInvalid("--broker-cert", f"{certificate}: has no common name, by which a broker knows the hub")
    return name


def _read(option: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as why:
        raise ConfigInvalid(option, f"{path}: {why.strerror}") from None
