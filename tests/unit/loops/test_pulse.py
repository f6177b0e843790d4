"""Which loops are stuck, and what the service manager is told of it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from math import inf

import pytest

from skerry.limits import LOOP_BUSY_S_MAX, WATCHDOG_FEED_S
from skerry.loops.pulse import Pulse, beating, stuck, watchdog_loop
from skerry.world.host import Host
from skerry.world.notify import Supervisor
from unit.world.test_host import NoVolumes


class Watch:
    """A clock that goes on when somebody sleeps, and ends the loop after `rounds` sleeps."""

    def __init__(self, rounds: int = 0) -> None:
        self.at, self.rounds, self.slept = 100.0, rounds, list[float]()

    def now(self) -> float:
        return self.at

    def wall(self) -> float:
        return self.at

    async def sleep_until(self, when: float) -> None:
        self.slept.append(when - self.at)
        self.at = when
        if len(self.slept) > self.rounds:
            raise asyncio.CancelledError


class Told(Host):
    """A board whose service manager is a list."""

    def __init__(self, watchdog_s: float) -> None:
        super().__init__(NoVolumes(), manager=Supervisor("", watchdog_s))
        self.said: list[str] = []

    def notify(self, state: str) -> None:
        self.said.append(state)


@pytest.mark.parametrize(
    ("due", "late"),
    [
        ({}, ()),
        ({"steer": 100.0}, ()),
        ({"steer": 99.9}, ("steer",)),
        ({"watch": -inf, "steer": inf, "link": 5.0}, ("link", "watch")),
        ({"watch": inf, "steer": inf}, ()),
    ],
)
def test_a_loop_is_stuck_after_its_time_and_never_while_it_waits(due: dict[str, float], late: tuple[str, ...]) -> None:
    assert stuck(due, 100.0) == late


async def feed(host: Told, pulse: Pulse, watch: Watch) -> list[str]:
    lines: list[str] = []
    with suppress(asyncio.CancelledError):
        await watchdog_loop(host, pulse, watch, lambda: "five pods", lambda line: lines.append(line))
    return lines


async def test_ready_comes_once_every_loop_has_begun() -> None:
    host, watch = Told(0), Watch()
    pulse = Pulse(watch, ("watch", "steer"))
    task = asyncio.ensure_future(feed(host, pulse, watch))
    pulse.of("watch").works()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert host.said == []
    pulse.of("steer").waits()
    await task
    assert host.said == ["READY=1\nSTATUS=five pods"]
    assert watch.slept == []  # no watchdog, no timer


async def test_a_loop_that_waits_is_fed_for_and_one_that_works_for_its_time() -> None:
    host, watch = Told(90), Watch(rounds=25)
    pulse = Pulse(watch, ("watch", "steer"))
    pulse.of("watch").works()
    pulse.of("steer").waits()
    lines = await feed(host, pulse, watch)
    food = int(LOOP_BUSY_S_MAX / WATCHDOG_FEED_S) + 1
    assert host.said[1 : 1 + food] == ["WATCHDOG=1"] * food
    assert host.said[1 + food :] == ["STATUS=no progress of watch: the watchdog is not fed"]
    assert lines == ["watchdog: no progress of watch: the watchdog is not fed"]
    assert set(watch.slept) == {WATCHDOG_FEED_S}


async def test_a_loop_that_goes_on_is_fed_for_again() -> None:
    host, watch = Told(90), Watch(rounds=0)
    pulse = Pulse(watch, ("link",))
    pulse.of("link").works(-1)
    await feed(host, pulse, watch)
    assert "WATCHDOG=1" not in " ".join(host.said)
    pulse.of("link").waits()
    host.said.clear()
    await feed(host, pulse, watch)
    assert "WATCHDOG=1" in host.said


async def test_a_loop_that_ended_is_stuck_for_ever() -> None:
    watch = Watch()
    pulse = Pulse(watch, ("watch",))

    async def short() -> None:
        pulse.of("watch").waits()

    await beating(pulse.of("watch"), short())
    assert stuck(pulse.due, watch.now()) == ("watch",)


@pytest.mark.parametrize(("asked", "fed"), [(90, 30), (600, 30), (30, 10), (3, 1)])
async def test_the_feed_is_a_third_of_what_is_asked_for_and_at_most_30_s_apart(asked: float, fed: float) -> None:
    host, watch = Told(asked), Watch()
    pulse = Pulse(watch, ("link",))
    pulse.of("link").waits()
    await feed(host, pulse, watch)
    assert watch.slept == [fed]
