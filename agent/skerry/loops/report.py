"""Where a loop's own words go: log lines for people, counters for the bench and the tests. Decides nothing."""

from __future__ import annotations

from collections import Counter
from typing import Protocol


class Log(Protocol):
    """One line for people. Adapters: standard error (boot), a list (tests)."""

    def __call__(self, line: str) -> None: ...


class Counters(Counter[str]):
    """Named counts since the process started."""
