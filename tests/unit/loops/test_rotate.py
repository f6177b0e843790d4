"""Logs are kept within their bound, on a scripted runtime and a clock that the test turns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest

from skerry.errors import RuntimeAway, RuntimeFailed, SkerryError
from skerry.limits import LOG_CHECK_S
from skerry.loops.report import Counters
from skerry.loops.rotate import rotate_loop
from skerry.model.observed import ContainerSeen, ContainerState, PodSeen
from unit.hub.fakes import Dice, ManualClock
from unit.journal.memory_store import MemoryStore, opened

FULL = 1_000


class Logs:
    """As much of ports.Runtime as the loop uses; what was done, in order."""

    def __init__(self) -> None:
        self.files = {0: 0}
        self.done: list[str] = []
        self.looks = 0
        self.trouble: dict[str, SkerryError] = {}

    async def log_files(self, container_id: str) -> Mapping[int, int]:
        self.looks += 1
        self._answer("look")
        return dict(self.files)

    async def rename_log(self, container_id: str, number: int, to: int) -> None:
        self._answer("rename")
        self.files[to] = self.files.pop(number)
        self.done.append(f"{number} is {to}")

    async def delete_log(self, container_id: str, number: int) -> None:
        del self.files[number]

    async def reopen_container_log(self, container_id: str) -> None:
        self._answer("reopen")
        self.files[0] = 0
        self.done.append("reopened")

    def _answer(self, call: str) -> None:
        if call in self.trouble:
            raise self.trouble[call]


class Board:
    def __init__(self) -> None:
        self.logs, self.clock, self.counters = Logs(), ManualClock(), Counters()
        self.said: list[str] = []

    async def start(self) -> None:
        journal = await opened(MemoryStore())
        running = ContainerSeen("c1", "b1", "u1", "ebb", 0, "m", ContainerState.RUNNING)
        dead = ContainerSeen("c0", "b1", "u1", "ebb", 0, "m", ContainerState.EXITED)
        journal.observe(None, {"u1": PodSeen("u1", (), (running, dead))})
        loop = rotate_loop(self.logs, journal, self.clock, Dice(), self.said.append, self.counters, FULL)  # type: ignore[arg-type]
        self.task = asyncio.ensure_future(loop)

    async def passes(self, seconds: float, written: int = 0) -> None:
        self.logs.files[min(self.logs.files)] += written
        await self.clock.advance(seconds)


@pytest.fixture
async def board() -> AsyncIterator[Board]:
    made = Board()
    await made.start()
    yield made
    made.task.cancel()
    await asyncio.gather(made.task, return_exceptions=True)


async def test_a_full_log_is_renamed_and_another_begun(board: Board) -> None:
    await board.passes(2 * LOG_CHECK_S[0], written=FULL)
    assert board.logs.done == ["0 is 1", "reopened"]
    await board.passes(LOG_CHECK_S[1], written=FULL)
    assert board.logs.done[2:] == ["1 is 2", "0 is 1", "reopened"]
    assert board.logs.files == {0: 0, 1: FULL, 2: FULL}
    assert board.counters["log_rotations"] == 2


async def test_while_nothing_is_written_it_looks_as_rarely_as_may_be(board: Board) -> None:
    for _ in range(1_000):
        await board.passes(LOG_CHECK_S[1] / 10)
    before = board.logs.looks
    for _ in range(1_000):
        await board.passes(LOG_CHECK_S[1] / 10)
    assert board.logs.looks - before <= 101


async def test_a_runtime_that_does_not_reopen_is_asked_again(board: Board) -> None:
    board.logs.trouble["reopen"] = RuntimeFailed("ReopenContainerLog", "UNKNOWN", "not now")
    await board.passes(2 * LOG_CHECK_S[0], written=FULL)
    assert (board.logs.files, board.counters["log_rotations_failed"]) == ({1: FULL}, 1)
    del board.logs.trouble["reopen"]
    await board.passes(2 * LOG_CHECK_S[0])
    assert (board.logs.files, board.logs.done) == ({0: 0, 1: FULL}, ["0 is 1", "reopened"])
    assert any("not now" in line for line in board.said)


@pytest.mark.parametrize("why", [RuntimeAway("no containerd"), RuntimeFailed("RenameLog", "INTERNAL", "read-only")])
async def test_no_trouble_ends_it(board: Board, why: SkerryError) -> None:
    board.logs.trouble |= {"look": why}
    for _ in range(5):
        await board.passes(2 * LOG_CHECK_S[0])
    board.logs.trouble.clear()
    await board.passes(2 * LOG_CHECK_S[0], written=FULL)
    assert board.logs.done == ["0 is 1", "reopened"]
