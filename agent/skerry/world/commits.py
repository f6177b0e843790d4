"""The journal's writer thread: takes waiting commits, makes them one transaction, answers each on its own loop.

Decides what a full map or disk means. A commit that adds more bytes than it replaces and deletes fails with StoreFull
on a full map, and on a full disk if it grows by more than SMALL_GROWTH_BYTES; any other (a deletion or its mark, a
status in place of another) may use the map's reserve, the ballast piece by piece, and the older copy's room. Any other
failure ends all committing.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import lmdb

from skerry.errors import StoreBroken, StoreFull
from skerry.limits import BALLAST_PIECE_BYTES, COMMIT_MERGE_MAX, SMALL_GROWTH_BYTES
from skerry.world.copies import CopyPair
from skerry.world.recovery_probe import condemn, seal
from skerry.world.wakeups import Callbacks, Inbox

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What a damaged environment answers; a read may never come across the same page, so the next start must be told.
DAMAGED = (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.PanicError, lmdb.BadTxnError, lmdb.InvalidError)
ROOM_BYTES = 1 << 20
READER_CHECK_COMMITS = 256  # a reader that was killed pins old pages; look for its slot this often


@dataclass(slots=True)
class Request:
    """One commit and who waits for it."""

    puts: dict[bytes, bytes]
    deletes: tuple[bytes, ...]
    copy: bytes | None
    loop: Callbacks
    done: asyncio.Future[None]


class CommitThread:
    """The only writer of the environment and the copies. Idle, it sleeps without a timeout."""

    def __init__(self, folder: Path, env: lmdb.Environment, copies: CopyPair, ballast: Ballast, pages_max: int) -> None:
        self._folder, self._env, self._copies = folder, env, copies
        self._ballast, self._pages_max = ballast, pages_max
        self._queue: Inbox[Request | None] = Inbox()
        self._broken: str | None = None
        self._commits = 0
        self._tid = 0
        self._written = 0  # the last count, for when the thread is gone
        self._estimate = 0  # where the kernel does not count
        self._thread = threading.Thread(target=self._run, name="skerry-journal", daemon=True)
        self._started = threading.Event()

    def start(self) -> None:
        self._thread.start()
        self._started.wait()

    def submit(self, request: Request) -> None:
        self._queue.put(request)

    def waiting(self) -> int:
        return len(self._queue)

    def check(self) -> None:
        """Raises StoreBroken after a commit has failed for good."""
        if self._broken is not None:
            raise StoreBroken(self._broken)

    def stop(self) -> None:
        """Waits for what was submitted."""
        self._queue.put(None)
        self._thread.join()
        self._queue.close()

    def written_bytes(self) -> int:
        """/proc/self/task/TID/io of the writer thread: the larger of `wchar` (bytes handed to write calls) and
        `write_bytes` (pages it made dirty, what flash sees); ours alone, without the filesystem's own journal."""
        return max(self._written, _thread_written(self._tid), self._estimate)

    def _run(self) -> None:
        self._tid = threading.get_native_id()
        self._started.set()
        self._ballast.make()
        more = True
        while more:
            batch: list[Request] = []
            more = self._gather(batch)
            if batch:
                self._commit(batch)
        self._written = _thread_written(self._tid)

    def _gather(self, batch: list[Request]) -> bool:
        """Wait for one, take what else waits; False once the end was submitted."""
        request = self._queue.get()
        while request is not None:
            batch.append(request)
            if len(batch) >= COMMIT_MERGE_MAX or not self._queue:
                return True
            request = self._queue.get()
        return False

    def _commit(self, batch: list[Request]) -> None:
        problem: StoreFull | StoreBroken | None = None
        try:
            self.check()
            self._transact(batch)
        except StoreFull as full:
            if len(batch) > 1:
                for request in batch:
                    self._commit([request])
                return
            problem = full
        except StoreBroken as broken:
            self._broken = str(broken)
            problem = broken
        except Exception as unforeseen:  # a thread that dies would leave its callers waiting for ever
            self._broken = f"journal: {unforeseen!r}"
            problem = StoreBroken(self._broken)
        for request in batch:
            request.loop.add(partial(_settle, request.done, problem))
        for loop in {request.loop for request in batch}:
            loop.ring()
        if problem is None:
            self._ballast.make()
            self._commits += 1
            if self._commits % READER_CHECK_COMMITS == 0:
                self._env.reader_check()

    def _transact(self, batch: list[Request]) -> None:
        try:
            self._attempt(batch, make_room=False)
        except _Full as full:
            freed = self._env.reader_check() > 0 if full.map else not full.grows
            if not freed:
                raise StoreFull(str(full)) from full
            while not full.map and self._ballast.give_back():
                try:
                    return self._attempt(batch, make_room=False)
                except _Full:
                    continue
            try:
                self._attempt(batch, make_room=True)
            except _Full as again:
                raise StoreFull(str(again)) from again

    def _attempt(self, batch: list[Request], make_room: bool) -> None:
        """One transaction. Raises _Full with nothing written, or StoreBroken."""
        copy = next((request.copy for request in reversed(batch) if request.copy is not None), None)
        grows, copied = True, 0  # until it is known
        txn: lmdb.Transaction[memoryview] | None = None
        self._copies.settle()
        try:
            txn = self._env.begin(write=True, buffers=True)
            size, replaced = _apply(txn, batch)
            grows = size > replaced + SMALL_GROWTH_BYTES
            if size > replaced and tree_pages(txn) > self._pages_max:
                raise _Full("journal: JOURNAL_BYTES_MAX is reached", True, map_full=True)
            if copy is not None:
                copied = self._copies.write(copy, make_room)
            stat = txn.stat()
            txn.commit()
        except (lmdb.Error, OSError, _Full) as problem:
            self._retreat(txn)
            if isinstance(problem, _Full):
                raise
            map_full = isinstance(problem, (lmdb.MapFullError, lmdb.TxnFullError))
            if map_full or disk_full(problem) or (_code(problem) == errno.EIO and not self._ballast.room()):
                raise _Full(f"journal: {problem}", grows, map_full) from problem
            if isinstance(problem, DAMAGED):
                condemn(self._folder, str(problem))
            raise StoreBroken(f"journal: {problem}") from problem
        self._estimate += copied + size + (stat["depth"] + 3) * stat["psize"]

    def _retreat(self, txn: lmdb.Transaction[memoryview] | None) -> None:
        if txn is not None:
            with contextlib.suppress(lmdb.Error):
                txn.abort()
        self._copies.undo()


