"""The hub on real parts: mosquitto, the embedded API, and a device that is the agent's own session over its own link.

Only pods are imagined: the device says what a runtime would have done.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from contract.broker import MOSQUITTO, Broker
from skerry.errors import LinkLost
from skerry.limits import SESSION_QUEUE_FRAMES_MAX
from skerry.model.desired import Kind
from skerry.model.report import ContainerStatus, Event, Life, NodeFacts, OutboxItem, Phase, PodStatus
from skerry.wire import message
from skerry.wire.codec import decode
from skerry.wire.report import KIND_OF, Reported, encode_report
from skerry.wire.session import Commit, DeviceSession, Effect, Identity, Retell, Send, Trim
from skerry.world.clock import SystemClock
from skerry.world.entropy import SystemEntropy
from skerry.world.link import MqttLink, up_topic
from skerry.world.mqtt import MqttConnection
from skerry.world.mqtt_values import MqttOptions
from skerry_hub import join
from skerry_hub.cloudhub.mqtt import MqttBroker
from skerry_hub.hub import Hub
from skerry_hub.kube.client import KubeClient
from skerry_hub.kube.config import load
from skerry_hub.ports import CONFIG_MAPS, EVENTS, NODES, PODS, SECRETS, NotFound, Obj, PatchForm
from unit.apiserver.serving import Client, running
from unit.wire.pair import Board

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
WAIT_S = 40.0


async def until(condition: Callable[[], Awaitable[Any]], what: str) -> Any:
    deadline = time.monotonic() + WAIT_S
    while not (found := await condition()):
        assert time.monotonic() < deadline, f"not in time: {what}"
        await asyncio.sleep(0.05)
    return found


class Device:
    """The device's real session and link; its journal is in memory."""

    def __init__(self, node: str, port: int) -> None:
        self.node, self.board = node, Board()
        self.link = MqttLink(node, MqttOptions("127.0.0.1", port, node, connect_timeout_s=5))
        self.session = DeviceSession(Identity(node, "boot", "0.1.0"))
        self._nonces = 0
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.link.connect()
        self._task = asyncio.ensure_future(self._converse())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.session.lost()
        await self.link.close()

    def tell(self, *said: Reported) -> None:
        for value in said:
            seq = self.board.outbox_next
            subject = value.uid if isinstance(value, PodStatus) else ""
            self.board.items[seq] = OutboxItem(seq, KIND_OF[type(value)], subject, encode_report(value))
            self.board.outbox_next += 1

    async def flush(self) -> None:
        await self._do(self.session.flush(self.board, time.monotonic()))

    def pods(self) -> dict[str, Any]:
        kept = self.board.desired.objects.items()
        return {decode(o.body)["metadata"]["name"]: decode(o.body) for (kind, _), o in kept if kind is Kind.POD}

    async def _converse(self) -> None:
        await self._do(self.session.opened(self.board, time.monotonic(), 0.0, self._nonce()))
        while True:
            wait = None if self.session.deadline is None else max(0.0, self.session.deadline - time.monotonic())
            try:
                got = await asyncio.wait_for(self.link.recv(), wait)
            except asyncio.TimeoutError:
                await self._do(self.session.tick(self.board, time.monotonic(), 0.0, self._nonce(), 0.1))
                continue
            except LinkLost:
                self.session.lost()
                await self._again()
                continue
            await self._do(self.session.received(got.frame, self.board, time.monotonic(), 0.1))
            self.link.ack(got.handle)

    async def _again(self) -> None:
        while True:
            with suppress(LinkLost):
                await self.link.connect()
                await self._do(self.session.opened(self.board, time.monotonic(), 0.0, self._nonce()))
                return
            await asyncio.sleep(0.1)

    def _nonce(self) -> bytes:
        self._nonces += 1
        return self._nonces.to_bytes(8, "big")

    async def _do(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(said):
                    await self.link.send(message.encode(said))
                case Commit(change):
                    self.board.apply(change, hub_may_wipe=True)
                    await self._do(self.session.committed(self.board, time.monotonic()))
                case Trim(seq):
                    self.board.trim(seq)
                case Retell():
                    self.board.retell()
                case _:
                    pass


class Site:
    def __init__(self, cluster: KubeClient, broker: Broker) -> None:
        self.cluster, self.broker = cluster, broker
        self.log: list[str] = []
        self._running: list[tuple[asyncio.Task[None], MqttBroker]] = []

    async def hub(self, name: str = "hub") -> Hub:
        mqtt = MqttBroker(MqttOptions("127.0.0.1", self.broker.port, name))
        bulk = MqttBroker(MqttOptions("127.0.0.1", self.broker.port, f"{name}.streams"))
        hub = Hub(self.cluster, mqtt, bulk, SystemClock(), SystemEntropy(), self.log.append)
        self._running.append((asyncio.ensure_future(hub.run()), mqtt))
        await asyncio.wait_for(hub.ready(), WAIT_S)
        return hub

    async def stop(self) -> None:
        for task, mqtt in self._running:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await mqtt.close()
        self._running.clear()

    async def apply(self, name: str, **spec: Any) -> Obj:
        main = {"name": "main", "image": "busybox:1", "env": [{"name": "A", "value": "1"}]}
        body = {"nodeName": "pi", "containers": [main], **spec}
        return await self.cluster.create(PODS, "default", {"metadata": {"name": name}, "spec": body})

    async def phase(self, name: str) -> str:
        return str((await self.cluster.get(PODS, "default", name))["status"].get("phase"))

    async def ready(self, node: str = "pi") -> str:
        status = (await self.cluster.get(NODES, "", node)).get("status") or {}
        return next((str(c["status"]) for c in status.get("conditions") or () if c["type"] == "Ready"), "")


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Client]:
    with running(tmp_path / "api") as client:
        yield client


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    (tmp_path / "broker").mkdir()
    broker = Broker(tmp_path / "broker")
    yield broker
    broker.stop()


