"""The enrolment server as a command line asks for it, checked; a hub without --enroll-listen enrols nobody."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from skerry.errors import ConfigInvalid, Malformed
from skerry.wire.address import broker_address, hub_address
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
    if url and not _https(url):
        raise ConfigInvalid("--enroll-url", f"{url!r} is not https://HOST:PORT")
    told = device_broker or broker
    if not _mqtts(told):
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
        good = bool(good) and (
            _https(f"https://{bare}:1") if ":" not in bare else ipaddress.ip_address(bare).version == 6
        )
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


def _https(url: str) -> bool:
    try:
        hub_address(url)
        return True
    except Malformed:
        return False


def _mqtts(url: str) -> bool:
    try:
        return broker_address(url).tls
    except Malformed:
        return False
