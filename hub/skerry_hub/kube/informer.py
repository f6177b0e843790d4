"""What one collection of the API holds, kept up to date: list, then watch from there, for ever.

    LISTING ──list──► WATCHING ──410, or the API was away or silent──► LISTING
                         │ over, or closed by the server: watch again from the last version

`synced` says whether the contents follow one listing without a gap; they stay readable while it is False. An API that
was away, or that we did not hear for too long (a cut, or this process stood still), is listed anew, because what comes
back may be a restored one whose versions have another past. Decides nothing about objects.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from skerry.limits import API_BACKOFF_S
from skerry.plan.backoff import full_jitter
from skerry.ports import Clock, Entropy
from skerry_hub.limits import WATCH_SHORT_S, WATCH_SILENCE_S, WATCH_TIMEOUT_S
from skerry_hub.ports import (
    Cluster,
    ClusterAway,
    ClusterBusy,
    ClusterError,
    Expired,
    Obj,
    Resource,
    WatchEvent,
    WatchType,
)

Name = tuple[str, str]  # (namespace, name); an empty namespace where the collection has none
OnChange = Callable[[Name, "Obj | None", "Obj | None"], None]  # name, before, now
Log = Callable[[str], None]
SILENT = f"nothing was heard for {WATCH_SILENCE_S:.0f} s"


class Informer:
    """`run` keeps `objects` up to date and calls `on_change` for every difference, on the loop."""

    def __init__(
        self,
        cluster: Cluster,
        resource: Resource,
        clock: Clock,
        entropy: Entropy,
        log: Log,
        *,
        labels: str = "",
        fields: str = "",
        on_change: OnChange,
        on_synced: Callable[[], None],
    ) -> None:
        """`on_synced` is called whenever `synced` has changed."""
        self._cluster, self._resource, self._clock, self._entropy, self._log = cluster, resource, clock, entropy, log
        self._labels, self._fields = labels, fields
        self._on_change, self._on_synced = on_change, on_synced
        self._objects: dict[Name, Obj] = {}
        self.synced = False
        self.went_back = False  # a listing showed an object older than it was known: the API was restored
        self.resource_version = 0  # up to which changes are known
        self.lists = self.watches = self.failures = 0  # counters
        self._heard = self._patience = 0.0
        self._again: asyncio.Future[None] | None = None  # somebody wants a new listing

    @property
    def objects(self) -> Mapping[Name, Obj]:
        """Without managedFields; not to be changed."""
        return self._objects

    def relist(self) -> None:
        """List again: what is known may belong to another past of the API."""
        self._set_synced(False)
        if self._again is not None and not self._again.done():
            self._again.set_result(None)

    @property
    def silent_s(self) -> float:
        """Seconds since the API was last heard: what changed since then is not known here."""
        return max(0.0, self._clock.now() - self._heard)

    @property
    def era(self) -> int:
        """Which listing the contents follow: versions of different eras may be of different pasts."""
        return self.lists

    def learn(self, obj: Obj, era: int) -> None:
        """A write that began in `era` has answered with this: take it if it is newer than what is known of the same
        object, and no listing came between."""
        if era != self.lists:
            return
        known = self._objects.get(_name(obj))
        same = known is not None and known["metadata"].get("uid") == obj["metadata"].get("uid")
        if same and known is not None and _version(obj) > _version(known):
            self._put(_name(obj), obj)

    async def run(self) -> None:
        """Never returns."""
        failed = 0
        while True:
            try:
                if self.synced:
                    await self._watched()
                else:
                    await self._list()
                failed = 0
            except Expired:
                self._set_synced(False)
                failed += 1
            except ClusterError as why:
                failed += 1
                self.failures += 1
                if failed in (1, 10):
                    self._log(f"watching {self._resource.plural}: {why}")
                if not isinstance(why, ClusterBusy):
                    self._set_synced(False)
                await self._pause(failed, why)

    # --- private ------------------------------------------------------------------------------------------------------

    async def _pause(self, failed: int, why: ClusterError) -> None:
        delay = full_jitter(API_BACKOFF_S, failed, self._entropy.uniform())
        if isinstance(why, ClusterBusy):
            delay += why.retry_after_s
        await self._clock.sleep_until(self._clock.now() + delay)

    async def _list(self) -> None:
        self._again, began = None, self._clock.now()
        listing = await self._cluster.list(self._resource, labels=self._labels, fields=self._fields)
        self._heard = self._clock.now()
        if self._heard > began + WATCH_SILENCE_S:
            raise ClusterAway(SILENT)
        self.lists += 1
        fresh = {_name(obj): obj for obj in listing.items}
        for name in [name for name in self._objects if name not in fresh]:
            self._put(name, None)
        for name, obj in fresh.items():
            obj["metadata"].pop("managedFields", None)
            self.went_back = self.went_back or _older(obj, self._objects.get(name))
            if self._objects.get(name) != obj:  # a version alone says nothing across pasts
                self._put(name, obj)
        self.resource_version = listing.resource_version
        self._set_synced(True)

    async def _watched(self) -> None:
        """One watch, to its end. Raises ClusterAway when nothing was heard for too long, now or before it began."""
        if self._clock.now() > self._heard + WATCH_SILENCE_S:
            raise ClusterAway(SILENT)
        self.watches += 1
        self._patience = self._clock.now() + WATCH_SILENCE_S
        self._again = asyncio.get_running_loop().create_future()
        task = asyncio.ensure_future(self._follow())
        naps: asyncio.Future[None] | None = None
        try:
            while not task.done():
                naps = asyncio.ensure_future(self._clock.sleep_until(self._patience))
                await asyncio.wait({task, naps, self._again}, return_when=asyncio.FIRST_COMPLETED)
                naps.cancel()
                if self._again.done():
                    return
                if self._clock.now() >= self._patience:
                    raise ClusterAway(SILENT)
            task.result()
        finally:
            if naps is not None:
                naps.cancel()
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
            elif not task.cancelled():
                task.exception()

    async def _follow(self) -> None:
        low, high = WATCH_TIMEOUT_S
        began = self._clock.now()
        async for event in self._cluster.watch(
            self._resource,
            self.resource_version,
            timeout_s=low + (high - low) * self._entropy.uniform(),
            labels=self._labels,
            fields=self._fields,
        ):
            self._hear()
            if not self.synced:
                return
            self._take(event)
        self._hear()
        if self._clock.now() - began < WATCH_SHORT_S:
            raise ClusterBusy("the watch ends at once")

    def _hear(self) -> None:
        """The API is there. Raises ClusterAway when that comes too late, as after this process stood still."""
        now = self._clock.now()
        if now > self._patience:
            raise ClusterAway(SILENT)
        self._heard, self._patience = now, now + WATCH_SILENCE_S

    def _take(self, event: WatchEvent) -> None:
        version = _version(event.obj)
        if event.type is WatchType.DELETED:
            self._put(_name(event.obj), None)
        elif event.type is not WatchType.BOOKMARK:
            known = self._objects.get(_name(event.obj))
            if known is None or version > _version(known):  # not what was learned already
                self._put(_name(event.obj), event.obj)
        self.resource_version = max(self.resource_version, version)

    def _put(self, name: Name, obj: Obj | None) -> None:
        before = self._objects.get(name)
        if obj is None:
            self._objects.pop(name, None)
        else:
            obj["metadata"].pop("managedFields", None)
            self._objects[name] = obj
        if before is not None or obj is not None:
            self._on_change(name, before, obj)

    def _set_synced(self, synced: bool) -> None:
        if synced != self.synced:
            self.synced = synced
            self._on_synced()


def _older(obj: Obj, known: Obj | None) -> bool:
    """Whether this is the same object at an earlier version."""
    same = known is not None and known["metadata"].get("uid") == obj["metadata"].get("uid")
    return same and known is not None and _version(obj) < _version(known)


def _name(obj: Obj) -> Name:
    meta = obj.get("metadata")
    if not isinstance(meta, dict) or not isinstance(meta.get("name"), str):
        raise ClusterAway("the API sends an object without a name")
    return str(meta.get("namespace") or ""), meta["name"]


def _version(obj: Obj) -> int:
    try:
        return int(obj["metadata"]["resourceVersion"])
    except (KeyError, TypeError, ValueError):
        raise ClusterAway("the API sends an object without a resourceVersion that is a number") from None
