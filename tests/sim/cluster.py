"""skerry_hub.ports.Cluster before the simulated API: slow, failing, conflicting, with watches that close and expire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from sim.etcd import Change, Etcd, copy
from sim.world import World
from skerry_hub.limits import API_TIMEOUT_S
from skerry_hub.ports import (
    ClusterAway,
    ClusterBusy,
    Conflict,
    Expired,
    Listing,
    NotFound,
    Obj,
    PatchForm,
    Resource,
    WatchEvent,
    WatchType,
)

T = TypeVar("T")
CALL_S = (0.002, 0.05)
BOOKMARK_S = 60.0
# What the strategic merge patch merges by; every other list is replaced.
MERGE_KEYS = {"conditions": "type", "addresses": "type", "podIPs": "ip", "hostIPs": "ip", "tolerations": ""}


@dataclass(slots=True)
class ApiWeather:
    """What the API is like now. Outlives hub processes."""

    away: bool = False
    slow: float = 1.0
    failing: float = 0.0  # part of the requests answered by 5xx or 429, or not at all
    conflicts: float = 0.0
    closing: float = 0.0  # part of the watch events after which the server ends the watch
    lag_s: float = 0.0  # by which watches may be late


class Bell:
    """An Event with a timeout, without a task."""

    def __init__(self) -> None:
        self._rang = False
        self._waiter: asyncio.Future[None] | None = None

    def ring(self) -> None:
        self._rang = True
        self._wake()

    async def wait(self, seconds: float) -> bool:
        """Whether it rang within so long."""
        if not self._rang:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = loop.call_later(seconds, self._wake)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        rang, self._rang = self._rang, False
        return rang

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class SimCluster:
    """ports.Cluster."""

    def __init__(self, world: World, etcd: Etcd, weather: ApiWeather, name: str) -> None:
        self._world, self._etcd, self._weather = world, etcd, weather
        self._random = world.rng(f"cluster/{name}")
        self._bells: list[tuple[str, Callable[[], None]]] = []  # of the watches that are open

    def deaf(self) -> None:
        """The process is gone: nothing rings for its watches any more."""
        for plural, ring in self._bells:
            mine = self._etcd.listeners.get(plural, [])
            if ring in mine:
                mine.remove(ring)

    async def list(self, resource: Resource, *, namespace: str = "", labels: str = "", fields: str = "") -> Listing:
        def read() -> Listing:
            found = [o for (space, _), o in self._etcd.all(resource).items() if namespace in ("", space)]
            items = [copy(o) for o in found if matches(o, labels, fields)]
            return Listing(tuple(items), self._etcd.version)

        return await self._call(read)

    async def watch(
        self, resource: Resource, version: int, *, timeout_s: float, labels: str = "", fields: str = ""
    ) -> AsyncIterator[WatchEvent]:
        etcd, bell = self._etcd, Bell()
        await self._call(lambda: None)
        life, until = etcd.lives, self._world.now + timeout_s
        if version < etcd.compacted or version > etcd.version:
            raise Expired(f"version {version} of {etcd.compacted} to {etcd.version}")
        seen = version
        etcd.listeners.setdefault(resource.plural, []).append(bell.ring)
        self._bells.append((resource.plural, bell.ring))
        try:
            while self._world.now < until:
                etcd.read[bell] = seen
                for change in etcd.since(seen):
                    if change.plural == resource.plural and matches(change.obj, labels, fields):
                        await self._stream(life)
                        yield WatchEvent(WatchType(change.type), copy(change.obj))
                        if self._random.random() < self._weather.closing:
                            self._world.tell("fault", f"the watch of {resource.plural} ends")
                            return
                    seen = change.version
                await self._stream(life)
                if seen < etcd.compacted and not etcd.log:
                    seen = max(seen, etcd.compacted)
                if not await bell.wait(min(BOOKMARK_S, max(0.001, until - self._world.now))):
                    await self._stream(life)
                    if any(change.plural == resource.plural for change in etcd.since(seen)):
                        continue
                    seen = max(seen, etcd.version)
                    yield WatchEvent(WatchType.BOOKMARK, {"metadata": {"resourceVersion": str(seen)}})
        finally:
            etcd.read.pop(bell, None)
            mine = etcd.listeners.get(resource.plural, [])
            if bell.ring in mine:
                mine.remove(bell.ring)
            self._bells.remove((resource.plural, bell.ring))

    async def get(self, resource: Resource, namespace: str, name: str) -> Obj:
        def read() -> Obj:
            found = self._etcd.find(resource, namespace, name)
            if found is None:
                raise NotFound(f"{resource.plural} {namespace}/{name}")
            return copy(found)

        return await self._call(read)

    async def create(
        self, resource: Resource, namespace: str, obj: Obj, *, name: str = "", subresource: str = ""
    ) -> Obj:
        return await self._call(lambda: self._etcd.create(resource, namespace, obj))

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
        def write() -> Obj:
            old = self._etcd.find(resource, namespace, name)
            if old is None:
                raise NotFound(f"{resource.plural} {namespace}/{name}")
            said = patch.get("metadata") or {}
            for what in ("uid", "resourceVersion"):
                if said.get(what) and said[what] != old["metadata"][what]:
                    raise Conflict(f"{resource.plural} {name}: {what}")
            part = {"status": patch.get("status") or {}} if subresource == "status" else copy(dict(patch))
            part.pop("uid", None)
            return self._etcd.change(resource, namespace, name, lambda o: merge(o, copy(part), form))

        return await self._call(write, patch=True)

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, uid: str = "", grace_s: int | None = None
    ) -> None:
        def write() -> None:
            old = self._etcd.find(resource, namespace, name)
            if old is not None and uid and old["metadata"]["uid"] != uid:
                raise Conflict(f"{resource.plural} {name}: uid")
            self._etcd.delete(resource, namespace, name, grace_s)

        await self._call(write)

    # --- private ------------------------------------------------------------------------------------------------------

    async def _stream(self, life: int) -> None:
        """The watch's connection, a moment later."""
        weather = self._weather
        if weather.lag_s:
            await asyncio.sleep(self._random.random() * weather.lag_s)
        if weather.away or life != self._etcd.lives:
            raise ClusterAway("the watch broke off")

    async def _call(self, do: Callable[[], T], patch: bool = False) -> T:
        """One request: it may fail before or after it took effect."""
        weather, random, life = self._weather, self._random, self._etcd.lives
        await asyncio.sleep(random.uniform(*CALL_S) * weather.slow)
        if life != self._etcd.lives:
            raise ClusterAway("reset by peer")  # the server that was asked is no more
        if weather.away:
            await asyncio.sleep(random.choice([0.0, API_TIMEOUT_S]))
            raise ClusterAway("connection refused")
        luck = random.random()
        if luck > 1 - weather.conflicts and patch:
            raise Conflict("somebody else was faster")
        if luck < weather.failing:
            if random.random() < 0.5:
                do()
            if random.random() < 0.2:
                await asyncio.sleep(API_TIMEOUT_S)
            raise random.choice(
                [ClusterBusy("500"), ClusterBusy("429", random.uniform(0, 3)), ClusterAway("reset by peer")]
            )
        done = do()
        await asyncio.sleep(random.uniform(*CALL_S))
        return done