class Ballast:
    """A file that holds room on the disk until it is needed. It is given back in pieces: what is freed is anybody's."""

    def __init__(self, path: Path, size: int) -> None:
        self._path, self._size = path, size
        self._held = path.stat().st_size if path.exists() else 0

    def give_back(self) -> bool:
        """Free one piece; False when there is none."""
        if not self._held:
            return False
        self._held = max(0, self._held - BALLAST_PIECE_BYTES)
        with contextlib.suppress(OSError):
            if self._held:
                os.truncate(self._path, self._held)
            else:
                self._path.unlink(missing_ok=True)
        return True

    def room(self) -> bool:
        """Whether ROOM_BYTES can still be had. LMDB calls the short write of a disk that fills up an EIO."""
        trial = self._path.with_name("trial")
        try:
            allocate(trial, ROOM_BYTES)
        except OSError as problem:
            return problem.errno not in FULL
        finally:
            with contextlib.suppress(OSError):
                trial.unlink(missing_ok=True)
        return True

    def make(self) -> None:
        """Make it whole if there is four times its room; quietly not otherwise."""
        if self._held >= self._size:
            return
        try:
            disk = os.statvfs(self._path.parent)
            if disk.f_bavail * disk.f_frsize < 4 * self._size:
                return
            allocate(self._path, self._size)
            self._held = self._size
        except OSError:
            self._held = 0
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)


def allocate(path: Path, size: int) -> None:
    """Make sure that the file's first `size` bytes have their room on the disk, keeping what it holds."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(fd, 0, size)
    finally:
        os.close(fd)


def tree_pages(source: lmdb.Environment | lmdb.Transaction[memoryview]) -> int:
    """Pages that hold records and their index, as the source sees them."""
    stat = source.stat()
    return stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]


def disk_full(problem: lmdb.Error | OSError) -> bool:
    """No room on the filesystem, in the quota or under the file size limit."""
    return isinstance(problem, lmdb.DiskError) or _code(problem) in FULL


def _code(problem: lmdb.Error | OSError) -> int:
    """errno, or LMDB's own negative number; 0 where py-lmdb does not say."""
    code = problem.errno if isinstance(problem, OSError) else getattr(problem, "code", 0)
    return code or 0


class _Full(Exception):
    """No room; `grows`: the commit makes the journal larger; `map`: it is the map's room, not the disk's."""

    def __init__(self, text: str, grows: bool, map_full: bool) -> None:
        super().__init__(text)
        self.grows, self.map = grows, map_full


def _apply(txn: lmdb.Transaction[memoryview], batch: list[Request]) -> tuple[int, int]:
    """In call order; a key both put and deleted by one commit is deleted. Returns the bytes of records that were put
    and of those that went."""
    added = gone = 0
    for request in batch:
        for key, value in request.puts.items():
            gone += _size(txn, key)
            sealed = seal(key, value)
            txn.put(key, sealed)
            added += len(key) + len(sealed)
        for key in request.deletes:
            gone += _size(txn, key)
            txn.delete(key)
    return added, gone


def _size(txn: lmdb.Transaction[memoryview], key: bytes) -> int:
    sealed = txn.get(key)
    return 0 if sealed is None else len(key) + len(sealed)


def _settle(done: asyncio.Future[None], problem: StoreFull | StoreBroken | None) -> None:
    if not done.done():
        if problem is None:
            done.set_result(None)
        else:
            done.set_exception(type(problem)(str(problem)))


def _thread_written(tid: int) -> int:
    try:
        lines = Path(f"/proc/self/task/{tid}/io").read_text().splitlines()
    except OSError:
        return 0
    fields = dict(line.split(": ", 1) for line in lines)
    return max(int(fields.get("wchar", 0)), int(fields.get("write_bytes", 0)))
