"""Journal commits per second beside raw py-lmdb doing the same puts, on the same disk, taking turns."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import lmdb

from bench.report import Row
from skerry.world.store import open_store

COMMITS, ROUNDS, VALUE_BYTES = 300, 5, 600


def rows(quick: bool = False) -> Iterator[Row]:
    rounds = 2 if quick else ROUNDS
    folder = Path(tempfile.mkdtemp(prefix="skerry-bench-", dir="/var/tmp"))
    try:
        pairs = [(_ours(folder / f"ours{i}"), _raw(folder / f"raw{i}")) for i in range(rounds)]
    finally:
        shutil.rmtree(folder)
    ours, raw = median(p[0] for p in pairs), median(p[1] for p in pairs)
    note = f"median of {rounds} rounds of {COMMITS} commits of two puts, {VALUE_BYTES} B, synchronous"
    yield Row("journal", "Store.commit", ours, "commits/s", "raw py-lmdb", raw, "higher", note)


def _puts(i: int) -> dict[bytes, bytes]:
    return {b"s/pod-%d" % (i % 10): bytes(VALUE_BYTES), b"x/" + i.to_bytes(8, "big"): bytes(VALUE_BYTES)}


def _ours(folder: Path) -> float:
    store = open_store(folder).store

    async def run() -> float:
        began = time.perf_counter()
        for i in range(COMMITS):
            await store.commit(_puts(i), [])
        return COMMITS / (time.perf_counter() - began)

    try:
        return asyncio.run(run())
    finally:
        store.close()


def _raw(folder: Path) -> float:
    folder.mkdir()
    env = lmdb.open(str(folder), map_size=64 << 20)
    began = time.perf_counter()
    for i in range(COMMITS):
        with env.begin(write=True) as txn:
            for key, value in _puts(i).items():
                txn.put(key, value)
    took = time.perf_counter() - began
    env.close()
    return COMMITS / took
