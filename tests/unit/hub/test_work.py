"""Keys that must be worked on: one worker each, the latest wish, failures later, and no wish forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from skerry_hub.edgecontroller.work import Work
from skerry_hub.ports import ClusterAway, ClusterError
from unit.hub.fakes import Dice, ManualClock, settle


class Site:
    def __init__(self) -> None:
        self.clock, self.log = ManualClock(), list[str]()
        self.calls: list[str] = []
        self.failures: list[ClusterError] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.work = Work(self.do, 2, self.clock, Dice(), self.log.append, "thing")
        self.task = asyncio.ensure_future(self.work.run())

    async def do(self, key: str) -> None:
        self.calls.append(key)
        if key in self.gates:
            await self.gates[key].wait()
        if self.failures:
            raise self.failures.pop(0)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    yield site
    site.task.cancel()
    await asyncio.gather(site.task, return_exceptions=True)


async def test_a_wish_that_comes_while_its_key_is_worked_on_is_worked_on_afterwards(site: Site) -> None:
    site.gates["a"] = asyncio.Event()
    for _ in range(3):
        site.work.add("a")
        await settle()
    assert site.calls == ["a"]
    site.gates["a"].set()
    await settle()
    assert site.calls == ["a", "a"]


async def test_a_wish_that_comes_during_the_try_after_a_failure_is_not_forgotten(site: Site) -> None:
    """Else whoever waits for it waits for ever (simulator, seed 30005: no set was ever given again)."""
    site.failures = [ClusterAway("x")]
    site.work.add("a")
    await settle()
    site.gates["a"] = asyncio.Event()
    await site.clock.advance(5)
    assert site.calls == ["a", "a"], "the second try is under way"
    site.work.add("a")
    site.gates["a"].set()
    await site.clock.advance(0)
    assert site.calls == ["a", "a", "a"]


async def test_a_failure_rests_whoever_asks(site: Site) -> None:
    site.failures = [ClusterAway("x")] * 100
    for _ in range(100):
        site.work.add("a")
        await settle()
    assert site.calls == ["a"]
    await site.clock.advance(120)
    assert 5 < len(site.calls) < 40
    assert len(site.log) <= 2


async def test_one_key_that_hangs_keeps_no_other_waiting(site: Site) -> None:
    site.gates["a"] = asyncio.Event()
    for key in "abcd":
        site.work.add(key)
    await settle()
    assert site.calls == ["a", "b", "c", "d"]
