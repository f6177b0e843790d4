"""A shim opens its end of a process's stdin in the background of the start: what comes before that waits for it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from skerry.containerd import execs
from skerry.containerd.execs import Running, Task
from skerry.errors import StreamBroken
from skerry.model.streams import Channel, Piece

TOLD = Piece(Channel.STDIN, b"told", end=True)


class FakeTask:
    """A process that ends when the test says so."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.stdin_ended = False

    async def wait(self) -> int:
        await self.ended.wait()
        return 0

    async def end_stdin(self) -> None:
        self.stdin_ended = True


@pytest.fixture
async def task() -> AsyncIterator[FakeTask]:
    made = FakeTask()
    yield made
    made.ended.set()
    await asyncio.sleep(0)


def running(task: FakeTask, folder: Path) -> Running:
    os.mkfifo(folder / "stdin")
    return Running(cast(Task, task), folder, 1, str(folder / "stdin"), {})


async def test_what_comes_before_the_shim_has_its_end_open_is_not_lost(task: FakeTask, tmp_path: Path) -> None:
    process = running(task, tmp_path)
    writing = asyncio.ensure_future(process.write(TOLD))
    await asyncio.sleep(0.05)
    assert not writing.done()
    assert not task.stdin_ended
    shim = os.open(tmp_path / "stdin", os.O_RDONLY | os.O_NONBLOCK)
    try:
        await asyncio.wait_for(writing, 10)
        assert os.read(shim, 100) == b"told"
        assert os.read(shim, 100) == b"", "and its end"
        assert task.stdin_ended
    finally:
        os.close(shim)


async def test_a_process_that_has_ended_is_told_nothing(task: FakeTask, tmp_path: Path) -> None:
    process = running(task, tmp_path)
    writing = asyncio.ensure_future(process.write(TOLD))
    task.ended.set()
    await asyncio.wait_for(writing, 10)
    assert not task.stdin_ended


async def test_an_end_that_never_opens_breaks_the_stream(
    task: FakeTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execs, "EXEC_STDIN_S", 0.05)
    with pytest.raises(StreamBroken, match="the command's stdin: No such device or address"):
        await asyncio.wait_for(running(task, tmp_path).write(TOLD), 10)
