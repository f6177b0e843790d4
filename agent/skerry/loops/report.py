"""Where a loop's own words go: log lines for people, counters for the bench and the tests. Decides nothing."""

from __future__ import annotations

from collections import Counter
from typing import Protocol

from skerry.limits import LOG_BURST_LINES, LOG_REFILL_S
from skerry.ports import Clock


class Log(Protocol):
    """One line for people. Adapters: standard error (boot), a list (tests)."""

    def __call__(self, line: str) -> None: ...


class Sparing:
    """A Log that says LOG_BURST_LINES at once and then one line each LOG_REFILL_S, with the count of those that it kept
    back: what comes from outside may neither fill a disk nor hide the rest."""

    def __init__(self, log: Log, clock: Clock) -> None:
        self._log, self._clock = log, clock
        self._room, self._at, self._kept = float(LOG_BURST_LINES), clock.now(), 0

    def __call__(self, line: str) -> None:
        now = self._clock.now()
        self._room = min(float(LOG_BURST_LINES), self._room + (now - self._at) / LOG_REFILL_S)
        self._at = now
        if self._room < 1:
            self._kept += 1
            return
        self._room -= 1
        self._log(f"{line} ({self._kept} lines before it were kept back)" if self._kept else line)
        self._kept = 0


class Counters(Counter[str]):
    """Named counts since the process started."""
