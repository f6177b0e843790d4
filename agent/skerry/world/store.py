"""The journal's Store: one LMDB environment with synchronous commits, and the second copy beside it.

Commits run on one writer thread; those that wait become one transaction, and fail one by one. Reads stay on the
caller's thread in short transactions. Refuses to know what a record means.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import lmdb

from skerry.errors import StoreBroken, StoreBusy, StoreFull
from skerry.limits import (
    BALLAST_BYTES,
    COMMIT_QUEUE_MAX,
    JOURNAL_BYTES_MAX,
    JOURNAL_BYTES_MAX_32,
    JOURNAL_RESERVE_BYTES,
    PROBE_TIMEOUT_S,
)
from skerry.world.commits import Ballast, CommitThread, Request, allocate, disk_full, tree_pages
from skerry.world.copies import CopyPair, read_copies, sync_folder
from skerry.world.recovery_probe import condemned, probe, quarantine, unseal, walk
from skerry.world.wakeups import Callbacks

T = TypeVar("T")
MAP_BYTES = JOURNAL_BYTES_MAX if sys.maxsize > 2**32 else JOURNAL_BYTES_MAX_32
KEY_BYTES_MAX = 511  # LMDB's own
ENV = "env"
SHELF = "quarantine"
LOCK = "lock"
LOCK_FILE_BYTES = 8192  # LMDB's own for its 126 readers


@dataclass(frozen=True, slots=True)
class Opened:
    """What opening found. `problem` says in one line why the environment was moved to `quarantined`, which the bounds
    of the quarantine may have deleted since; `fresh` when no environment was there (any more)."""

    store: LmdbStore
    quarantined: Path | None
    problem: str
    fresh: bool


def open_store(
    folder: Path,
    *,
    map_bytes: int = MAP_BYTES,
    reserve_bytes: int = JOURNAL_RESERVE_BYTES,
    ballast_bytes: int = BALLAST_BYTES,
    probe_timeout_s: float = PROBE_TIMEOUT_S,
    walker: Callable[[Path, int], None] = walk,
    meanwhile: Callable[[], None] = lambda: None,
) -> Opened:
    """Open for writing, after a child process has read everything. Blocks; call it before the loop and any thread.

    `map_bytes` bounds what is stored; `reserve_bytes` more are for commits that do not make it grow. `meanwhile` is
    done while the child reads, if there is anything to read.
    Raises StoreBusy, StoreFull (no room even to open) or StoreBroken (the disk cannot be read or written).
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = _lock(folder)
    except OSError as failed:
        if disk_full(failed):
            raise StoreFull(f"journal {folder}: {failed.strerror}") from failed
        raise StoreBroken(f"journal {folder}: {failed.strerror}") from failed
    with contextlib.ExitStack() as undo:
        undo.callback(os.close, lock)
        ballast = Ballast(folder / "ballast", ballast_bytes)
        env_folder, problem, moved = folder / ENV, "", None
        try:
            if (env_folder / "data.mdb").exists():
                size = map_bytes + reserve_bytes
                problem = condemned(folder) or probe(env_folder, size, probe_timeout_s, walker, meanwhile)
            if problem:
                moved = _with_room(ballast, lambda: quarantine(env_folder, folder / SHELF))
            fresh = not _has_data(env_folder)
            env = _with_room(ballast, lambda: _open_env(env_folder, map_bytes + reserve_bytes))
            copies = CopyPair(folder)
        except (lmdb.Error, OSError) as failed:
            raise StoreBroken(f"journal {folder}: {failed}") from failed
        store = LmdbStore(folder, env, copies, ballast, lock, map_bytes)
        undo.pop_all()
        return Opened(store, moved, problem, fresh)


def open_reader(folder: Path, *, map_bytes: int = MAP_BYTES + JOURNAL_RESERVE_BYTES) -> LmdbReader:
    """Open read-only beside a running writer, in another process. Raises StoreBroken, also when there is nothing."""
    try:
        env = lmdb.open(str(folder / ENV), map_size=map_bytes, readonly=True, create=False, max_spare_txns=1)
    except lmdb.Error as problem:
        raise StoreBroken(f"journal {folder}: {problem}") from problem
    return LmdbReader(folder, env)


