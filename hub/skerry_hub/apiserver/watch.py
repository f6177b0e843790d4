"""Watches: each has its own bounded queue of changes and its own pace; one that falls behind is ended, not waited for.

`Watchers` takes the store's changes; `Watch.run` writes one client's stream. What a change means to a selector is
decided by `event_type`. Refuses to know HTTP beyond the stream it writes to.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from . import limits, views
from .requests import ListOptions
from .resources import Resource
from .selectors import Selector
from .status import ApiError, expired
from .store import Change, Store, Stored, TooOld

Obj = dict[str, Any]


class Stream(Protocol):
    """Where a watch writes: `drain` waits for a slow client and raises asyncio.TimeoutError at last."""

    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None: ...

    def abort(self) -> None: ...


@dataclass
class Counters:
    """What happened to watches since the start."""

    opened: int = 0
    ended_slow: int = 0  # ended because the client did not read


def selects(selector: Selector, ns: str, name: str, key: tuple[str, str], stored: Stored | None) -> bool:
    """Whether an object belongs to a watch of namespace `ns` (or all) and `name` (or any)."""
    if stored is None or (ns and key[0] != ns) or (name and key[1] != name):
        return False
    return not selector or selector.matches(stored.labels, stored.fields)


def event_type(was: bool, now: bool) -> str:
    """An event's type from whether the object was selected before and is now; "" for none."""
    if now:
        return "MODIFIED" if was else "ADDED"
    return "DELETED" if was else ""