def matches(obj: Obj, labels: str, fields: str) -> bool:
    """The two selectors that the hub uses: `key=value` of labels, `spec.nodeName!=`."""
    if labels:
        key, _, value = labels.partition("=")
        if (obj["metadata"].get("labels") or {}).get(key) != value:
            return False
    if fields:
        name = fields.removeprefix("metadata.name=")
        if name != fields:
            return bool(obj["metadata"]["name"] == name)
        assert fields == "spec.nodeName!=", fields
        return bool((obj.get("spec") or {}).get("nodeName"))
    return True


def merge(obj: Obj, patch: Mapping[str, Any], form: PatchForm) -> None:
    """RFC 7386, and of Kubernetes' strategic merge what MERGE_KEYS needs."""
    for name, value in patch.items():
        if value is None:
            obj.pop(name, None)
        elif isinstance(value, dict):
            there = obj.get(name)
            obj[name] = there = there if isinstance(there, dict) else {}
            merge(there, value, form)
        elif isinstance(value, list) and form is PatchForm.STRATEGIC and MERGE_KEYS.get(name):
            obj[name] = _merge_list(obj.get(name) or [], value, MERGE_KEYS[name])
            if not obj[name]:
                del obj[name]
        else:
            obj[name] = value


def _merge_list(have: list[Obj], patch: list[Obj], key: str) -> list[Obj]:
    if any(item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if "$patch" not in item]
    out = [dict(item) for item in have]
    for item in patch:
        mine = next((o for o in out if o.get(key) == item.get(key)), None)
        if item.get("$patch") == "delete":
            out = [o for o in out if o is not mine]
        elif mine is None:
            out.append(dict(item))
        else:
            mine.update(item)
    return [{name: value for name, value in item.items() if value is not None} for item in out]


__all__ = ["ApiWeather", "Change", "SimCluster"]
