"""Things that must come about, by key: each key is worked on by one worker at a time, latest wish only, failures come
again after a jittered back-off. Decides when, not what."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from typing import Any

from skerry.limits import API_BACKOFF_S
from skerry.plan.backoff import full_jitter
from skerry.ports import Clock, Entropy
from skerry_hub.ports import ClusterBusy, ClusterError

Log = Callable[[str], None]


def delay_after(why: ClusterError, failures: int, jitter: float) -> float:
    """Seconds until a failed request is worth another try."""
    asked = why.retry_after_s if isinstance(why, ClusterBusy) else 0.0
    return full_jitter(API_BACKOFF_S, failures, jitter) + asked


class Work:
    """`do(key)` may raise ClusterError; it is then called again later. Everything else it raises ends `run`."""

    def __init__(
        self, do: Callable[[str], Awaitable[None]], workers: int, clock: Clock, entropy: Entropy, log: Log, what: str
    ) -> None:
        self._do, self._workers, self._what = do, workers, what
        self._clock, self._entropy, self._log = clock, entropy, log
        self._due: dict[str, None] = {}  # in order of arrival
        self._later: list[tuple[float, str]] = []
        self._resting: set[str] = set()  # keys in _later
        self._failures: dict[str, int] = {}
        self._busy: dict[asyncio.Task[None], str] = {}
        self._bell = asyncio.Event()
        self.failed = 0  # counter

    def add(self, key: str) -> None:
        """`key` wants work: now, or with the next try where the last one failed."""
        if key not in self._resting:
            self._due[key] = None
            self._bell.set()

    async def run(self) -> None:
        """Never returns."""
        try:
            while True:
                self._start()
                await self._wait()
                for task in [task for task in self._busy if task.done()]:
                    self._ended(self._busy.pop(task), task)
        finally:
            for task in self._busy:
                task.cancel()

    # --- private ------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        now = self._clock.now()
        while self._later and self._later[0][0] <= now:
            key = heapq.heappop(self._later)[1]
            self._resting.discard(key)
            self._due.setdefault(key, None)
        busy = set(self._busy.values())
        for key in [key for key in self._due if key not in busy]:
            if len(self._busy) >= self._workers:
                break
            del self._due[key]
            self._busy[asyncio.ensure_future(self._call(key))] = key
        self._bell.clear()

    async def _call(self, key: str) -> None:
        await self._do(key)

    async def _wait(self) -> None:
        waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(self._bell.wait())]
        if self._later:
            waits.append(asyncio.ensure_future(self._clock.sleep_until(self._later[0][0])))
        try:
            await asyncio.wait([*waits, *self._busy], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _ended(self, key: str, task: asyncio.Task[None]) -> None:
        why = task.exception()
        if why is None:
            self._failures.pop(key, None)
            return
        if not isinstance(why, ClusterError):
            raise why
        self.failed += 1
        self._resting.add(key)
        self._due.pop(key, None)
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        if failures in (1, 10):
            self._log(f"{self._what} {key}: {why}")
        at = self._clock.now() + delay_after(why, failures, self._entropy.uniform())
        heapq.heappush(self._later, (at, key))
