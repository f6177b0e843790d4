"""Reading a container's log: where it begins, how it is followed through rotation, and when it ends. Real files."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from io import FileIO
from itertools import count
from pathlib import Path

import pytest

from skerry.errors import RuntimeAway, StreamBroken
from skerry.limits import LOG_CHANGEOVER_S, LOG_ENDED_S, STREAM_CHUNK_BYTES
from skerry.model.streams import Channel, CloseCode, Logs
from skerry.world import logs
from skerry.world.log_lines import Lines
from skerry.world.logs import ContainerLog, open_log, tail_start

WAIT_S = 20.0


class Writer:
    """The runtime's half: a log that is open while the container runs."""

    def __init__(self, path: Path) -> None:
        self.path, self.running, self.away, self._count = path, True, False, 0
        self._file = path.open("ab", buffering=0)

    def say(self, *texts: str, kind: str = "F") -> None:
        for text in texts:
            self._count += 1
            self._file.write(f"2026-11-30T00:00:{self._count % 60:02}Z stdout {kind} {text}\n".encode())

    def rename(self) -> None:
        for number in (1, 0):
            old = Path(f"{self.path}.{number}" if number else self.path)
            if old.exists():
                old.rename(f"{self.path}.{number + 1}")

    def reopen(self, last: str = "") -> None:
        """As containerd: the new file first, then the rest into the old one."""
        self.close_old(self.reopen_only(), *([last] if last else ()))

    def reopen_only(self) -> FileIO:
        """What was the log until now, still open, is returned."""
        old, self._file = self._file, self.path.open("ab", buffering=0)
        return old

    def close_old(self, old: FileIO, *last: str) -> None:
        new, self._file = self._file, old
        self.say(*last)
        old.close()
        self._file = new

    def end(self) -> None:
        self.running = False
        self._file.close()

    async def runs(self) -> bool:
        if self.away:
            raise RuntimeAway("no containerd")
        return self.running


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    made = Writer(tmp_path / "0.log")
    yield made
    made.end()


@asynccontextmanager
async def opened(writer: Writer, **asked: object) -> AsyncIterator[ContainerLog]:
    log = await open_log(writer.path, Logs("default", "tide", **asked), writer.runs)  # type: ignore[arg-type]
    try:
        yield log
    finally:
        await log.close()


async def rest(log: ContainerLog) -> str:
    out = b""
    while (piece := await asyncio.wait_for(log.read(), WAIT_S)) is not None:
        assert (piece.channel, len(piece.data) <= STREAM_CHUNK_BYTES) == (Channel.STDOUT, True)
        out += piece.data
    return out.decode()


async def until(log: ContainerLog, text: str) -> str:
    out = ""
    while not out.endswith(text):
        piece = await asyncio.wait_for(log.read(), WAIT_S)
        assert piece is not None, out
        out += piece.data.decode()
    return out


async def test_a_log_is_read_to_its_end(writer: Writer) -> None:
    texts = [f"line {n} {'x' * 90}" for n in range(5_000)]
    writer.say(*texts)
    async with opened(writer) as log:
        assert (await rest(log)).splitlines() == texts
        assert await log.read() is None


@pytest.mark.parametrize("lines", [0, 1, 3, 999, 1_000, 1_001, 5_000])
async def test_the_last_lines_are_found_from_the_end(writer: Writer, lines: int) -> None:
    texts = [f"line {n} {'x' * (n % 300)}" for n in range(1_000)]
    writer.say(*texts)
    async with opened(writer, tail_lines=lines) as log:
        assert (await rest(log)).splitlines() == (texts[-lines:] if lines else [])


@pytest.mark.parametrize("step", [1, 7, 64, 100, 1_000])
async def test_the_last_lines_whatever_is_read_at_once(
    writer: Writer, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "LOG_TAIL_READ_BYTES", step)
    writer.say("first")
    writer.say("a", "b", kind="P")
    writer.say("c", "", "last" * 60)
    file = os.open(writer.path, os.O_RDONLY)
    for lines, shown in ((1, "last" * 60), (2, "\n" + "last" * 60), (3, "abc\n\n" + "last" * 60)):
        at, found = tail_start(file, lines)
        assert found == lines
        log = ContainerLog(writer.path, [os.dup(file)], at, Lines(Logs("", "")), None, writer.runs)
        assert await rest(log) == shown + "\n"
        await log.close()
    assert tail_start(file, 9) == (0, 4)
    os.close(file)