class Watchers:
    """All open watches by resource."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.counters = Counters()
        self._by_resource: dict[str, set[Watch]] = {}
        store.listeners.append(self._publish)

    def _publish(self, change: Change) -> None:
        for watch in self._by_resource.get(change.key[0], ()):
            watch.offer(change)

    @property
    def open(self) -> int:
        """How many watches are open."""
        return sum(map(len, self._by_resource.values()))

    def add(self, watch: Watch) -> None:
        """Raises ApiError 429 when there are too many."""
        if self.open >= limits.WATCHERS_MAX:
            raise ApiError(429, "TooManyRequests", "too many watches are open", headers=(("Retry-After", "5"),))
        self._by_resource.setdefault(watch.resource.id, set()).add(watch)
        self.counters.opened += 1

    def remove(self, watch: Watch) -> None:
        self._by_resource.get(watch.resource.id, set()).discard(watch)


class Watch:
    """One client's watch.

    It is added to `Watchers` and run without an await in between, so that nothing falls between what it reads and what
    is published.
    """

    def __init__(
        self, watchers: Watchers, resource: Resource, ns: str, name: str, options: ListOptions, view: views.View
    ) -> None:
        self._watchers, self._store = watchers, watchers.store
        self.resource, self._ns, self._name, self._options, self._view = resource, ns, name, options, view
        self._queue: deque[Change] = deque()
        self._wake = asyncio.Event()
        self._overflow = False
        self._columns_sent = False
        self._rv = 0

    def offer(self, change: Change) -> None:
        """Takes a change for later, or notes that the client is too slow."""
        if len(self._queue) >= limits.WATCH_QUEUE_EVENTS_MAX:
            self._overflow = True
        else:
            self._queue.append(change)
        self._wake.set()

    async def run(self, stream: Stream) -> None:
        """Writes events until the time is up, the client is gone, or it is too slow."""
        try:
            await self._run(stream)
        except asyncio.TimeoutError:
            self._watchers.counters.ended_slow += 1
            stream.abort()

    async def _run(self, stream: Stream) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._options.timeout_s
        bookmark = loop.time() + min(limits.WATCH_BOOKMARK_S, max(self._options.timeout_s - 2.0, 0.5))
        try:
            await self._begin(stream)
        except ApiError as why:
            stream.write(_line("ERROR", views.dumps(why.body)))
            return
        while not self._overflow:
            await self._flush(stream)
            now = loop.time()
            if now >= end:
                return
            if self._options.bookmarks and now >= bookmark and not self._queue:
                stream.write(self._bookmark(self._rv))
                bookmark = now + limits.WATCH_BOOKMARK_S
            await stream.drain()
            await self._wait(min(end, bookmark if self._options.bookmarks else end) - loop.time())
        raise asyncio.TimeoutError

    async def _wait(self, seconds: float) -> None:
        if self._queue or seconds <= 0:
            return
        self._wake.clear()
        loop = asyncio.get_running_loop()
        timer = loop.call_later(seconds, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

    async def _begin(self, stream: Stream) -> None:
        """What exists, or what happened since the asked version. Raises ApiError 410."""
        options, store = self._options, self._store
        self._rv = store.rv
        if options.version is not None and options.version > store.rv:
            raise expired(f"too large resource version: {options.version}, current: {store.rv}")
        if options.initial_events or (options.initial_events is None and options.version in (None, 0)):
            found = store.all(self.resource.id, self._ns)
            await self._write_initial(stream, found)
            if options.initial_events:
                stream.write(self._bookmark(self._rv, {"k8s.io/initial-events-end": "true"}))
            return
        if options.version in (None, 0):
            return
        assert options.version is not None
        try:
            past = store.since(options.version)
        except TooOld:
            raise expired(f"too old resource version: {options.version} ({store.forgotten_rv + 1})") from None
        await self._write_changes(stream, [change for change in past if change.key[0] == self.resource.id])

    async def _write_initial(self, stream: Stream, found: Iterable[tuple[tuple[str, str], Stored]]) -> None:
        batch, size = [], 0
        for key, stored in found:
            if selects(self._options.selector, self._ns, self._name, key, stored):
                batch.append(self._encode("ADDED", stored))
                size += len(batch[-1])
                if size > limits.WATCH_BATCH_BYTES:
                    stream.write(b"".join(batch))
                    batch, size = [], 0
                    await stream.drain()
        stream.write(b"".join(batch))

    async def _flush(self, stream: Stream) -> None:
        while self._queue and not self._overflow:
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), 64))]
            await self._write_changes(stream, batch)

    async def _write_changes(self, stream: Stream, changes: list[Change]) -> None:
        out, size = [], 0
        for change in changes:
            line = self._change_line(change)
            self._rv = max(self._rv, change.rv)
            if line:
                out.append(line)
                size += len(line)
                if size > limits.WATCH_BATCH_BYTES:
                    stream.write(b"".join(out))
                    out, size = [], 0
                    await stream.drain()
        if out:
            stream.write(b"".join(out))
            await stream.drain()

    def _change_line(self, change: Change) -> bytes:
        selector, key = self._options.selector, change.key[1:]
        was = selects(selector, self._ns, self._name, key, change.old)
        now = selects(selector, self._ns, self._name, key, change.new)
        kind = event_type(was, now)
        if not kind:
            return b""
        shown = change.new
        if kind == "DELETED":  # gone, or no longer selected: its last selected state
            assert change.old is not None
            shown = _at(change.old, change.rv)
        if self._view.form == "table":
            return self._encode(kind, shown)
        cache = (kind, self._view.form + self._view.version + self._view.include)
        line = change.lines.get(cache)
        if line is None:
            line = change.lines[cache] = self._encode(kind, shown)
        return line

    def _encode(self, kind: str, stored: Stored | None) -> bytes:
        assert stored is not None
        if self._view.form == "table":
            obj = stored.obj()
            meta = {"resourceVersion": obj["metadata"]["resourceVersion"]}
            body = views.dumps(views.table(self._view, self.resource, [obj], meta, columns=not self._columns_sent))
            self._columns_sent = True
            return _line(kind, body)
        return _line(kind, views.object_body(self._view, self.resource, stored.raw))

    def _bookmark(self, rv: int, annotations: Obj | None = None) -> bytes:
        rv = max(rv, self._store.rv if not self._queue else rv)
        meta: Obj = {"resourceVersion": str(rv)}
        if annotations:
            meta["annotations"] = annotations
        if self._view.form == "table":
            table = views.table(self._view, self.resource, [], {"resourceVersion": str(rv)}, not self._columns_sent)
            self._columns_sent = True
            partial = views.partial(self._view, {"metadata": meta})
            table["rows"] = [{"cells": [None for _ in self.resource.columns], "object": partial}]
            return _line("BOOKMARK", views.dumps(table))
        if self._view.form == "partial":
            return _line("BOOKMARK", views.dumps(views.partial(self._view, {"metadata": meta})))
        obj = {"kind": self.resource.kind, "apiVersion": self.resource.api_version, "metadata": meta}
        return _line("BOOKMARK", views.dumps(obj))


def _at(stored: Stored, rv: int) -> Stored:
    obj = stored.obj()
    obj["metadata"]["resourceVersion"] = str(rv)
    return Stored(rv, json.dumps(obj, ensure_ascii=False).encode(), stored.labels, stored.fields)


def _line(kind: str, body: bytes) -> bytes:
    return b'{"type":"' + kind.encode() + b'","object":' + body + b"}\n"
