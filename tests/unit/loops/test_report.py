"""A log that a flood from outside cannot fill."""

from __future__ import annotations

from skerry.limits import LOG_BURST_LINES, LOG_REFILL_S
from skerry.loops.report import Sparing


class Watch:
    """A clock that stands still until told."""

    def __init__(self) -> None:
        self.at = 100.0

    def now(self) -> float:
        return self.at

    def wall(self) -> float:
        return self.at

    async def sleep_until(self, monotonic: float) -> None:
        self.at = monotonic


def test_a_burst_is_told_a_flood_is_counted_and_later_words_are_heard() -> None:
    lines: list[str] = []
    watch = Watch()
    log = Sparing(lambda line: lines.append(line), watch)
    for number in range(LOG_BURST_LINES + 500):
        log(f"line {number}")
    assert lines == [f"line {n}" for n in range(LOG_BURST_LINES)]
    watch.at += LOG_REFILL_S
    log("news")
    log("more")
    assert lines[LOG_BURST_LINES:] == ["news (500 lines before it were kept back)"]
    watch.at += 10 * LOG_REFILL_S
    log("calm")
    assert lines[-1] == "calm (1 lines before it were kept back)"
    log("again")
    assert lines[-1] == "again"