async def test_the_last_lines_reach_back_into_rotated_files(writer: Writer) -> None:
    for n in range(3):
        writer.say(f"old {n}", f"older {n}")
        writer.rename()
        writer.reopen()
    writer.say("new")
    async with opened(writer, tail_lines=4) as log:
        assert await rest(log) == "older 1\nold 2\nolder 2\nnew\n"
    async with opened(writer) as log:
        assert await rest(log) == "new\n"  # without it, what is written now, as kubelet has it


async def test_following_shows_what_comes_and_ends_with_the_container(writer: Writer) -> None:
    writer.say("one")
    async with opened(writer, follow=True) as log:
        assert await until(log, "one\n") == "one\n"
        for n in range(50):
            writer.say(f"more {n}")
            assert await until(log, f"more {n}\n") == f"more {n}\n"
        writer.say("last")
        writer.end()
        assert await rest(log) == "last\n"


async def test_following_what_has_ended_ends(writer: Writer) -> None:
    writer.say("one")
    writer.end()
    async with opened(writer, follow=True, tail_lines=0) as log:
        assert await rest(log) == ""


async def test_an_end_that_is_shown_late_is_waited_for(writer: Writer) -> None:
    async with opened(writer, follow=True) as log:
        reading = asyncio.ensure_future(rest(log))
        await asyncio.sleep(0.1)
        writer._file.close()
        await asyncio.sleep(0.2)
        assert not reading.done()
        writer.running = False
        assert await asyncio.wait_for(reading, WAIT_S) == ""


async def test_nothing_is_lost_or_told_twice_over_rotations(writer: Writer) -> None:
    told = []
    async with opened(writer, follow=True) as log:
        reading = asyncio.ensure_future(rest(log))
        for n in range(300):
            told.append(f"line {n}")
            writer.say(told[-1])
            if n % 30 == 29:
                writer.rename()
                await asyncio.sleep(0.01 * (n % 4))
                told.append(f"between {n}")
                writer.say(told[-1])
                told.append(f"rest {n}")
                writer.reopen(told[-1])
                told.append(f"new {n}")
                writer.say(told[-1])
            await asyncio.sleep(0.02 if n % 30 > 27 else 0)
        writer.end()
        assert (await reading).splitlines() == told


async def test_what_was_rotated_away_is_read_until_its_writer_closes_it(writer: Writer) -> None:
    writer.say("one")
    async with opened(writer, follow=True) as log:
        assert await until(log, "one\n") == "one\n"
        reading = asyncio.ensure_future(until(log, "new 2\n"))
        writer.rename()
        old = writer.reopen_only()
        for n in range(3):
            await asyncio.sleep(0.05)
            writer.say(f"new {n}")  # an event that says nothing of the old one
        writer.close_old(old, "rest")
        assert await reading == "rest\nnew 0\nnew 1\nnew 2\n"


async def test_the_close_of_what_was_rotated_away_holds_up_nothing(writer: Writer) -> None:
    """It comes when the new one is read already; a look whether the container runs takes as long as it takes."""
    writer.say("one")
    async with opened(writer, follow=True) as log:
        assert await until(log, "one\n") == "one\n"
        reading = asyncio.ensure_future(until(log, "two\n"))
        writer.rename()
        old = writer.reopen_only()
        await asyncio.sleep(LOG_CHANGEOVER_S + 0.2)
        writer.close_old(old)
        await asyncio.sleep(0.1)
        began = asyncio.get_running_loop().time()
        writer.say("two")
        assert await reading == "two\n"
        assert asyncio.get_running_loop().time() - began < LOG_ENDED_S[1] / 2


