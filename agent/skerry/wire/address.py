"""Where a hub and its broker are, as configurations, tokens and hubs write it: https://HOST:PORT, mqtts://HOST:PORT,
and mqtt://HOST:PORT without TLS.

Whatever passes can be given to getaddrinfo: a name that cannot be is refused here, and raises nothing later.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from skerry.errors import Malformed

PORTS = {"mqtt": 1883, "mqtts": 8883}  # IANA's; mqtts is registered as secure-mqtt


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """`host`: a name or an address, without brackets."""

    host: str
    port: int
    tls: bool


@dataclass(frozen=True, slots=True)
class HubAddress:
    """Where a hub enrols and renews. `host`: a name or an address, without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def broker_address(url: str) -> BrokerAddress:
    """Anything else in the URL would be ignored in silence, so it is refused. Raises Malformed, which does not show the
    URL: it may hold a password."""
    parts, host, port = _split(url)
    if parts.scheme not in PORTS or not _bare(parts) or port == 0:
        raise Malformed("must be mqtt://HOST:PORT or mqtts://HOST:PORT and nothing else")
    return BrokerAddress(host, PORTS[parts.scheme] if port is None else port, parts.scheme == "mqtts")


def hub_address(url: str) -> HubAddress:
    """As `broker_address`; there is no usual port. Raises Malformed, which does not show the URL."""
    parts, host, port = _split(url)
    if parts.scheme != "https" or not _bare(parts) or not port:
        raise Malformed("must be https://HOST:PORT and nothing else")
    return HubAddress(host, port)


def _split(url: str) -> tuple[SplitResult, str, int | None]:
    """Its parts, host and port. Raises Malformed."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as why:
        raise Malformed(str(why)) from None
    try:
        host.encode("idna")  # as getaddrinfo does
        good = host.isprintable() and " " not in host  # http.client takes no other
    except UnicodeError:
        good = False
    if not good:
        raise Malformed("has a host name that cannot be")
    return parts, host, port


def _bare(parts: SplitResult) -> bool:
    """Whether there is a host, and nothing beside it."""
    more = parts.username is not None or parts.password is not None or parts.query or parts.fragment
    return bool(parts.hostname) and parts.path in ("", "/") and not more
