"""Journal commits per second beside raw py-lmdb doing the same puts, on the same disk, taking turns.

One caller that awaits each commit pays for the way to the writer thread and back; callers that come at the same time
share a transaction. The loop is never blocked by a sync, which raw py-lmdb does with whoever calls it. What that way
costs is measured in memory, where no disk hides it.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import lmdb
import uvloop

from bench.report import Row
from skerry.world.store import open_store

MEMORY = Path("/dev/shm")  # a filesystem without a disk
COMMITS, ROUNDS, VALUE_BYTES, CALLERS = 300, 7, 600, 16


def rows(quick: bool = False) -> Iterator[Row]:
    rounds, commits = (2, 60) if quick else (ROUNDS, COMMITS)
    alone, together, raw = _turns(Path("/var/tmp"), rounds, commits)
    peer = median(raw)
    note = f"median of {rounds} rounds of {commits} commits of two puts, {VALUE_BYTES} B, synchronous; budget 0.90"
    yield Row("journal", "commits, one caller", median(alone), "commits/s", "raw py-lmdb", peer, "higher", note)
    note = f"the same by {CALLERS} coroutines; waiting commits become one transaction"
    name = f"commits, {CALLERS} callers"
    yield Row("journal", name, median(together), "commits/s", "raw py-lmdb", peer, "higher", note)
    if MEMORY.is_dir():
        alone, together, raw = _turns(MEMORY, rounds, commits)
        cost, note = (1 / median(alone) - 1 / median(raw)) * 1e6, "for one caller, measured on tmpfs"
        yield Row("journal", "thread hop, CRC, bounds", cost, "µs", "a raw commit to disk", 1e6 / peer, "lower", note)


def _turns(disk: Path, rounds: int, commits: int) -> tuple[list[float], list[float], list[float]]:
    """Commits per second of each round: by one caller, by several, and by raw py-lmdb."""
    alone, together, raw = [], [], []
    folder = Path(tempfile.mkdtemp(prefix="skerry-bench-", dir=disk))
    try:
        for i in range(rounds):
            alone.append(_ours(folder / f"alone{i}", commits, 1))
            raw.append(_raw(folder / f"raw{i}", commits))
            together.append(_ours(folder / f"together{i}", commits, CALLERS))
    finally:
        shutil.rmtree(folder)
    return alone, together, raw


def _puts(i: int) -> dict[bytes, bytes]:
    return {b"s/pod-%d" % (i % 10): bytes(VALUE_BYTES), b"x/" + i.to_bytes(8, "big"): bytes(VALUE_BYTES)}


def _ours(folder: Path, commits: int, callers: int) -> float:
    store = open_store(folder).store

    async def caller(first: int) -> None:
        for i in range(first, commits, callers):
            await store.commit(_puts(i), [])

    async def run() -> float:
        began = time.perf_counter()
        await asyncio.gather(*(caller(first) for first in range(callers)))
        return commits / (time.perf_counter() - began)

    try:
        return uvloop.run(run())
    finally:
        store.close()


def _raw(folder: Path, commits: int) -> float:
    folder.mkdir()
    env = lmdb.open(str(folder), map_size=64 << 20)
    began = time.perf_counter()
    for i in range(commits):
        with env.begin(write=True) as txn:
            for key, value in _puts(i).items():
                txn.put(key, value)
    took = time.perf_counter() - began
    env.close()
    return commits / took
