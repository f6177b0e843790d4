"""What time it is as far as this device can know, and when its certificates are to be renewed. Pure; a board may have
no clock that keeps the time without power.

The hub's time, signed, is believed most, then a clock that a time server has set. Any other clock is not: the time is
only known not to be before a floor (when this release was made, when a hub last said what time it is), so that nothing
is taken for not valid yet, and nothing for ended because a clock runs ahead.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from skerry.limits import (
    CLOCK_OFF_S,
    RENEW_EXPIRED_S,
    RENEW_PART,
    RENEW_REFUSED_S,
    RENEW_RETRY_S,
    RENEW_TRUST_S,
    RENEW_UNSURE_S,
)


@dataclass(frozen=True, slots=True)
class Told:
    """What a hub said in signed words: its time, in seconds since 1970, and when that was by the monotonic clock;
    `trust`: which authorities it wants devices to believe (wire.enrolment.trust_id)."""

    wall_s: float
    at_s: float
    trust: bytes = b""


@dataclass(frozen=True, slots=True)
class Time:
    """Seconds since 1970. `sure`: `now_s` is the time; else it may be any that is not before `floor_s`."""

    now_s: float
    floor_s: float
    sure: bool

    @property
    def least_s(self) -> float:
        """What it is at least: by this a certificate ends."""
        return self.now_s if self.sure else self.floor_s


def time_of(wall_s: float, synchronized: bool, floor_s: float, told: Told | None, now: float) -> Time:
    """`wall_s` is what the clock says, `synchronized` whether a time server has set it, `now` of the monotonic clock:
    the hub's time goes on by that, whatever somebody makes of the wall's. A hub whose clock stands before the floor, as
    one without a battery at its start, says nothing of the time."""
    if told is not None and told.wall_s >= floor_s - CLOCK_OFF_S:
        known = told.wall_s + max(0.0, now - told.at_s)
        return Time(known, max(floor_s, told.wall_s), True)
    return Time(max(wall_s, floor_s), floor_s, synchronized and wall_s >= floor_s)


@dataclass(frozen=True, slots=True)
class Life:
    """Of a certificate, seconds since 1970."""

    begins_s: float
    ends_s: float


def ended(life: Life, time: Time) -> bool:
    return time.least_s > life.ends_s


def begun(life: Life, time: Time) -> bool:
    """A clock that is not sure judges no beginning."""
    return not time.sure or time.now_s >= life.begins_s


class Why(Enum):
    """What makes a renewal due, most urgent first."""

    REFUSED = "the broker takes its certificate no more"
    ENDED = "its certificate has ended"
    TRUST = "the hub has other authorities"
    AGE = "its certificate is halfway through its life"
    UNSURE = "its certificate is halfway through its life by a clock that nobody has set"


@dataclass(frozen=True, slots=True)
class Due:
    """`after_s`: from now on, when this has just become so."""

    why: Why
    after_s: float


def renewal_due(life: Life, time: Time, refused: bool, other_trust: bool, jitter: float) -> Due:
    """`refused`: by the broker since the last renewal. `other_trust`: the hub's authorities are not this device's.
    `jitter`, in [0, 1), stays the same for a certificate. A clock that is not sure may only run ahead, so the hub is
    given time to say what the time is."""
    if refused or ended(life, time):
        return Due(Why.REFUSED if refused else Why.ENDED, jitter * RENEW_EXPIRED_S[0])
    if other_trust:
        first, last = RENEW_TRUST_S
        return Due(Why.TRUST, first + jitter * (last - first))
    first, last = RENEW_PART
    at_s = life.begins_s + (life.ends_s - life.begins_s) * (first + jitter * (last - first))
    if not time.sure and time.now_s >= at_s:
        first, last = RENEW_UNSURE_S
        return Due(Why.UNSURE, first + jitter * (last - first))
    return Due(Why.AGE, max(0.0, at_s - time.now_s))


def retry_bounds(why: Why, final: bool) -> tuple[float, float]:
    """First and longest pause after a renewal that came to nothing; `final`: the hub knows this device no more."""
    if final:
        return RENEW_REFUSED_S
    return RENEW_EXPIRED_S if why in (Why.REFUSED, Why.ENDED) else RENEW_RETRY_S
