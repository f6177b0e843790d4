"""The store on a full disk: what grows is refused, deletions and their marks get in, and nothing dies of it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry.errors import StoreFull
from skerry.world.store import open_store
from unit.world.test_store import filled


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_a_full_disk_refuses_growth_and_lets_deletions_through(small_disk: Path) -> None:
    store = open_store(small_disk / "journal", ballast_bytes=256 << 10).store
    await store.commit({b"first": b""}, [])
    hog = small_disk / "hog"
    hog.write_bytes(b"x" * (2 << 20))
    count = 0
    for count in range(4000):
        try:
            await store.commit({b"%04d" % count: b"x" * 4000}, [], copy=b"copy %d" % count * 100)
        except StoreFull:
            break
    assert count > 100
    assert store.copies()[0] == b"copy %d" % (count - 1) * 100
    with pytest.raises(OSError, match="No space"):
        (small_disk / "rest").write_bytes(b"x" * (8 << 20))
    ballast = small_disk / "journal" / "ballast"
    assert ballast.stat().st_size == 256 << 10
    for number in range(count):  # with a copy each, as the journal does
        await store.commit({b"state": b"%d" % number}, [b"%04d" % number], copy=b"deleted %d" % number * 100)
        if number == 3:
            with pytest.raises(StoreFull):
                await store.commit({b"grow": b"x" * 400_000}, [])
    assert [key for key, _ in store.scan(b"")] == [b"first", b"state"]
    assert not ballast.exists() or ballast.stat().st_size < 256 << 10
    hog.unlink()
    await store.commit({b"grow": b"x" * 400_000}, [])
    await store.commit({}, [b"first"])  # the ballast is made after the commit that found room was answered
    assert (small_disk / "journal" / "ballast").stat().st_blocks * 512 >= 256 << 10
    store.close()
    opened = open_store(small_disk / "journal", ballast_bytes=256 << 10)
    assert opened.problem == ""
    assert opened.store.get(b"grow") == b"x" * 400_000
    opened.store.close()


async def test_a_full_disk_takes_the_mark_of_a_deletion_and_gives_the_ballast_away_in_pieces(small_disk: Path) -> None:
    """A commit that grows by some bytes, on a journal without one free page inside."""
    ballast = small_disk / "journal" / "ballast"
    store = open_store(ballast.parent, ballast_bytes=512 << 10).store
    marked = 0
    for count in range(4000):
        try:
            await store.commit({b"%04d" % count: b"x" * 4000}, [])
        except StoreFull:
            break
        with contextlib.suppress(OSError):
            (small_disk / "hog").open("ab").write(b"x" * 100_000)
    assert ballast.stat().st_size == 512 << 10
    for number in range(count):
        await store.commit({b"%04d" % number: b"x" * 4070}, [])
        marked += 1
        if ballast.stat().st_size < 512 << 10:
            break
    assert 0 < ballast.stat().st_size < 512 << 10, "only a piece was needed"
    with contextlib.suppress(OSError):
        (small_disk / "hog").open("ab").write(b"x" * (4 << 20))  # somebody else takes what the piece left
    for number in range(marked, min(count, marked + 20)):
        await store.commit({b"%04d" % number: b"x" * 4070}, [])
    with pytest.raises(StoreFull):
        await store.commit({b"new": b"x" * 400_000}, [])
    store.close()


def test_a_journal_opens_on_a_full_disk(small_disk: Path) -> None:
    folder = small_disk / "journal"
    filled(folder, 50)
    with pytest.raises(OSError, match="No space"):
        (small_disk / "hog").write_bytes(b"x" * (8 << 20))
    opened = open_store(folder)
    assert opened.problem == ""
    assert len(list(opened.store.scan(b""))) == 50
    opened.store.close()


@pytest.mark.parametrize("lost", ["env", "lock.mdb", "lock.mdb emptied"])
def test_a_journal_is_set_aside_or_opens_on_a_full_disk_without_a_bus_error(small_disk: Path, lost: str) -> None:
    """LMDB maps its lock file sparse; without room for the page a full disk kills the process."""
    folder = small_disk / "journal"
    filled(folder, 50, ballast_bytes=256 << 10)
    assert (folder / "ballast").exists()
    match lost:
        case "env":
            (folder / "condemned").write_text("by the test")
        case "lock.mdb":
            (folder / "env" / "lock.mdb").unlink()
        case _:
            (folder / "env" / "lock.mdb").write_bytes(b"")
    with pytest.raises(OSError, match="No space"):
        (small_disk / "hog").write_bytes(b"x" * (8 << 20))
    code = "import sys, pathlib; from skerry.world.store import open_store; o = open_store(pathlib.Path(sys.argv[1]))"
    code += "; print(len(list(o.store.scan(b''))), o.problem, o.store.copies()); o.store.close()"
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = "0 by the test [b'the copy']" if lost == "env" else "50  [b'the copy']"
    assert done.stdout.strip() == expected
