"""Clock, entropy, broker, controller and API for the hub's tests: small, and moved by the test."""

from __future__ import annotations

import asyncio
import copy
import heapq
import itertools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from random import Random
from typing import Any

from skerry.errors import LinkLost
from skerry.model.report import OutboxItem
from skerry.wire import message
from skerry.wire.message import Message
from skerry_hub.apiserver import patch_strategic, patches
from skerry_hub.ports import (
    LEASES,
    Cluster,
    ClusterError,
    Listing,
    NotFound,
    Obj,
    PatchForm,
    Resource,
    WatchEvent,
    WatchType,
)
from skerry_hub.sets import Target

TURNS = 60  # of the loop, so that everything that can happen without time has happened


async def settle() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


class ManualClock:
    """Time moves only by `advance`."""

    def __init__(self, now: float = 1_000.0) -> None:
        self._now = now
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return 1_800_000_000.0 + self._now

    async def sleep_until(self, when: float) -> None:
        if when > self._now:
            wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            heapq.heappush(self._sleepers, (when, next(self._order), wake))
            await wake

    def jump(self, seconds: float) -> None:
        """The process stood still: time has passed, and nothing has happened in it."""
        self._now += seconds

    async def advance(self, seconds: float) -> None:
        """Every sleeper wakes at its time, and everything that follows happens before the next one does."""
        end = self._now + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            when, _, wake = heapq.heappop(self._sleepers)
            self._now = max(self._now, when)
            if not wake.done():
                wake.set_result(None)
                await settle()
        self._now = end
        await settle()


class Dice:
    """Entropy of a seed."""

    def __init__(self, seed: int = 0) -> None:
        self._random = Random(seed)

    def token(self, size: int) -> bytes:
        return self._random.randbytes(size)

    def uniform(self) -> float:
        return self._random.random()


class FakeBroker:
    """ports.Broker; the test is every other client of it."""

    def __init__(self) -> None:
        self.up = True
        self.topics: set[str] = set()
        self.published: list[tuple[str, bytes]] = []
        self.stuck: set[str] = set()  # topics whose publish never returns
        self.slashes = False  # topics come back as from RabbitMQ
        self.connects = 0
        self._deliver: Callable[[str, bytes], None] | None = None
        self._lost: asyncio.Future[LinkLost] | None = None

    async def connect(self, deliver: Callable[[str, bytes], None]) -> None:
        if not self.up:
            raise LinkLost("refused")
        self.connects += 1
        self._deliver, self._lost = deliver, asyncio.get_running_loop().create_future()

    async def lost(self) -> LinkLost:
        assert self._lost is not None
        return await asyncio.shield(self._lost)

    async def subscribe(self, topics: Sequence[str]) -> None:
        self.topics.update(topics)

    async def unsubscribe(self, topics: Sequence[str]) -> None:
        self.topics.difference_update(topics)

    async def publish(self, topic: str, payload: bytes, *, bulk: bool = False, expiry_s: int = 0) -> None:
        if self._deliver is None:
            raise LinkLost("not connected")
        if topic in self.stuck:
            await asyncio.get_running_loop().create_future()
        self.published.append((topic, payload))

    async def close(self) -> None:
        self._deliver = None
        self.topics.clear()

    def say(self, topic: str, payload: bytes) -> bool:
        """A device publishes; whether the hub listened."""
        if topic in self.topics and self._deliver is not None:
            self._deliver(topic.replace(".", "/") if self.slashes else topic, payload)
            return True
        return False

    def cut(self) -> None:
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(LinkLost("cut"))

    def heard(self, node: str) -> list[Message]:
        """What the device was told since the last call."""
        return [message.decode(frame) for frame in self.payloads(node)]

    def payloads(self, node: str) -> list[bytes]:
        """The same as it travelled."""
        mine = [p for t, p in self.published if t == f"skerry/v1/{node}/down"]
        self.published = [(t, p) for t, p in self.published if t != f"skerry/v1/{node}/down"]
        return mine


class FakeController:
    """cloudhub's Controller."""

    def __init__(self) -> None:
        self.targets: dict[str, Target] = {}
        self.api_up = asyncio.Event()
        self.api_up.set()
        self.stored: list[tuple[str, int]] = []
        self.batches: list[int] = []
        self.said: list[tuple[str, ...]] = []

    def target(self, node: str) -> Target | None:
        return self.targets.get(node)

    async def store_reports(self, node: str, items: Sequence[OutboxItem]) -> None:
        await self.api_up.wait()
        self.batches.append(len(items))
        self.stored += [(node, item.seq) for item in items]

    def open_epoch(self, node: str, version: int) -> None:
        self.said.append(("epoch", node))

    def presence(self, node: str, live: bool) -> None:
        self.said.append(("live" if live else "gone", node))

    def held(self, node: str, held: bool, why: str) -> None:
        self.said.append(("held" if held else "free", node))

    def full(self, node: str, why: str) -> None:
        if why:
            self.said.append(("full", node))


