"""Which loops make progress, and feeding the service manager's watchdog only while all of them do.

A loop says that it *works*, with the time within which it will say something again, or that it *waits* for something
outside that may never come. Decides nothing about pods; what is done about a stuck agent is the service manager's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from math import inf
from typing import Any

from skerry.limits import LOOP_BUSY_S_MAX, WATCHDOG_FEED_S
from skerry.loops.report import Log
from skerry.ports import Clock, Host

WAITS, ENDED = inf, -inf


def stuck(due: Mapping[str, float], now: float) -> tuple[str, ...]:
    """The loops that should have said something by now, or have ended. `due`: the latest time for each."""
    return tuple(sorted(loop for loop, at in due.items() if at < now))


class Beat:
    """One loop's half: it stamps, and knows nothing of the others."""

    def __init__(self, stamp: Callable[[float], None], clock: Clock) -> None:
        self._stamp, self._clock = stamp, clock

    def works(self, within_s: float = LOOP_BUSY_S_MAX) -> None:
        """It goes on by itself and stamps again within so many seconds."""
        self._stamp(self._clock.now() + within_s)

    def waits(self) -> None:
        """It waits for something outside, for as long as that takes."""
        self._stamp(WAITS)

    def ended(self) -> None:
        """It will never stamp again."""
        self._stamp(ENDED)


class Pulse:
    """The stamps of all loops of `names`. A loop that has not begun yet is not stuck: `begun` says when all have."""

    def __init__(self, clock: Clock, names: Iterable[str]) -> None:
        self.names = tuple(names)
        self._clock, self._missing = clock, set(self.names)
        self.due: dict[str, float] = {}
        self.begun = asyncio.Event()

    def of(self, loop: str) -> Beat:
        def stamp(at: float) -> None:
            self.due[loop] = at
            self._missing.discard(loop)
            if not self._missing:
                self.begun.set()

        return Beat(stamp, self._clock)


async def beating(beat: Beat, loop: Coroutine[Any, Any, None]) -> None:
    """Run a loop; however it ends, that is known."""
    try:
        await loop
    finally:
        beat.ended()


async def watchdog_loop(host: Host, pulse: Pulse, clock: Clock, status: Callable[[], str], log: Log) -> None:
    """Ready once every loop has begun; then, where a watchdog runs, food as long as none is stuck. `status` is one line
    for people."""
    await pulse.begun.wait()
    said = status()
    host.notify(f"READY=1\nSTATUS={said}")
    if not host.watchdog_s:
        return
    silent: tuple[str, ...] = ()
    while True:
        now, line = clock.now(), status()
        late = stuck(pulse.due, now)
        if late:
            line = f"no progress of {', '.join(late)}: the watchdog is not fed"
            if late != silent:
                log(f"watchdog: {line}")
        food = "" if late else "WATCHDOG=1\n"
        news = "" if line == said else f"STATUS={line}\n"
        if food or news:
            host.notify((food + news).rstrip("\n"))
        said, silent = line, late
        await clock.sleep_until(now + min(WATCHDOG_FEED_S, host.watchdog_s / 3))
