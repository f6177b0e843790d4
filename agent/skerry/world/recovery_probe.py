"""Is this LMDB environment sound? A forked child opens it, walks every record and checks every CRC.

A damaged file can crash or hang the process that maps it, so only the child's life is risked: its crash, its hang or
a mismatch that it finds condemns the environment, which is moved to `quarantine/` for a person to look at. What to
recover from is the journal's decision.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import resource
import select
import shutil
import signal
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import lmdb

from skerry.errors import StoreBroken
from skerry.limits import QUARANTINE_BYTES_MAX, QUARANTINE_ITEMS_MAX
from skerry.world.copies import sync_folder

CRC_BYTES = 4
# LMDB 0.9's first two pages, in this machine's word size: page header, then MDB_meta (mdb.c). `N` is a size_t.
PAGE_HEAD = struct.Struct("@NHHI")
META = struct.Struct("@IIPN" + "IHHNNNNN" * 2 + "NN")
META_MAGIC, META_VERSION = 0xBEEFC0DE, 1
ANSWER_BYTES_MAX = 4096
SOUND = b"sound"
CONDEMNED = "condemned"


def seal(key: bytes, value: bytes) -> bytes:
    """A record as it is stored: CRC-32 of key and value, big-endian, then the value."""
    return zlib.crc32(value, zlib.crc32(key)).to_bytes(CRC_BYTES, "big") + value


def unseal(key: bytes, sealed: bytes) -> bytes:
    """The value. Raises StoreBroken naming the key."""
    value = sealed[CRC_BYTES:]
    if len(sealed) < CRC_BYTES or zlib.crc32(value, zlib.crc32(key)) != int.from_bytes(sealed[:CRC_BYTES], "big"):
        raise StoreBroken(f"journal: record {key!r} does not match its CRC")
    return value


def walk(env_folder: Path, map_bytes: int) -> None:
    """Read everything. Raises StoreBroken, lmdb.Error or OSError, or kills the process.

    The compacting copy to nowhere reads the list of free pages too, which no record's CRC covers and which only a
    later write would trip over, and counts that every page is either used or free (mdb_env_copyfd1).
    """
    check_metas(env_folder / "data.mdb")
    env = lmdb.open(str(env_folder), map_size=map_bytes, readonly=True, lock=False, create=False)
    with env.begin() as txn:
        before, count = b"", 0
        for key, sealed in txn.cursor():
            unseal(key, sealed)
            if key <= before:
                raise StoreBroken(f"journal: key {key!r} is out of order")
            before = key
            count += 1
        stat, last = txn.stat(), env.info()["last_pgno"]
        pages = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        if stat["entries"] != count or pages > last + 1:
            raise StoreBroken(
                f"journal: counts of {stat['entries']} records, {pages} pages; {count}, {last + 1} are there"
            )
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - not a file
        env.copyfd(nowhere.fileno(), compact=True)
    env.close()


def check_metas(data: Path) -> None:
    """Raise StoreBroken unless both meta pages are of one age. LMDB writes them in turn and takes the newest that
    looks right: with one damaged, it would silently go back a commit that was acknowledged."""
    with data.open("rb") as file:
        first = _meta(file.read(PAGE_HEAD.size + META.size))
        file.seek(first[0])
        second = _meta(file.read(PAGE_HEAD.size + META.size))
    if first[0] != second[0] or abs(first[1] - second[1]) > 1:
        raise StoreBroken(f"journal: meta pages of transactions {first[1]} and {second[1]}")


def probe(
    env_folder: Path,
    map_bytes: int,
    timeout_s: float,
    walker: Callable[[Path, int], None] = walk,
    meanwhile: Callable[[], None] = lambda: None,
) -> str:
    """What is wrong with the environment, or an empty string. Blocks up to `timeout_s` after `meanwhile`, which the
    caller does while the child reads; call it before any thread is started."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        _child(writing, env_folder, map_bytes, walker)
    os.close(writing)
    try:
        meanwhile()
        answer = _read_all(reading, time.monotonic() + timeout_s)
    finally:
        os.close(reading)
    if answer is None:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if answer is None:
        return f"reading it took longer than {timeout_s:g} s"
    if os.WIFSIGNALED(status):
        return f"reading it ends in {signal.Signals(os.WTERMSIG(status)).name}"
    return "" if answer == SOUND else answer.decode(errors="replace") or "reading it failed"


def condemn(folder: Path, why: str) -> None:
    """Leave word that the environment must be set aside at the next opening, whatever the probe finds."""
    with contextlib.suppress(OSError):
        (folder / CONDEMNED).write_text(why)
        sync_folder(folder)


def condemned(folder: Path) -> str:
    """The word that was left, or an empty string."""
    try:
        return (folder / CONDEMNED).read_text(errors="replace") or "condemned"
    except OSError:
        return ""


def quarantine(env_folder: Path, shelf: Path) -> Path:
    """Move the environment to `shelf/<time>-<number>` and return that; over the bounds the oldest go, if need be this
    one too."""
    shelf.mkdir(mode=0o700, exist_ok=True)
    number = max((_number(path) for path in shelf.iterdir()), default=0) + 1
    target = shelf / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{number}"
    env_folder.rename(target)
    (env_folder.parent / CONDEMNED).unlink(missing_ok=True)
    sync_folder(shelf)
    sync_folder(env_folder.parent)
    kept = sorted(shelf.iterdir(), key=_number)
    while len(kept) > QUARANTINE_ITEMS_MAX or sum(map(_disk_bytes, kept)) > QUARANTINE_BYTES_MAX:
        shutil.rmtree(kept.pop(0), ignore_errors=True)
    return target


def _child(writing: int, env_folder: Path, map_bytes: int, walker: Callable[[Path, int], None]) -> None:
    """Never returns, and runs nothing of the parent's: no handlers, no atexit, no core dump."""
    code = 1
    try:
        faulthandler.disable()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for fatal in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGTERM, signal.SIGINT):
            signal.signal(fatal, signal.SIG_DFL)
        try:
            walker(env_folder, map_bytes)
            answer = SOUND
        except Exception as problem:
            answer = str(problem).encode()[:ANSWER_BYTES_MAX] or repr(problem).encode()
        os.write(writing, answer)
        code = 0
    finally:
        os._exit(code)


def _read_all(fd: int, deadline: float) -> bytes | None:
    """Until end of file; None when that does not come in time."""
    poll, data = select.poll(), b""
    poll.register(fd, select.POLLIN)
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            return None
        chunk = os.read(fd, ANSWER_BYTES_MAX)
        if not chunk:
            return data
        data += chunk


def _meta(data: bytes) -> tuple[int, int]:
    """Page size and transaction number."""
    if len(data) < PAGE_HEAD.size + META.size:
        raise StoreBroken("journal: data.mdb is cut off")
    fields = META.unpack_from(data, PAGE_HEAD.size)
    if fields[:2] != (META_MAGIC, META_VERSION):
        raise StoreBroken(f"journal: a meta page has magic {fields[0]:#x}, version {fields[1]}")
    return fields[4], fields[-1]


def _number(path: Path) -> int:
    tail = path.name.rpartition("-")[2]
    return int(tail) if tail.isdigit() else 0


def _disk_bytes(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
