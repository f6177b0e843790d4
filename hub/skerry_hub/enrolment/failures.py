"""How many refused requests an address may make, and all addresses together: two token buckets. Pure but for its own
counts; time is an argument, in seconds.

It keeps secrets from being guessed and the processor from being burnt. What succeeds costs nothing here.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass

from skerry_hub.limits import ENROL_ADDRESSES_MAX, ENROL_FAILURES_ADDRESS, ENROL_FAILURES_ALL

_V6_PREFIX = 64  # bits of an address that one person has


@dataclass(slots=True)
class Bucket:
    """Holds `size` at most, and gets one in `each_s`."""

    size: int
    each_s: float
    left: float
    at: float

    def wait_s(self, now: float) -> float:
        """Seconds until there is one; 0 if there is."""
        self.left = min(self.size, self.left + max(0.0, now - self.at) / self.each_s)
        self.at = max(self.at, now)
        return 0.0 if self.left >= 1.0 else (1.0 - self.left) * self.each_s


class Failures:
    def __init__(self, now: float) -> None:
        self._all = Bucket(*ENROL_FAILURES_ALL, ENROL_FAILURES_ALL[0], now)
        self._addresses: OrderedDict[str, Bucket] = OrderedDict()

    def wait_s(self, address: str, now: float) -> float:
        """How long this address must wait before it is listened to; 0 if it need not."""
        own = self._addresses.get(_prefix(address))
        return max(self._all.wait_s(now), own.wait_s(now) if own is not None else 0.0)

    def failed(self, address: str, now: float) -> None:
        """One more. The address that failed longest ago is forgotten for a new one."""
        key = _prefix(address)
        own = self._addresses.pop(key, None)
        if own is None:
            own = Bucket(*ENROL_FAILURES_ADDRESS, ENROL_FAILURES_ADDRESS[0], now)
        self._addresses[key] = own
        if len(self._addresses) > ENROL_ADDRESSES_MAX:
            self._addresses.popitem(last=False)
        for bucket in (own, self._all):
            bucket.wait_s(now)
            bucket.left = max(0.0, bucket.left - 1.0)


def _prefix(address: str) -> str:
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    if found.version == 4:
        return str(found)
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped) if mapped is not None else str(ipaddress.ip_network((found, _V6_PREFIX), strict=False))
