"""Time from the kernel: CLOCK_MONOTONIC for deciding, the wall clock for people."""

from __future__ import annotations

import asyncio
import time

NAP_S_MAX = 86_400.0  # one timer at most; loops refuse or round timers of years
NAP_S_MIN = 0.001  # uvloop counts milliseconds and wakes up to one early


class SystemClock:
    """ports.Clock. `now` is time.monotonic(), never loop.time(), which uvloop rounds to milliseconds and caches."""

    def now(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    async def sleep_until(self, when: float) -> None:
        while (left := when - time.monotonic()) > 0:  # noqa: ASYNC110 - a timer that came early, not a poll
            await asyncio.sleep(min(max(left, NAP_S_MIN), NAP_S_MAX))
