"""A loop that hangs or ends stops the feeding of the watchdog, and the agent is started again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from sim.broker import Broker
from sim.device import Device
from sim.host import WATCHDOG_S
from sim.link import SimLink
from sim.loop import bury
from sim.runtime import SimRuntime
from sim.world import Broken, World
from skerry import boot
from skerry.limits import LOOP_BUSY_S_MAX, POD_STEP_S_MAX, RUNTIME_CALL_TIMEOUT_S, WATCHDOG_FEED_S
from skerry.loops.steer import Steer
from skerry.model.desired import Kind, object_of
from skerry.wire.codec import encode
from unit.journal.memory_store import change

POD = {
    "metadata": {"namespace": "default", "name": "web", "uid": "u1"},
    "spec": {"containers": [{"name": "app", "image": "example.com/app:1"}]},
}


@pytest.fixture
def device() -> Iterator[Device]:
    world = World("watchdog")
    device = Device(world, Broker(world, world.rng("broker")), "n0")
    device.started = lambda started: set_pod(started)
    yield device
    bury(world.loop)


def set_pod(device: Device) -> None:
    journal = device.journal
    assert journal is not None
    device.weather.registry.add("example.com/app:1")
    if journal.desired.generation == 0:
        asyncio.ensure_future(journal.apply(change(1, object_of(Kind.POD, "u1", encode(POD)))))  # noqa: RUF006


def live(device: Device, seconds: float) -> list[str]:
    """What the service manager was told in so many seconds from the start."""
    device.world.loop.run_until_complete(_live(device, seconds))
    assert device.host is not None
    return device.host.notes


async def _live(device: Device, seconds: float) -> None:
    device.start()
    await asyncio.sleep(seconds)


async def for_ever(*_args: Any) -> Any:
    await asyncio.get_running_loop().create_future()


async def at_once(*_args: Any) -> Any:
    return None


def test_an_agent_that_works_is_fed_for_ever_whether_hub_and_runtime_are_there_or_not(device: Device) -> None:
    device.weather.away = True
    device.reach.up = False
    notes = live(device, 20_000)
    assert notes[0].startswith("READY=1")
    fed = [note for note in notes if "WATCHDOG=1" in note]
    assert len(fed) == pytest.approx(20_000 / WATCHDOG_FEED_S, abs=2)
    assert device.lives == 1


STUCK = [  # what blocks, which loop stands still then, and after how long at the latest
    (SimRuntime, "look", for_ever, "watch", LOOP_BUSY_S_MAX),
    (SimLink, "connect", for_ever, "link", LOOP_BUSY_S_MAX),
    (SimRuntime, "run_pod_sandbox", for_ever, "pods", POD_STEP_S_MAX),
    (boot, "watch_loop", at_once, "watch", 0.0),
    (boot, "link_loop", at_once, "link", 0.0),
    (Steer, "run", at_once, "steer", 0.0),
]


@pytest.mark.parametrize(("where", "what", "how", "loop", "after_s"), STUCK, ids=lambda value: str(value)[:30])
def test_what_hangs_stops_the_feeding(
    device: Device, monkeypatch: pytest.MonkeyPatch, where: Any, what: str, how: Any, loop: str, after_s: float
) -> None:
    monkeypatch.setattr(where, what, how)
    if loop == "steer":  # its workers have not begun either
        monkeypatch.setattr(boot, "Pulse", lambda clock, names: _without_pods(clock, names))
    unfed = after_s + WATCHDOG_S + WATCHDOG_FEED_S + RUNTIME_CALL_TIMEOUT_S
    with pytest.raises(Broken, match=f"the watchdog was not fed: .*no progress of {loop}"):
        live(device, unfed + 60)
    assert device.world.now - 1_000 <= unfed


def _without_pods(clock: Any, names: Any) -> Any:
    from skerry.loops.pulse import Pulse

    pulse = Pulse(clock, names)
    pulse.of("pods").waits()
    return pulse


def test_an_agent_that_stands_still_is_killed_and_started_again(device: Device) -> None:
    device.world.after(100.0, device.freeze, 500.0)
    live(device, 400)
    assert device.lives == 2
    assert any("watchdog" in line for line in device.world.trace.lines)
