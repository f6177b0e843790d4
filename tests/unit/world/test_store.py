"""The store's bad days: kill -9, damaged files, a full disk, EIO, a second process."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import lmdb
import pytest

from skerry.errors import StoreBroken, StoreBusy, StoreFull
from skerry.limits import QUARANTINE_ITEMS_MAX
from skerry.world import copies, recovery_probe
from skerry.world.store import LmdbStore, open_reader, open_store

COMMITTER = """
import asyncio, sys
from pathlib import Path
from skerry.world.store import open_store

async def main(folder, start):
    store = open_store(Path(folder)).store
    number = start
    while True:
        number += 1
        body = b"%d" % number * 700
        await store.commit(
            {b"n": b"%d" % number, b"body": body, b"ring/%02d" % (number % 20): body}, [b"gone"], copy=b"%d" % number)
        print(number, flush=True)

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


def test_kill_9_at_any_moment_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    """The state found is the last acknowledged one or the one after it, and so is the newest copy."""
    dice, acknowledged = random.Random(7), 0
    for _ in range(40):
        command = [sys.executable, "-c", COMMITTER, str(tmp_path), str(acknowledged)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        line = process.stdout.readline()
        time.sleep(dice.random() * 0.05)
        process.kill()
        lines = (line + process.stdout.read()).split()
        process.wait()
        assert lines, "it committed nothing"
        acknowledged = int(lines[-1])
        opened = open_store(tmp_path)
        assert opened.problem == ""
        found = int(opened.store.get(b"n") or b"0")
        assert found in (acknowledged, acknowledged + 1)
        assert opened.store.get(b"body") == b"%d" % found * 700
        assert opened.store.get(b"ring/%02d" % (found % 20)) == b"%d" % found * 700
        copied = int(opened.store.copies()[0])
        assert copied in (found, found + 1)
        assert copied >= acknowledged
        opened.store.close()
        acknowledged = found
    assert acknowledged > 40, "some of the forty lives acknowledged more than one commit"


def filled(folder: Path, count: int = 300, **how: Any) -> None:
    store = open_store(folder, **how).store

    async def fill() -> None:
        for start in range(0, count, 50):
            await store.commit({b"%04d" % number: b"%d" % number * 100 for number in range(start, start + 50)}, [])
        await store.commit({}, [], copy=b"the copy")

    asyncio.run(fill())
    store.close()


def test_a_damaged_file_is_quarantined_or_harmless_and_never_a_crash(tmp_path: Path) -> None:
    """Bits flipped, pages zeroed, the tail cut: each is either found, or in pages that nothing uses."""
    dice, found = random.Random(11), 0
    for round_number in range(30):
        folder = tmp_path / str(round_number)
        filled(folder)
        file = folder / "env" / "data.mdb"
        data = bytearray(file.read_bytes())
        match round_number % 5:
            case 0:
                for _ in range(200):
                    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
            case 1:
                start = dice.randrange(2, len(data) // 4096) * 4096
                data[start : start + 4096] = bytes(4096)
            case 2:
                del data[dice.randrange(8192, len(data)) :]
            case 3:
                data[dice.randrange(8192, len(data))] ^= 0x10
            case _:
                start = dice.randrange(8192, len(data) - 5000)
                data[start : start + 5000] = dice.randbytes(5000)
        file.write_bytes(data)
        opened = open_store(folder)
        store = opened.store
        if opened.problem:
            found += 1
            assert opened.fresh
            assert opened.quarantined is not None
            assert (opened.quarantined / "data.mdb").read_bytes() == data
            assert list(store.scan(b"")) == []
        else:
            assert opened.quarantined is None
            assert list(store.scan(b"")) == [(b"%04d" % number, b"%d" % number * 100) for number in range(300)]
        assert store.copies() == [b"the copy"]
        asyncio.run(store.commit({b"new": b"life"}, []))
        assert store.get(b"new") == b"life"
        store.close()
    assert found >= 15


def test_a_damaged_meta_page_never_takes_an_acknowledged_commit_back(tmp_path: Path) -> None:
    filled(tmp_path / "whole", 50)
    whole = (tmp_path / "whole" / "env" / "data.mdb").read_bytes()
    expected, dice, found = [(b"%04d" % number, b"%d" % number * 100) for number in range(50)], random.Random(5), 0
    page = os.sysconf("SC_PAGE_SIZE")
    for number in range(60):
        folder, data = tmp_path / str(number), bytearray(whole)
        (folder / "env").mkdir(parents=True)
        data[(number % 2) * page + dice.randrange(152)] ^= 1 << dice.randrange(8)
        (folder / "env" / "data.mdb").write_bytes(data)
        opened = open_store(folder)
        found += bool(opened.problem)
        assert opened.problem or list(opened.store.scan(b"")) == expected
        opened.store.close()
    assert found > 10


def test_a_crash_or_a_hang_of_the_probe_condemns(tmp_path: Path) -> None:
    def crash(_folder: Path, _size: int) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)

    def hang(_folder: Path, _size: int) -> None:
        signal.pause()

    filled(tmp_path, 50)
    opened = open_store(tmp_path, walker=crash)
    assert "SIGSEGV" in opened.problem
    opened.store.close()
    opened = open_store(tmp_path, walker=hang, probe_timeout_s=0.3)
    assert "longer than" in opened.problem
    opened.store.close()


def test_the_quarantine_is_bounded_and_keeps_the_newest(tmp_path: Path) -> None:
    last = None
    for number in range(QUARANTINE_ITEMS_MAX + 3):
        filled(tmp_path, 50)
        (tmp_path / "env" / "data.mdb").write_bytes(b"garbage %d" % number * 1000)
        opened = open_store(tmp_path)
        last = opened.quarantined
        opened.store.close()
    assert last is not None
    assert (last / "data.mdb").exists()
    assert len(list((tmp_path / "quarantine").iterdir())) == QUARANTINE_ITEMS_MAX


def test_a_record_that_changed_is_broken_and_names_its_key(tmp_path: Path) -> None:
    filled(tmp_path, 50)
    env = lmdb.open(str(tmp_path / "env"))
    with env.begin(write=True) as txn:
        txn.put(b"0007", recovery_probe.seal(b"0008", b"moved"))
    env.close()
    opened = open_store(tmp_path, walker=lambda _folder, _size: None)
    with pytest.raises(StoreBroken, match="0007"):
        opened.store.get(b"0007")
    with pytest.raises(StoreBroken, match="0007"):
        list(opened.store.scan(b"000"))
    opened.store.close()
    assert "0007" in open_store(tmp_path).problem


def test_a_damaged_copy_is_passed_over(tmp_path: Path) -> None:
    pair = copies.CopyPair(tmp_path)
    pair.write(b"one")
    pair.write(b"two")
    newest = tmp_path / "desired.1"
    whole = newest.read_bytes()
    for place in range(len(whole)):
        newest.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert copies.read_copies(tmp_path) == [b"one"]
        newest.write_bytes(whole[:place])
        assert copies.read_copies(tmp_path) == [b"one"]
    copies.CopyPair(tmp_path).write(b"three")  # takes the damaged one's place
    assert copies.read_copies(tmp_path) == [b"three", b"one"]


def test_two_writers_are_refused_with_the_firsts_pid(tmp_path: Path) -> None:
    store = open_store(tmp_path).store
    with pytest.raises(StoreBusy) as busy:
        open_store(tmp_path)
    assert busy.value.pid == os.getpid()
    store.close()
    open_store(tmp_path).store.close()


def test_a_folder_that_cannot_be_used_is_broken_and_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "taken" / "lock").mkdir(parents=True)
    for folder in (tmp_path / "file", tmp_path / "file" / "journal", tmp_path / "taken", Path("/proc/nowhere")):
        with pytest.raises(StoreBroken, match=str(folder)):
            open_store(folder)


