"""Every object of the cluster: SQLite is the truth, memory is its mirror, and each commit is told to the watchers.

One resourceVersion for the whole store, growing by one with each change. Writes are decided on the event loop against
the newest state (committed or on its way), committed in order by one thread, many to an fsync, and only then shown to
readers, answered and published. A commit that fails fails every write that waits behind it, and changes nothing.
Refuses to know kinds, HTTP and what an object means.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import limits
from .database import Loaded, Row, create_or_open, load, write
from .errors import DatabaseError
from .status import ApiError

Obj = dict[str, Any]
Key = tuple[str, str, str]  # resource ("pods", "leases.coordination.k8s.io"), namespace or "", name


@dataclass(frozen=True)
class Stored:
    """One object at one version. `raw` is its JSON without apiVersion and kind; `index` what selectors look at."""

    rv: int
    raw: bytes
    labels: dict[str, str]
    fields: dict[str, str]

    def obj(self) -> Obj:
        """A fresh copy that the caller may change."""
        out: Obj = json.loads(self.raw)
        return out


@dataclass
class Change:
    """What a commit did to one object: `new` None is a deletion, `old` None a creation. `lines` caches encodings.

    What was deleted is shown to watchers in its last state at version `rv`.
    """

    rv: int
    key: Key
    old: Stored | None
    new: Stored | None
    lines: dict[tuple[str, str], bytes] = field(default_factory=dict)


class _Chained:
    """Stands for the result of the write before, in the same commit."""


CHAINED = _Chained()


@dataclass(frozen=True)
class Write:
    """One change asked for: `obj` None removes. `expect` is the state that the decision was based on."""

    key: Key
    expect: Stored | _Chained | None
    obj: Obj | None


class Stale(Exception):
    """The object changed between the decision and the write: decide again."""


class TooOld(Exception):
    """Changes that far back are no longer kept."""


Batch = tuple[list[Change], "asyncio.Future[list[Stored | None]]"]  # the changes of one commit, and who waits for it
IndexOf = Callable[[str, Obj], tuple[dict[str, str], dict[str, str]]]


class Store:
    """See the module. All methods run on one event loop; `open` may be called before it runs."""

    def __init__(self, path: Path, index: IndexOf) -> None:
        """Opens or creates the database at `path`. Raises DatabaseError."""
        self._index, self._db = index, create_or_open(path)
        self._path = path
        self._objects: dict[str, dict[tuple[str, str], Stored]] = {}
        self._sorted: dict[str, list[tuple[str, str]] | None] = {}
        self._changes: deque[Change] = deque()
        self._changes_bytes = 0
        self.bytes = 0  # of all objects
        self.forgotten_rv = 0  # changes up to this one are no longer kept
        self.rv = 0
        self._read_all()
        self._next_rv = self.rv
        self._pending: dict[Key, Stored | None] = {}
        self._queue: list[Batch] = []
        self._last: asyncio.Future[list[Stored | None]] | None = None  # of the commit that was asked for last
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="sqlite")
        self._busy: asyncio.Task[None] | None = None
        self._closed = False
        self.listeners: list[Callable[[Change], None]] = []

    def _read_all(self) -> None:
        try:
            self._take(load(self._db))
        except (ValueError, AttributeError, TypeError) as why:
            self._db.close()
            text = f"{self._path}: holds an object that cannot be read: {why}; restore a backup (docs/api-server.md)"
            raise DatabaseError(text) from None
        except DatabaseError:
            self._db.close()
            raise

    def _take(self, loaded: Loaded) -> None:
        self.rv, self.forgotten_rv = loaded.rv, loaded.forgotten_rv
        for resource, ns, name, rv, raw in loaded.objects:
            self._objects.setdefault(resource, {})[ns, name] = self._stored(resource, rv, raw)
            self.bytes += len(raw)
        for rv, resource, ns, name, old, new in loaded.changes:
            key = (resource, ns, name)
            was = self._stored(resource, 0, old) if old is not None else None
            now = self._stored(resource, rv, new) if new is not None else None
            self._keep(Change(rv, key, was, now))

    def _stored(self, resource: str, rv: int, raw: bytes, obj: Obj | None = None) -> Stored:
        labels, fields = self._index(resource, json.loads(raw) if obj is None else obj)
        return Stored(rv, raw, labels, fields)

    def get(self, key: Key) -> Stored | None:
        """The committed object."""
        return self._objects.get(key[0], {}).get(key[1:])

    def latest(self, key: Key) -> Stored | None:
        """The object as the next write will find it: what a decision must be based on."""
        return self._pending[key] if key in self._pending else self.get(key)

    def keys(self, resource: str) -> list[tuple[str, str]]:
        """(namespace, name) of every committed object of `resource`, sorted. Do not change it."""
        keys = self._sorted.get(resource)
        if keys is None:
            keys = self._sorted[resource] = sorted(self._objects.get(resource, {}))
        return keys

    def all(self, resource: str, ns: str = "") -> Iterable[tuple[tuple[str, str], Stored]]:
        """The committed objects of `resource` in order, of one namespace if `ns` is given."""
        found = self._objects.get(resource, {})
        return [(key, found[key]) for key in self.keys(resource) if not ns or key[0] == ns]

    def as_of(self, resource: str, rv: int) -> list[tuple[tuple[str, str], Stored]]:
        """The objects of `resource` as they were at version `rv`. Raises TooOld."""
        if rv < self.forgotten_rv:
            raise TooOld
        if rv >= self.rv:
            return list(self.all(resource))
        state: dict[tuple[str, str], Stored | None] = dict(self._objects.get(resource, {}))
        for change in reversed(self._changes):
            if change.rv <= rv:
                break
            if change.key[0] == resource:
                state[change.key[1:]] = change.old
        return sorted((key, value) for key, value in state.items() if value is not None)  # keys are unique

    def since(self, rv: int) -> list[Change]:
        """The changes after version `rv`, oldest first. Raises TooOld."""
        if rv < self.forgotten_rv:
            raise TooOld
        out = []
        for change in reversed(self._changes):
            if change.rv <= rv:
                break
            out.append(change)
        return out[::-1]

    async def commit(self, *writes: Write) -> list[Stored | None]:
        """Makes all `writes` durable together and visible; answers what is stored now.

        The check against `expect` happens at once, before the first await. Raises Stale, or ApiError 500 when the
        database refused; then nothing changed.
        """
        if self._closed:
            raise ApiError(503, "ServiceUnavailable", "the server is shutting down")
        if any(w.expect is not CHAINED and self.latest(w.key) is not w.expect for w in writes):
            raise Stale
        if len(self._queue) >= limits.PENDING_WRITES_MAX:
            raise ApiError(429, "TooManyRequests", "too many writes are waiting", headers=(("Retry-After", "1"),))
        changes = self._stage(writes)
        future: asyncio.Future[list[Stored | None]] = asyncio.get_running_loop().create_future()
        self._queue.append((changes, future))
        self._last = future
        if self._busy is None:
            self._busy = asyncio.create_task(self._drain())
        return await asyncio.shield(future)

    async def settled(self) -> None:
        """Return once all that is on its way now is stored or refused: who is told of it may read it then. Raises
        nothing."""
        if self._last is not None:
            await asyncio.wait({self._last})

    def _stage(self, writes: tuple[Write, ...]) -> list[Change]:
        """Gives each write its version and shows it to the next decision; all or none."""
        rv, before = self._next_rv, {w.key: (w.key in self._pending, self._pending.get(w.key)) for w in writes}
        try:
            changes = []
            for w in writes:
                change = self._change(w, self.latest(w.key))
                self._pending[change.key] = change.new
                changes.append(change)
            return changes
        except ApiError:
            self._next_rv = rv
            for key, (was, value) in before.items():
                if was:
                    self._pending[key] = value
                else:
                    self._pending.pop(key, None)
            raise

    def _change(self, w: Write, old: Stored | None) -> Change:
        rv = self._next_rv + 1
        if w.obj is None:
            assert old is not None
            self._next_rv = rv
            return Change(rv, w.key, old, None)
        w.obj["metadata"]["resourceVersion"] = str(rv)
        raw = json.dumps(w.obj, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        if len(raw) > limits.OBJECT_BYTES_MAX:
            raise ApiError(413, "RequestEntityTooLarge", f"etcdserver: request is too large: {len(raw)} bytes")
        if self.bytes + len(raw) - len(old.raw if old else b"") > limits.STORE_BYTES_MAX:
            raise ApiError(507, "", f"the store is full: {limits.STORE_BYTES_MAX} bytes of objects; delete some")
        self._next_rv = rv
        return Change(rv, w.key, old, self._stored(w.key[0], rv, raw, w.obj))

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        while self._queue:
            batch, self._queue = self._queue[: limits.COMMIT_BATCH_MAX], self._queue[limits.COMMIT_BATCH_MAX :]
            rows = [self._row(change) for changes, _ in batch for change in changes]
            forget = self._forget_to(len(rows))
            try:
                await loop.run_in_executor(self._writer, write, self._db, rows, forget)
            except sqlite3.Error as why:
                self._fail(batch, why)
                break
            self._commit_done(batch, forget)
        self._busy = None

    def _commit_done(self, batch: list[Batch], forget: int) -> None:
        if forget:
            self._forget(forget)
        for changes, future in batch:
            for change in changes:
                self._apply(change)
            if not future.done():
                future.set_result([change.new for change in changes])

    def _fail(self, batch: list[Batch], why: sqlite3.Error) -> None:
        """What waits was decided upon what did not come about: all of it fails, nothing of it is seen."""
        waiting, self._queue = batch + self._queue, []
        self._pending.clear()
        self._next_rv = self.rv
        for _, future in waiting:
            if not future.done():
                future.set_exception(ApiError(500, "InternalError", f"Internal error occurred: database: {why}"))

    def _row(self, change: Change) -> Row:
        resource, ns, name = change.key
        old = change.old.raw if change.old else None
        return Row(change.rv, resource, ns, name, old, change.new.raw if change.new else None)

    def _apply(self, change: Change) -> None:
        resource, ns, name = change.key
        objects = self._objects.setdefault(resource, {})
        if change.new is None:
            objects.pop((ns, name), None)
            self._sorted[resource] = None
        else:
            if (ns, name) not in objects:
                self._sorted[resource] = None
            objects[ns, name] = change.new
        self.bytes += len(change.new.raw if change.new else b"") - len(change.old.raw if change.old else b"")
        if change.key in self._pending and self._pending[change.key] is change.new:
            del self._pending[change.key]
        self.rv = change.rv
        self._keep(change)
        for listener in self.listeners:
            listener(change)

    @staticmethod
    def _weight(change: Change) -> int:
        return len(change.new.raw if change.new else b"") + 512

    def _keep(self, change: Change) -> None:
        self._changes.append(change)
        self._changes_bytes += self._weight(change)

    def _forget_to(self, more: int) -> int:
        """The version up to which changes may go; 0 while there is room. A tenth goes at a time."""
        over = len(self._changes) + more > limits.CHANGES_MAX or self._changes_bytes > limits.CHANGES_BYTES_MAX
        if not over or len(self._changes) < 10:
            return 0
        return self._changes[len(self._changes) // 10].rv

    def _forget(self, rv: int) -> None:
        while self._changes and self._changes[0].rv <= rv:
            self._changes_bytes -= self._weight(self._changes.popleft())
        self.forgotten_rv = rv

    async def close(self) -> None:
        """Finishes the writes that wait, then closes the database."""
        self._closed = True
        while self._busy is not None:
            await asyncio.wait([self._busy])
        self._writer.submit(self._db.close).result()
        self._writer.shutdown()
