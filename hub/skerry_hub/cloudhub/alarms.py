"""One timer for all sessions: whoever has a deadline is rung when it comes. Decides nothing else."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from typing import Any

from skerry.ports import Clock


class Alarms:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._bell = asyncio.Event()

    def at(self, when: float, ring: Callable[[], None]) -> None:
        """Call `ring` once it is `when`. There is no way to take it back: who is rung early looks and goes on."""
        heapq.heappush(self._heap, (when, next(self._order), ring))
        if self._heap[0][0] == when:
            self._bell.set()

    async def run(self) -> None:
        """Never returns."""
        while True:
            now = self._clock.now()
            while self._heap and self._heap[0][0] <= now:
                heapq.heappop(self._heap)[2]()
            self._bell.clear()
            waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(self._bell.wait())]
            if self._heap:
                waits.append(asyncio.ensure_future(self._clock.sleep_until(self._heap[0][0])))
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
