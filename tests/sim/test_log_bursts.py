"""Promise 9 at every moment: a container that was silent for an hour and then writes as fast as it can stays within the
bound that limits.py states, on the whole agent in virtual time.
"""

from __future__ import annotations

import asyncio

import pytest

from sim.broker import Broker
from sim.device import Device
from sim.loop import bury
from sim.runtime import SimRuntime
from sim.world import World
from skerry.limits import (
    CONTAINER_LOG_BYTES_MAX,
    LOG_EXCESS_BYTES,
    LOG_RATE_BYTES_S,
    LOG_RENAMED_PARTS_MAX,
)
from skerry.model.desired import Kind, object_of
from skerry.wire.codec import encode
from unit.journal.memory_store import change

IMAGE = "example.com/app:1"
STEP_S = 0.05


def pod(uid: str) -> dict[str, object]:
    container = {"name": "app", "image": IMAGE, "args": ["run"]}
    return {"metadata": {"namespace": "default", "name": uid, "uid": uid}, "spec": {"containers": [container]}}


async def largest(device: Device, silent_s: float, bytes_s: int, burst_s: float) -> tuple[int, int]:
    """Of the file that is written, and of all of a container's: what the largest ever was."""
    device.engine.talkative = False
    device.weather.registry.add(IMAGE)
    device.reach.up = False
    device.start()
    await asyncio.sleep(5)
    assert device.journal is not None
    await device.journal.apply(change(1, *(object_of(Kind.POD, uid, encode(pod(uid))) for uid in ("u1", "u2", "u3"))))
    await asyncio.sleep(60 + silent_s)
    ids = list(device.engine.containers)
    assert len(ids) == 3
    device.engine.talk(ids[0], bytes_s, burst_s)
    one = total = 0
    end = device.world.now + burst_s + 60
    while device.world.now < end:
        files = device.engine.log_files(ids[0])
        one, total = max(one, files.get(0, 0)), max(total, sum(files.values()))
        await asyncio.sleep(STEP_S)
    return one, total


def burst(silent_s: float, bytes_s: int) -> tuple[int, int]:
    world = World(f"burst/{silent_s}/{bytes_s}")
    device = Device(world, Broker(world, world.rng("broker")), "n0")
    try:
        return world.loop.run_until_complete(largest(device, silent_s, bytes_s, 300.0))
    finally:
        bury(world.loop)


@pytest.mark.parametrize("silent_s", [0.0, 77.0, 3_600.0])
@pytest.mark.parametrize("bytes_s", [100, 1_000_000, 50_000_000, LOG_RATE_BYTES_S])
def test_a_burst_stays_within_the_stated_bound(silent_s: float, bytes_s: int) -> None:
    slack = bytes_s  # a second's worth: the runtime's calls take their time
    one, total = burst(silent_s, bytes_s)
    assert one <= CONTAINER_LOG_BYTES_MAX + LOG_EXCESS_BYTES + slack
    assert total <= (1 + LOG_RENAMED_PARTS_MAX) * CONTAINER_LOG_BYTES_MAX + 2 * LOG_EXCESS_BYTES + slack


def test_what_hears_nothing_breaks_it_by_far(monkeypatch: pytest.MonkeyPatch) -> None:
    """That this can fail: the look each LOG_CHECK_S alone."""

    async def deaf(self: SimRuntime) -> frozenset[str]:
        never: asyncio.Future[frozenset[str]] = asyncio.get_running_loop().create_future()
        return await never

    monkeypatch.setattr(SimRuntime, "logs_written", deaf)
    one, _ = burst(77.0, 50_000_000)
    assert one > 10 * (CONTAINER_LOG_BYTES_MAX + LOG_EXCESS_BYTES)
