"""Where a broker is, as configurations and hubs write it: mqtt://HOST:PORT, or mqtts://HOST:PORT for TLS."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from skerry.errors import Malformed

PORTS = {"mqtt": 1883, "mqtts": 8883}  # IANA's; mqtts is registered as secure-mqtt


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """`host`: a name or an address, without brackets."""

    host: str
    port: int
    tls: bool


def broker_address(url: str) -> BrokerAddress:
    """Anything else in the URL would be ignored in silence, so it is refused. Raises Malformed, which does not show the
    URL: it may hold a password."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as why:
        raise Malformed(str(why)) from None
    more = parts.username is not None or parts.password is not None or parts.query or parts.fragment
    if parts.scheme not in PORTS or not parts.hostname or port == 0 or parts.path not in ("", "/") or more:
        raise Malformed("must be mqtt://HOST:PORT or mqtts://HOST:PORT and nothing else")
    return BrokerAddress(parts.hostname, PORTS[parts.scheme] if port is None else port, parts.scheme == "mqtts")
