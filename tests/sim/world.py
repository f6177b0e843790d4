"""What all parts of a simulated world share: the loop, seeded randomness, the trace, how a broken promise ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from hashlib import sha256
from random import Random
from typing import Any

from sim.loop import Process, VirtualLoop

TRACE_LINES_MAX = 200_000


class Broken(Exception):
    """A promise of DESIGN §5 does not hold. `promise` is its number and name, as in checks.PROMISES."""

    def __init__(self, promise: str, what: str) -> None:
        super().__init__(f"[{promise}] {what}")
        self.promise, self.what = promise, what

    def __reduce__(self) -> tuple[type[Broken], tuple[str, str]]:
        return Broken, (self.promise, self.what)


class Trace:
    """What happened, in order: journal records, frames, calls, faults, wishes."""

    def __init__(self, verbose: bool = False) -> None:
        self.lines: list[str] = []
        self._verbose = verbose

    def add(self, at: float, kind: str, text: str) -> None:
        if len(self.lines) < TRACE_LINES_MAX:
            self.lines.append(f"{at - 1000:10.3f} {kind:9} {text}")
            if self._verbose:
                print(self.lines[-1], flush=True)

    def digest(self) -> str:
        return sha256("\n".join(self.lines).encode()).hexdigest()


class World:
    """Made once per life. Nothing in it draws randomness but from `rng(name)`, so that streams do not disturb each
    other."""

    def __init__(self, seed: int | str, verbose: bool = False) -> None:
        self.seed = seed
        self.loop = VirtualLoop(seed)
        self.trace = Trace(verbose)
        self.calm = False  # no fault happens any more
        self.broken: Broken | None = None
        self.counts: dict[str, int] = {}

    def rng(self, name: str) -> Random:
        return Random(f"{self.seed}/{name}")

    @property
    def now(self) -> float:
        return self.loop.time()

    def tell(self, kind: str, text: str) -> None:
        self.trace.add(self.loop.time(), kind, text)

    def count(self, what: str, more: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + more

    def after(self, delay: float, callback: Callable[..., Any], *args: Any) -> asyncio.TimerHandle:
        return self.loop.at(self.loop.time() + delay, callback, *args)

    def break_(self, promise: str, what: str) -> None:
        """A promise does not hold: the life ends here, whoever is running."""
        if self.broken is None and not self.loop.over:
            self.broken = Broken(promise, what)
            self.tell("BROKEN", str(self.broken))
            self.loop.abort(self.broken)

    def check(self, holds: bool, promise: str, what: str) -> None:
        if not holds:
            self.break_(promise, what)


class SimClock:
    """ports.Clock: `now` is the loop's time, `wall` jumps when it is told to."""

    def __init__(self, world: World, wall: float = 1_800_000_000.0) -> None:
        self._world, self.offset = world, wall - world.now

    def now(self) -> float:
        return self._world.now

    def wall(self) -> float:
        return self._world.now + self.offset

    async def sleep_until(self, when: float) -> None:
        left = when - self._world.now
        if left > 0:
            await asyncio.sleep(left)


class SimEntropy:
    """ports.Entropy, seeded."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def token(self, size: int) -> bytes:
        return self._random.getrandbits(8 * size).to_bytes(size, "big") if size else b""

    def uniform(self) -> float:
        return self._random.random()


def processes_steps(processes: Iterable[Process]) -> int:
    return sum(p.steps for p in processes)
