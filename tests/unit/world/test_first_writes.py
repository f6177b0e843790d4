"""The next write to a file is heard once, on real files."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from skerry.errors import WatchesSpent
from skerry.world import first_writes
from skerry.world.first_writes import FirstWrites
from skerry.world.inotify import Inotify

SOON_S = 0.1
KERNELS_BOUND = """
import asyncio, sys
from pathlib import Path
from skerry.errors import WatchesSpent
from skerry.world.first_writes import FirstWrites
async def story():
    writes = FirstWrites()
    for name in ("a", "b"):
        path = Path(sys.argv[1]) / name
        path.touch()
        try:
            writes.watch(name, path)
        except WatchesSpent as why:
            print(why)
asyncio.run(story())
"""


@pytest.fixture
async def writes() -> AsyncIterator[FirstWrites]:
    made = FirstWrites()
    yield made
    made.close()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "0.log"
    path.write_bytes(b"old\n")
    return path


def write(path: Path, lines: int = 1) -> None:
    with path.open("ab", buffering=0) as file:
        for _ in range(lines):
            file.write(b"line\n")


async def silent(writes: FirstWrites) -> bool:
    hearing = asyncio.ensure_future(writes.written())
    await asyncio.sleep(SOON_S)
    heard = hearing.done()
    hearing.cancel()
    await asyncio.gather(hearing, return_exceptions=True)
    return not heard


async def test_a_thousand_lines_are_one_event(writes: FirstWrites, log: Path) -> None:
    hearing = asyncio.ensure_future(writes.written())
    await asyncio.sleep(SOON_S)
    writes.watch("a", log)
    write(log, 1_000)
    assert await hearing == {"a"}
    write(log)
    assert await silent(writes)
    writes.watch("a", log)
    assert await silent(writes)
    write(log)
    assert await writes.written() == {"a"}


async def test_what_happened_while_nobody_listened_is_told(writes: FirstWrites, log: Path) -> None:
    other = log.with_name("other")
    other.touch()
    writes.watch("a", log)
    writes.watch("b", other)
    write(log)
    write(other)
    assert await writes.written() == {"a", "b"}


async def test_a_write_is_told_although_the_file_was_watched_again_before_it_was_heard(
    writes: FirstWrites, log: Path
) -> None:
    writes.watch("a", log)
    write(log)
    writes.watch("a", log)
    assert await writes.written() == {"a"}
    write(log)
    assert await writes.written() == {"a"}


async def test_a_name_moves_on_to_another_file(writes: FirstWrites, log: Path) -> None:
    writes.watch("a", log)
    old = log.rename(log.with_name("0.log.1"))
    log.touch()
    writes.watch("a", log)
    write(old)
    assert await silent(writes)
    write(log)
    assert await writes.written() == {"a"}


async def test_a_file_that_is_deleted_or_absent_is_watched_no_more(writes: FirstWrites, log: Path) -> None:
    writes.watch("a", log)
    log.unlink()
    assert await silent(writes)
    writes.watch("a", log)
    assert await silent(writes)
    assert (writes._watches, writes._names) == ({}, {})


async def test_a_link_is_not_followed(writes: FirstWrites, log: Path) -> None:
    link = log.with_name("link")
    link.symlink_to(log)
    writes.watch("a", link)
    write(log)
    assert await silent(writes)


async def test_the_bound_and_the_kernels_own(
    writes: FirstWrites, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_writes, "LOG_WATCHES_MAX", 1)
    writes.watch("a", log)
    with pytest.raises(WatchesSpent, match="LOG_WATCHES_MAX \\(1\\)"):
        writes.watch("b", log)
    write(log)
    assert await writes.written() == {"a"}
    writes.watch("b", log)

    def full(self: Inotify, path: Path, mask: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Inotify, "add", full)
    with pytest.raises(WatchesSpent, match="the kernel watches no more files: No space left on device"):
        writes.watch("b", log)


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs util-linux")
def test_where_the_kernel_allows_one_the_second_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        ["unshare", "-Ur", "sh", "-c", 'echo 1 > /proc/sys/user/max_inotify_watches && exec "$@"', "sh",
         sys.executable, "-c", KERNELS_BOUND, str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "unshare failed" in done.stderr or "Permission denied" in done.stderr:
        pytest.skip("no user namespaces here")
    assert (done.stdout, done.stderr) == ("the kernel watches no more files: No space left on device\n", "")


async def test_closing_ends_who_waits(log: Path) -> None:
    for watched in (False, True):
        writes = FirstWrites()
        if watched:
            writes.watch("a", log)
        hearing = asyncio.ensure_future(writes.written())
        await asyncio.sleep(SOON_S)
        writes.close()
        writes.close()
        assert await hearing == frozenset()
