"""On a kernel that cannot limit memory the pod runs, and an Event says so once."""

from __future__ import annotations

import asyncio

import pytest

from sim.broker import Broker
from sim.device import Device
from sim.loop import bury
from sim.world import World
from skerry.journal.record import OUTBOX, read_outbox
from skerry.model.desired import Kind, object_of
from skerry.model.report import Event, ReportKind
from skerry.wire.codec import encode
from skerry.wire.report import decode_report
from unit.journal.memory_store import change

IMAGE = "example.com/app:1"


async def live(device: Device, limits: dict[str, str]) -> list[Event]:
    """Two pods, one of them with limits; the events that wait for the hub after a while."""
    pods = [
        object_of(Kind.POD, uid, encode({
            "metadata": {"namespace": "default", "name": name, "uid": uid},
            "spec": {"containers": [{"name": "app", "image": IMAGE, "args": ["run"], "resources": resources}]},
        }))
        for uid, name, resources in (("u1", "small", {"limits": limits}), ("u2", "free", {}))
    ]  # fmt: skip
    device.weather.registry.add(IMAGE)
    device.reach.up = False
    device.start()
    await asyncio.sleep(5)
    assert device.journal is not None
    await device.journal.apply(change(1, *pods))
    await asyncio.sleep(120)
    assert device.engine.running("u1")
    assert device.engine.running("u2")
    device.engine.power_cut()  # its containers are made again
    await asyncio.sleep(300)
    assert device.engine.running("u1")
    items = [read_outbox(k, device.disk.records[k]) for k in device.disk.keys(OUTBOX)]
    events = [decode_report(item.kind, item.body) for item in items if item.kind is ReportKind.EVENT]
    return [e for e in events if isinstance(e, Event) and e.reason == "MemoryLimitIgnored"]


@pytest.mark.parametrize(
    ("cgroup", "limits", "told"),
    [
        (False, {"memory": "64Mi"}, ["small"]),
        (False, {"cpu": "500m"}, []),
        (True, {"memory": "64Mi"}, []),
    ],
)
def test_it_is_told_of_pods_with_a_memory_limit_once(cgroup: bool, limits: dict[str, str], told: list[str]) -> None:
    world = World("unlimited")
    device = Device(world, Broker(world, world.rng("broker")), "n0")
    device.board.memory_cgroup = cgroup
    try:
        events = world.loop.run_until_complete(live(device, limits))
    finally:
        bury(world.loop)
    assert [e.name for e in events] == told
    assert all("cgroup_enable=memory" in e.message and e.warning for e in events)
    said = [line for line in device.log if "memory limits are ignored" in line]
    assert len(said) == (not cgroup)
