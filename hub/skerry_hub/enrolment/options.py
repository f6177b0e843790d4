"""The enrolment server as a command line asks for it, checked; a hub without --enroll-listen enrols nobody."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from skerry.errors import ConfigInvalid
from skerry_hub.enrolment.authority import CERTIFICATE_OPTION, Authority
from skerry_hub.enrolment.serve import OPTION
from skerry_hub.limits import DEVICE_DAYS_MAX, DEVICE_DAYS_MIN
from skerry_hub.listener import parse_listen


@dataclass(frozen=True, slots=True)
class EnrolmentOptions:
    """`listen` is HOST:PORT of this host, `names` the hosts and addresses that devices dial it by, `url` what devices
    are told (empty: made of the first name and the port), `broker` their mqtts://HOST:PORT."""

    authority: Authority
    listen: str
    names: tuple[str, ...]
    url: str
    broker: str
    days: int

    def url_at(self, port: int) -> str:
        """`port` is the one that is listened on."""
        name = self.names[0]
        return self.url or f"https://{f'[{name}]' if ':' in name else name}:{port}"


def enrolment_options(
    authority: Authority | None,
    listen: str,
    addresses: Sequence[str],
    url: str,
    device_broker: str,
    broker: str,
    days: int,
) -> EnrolmentOptions | None:
    """`broker` is the hub's own, which devices are told if nobody says another. None without `listen`. Raises
    ConfigInvalid, and ListenError for a host that nobody knows."""
    if not listen:
        return None
    if authority is None:
        raise ConfigInvalid(CERTIFICATE_OPTION, f"is needed with {OPTION}")
    host, _ = parse_listen(OPTION, listen, insecure=True)
    names = tuple(_name(one) for one in addresses) or (host,)
    if not addresses and _unspecified(host):
        raise ConfigInvalid("--enroll-address", f"is needed: devices cannot dial {host}")
    if url and not _is(url, "https"):
        raise ConfigInvalid("--enroll-url", f"{url!r} is not https://HOST:PORT")
    told = device_broker or broker
    if not _is(told, "mqtts"):
        field = "--device-broker" if device_broker else "--broker"
        raise ConfigInvalid(field, f"{told!r} is not mqtts://HOST:PORT, and devices that enrol speak no other")
    if not DEVICE_DAYS_MIN <= days <= DEVICE_DAYS_MAX:
        raise ConfigInvalid("--device-cert-days", f"must be {DEVICE_DAYS_MIN} to {DEVICE_DAYS_MAX}")
    return EnrolmentOptions(authority, listen, names, url.rstrip("/"), told.rstrip("/"), days)


def _name(text: str) -> str:
    """A host or an address, as a certificate names it."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    good = bare.isascii() and bare and not set(bare) & set("/@ ?#*") and len(bare) <= 253
    try:
        good = bool(good) and (":" not in bare or ipaddress.ip_address(bare).version == 6)
    except ValueError:
        good = False
    if not good:
        raise ConfigInvalid("--enroll-address", f"{text[:80]!r} is no host and no address")
    return bare


def _unspecified(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _is(url: str, scheme: str) -> bool:
    try:
        parts = urlsplit(url)
        more = parts.username or parts.query or parts.fragment or parts.path not in ("", "/")
        return parts.scheme == scheme and bool(parts.hostname) and bool(parts.port) and not more
    except ValueError:
        return False
