"""Many simulated devices in one process, for the hub's figures: `python -m bench.crowd HOST PORT COUNT`.

Each has the device's real session with its journal in memory, and reports every pod that it is given as running. They
share some MQTT connections, since what a device's own connection costs the broker is not what is measured. Says
`live N` whenever all of them have been answered.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time

import uvloop

from skerry.model.desired import Change, Kind
from skerry.model.report import ContainerStatus, Life, Phase, PodStatus
from skerry.wire import message
from skerry.wire.codec import decode
from skerry.wire.report import encode_report
from skerry.wire.session import Commit, DeviceSession, Effect, Identity, Retell, Send, State, Trim
from skerry.world.link import down_topic, up_topic
from skerry.world.mqtt import MqttConnection
from skerry.world.mqtt_values import MqttOptions
from unit.wire.pair import Board

EACH = 50  # devices of one connection
TICK_S = 0.5


def name(number: int) -> str:
    return f"sim-{number:04d}"


class Journal(Board):
    """In memory; a pod that is put there runs from then on, one that is deleted is gone."""

    def __init__(self, journal_id: bytes) -> None:
        super().__init__()
        self.journal_id = journal_id
        self._names: dict[str, tuple[str, str, tuple[str, ...]]] = {}

    def apply(self, change: Change, hub_may_wipe: bool) -> None:
        self.desired = self.desired.changed(change)
        for put in change.puts:
            if put.kind is Kind.POD:
                body = decode(put.body)
                containers = tuple(str(c["name"]) for c in body["spec"]["containers"])
                self._names[put.uid] = (body["metadata"]["namespace"], body["metadata"]["name"], containers)
                self._report(put.uid, gone=False)
        for kind, uid in change.deletes:
            if kind is Kind.POD and uid in self._names:
                self._report(uid, gone=True)

    def _report(self, uid: str, gone: bool) -> None:
        namespace, pod, containers = self._names[uid]
        now = int(time.time())
        states = tuple(ContainerStatus(c, Life.RUNNING, started_at=now) for c in containers)
        told = PodStatus(uid, namespace, pod, Phase.RUNNING, states, pod_ip="10.9.0.2", started_at=now, gone=gone)
        self.statuses[uid] = encode_report(told)
        self._queue(uid)


class Device:
    def __init__(self, node: str, connection: MqttConnection) -> None:
        self._node, self._connection = node, connection
        self._journal = Journal(os.urandom(16))
        self.session = DeviceSession(Identity(node, os.urandom(8).hex(), "0.0.0"))

    async def open(self) -> None:
        await self._do(self.session.opened(self._journal, time.monotonic(), time.time(), os.urandom(8)))

    async def received(self, frame: bytes) -> None:
        await self._do(self.session.received(frame, self._journal, time.monotonic(), 0.5))

    async def tick(self) -> None:
        await self._do(self.session.tick(self._journal, time.monotonic(), time.time(), os.urandom(8), 0.5))

    async def _do(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(said):
                    await self._connection.publish(up_topic(self._node), message.encode(said))
                case Commit(change):
                    self._journal.apply(change, True)
                    await self._do(self.session.committed(self._journal, time.monotonic()))
                case Trim(seq):
                    self._journal.trim(seq)
                case Retell():
                    self._journal.retell()
                case _:
                    pass


async def some(host: str, port: int, numbers: range, devices: dict[str, Device]) -> None:
    """One connection and its devices, for ever."""
    options = MqttOptions(host, port, f"crowd-{numbers.start}", insecure=True, inbox_max=4096)
    connection = MqttConnection(options)
    mine = {down_topic(name(n)): Device(name(n), connection) for n in numbers}
    await connection.connect(list(mine))
    devices.update(mine)
    for device in mine.values():
        await device.open()
    while True:
        got = await connection.recv()
        await mine[got.topic].received(got.payload)


async def main(host: str, port: int, count: int) -> None:
    devices: dict[str, Device] = {}
    tasks = [
        asyncio.ensure_future(some(host, port, range(n, min(n + EACH, count)), devices)) for n in range(0, count, EACH)
    ]
    said = -1
    while True:
        await asyncio.wait(tasks, timeout=TICK_S, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            if task.done():
                task.result()
        for device in list(devices.values()):
            await device.tick()
        live = sum(d.session.state is State.LIVE for d in devices.values())
        if live != said:
            print(f"live {live}", flush=True)
            said = live


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
