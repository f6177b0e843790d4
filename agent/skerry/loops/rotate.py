"""Container logs → bounded. Looks at the sizes of those that grow, hears of the next write to those that are quiet,
and does what plan.logs says.

Nothing waits for it: who reads a log follows it through a rotation, who writes one does not notice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from skerry.errors import RuntimeAway, RuntimeFailed, WatchesSpent
from skerry.journal.journal import Journal
from skerry.limits import LOG_CHECK_S
from skerry.loops.report import Counters, Log, Sparing
from skerry.model.logs import Delete, Look, Rename, Reopen
from skerry.plan.logs import due, first_look, next_look, put_off, rotation, wake_at, written
from skerry.ports import Clock, Entropy, Runtime


async def rotate_loop(
    runtime: Runtime, journal: Journal, clock: Clock, entropy: Entropy, log: Log, counters: Counters, bytes_max: int
) -> None:
    """Run for ever. `bytes_max`: the size at which a log is rotated."""
    await Rotate(runtime, journal, clock, entropy, Sparing(log, clock), counters, bytes_max).run()


@dataclass(slots=True)
class Rotate:
    """All that the loop owns."""

    runtime: Runtime
    journal: Journal
    clock: Clock
    entropy: Entropy
    log: Log
    counters: Counters
    bytes_max: int
    _looks: dict[str, Look] = field(default_factory=dict)  # of each container that runs
    _told: bool = False  # that not all quiet logs are watched

    async def run(self) -> None:
        """Never returns."""
        hearing = asyncio.ensure_future(self.runtime.logs_written())
        try:
            while True:
                self._follow()
                await self._look()
                await self._wait(hearing)
                if hearing.done():
                    self._hear(hearing.result())
                    hearing = asyncio.ensure_future(self.runtime.logs_written())
        finally:
            hearing.cancel()

    # --- private ------------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """What runs now is what is looked at; nothing while the runtime is away, which would have to reopen it."""
        now = self.clock.now()
        pods = self.journal.seen.values() if self.journal.runtime_up else ()
        ids = sorted(container for pod in pods for container in pod.running)  # in one order, whatever the journal's
        self._looks = {one: self._looks.get(one) or first_look(now) for one in ids}

    def _hear(self, containers: frozenset[str]) -> None:
        for one in containers & self._looks.keys():
            self.counters["log_writes_heard"] += 1
            self._looks[one] = written(self._looks[one], self.clock.now(), self.bytes_max)

    async def _wait(self, hearing: asyncio.Future[frozenset[str]]) -> None:
        """Until a look is due, a quiet log is written, or another container runs."""
        waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(self.journal.for_rotate.wait())]
        if self._looks:
            waits.append(asyncio.ensure_future(self.clock.sleep_until(wake_at(self._looks))))
        try:
            await asyncio.wait([*waits, hearing], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _look(self) -> None:
        todo = due(self._looks, self.clock.now())
        while todo:
            one = todo.pop(0)
            try:
                self._looks[one] = await self._bound(one, self._looks[one])
            except (RuntimeAway, RuntimeFailed) as why:
                self.counters["log_rotations_failed"] += 1
                self.log(f"logs: {why}")
                away = isinstance(why, RuntimeAway)
                for other in [one, *todo] if away else [one]:
                    self._looks[other] = put_off(self._looks[other], self.clock.now(), self.entropy.uniform())
                if away:
                    return

    async def _bound(self, container: str, before: Look) -> Look:
        """Look at its size, rotate if that is due."""
        files = await self.runtime.log_files(container)
        now, seen = self.clock.now(), files.get(0, 0)
        look = next_look(before, now, seen, await self._rotated(container, files), self.bytes_max)
        if look.quiet:
            await self._watch(container)
        return look

    async def _rotated(self, container: str, files: Mapping[int, int]) -> int:
        """The bytes that are left in number 0."""
        left = files.get(0, 0)
        for step in rotation(files, self.bytes_max):
            match step:
                case Rename(number=number, to=to):
                    await self.runtime.rename_log(container, number, to)
                case Delete(number=number):
                    await self.runtime.delete_log(container, number)
                case Reopen():
                    await self.runtime.reopen_container_log(container)
                    self.counters["log_rotations"] += 1
                    left = 0
        return left

    async def _watch(self, container: str) -> None:
        """What cannot be watched is looked at as rarely as what is; asked again then."""
        try:
            await self.runtime.watch_log(container)
        except WatchesSpent as why:
            self.counters["log_watches_refused"] += 1
            if not self._told:
                self.log(f"logs: {why}; a quiet log that begins to grow is noticed within {LOG_CHECK_S:.0f} s")
            self._told = True