READER = """
import sys
from pathlib import Path
from skerry.world.store import open_reader
reader = open_reader(Path(sys.argv[1]))
for line in sys.stdin:
    print(reader.get(b"n"), len(list(reader.scan(b""))), reader.copies(), flush=True)
"""


async def test_another_process_reads_while_this_one_writes(tmp_path: Path) -> None:
    store = open_store(tmp_path).store
    await store.commit({b"n": b"1"}, [], copy=b"c1")
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert reader.stdin is not None
    assert reader.stdout is not None
    for number, expected in ((1, "b'1' 1 [b'c1']"), (2, "b'2' 2 [b'c2', b'c1']")):
        await store.commit({b"n": b"%d" % number, b"m%d" % number: b""}, [b"m1"], copy=b"c%d" % number)
        reader.stdin.write("\n")
        reader.stdin.flush()
        line = reader.stdout.readline().strip()
        assert line == expected or number == 1
    reader.kill()
    reader.wait()
    store.close()
    with pytest.raises(StoreBroken):
        open_reader(tmp_path / "nowhere")


async def test_eio_from_fsync_ends_all_committing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(tmp_path).store
    await store.commit({b"a": b"1"}, [], copy=b"c1")

    def fsync(_fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        results = await asyncio.gather(
            store.commit({b"a": b"2"}, [], copy=b"c2"), store.commit({b"b": b"2"}, []), return_exceptions=True
        )
    assert [type(result) for result in results] == [StoreBroken, StoreBroken]
    with pytest.raises(StoreBroken, match="Input/output"):
        await store.commit({b"a": b"3"}, [])
    assert store.get(b"a") == b"1"
    assert store.copies() == [b"c1"]
    store.close()


class FailingEnv:
    """An environment whose transactions do everything but commit."""

    def __init__(self, env: lmdb.Environment, problem: lmdb.Error) -> None:
        self._env, self._problem = env, problem
        self._txn: Any = None

    def begin(self, **how: Any) -> FailingEnv:
        self._txn = self._env.begin(**how)
        return self

    def commit(self) -> None:
        raise self._problem

    def __getattr__(self, name: str) -> object:
        return getattr(self._txn if hasattr(self._txn, name) else self._env, name)


async def failing_commit(store: LmdbStore, problem: lmdb.Error) -> None:
    thread = store._thread
    env, thread._env = thread._env, FailingEnv(thread._env, problem)  # type: ignore[assignment]
    try:
        await store.commit({b"a": b"2"}, [b"b"], copy=b"c3")
    finally:
        thread._env = env


def lmdb_error(kind: type[lmdb.Error], code: int) -> lmdb.Error:
    problem = kind("mdb_txn_commit", code)
    problem.code = code  # type: ignore[misc] # as the C module does
    return problem


async def test_a_copy_whose_commit_failed_is_taken_back(tmp_path: Path) -> None:
    store = open_store(tmp_path).store
    await store.commit({b"a": b"1"}, [], copy=b"c1")
    await store.commit({b"b": b"1"}, [], copy=b"c2")
    with pytest.raises(StoreFull):
        await failing_commit(store, lmdb_error(lmdb.DiskError, errno.ENOSPC))
    assert store.copies() == [b"c2"]
    assert list(store.scan(b"")) == [(b"a", b"1"), (b"b", b"1")]
    await store.commit({b"a": b"4"}, [], copy=b"c4")
    assert store.copies() == [b"c4", b"c2"]
    store.close()


async def test_eio_from_lmdb_ends_all_committing_while_there_is_room(tmp_path: Path) -> None:
    store = open_store(tmp_path).store
    with pytest.raises(StoreBroken):
        await failing_commit(store, lmdb_error(lmdb.Error, errno.EIO))
    with pytest.raises(StoreBroken):
        await store.commit({b"a": b"4"}, [])
    store.close()
    opened = open_store(tmp_path)  # the process starts again; the disk's word is not held against the file
    assert opened.problem == ""
    opened.store.close()


async def test_damage_that_only_a_write_meets_condemns_the_next_opening(tmp_path: Path) -> None:
    store = open_store(tmp_path).store
    await store.commit({b"a": b"1"}, [])
    with pytest.raises(StoreBroken):
        await failing_commit(store, lmdb_error(lmdb.CorruptedError, -30796))
    store.close()
    opened = open_store(tmp_path)
    assert opened.quarantined is not None
    assert "mdb_txn_commit" in opened.problem
    opened.store.close()
    opened = open_store(tmp_path)
    assert opened.problem == ""
    opened.store.close()


async def test_a_cancelled_caller_leaves_the_store_working(tmp_path: Path) -> None:
    store = open_store(tmp_path).store
    task = asyncio.ensure_future(store.commit({b"a": b"1"}, []))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await store.commit({b"b": b"1"}, [])
    assert store.get(b"b") == b"1"
    store.close()