async def test_what_is_rotated_while_its_end_is_looked_for_is_read_all_the_same(writer: Writer) -> None:
    writer.say("one")
    async with opened(writer, follow=True) as log:
        assert await until(log, "one\n") == "one\n"
        reading = asyncio.ensure_future(rest(log))
        await asyncio.sleep(0.05)
        writer._file.close()  # and the container runs on, as far as can be seen
        await asyncio.sleep(0.1)
        writer.rename()
        writer._file = writer.path.open("ab", buffering=0)
        writer.say("two")
        writer.end()
        assert await reading == "two\n"


async def test_who_is_behind_by_two_rotations_loses_nothing(writer: Writer) -> None:
    writer.say("one")
    async with opened(writer, follow=True) as log:
        assert await until(log, "one\n") == "one\n"
        for text in ("two", "three"):
            writer.rename()
            writer.reopen()
            writer.say(text)
        writer.end()
        assert await rest(log) == "two\nthree\n"


async def test_a_log_that_is_removed_ends_the_reading(writer: Writer) -> None:
    writer.say("one")
    async with opened(writer, follow=True) as log:
        await until(log, "one\n")
        writer.say("two")
        writer.path.unlink()
        assert await rest(log) == "two\n"


async def test_while_the_runtime_is_away_it_goes_on(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LOG_AWAY_S", 0.05)
    async with opened(writer, follow=True) as log:
        reading = asyncio.ensure_future(until(log, "again\n"))
        await asyncio.sleep(0.05)
        writer.away = True
        writer._file.close()  # a runtime that dies lets go of the log, too
        await asyncio.sleep(0.2)
        writer._file = writer.path.open("ab", buffering=0)
        writer.away = False
        writer.say("again")
        assert await reading == "again\n"
        writer.end()
        assert await rest(log) == ""


async def test_a_file_that_somebody_emptied_is_read_from_its_start(writer: Writer) -> None:
    writer.say("one", "two")
    async with opened(writer, follow=True) as log:
        await until(log, "two\n")
        os.truncate(writer.path, 0)
        writer.say("new")
        assert await until(log, "new\n") == "new\n"


async def test_closing_ends_a_reader_that_waits_and_leaves_nothing_open(writer: Writer) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        log = await open_log(writer.path, Logs("default", "tide", follow=True), writer.runs)
        reading = asyncio.ensure_future(log.read())
        await asyncio.sleep(0.01)
        await log.close()
        await log.close()
        assert await asyncio.wait_for(reading, WAIT_S) is None
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1  # a thread's or the loop's own


async def test_a_reader_that_is_cancelled_loses_nothing(writer: Writer) -> None:
    texts = [f"line {n}" for n in range(20_000)]
    writer.say(*texts)
    out, turns = "", count()
    async with opened(writer) as log:
        while True:
            reading = asyncio.ensure_future(log.read())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if not reading.done() and next(turns) % 3:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
                continue
            piece = await reading
            if piece is None:
                break
            out += piece.data.decode()
    assert out.splitlines() == texts


async def test_what_cannot_be_read_is_refused_in_words(writer: Writer, tmp_path: Path) -> None:
    with pytest.raises(StreamBroken, match=r"no log at .*/1.log") as missing:
        await open_log(tmp_path / "1.log", Logs("default", "tide"), writer.runs)
    assert missing.value.code == CloseCode.NOT_FOUND
    with pytest.raises(StreamBroken, match="no log at"):
        await open_log(tmp_path / "no/such/1.log", Logs("default", "tide", follow=True), writer.runs)
    os.mkfifo(tmp_path / "2.log")
    with pytest.raises(StreamBroken, match="not a regular file") as strange:
        await open_log(tmp_path / "2.log", Logs("default", "tide"), writer.runs)
    assert strange.value.code == CloseCode.FAILED
    (tmp_path / "3.log").symlink_to("/etc/passwd")
    with pytest.raises(StreamBroken):
        await open_log(tmp_path / "3.log", Logs("default", "tide"), writer.runs)


async def test_a_log_that_is_being_renamed_is_found(writer: Writer) -> None:
    writer.say("one")
    writer.rename()
    async with opened(writer, follow=True) as log:
        await until(log, "one\n")
        writer.reopen()
        writer.say("two")
        assert await until(log, "two\n") == "two\n"