class LmdbReader:
    """The reading half of ports.Store."""

    def __init__(self, folder: Path, env: lmdb.Environment) -> None:
        self._folder, self._env = folder, env

    def get(self, key: bytes) -> bytes | None:
        try:
            with self._env.begin() as txn:
                sealed = txn.get(key)
        except lmdb.Error as problem:
            raise StoreBroken(f"journal: {problem}") from problem
        return None if sealed is None else unseal(key, sealed)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """One snapshot. Its transaction lives as long as the iterator: go through it without awaiting."""
        try:
            with self._env.begin() as txn, txn.cursor() as cursor:
                if not (cursor.set_range(prefix) if prefix else cursor.first()):
                    return
                for key, sealed in cursor:
                    if not key.startswith(prefix):
                        return
                    yield key, unseal(key, sealed)
        except lmdb.Error as problem:
            raise StoreBroken(f"journal: {problem}") from problem

    def used_bytes(self) -> int:
        """By the pages that hold records, not by the file's size, which never shrinks."""
        return tree_pages(self._env) * int(self._env.stat()["psize"])

    def copies(self) -> list[bytes]:
        return read_copies(self._folder)

    def close(self) -> None:
        self._env.close()


class LmdbStore(LmdbReader):
    """ports.Store. Made by open_store."""

    def __init__(
        self, folder: Path, env: lmdb.Environment, copies: CopyPair, ballast: Ballast, lock: int, map_bytes: int
    ) -> None:
        super().__init__(folder, env)
        self._lock, self._map_bytes, self._closed = lock, map_bytes, False
        self._page_bytes = env.stat()["psize"]
        self._thread = CommitThread(folder, env, copies, ballast, map_bytes // self._page_bytes)
        self._thread.start()
        self._loops: dict[asyncio.AbstractEventLoop, Callbacks] = {}  # one in the agent, more only in tests

    async def commit(self, puts: Mapping[bytes, bytes], deletes: Sequence[bytes], copy: bytes | None = None) -> None:
        """A cancelled caller does not take its commit back."""
        assert all(0 < len(key) <= KEY_BYTES_MAX for key in (*puts, *deletes)), "a key has 1 to 511 bytes"
        if self._closed:
            raise StoreBroken("journal: closed")
        self._thread.check()
        if self._thread.waiting() >= COMMIT_QUEUE_MAX:
            raise StoreFull(f"journal: COMMIT_QUEUE_MAX is {COMMIT_QUEUE_MAX}")
        loop = asyncio.get_running_loop()
        callbacks = self._loops.get(loop) or self._loops.setdefault(loop, Callbacks(loop))
        request = Request(dict(puts), tuple(deletes), copy, callbacks, loop.create_future())
        self._thread.submit(request)
        await request.done

    def usage(self) -> float:
        """By the pages that hold records, not by the file's size, which never shrinks."""
        return tree_pages(self._env) * self._page_bytes / self._map_bytes

    def written_bytes(self) -> int:
        """What the kernel accounts to the writer thread (see CommitThread.written_bytes)."""
        return self._thread.written_bytes()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._thread.stop()
            for callbacks in self._loops.values():
                callbacks.close()
            self._env.close()
            os.close(self._lock)


def _lock(folder: Path) -> int:
    """flock, so that it ends with the process however that ends. Raises StoreBusy."""
    fd = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        text = os.read(fd, 20)
        os.close(fd)
        raise StoreBusy(str(folder), int(text) if text.isdigit() else 0) from None
    with contextlib.suppress(OSError):  # a full disk: the lock holds without the name of its holder
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
    return fd


def _open_env(env_folder: Path, map_bytes: int) -> lmdb.Environment:
    new = not _has_data(env_folder)
    env_folder.mkdir(mode=0o700, exist_ok=True)
    allocate(env_folder / "lock.mdb", LOCK_FILE_BYTES)  # LMDB maps it sparse: on a full disk that is a SIGBUS
    env = lmdb.open(str(env_folder), map_size=map_bytes, mode=0o600, max_spare_txns=1, readahead=False)
    env.reader_check()
    if new:
        sync_folder(env_folder)
        sync_folder(env_folder.parent)
    return env


def _has_data(env_folder: Path) -> bool:
    try:
        return (env_folder / "data.mdb").stat().st_size > 0
    except OSError:
        return False


def _with_room(ballast: Ballast, action: Callable[[], T]) -> T:
    """Do it; when the disk is full, again without the ballast."""
    try:
        return action()
    except (lmdb.Error, OSError) as problem:
        if not disk_full(problem):
            raise
    ballast.give_back()
    try:
        return action()
    except (lmdb.Error, OSError) as problem:
        if not disk_full(problem):
            raise
        raise StoreFull(f"journal: {problem}") from problem