class ScriptedCluster(Cluster):
    """ports.Cluster whose answers the test lines up: lists and watches by themselves, writes that fail as told."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Obj] = {}  # (plural, namespace, name)
        self.version = 10
        self.list_failures: list[ClusterError] = []
        self.write_failures: list[ClusterError] = []
        self.watches: list[ScriptedWatch] = []
        self.lists = 0
        self.writes: list[tuple[str, str, str, Any]] = []
        self.forgetful = False  # takes patches and changes nothing

    def put(self, resource: Resource, obj: Obj) -> Obj:
        """An object as the API has it from now on, with its new version; watches are not told."""
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        self.objects[(resource.plural, obj["metadata"].get("namespace", ""), obj["metadata"]["name"])] = obj
        return obj

    async def list(self, resource: Resource, *, namespace: str = "", labels: str = "", fields: str = "") -> Listing:
        if resource is not LEASES and self.list_failures:
            raise self.list_failures.pop(0)
        self.lists += resource is not LEASES
        mine = [
            o for (plural, space, _), o in self.objects.items() if plural == resource.plural if namespace in ("", space)
        ]
        found = [dict(o) for o in mine]
        return Listing(tuple(found), self.version)

    async def watch(
        self, resource: Resource, version: int, *, timeout_s: float, labels: str = "", fields: str = ""
    ) -> AsyncIterator[WatchEvent]:
        watch = ScriptedWatch(resource, version)
        self.watches.append(watch)
        while True:
            event = await watch.queue.get()
            if event is None:
                return
            if isinstance(event, ClusterError):
                raise event
            yield event

    async def get(self, resource: Resource, namespace: str, name: str) -> Obj:
        found = self.objects.get((resource.plural, namespace, name))
        if found is None:
            raise NotFound(name)
        return found

    async def create(
        self, resource: Resource, namespace: str, obj: Obj, *, name: str = "", subresource: str = ""
    ) -> Obj:
        made = self._wrote("create", resource, obj["metadata"]["name"], obj, obj)
        if resource is LEASES:
            made["metadata"].setdefault("uid", f"uid-{self.version}")
            self.objects[(resource.plural, namespace, obj["metadata"]["name"])] = copy.deepcopy(made)
        return made

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        patch: Mapping[str, Any],
        *,
        form: PatchForm = PatchForm.MERGE,
        subresource: str = "",
    ) -> Obj:
        key = (resource.plural, namespace, name)
        if resource is LEASES and key not in self.objects:
            raise NotFound(name)
        found = self.objects.get(key, {"metadata": {"name": name}})
        written = self._wrote("patch", resource, name, patch, found)
        if not self.forgetful:
            stay = ("uid", "resourceVersion")
            part = {**patch, "metadata": {k: v for k, v in (patch.get("metadata") or {}).items() if k not in stay}}
            if form is PatchForm.STRATEGIC:
                written = patch_strategic.apply(resource.plural[:-1].capitalize(), written, part)
            else:
                written = patches.merge(written, part)
        self.objects[key] = written
        return copy.deepcopy(written)

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, uid: str = "", grace_s: int | None = None
    ) -> None:
        self._wrote("delete", resource, name, {"uid": uid, "grace_s": grace_s}, {"metadata": {}})

    def _wrote(self, verb: str, resource: Resource, name: str, what: Any, now: Obj) -> Obj:
        if self.write_failures:
            raise self.write_failures.pop(0)
        self.version += 1
        self.writes.append((verb, resource.plural, name, what))
        return {**now, "metadata": {**now["metadata"], "resourceVersion": str(self.version)}}


class ScriptedWatch:
    """One open watch: what is put into it arrives; None closes it; an error is raised in it."""

    def __init__(self, resource: Resource, version: int) -> None:
        self.resource, self.version = resource, version
        self.queue: asyncio.Queue[WatchEvent | ClusterError | None] = asyncio.Queue()

    def say(self, kind: WatchType, obj: Obj) -> None:
        self.queue.put_nowait(WatchEvent(kind, obj))
