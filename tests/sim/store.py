"""A simulated disk with the journal on it, and the Store that one process has open.

The disk survives its process. Commits wait in a queue for the (virtual) writer thread; a kill lets a prefix of them
land, the next one perhaps with its copy alone: exactly what LMDB and the pair of copies leave (docs/journal-format.md).
"""

from __future__ import annotations

import asyncio
from bisect import insort
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sim.world import World
from skerry.errors import StoreBroken, StoreFull

CAPACITY_BYTES = 64 << 20
PAGE_BYTES = 4096
COMMIT_S = (0.0005, 0.02)


@dataclass(slots=True)
class Pending:
    """A commit handed to the writer thread."""

    puts: dict[bytes, bytes]
    deletes: tuple[bytes, ...]
    copy: bytes | None
    done: asyncio.Future[None]


Watcher = Callable[[Mapping[bytes, bytes], Sequence[bytes]], None]


@dataclass(slots=True)
class Disk:
    """What lies on the card. `watchers` see each commit just before it takes effect."""

    world: World
    name: str
    capacity: int = CAPACITY_BYTES
    records: dict[bytes, bytes] = field(default_factory=dict)
    copies: list[bytes] = field(default_factory=list)  # newest first, two at most
    full: bool = False  # others have filled the disk
    eio: bool = False  # the next commit fails for good
    slow: float = 1.0
    torn: bool = False  # the environment is damaged: the next opening quarantines it
    written: int = 0
    commits: int = 0
    quarantines: int = 0
    watchers: list[Watcher] = field(default_factory=list)
    opened: SimStore | None = None
    bytes_: int = 0
    _keys: list[bytes] = field(default_factory=list)

    def open(self) -> SimStore:
        """As world.store.open_store: a damaged environment is set aside."""
        assert self.opened is None or self.opened.closed, "the lock file keeps a second process out"
        if self.torn:
            self.torn = False
            self.records, self._keys, self.bytes_ = {}, [], 0
            self.quarantines += 1
            self.world.tell("store", f"{self.name}: environment quarantined")
        self.opened = SimStore(self)
        return self.opened

    def apply(self, puts: Mapping[bytes, bytes], deletes: Sequence[bytes], copy: bytes | None) -> None:
        for watcher in self.watchers:
            watcher(puts, deletes)
        if copy is not None:
            self._copy(copy)
        for key, value in puts.items():
            if key in self.records:
                self.bytes_ -= len(key) + len(self.records[key])
            else:
                insort(self._keys, key)
            self.records[key] = value
            self.bytes_ += len(key) + len(value)
        for key in deletes:
            if key in self.records:
                self.bytes_ -= len(key) + len(self.records.pop(key))
                self._keys.remove(key)
        self.commits += 1
        self.written += 3 * PAGE_BYTES + sum(len(k) + len(v) for k, v in puts.items())

    def _copy(self, copy: bytes) -> None:
        self.copies = [copy, *self.copies][:2]
        self.written += len(copy)

    def crash(self) -> None:
        """The process is gone: some prefix of what waits lands, then perhaps one more copy alone."""
        store, self.opened = self.opened, None
        if store is None:
            return
        random = self.world.rng(f"crash/{self.name}/{self.commits}/{self.world.now}")
        waiting, store.waiting, store.closed = list(store.waiting), [], True
        landing = random.randint(0, len(waiting))
        for pending in waiting[:landing]:
            if store.grown(pending) > 0 and self.full:
                return
            self.apply(pending.puts, pending.deletes, pending.copy)
        rest = waiting[landing:]
        if rest and rest[0].copy is not None and not self.full and random.random() < 0.5:
            self._copy(rest[0].copy)
            self.world.tell("store", f"{self.name}: died between copy and commit")

    def keys(self, prefix: bytes) -> list[bytes]:
        from bisect import bisect_left

        out, at = [], bisect_left(self._keys, prefix)
        while at < len(self._keys) and self._keys[at].startswith(prefix):
            out.append(self._keys[at])
            at += 1
        return out


class SimStore:
    """ports.Store."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.waiting: list[Pending] = []
        self.closed = False
        self._broken = False
        self._random = disk.world.rng(f"store/{disk.name}/{disk.commits}")

    def get(self, key: bytes) -> bytes | None:
        self._usable()
        return self._disk.records.get(key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        self._usable()
        records = self._disk.records
        return iter([(key, records[key]) for key in self._disk.keys(prefix)])

    async def commit(self, puts: Mapping[bytes, bytes], deletes: Sequence[bytes], copy: bytes | None = None) -> None:
        assert all(0 < len(key) <= 511 for key in (*puts, *deletes)), "a key has 1 to 511 bytes"
        self._usable()
        if self._broken:
            raise StoreBroken("journal: EIO")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append(Pending(dict(puts), tuple(deletes), copy, done))
        if len(self.waiting) == 1:
            self._later()
        await done

    def copies(self) -> list[bytes]:
        return list(self._disk.copies)

    def usage(self) -> float:
        return self._disk.bytes_ / self._disk.capacity

    def written_bytes(self) -> int:
        return self._disk.written

    def close(self) -> None:
        if not self.closed:
            while self.waiting:
                self._settle_one()
            self.closed = True

    # --- private ------------------------------------------------------------------------------------------------------

    def _usable(self) -> None:
        if self.closed:
            raise StoreBroken("journal: closed")

    def _later(self) -> None:
        delay = self._random.uniform(*COMMIT_S) * self._disk.slow
        self._disk.world.after(delay, self._turn)

    def _turn(self) -> None:
        """The writer thread takes what waits, one or several in one transaction."""
        if self.closed or not self.waiting:
            return
        for _ in range(self._random.randint(1, len(self.waiting))):
            self._settle_one()
        if self.waiting:
            self._later()

    def _settle_one(self) -> None:
        pending = self.waiting.pop(0)
        disk, problem = self._disk, None
        if disk.eio or self._broken:
            disk.eio, self._broken = False, True
            problem = StoreBroken("journal: EIO")
            if self._random.random() < 0.5 and pending.copy is not None:
                disk._copy(pending.copy)
        elif self.grown(pending) > 0 and (disk.full or disk.bytes_ + self.grown(pending) > disk.capacity):
            problem_full = StoreFull("journal: the disk is full")
            if not pending.done.done():
                pending.done.set_exception(problem_full)
            return
        else:
            disk.apply(pending.puts, pending.deletes, pending.copy)
        if not pending.done.done():
            if problem is None:
                pending.done.set_result(None)
            else:
                pending.done.set_exception(problem)

    def grown(self, pending: Pending) -> int:
        """Bytes by which the records would grow."""
        records = self._disk.records
        size = 0
        for key, value in pending.puts.items():
            old = records.get(key)
            size += len(value) - len(old) if old is not None else len(key) + len(value)
        for key in set(pending.deletes):
            old = records.get(key)
            if old is not None or key in pending.puts:
                size -= len(key) + len(pending.puts.get(key, old or b""))
        return size
