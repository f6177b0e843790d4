"""Time from the kernel: CLOCK_MONOTONIC for deciding, the wall clock for people."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import skerry
from skerry.plan.certificate import Time, time_of

SYNCHRONIZED = Path("/run/systemd/timesync/synchronized")  # systemd-timesyncd.service(8), FILES
NAP_S_MAX = 86_400.0  # one timer at most; loops refuse or round timers of years
NAP_S_MIN = 0.001  # uvloop counts milliseconds and wakes up to one early


def synchronized() -> bool:
    """Whether a time server has set the clock since boot."""
    return SYNCHRONIZED.exists()


def made_s() -> float:
    """When this release was made, in seconds since 1970: no time is before it."""
    return Path(skerry.__file__).stat().st_mtime


def known_time() -> Time:
    """The time as far as this board by itself knows it."""
    return time_of(time.time(), synchronized(), made_s(), None, 0.0)


class SystemClock:
    """ports.Clock. `now` is time.monotonic(), never loop.time(), which uvloop rounds to milliseconds and caches."""

    def now(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    async def sleep_until(self, when: float) -> None:
        while (left := when - time.monotonic()) > 0:  # noqa: ASYNC110 - a timer that came early, not a poll
            await asyncio.sleep(min(max(left, NAP_S_MIN), NAP_S_MAX))