@pytest.fixture
async def site(api: Client, broker: Broker) -> AsyncIterator[Site]:
    async with KubeClient(load(api.at.kubeconfig)) as cluster:
        site = Site(cluster, broker)
        await join.join(cluster, "pi")
        yield site
        await site.stop()


@pytest.fixture
async def device(broker: Broker) -> AsyncIterator[Device]:
    device = Device("pi", broker.port)
    yield device
    await device.stop()


async def test_a_pods_life(site: Site, device: Device) -> None:
    """Apply, run, change, delete; with what kubectl would show at each step."""
    hub = await site.hub()
    await device.start()
    assert await until(lambda: _is(site.ready, "True"), "the node to be Ready")
    secret = {"metadata": {"name": "s"}, "stringData": {"k": "hunter2"}}
    await site.cluster.create(SECRETS, "default", secret)
    env = [{"name": "K", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]
    made = await site.apply("web", containers=[{"name": "main", "image": "busybox:1", "env": env}])
    uid = made["metadata"]["uid"]
    await until(lambda: _true(lambda: "web" in device.pods()), "the pod to arrive")
    secrets = [decode(o.body)["data"] for (k, _), o in device.board.desired.objects.items() if k is Kind.SECRET]
    assert secrets == [{"k": b"hunter2"}]

    main = ContainerStatus("main", Life.RUNNING, "busybox:1", "sha256:1", "c1", started_at=1_800_000_000)
    running = PodStatus(uid, "default", "web", Phase.RUNNING, (main,), pod_ip="10.0.0.5", started_at=1_800_000_000)
    started = Event(uid, "default", "web", "Started", "Started container main", False, 1_800_000_000, "e1")
    facts = NodeFacts(
        4000, 1 << 29, 110, "arm64", "linux", "Debian 12", "6.1", "b", "m", "containerd://1", "0.1.0", ("::9",)
    )
    device.tell(running, started, started, facts)
    await device.flush()
    await until(lambda: _true(lambda: not device.board.items), "the reports to be acknowledged")
    shown = (await site.cluster.get(PODS, "default", "web"))["status"]
    assert (shown["phase"], shown["podIP"]) == ("Running", "10.0.0.5")
    assert shown["containerStatuses"][0]["containerID"] == "containerd://c1"
    assert [e["reason"] for e in (await site.cluster.list(EVENTS)).items] == ["Started"]
    assert (await site.cluster.get(NODES, "", "pi"))["status"]["nodeInfo"]["architecture"] == "arm64"

    patch = {"spec": {"containers": [{"name": "main", "image": "busybox:2"}]}}
    await site.cluster.patch(PODS, "default", "web", patch, form=PatchForm.STRATEGIC)
    await until(
        lambda: _true(lambda: device.pods()["web"]["spec"]["containers"][0]["image"] == "busybox:2"), "the change"
    )
    await site.cluster.delete(PODS, "default", "web")
    await until(lambda: _true(lambda: "deletionTimestamp" in device.pods()["web"]["metadata"]), "the deletion")
    device.tell(PodStatus(uid, "default", "web", Phase.SUCCEEDED, gone=True))
    await device.flush()
    await until(lambda: _true(lambda: not device.board.desired.objects), "the device to have nothing")
    with pytest.raises(NotFound):
        await site.cluster.get(PODS, "default", "web")
    total = hub.snapshot()["total"]
    assert (total["crashes"], total["malformed"], total["dropped_queue"]) == (0, 0, 0)


async def test_nothing_is_written_or_said_when_nothing_changes(site: Site, device: Device) -> None:
    hub = await site.hub()
    await device.start()
    await site.apply("calm")
    await until(lambda: _is(site.ready, "True"), "the node to be Ready")
    await until(lambda: _true(lambda: "calm" in device.pods()), "the pod to arrive")

    async def moment() -> object:
        return (await site.cluster.list(CONFIG_MAPS)).resource_version, hub.snapshot()["total"]

    for _ in range(5):  # what the pod's arrival brings may take a while; then nothing comes
        before = await moment()
        await asyncio.sleep(2)
        if await moment() == before:
            return
    pytest.fail("something goes on being written or said")


async def test_a_second_hub_takes_over_and_tells_the_device_nothing_new(site: Site, device: Device) -> None:
    await site.hub()
    await device.start()
    await site.apply("stays")
    await until(lambda: _true(lambda: "stays" in device.pods()), "the pod to arrive")
    generation = device.board.desired.generation
    await site.stop()
    hub = await site.hub("second")
    await until(lambda: _true(lambda: hub.snapshot()["devices"]["pi"]["state"] == "live"), "the new session")
    await site.apply("later")
    await until(lambda: _true(lambda: "later" in device.pods()), "the next pod")
    assert device.board.desired.generation == generation + 1


async def test_a_broker_that_restarts_is_found_again(site: Site, device: Device) -> None:
    hub = await site.hub()
    await device.start()
    await until(lambda: _is(site.ready, "True"), "the node to be Ready")
    since = (await site.cluster.get(NODES, "", "pi"))["status"]["conditions"]
    site.broker.stop()
    await asyncio.sleep(0.3)
    site.broker.start()
    await site.apply("after")
    await until(lambda: _true(lambda: "after" in device.pods()), "the pod to arrive")
    assert hub.snapshot()["broker"]["connects"] == 2
    assert (await site.cluster.get(NODES, "", "pi"))["status"]["conditions"] == since, "the node flapped"


async def test_a_flood_through_a_real_broker_leaves_the_others_alone(site: Site, device: Device) -> None:
    await join.join(site.cluster, "hostile")
    hub = await site.hub()
    await device.start()
    await until(lambda: _is(site.ready, "True"), "the node to be Ready")
    attacker = MqttConnection(MqttOptions("127.0.0.1", site.broker.port, "hostile"))
    await attacker.connect()

    async def flood() -> None:
        while True:
            await attacker.publish(up_topic("hostile"), b"\xff" * 2_000)

    flooding = asyncio.ensure_future(flood())
    try:
        made = await site.apply("calm")
        await until(lambda: _true(lambda: "calm" in device.pods()), "the pod to arrive")
        device.tell(PodStatus(made["metadata"]["uid"], "default", "calm", Phase.RUNNING))
        await device.flush()
        await until(lambda: _is(lambda: site.phase("calm"), "Running"), "the status to be shown")
        await until(lambda: _true(lambda: not hub.snapshot()["devices"]["hostile"]["listening"]), "the flood's end")
    finally:
        flooding.cancel()
        await asyncio.gather(flooding, return_exceptions=True)
        await attacker.close()
    counts = hub.snapshot()["devices"]["hostile"]
    assert counts["queue_peak"] <= SESSION_QUEUE_FRAMES_MAX
    assert counts["floods"] == 1


async def _is(ask: Callable[[], Awaitable[str]], want: str) -> bool:
    return await ask() == want


async def _true(ask: Callable[[], bool]) -> bool:
    return ask()
