"""Logs are kept within their bound, on a scripted runtime and a clock that the test turns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest

from skerry.errors import RuntimeAway, RuntimeFailed, SkerryError, WatchesSpent
from skerry.limits import LOG_CHECK_S, LOG_EXCESS_BYTES, LOG_RATE_BYTES_S, LOG_RETRY_S
from skerry.loops.report import Counters
from skerry.loops.rotate import rotate_loop
from skerry.model.observed import ContainerSeen, ContainerState, PodSeen
from unit.hub.fakes import Dice, ManualClock
from unit.journal.memory_store import MemoryStore, opened

FULL = 1_000
UNSEEN_S = 0.1 + LOG_EXCESS_BYTES / LOG_RATE_BYTES_S  # longer than any log that is not quiet may grow unseen


class Logs:
    """As much of ports.Runtime as the loop uses; what was done, in order."""

    def __init__(self) -> None:
        self.files = {0: 0}
        self.done: list[str] = []
        self.looks = 0
        self.watches = 0
        self.watched = False
        self.written = asyncio.Event()
        self.trouble: dict[str, SkerryError] = {}

    def write(self, size: int) -> None:
        self.files[min(self.files)] += size
        if self.watched and size:
            self.watched = False
            self.written.set()

    async def log_files(self, container_id: str) -> Mapping[int, int]:
        self.looks += 1
        self._answer("look")
        return dict(self.files)

    async def watch_log(self, container_id: str) -> None:
        self.watches += 1
        self._answer("watch")
        self.watched = True

    async def logs_written(self) -> frozenset[str]:
        await self.written.wait()
        self.written.clear()
        return frozenset({"c1"})

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


def container(own_id: str, state: ContainerState) -> ContainerSeen:
    return ContainerSeen(own_id, "b1", "u1", "ebb", 0, "m", state)


RUNNING = container("c1", ContainerState.RUNNING)
DEAD = container("c0", ContainerState.EXITED)


class Board:
    def __init__(self) -> None:
        self.logs, self.clock, self.counters = Logs(), ManualClock(), Counters()
        self.said: list[str] = []

    async def start(self) -> None:
        self.journal = await opened(MemoryStore())
        self.shows(RUNNING, DEAD)
        loop = rotate_loop(self.logs, self.journal, self.clock, Dice(), self.said.append, self.counters, FULL)  # type: ignore[arg-type]
        self.task = asyncio.ensure_future(loop)

    def shows(self, *containers: ContainerSeen) -> None:
        self.journal.observe(None, {"u1": PodSeen("u1", (), containers)})

    async def passes(self, seconds: float, written: int = 0) -> None:
        self.logs.write(written)
        await self.clock.advance(seconds)

    async def falls_silent(self) -> None:
        await self.passes(10)
        assert self.logs.watched


@pytest.fixture
async def board() -> AsyncIterator[Board]:
    made = Board()
    await made.start()
    yield made
    made.task.cancel()
    await asyncio.gather(made.task, return_exceptions=True)


async def test_a_full_log_is_renamed_and_another_begun(board: Board) -> None:
    await board.passes(UNSEEN_S, written=FULL)
    assert board.logs.done == ["0 is 1", "reopened"]
    await board.passes(UNSEEN_S, written=FULL)
    assert board.logs.done[2:] == ["1 is 2", "0 is 1", "reopened"]
    assert board.logs.files == {0: 0, 1: FULL, 2: FULL}
    assert board.counters["log_rotations"] == 2


async def test_while_nothing_is_written_it_looks_as_rarely_as_may_be(board: Board) -> None:
    await board.falls_silent()
    before = board.logs.looks
    for _ in range(1_000):
        await board.passes(LOG_CHECK_S / 10)
    assert board.logs.looks - before <= 100


async def test_the_first_write_to_a_quiet_log_is_heard(board: Board) -> None:
    await board.falls_silent()
    await board.passes(UNSEEN_S, written=FULL)
    assert board.logs.done == ["0 is 1", "reopened"]
    assert board.counters["log_writes_heard"] == 1
    await board.falls_silent()


async def test_a_container_that_starts_is_known_at_once(board: Board) -> None:
    board.shows(DEAD)
    await board.passes(LOG_CHECK_S)
    board.shows(DEAD, RUNNING)
    await board.passes(UNSEEN_S, written=FULL)
    assert board.logs.done == ["0 is 1", "reopened"]


async def test_a_chatty_container_costs_no_wake_up_per_line(board: Board) -> None:
    await board.falls_silent()
    looks, watches = board.logs.looks, board.logs.watches
    for _ in range(3_600):  # ten lines a second, for six minutes
        await board.passes(0.1, written=1)
    assert board.logs.looks - looks <= 360  # of 3,600 lines
    assert (board.logs.watches - watches, board.counters["log_writes_heard"]) == (0, 1)


async def test_where_no_more_can_be_watched_that_is_said_once_and_the_rare_look_finds_it(board: Board) -> None:
    board.logs.trouble["watch"] = WatchesSpent("the kernel watches no more files")
    await board.passes(3 * LOG_CHECK_S)
    assert board.counters["log_watches_refused"] >= 2
    assert board.said == [
        "logs: the kernel watches no more files; a quiet log that begins to grow is noticed within 300 s"
    ]
    await board.passes(LOG_CHECK_S, written=FULL)
    assert board.logs.done == ["0 is 1", "reopened"]
    del board.logs.trouble["watch"]
    await board.passes(LOG_CHECK_S)
    assert board.logs.watched


async def test_a_runtime_that_does_not_reopen_is_asked_again(board: Board) -> None:
    board.logs.trouble["reopen"] = RuntimeFailed("ReopenContainerLog", "UNKNOWN", "not now")
    await board.passes(UNSEEN_S, written=FULL)
    assert (board.logs.files, board.counters["log_rotations_failed"]) == ({1: FULL}, 1)
    del board.logs.trouble["reopen"]
    await board.passes(LOG_RETRY_S[1])
    assert (board.logs.files, board.logs.done) == ({0: 0, 1: FULL}, ["0 is 1", "reopened"])
    assert any("not now" in line for line in board.said)


@pytest.mark.parametrize("why", [RuntimeAway("no containerd"), RuntimeFailed("RenameLog", "INTERNAL", "read-only")])
async def test_no_trouble_ends_it(board: Board, why: SkerryError) -> None:
    board.logs.trouble |= {"look": why, "watch": why}
    for _ in range(5):
        await board.passes(LOG_RETRY_S[1])
    assert board.counters["log_rotations_failed"] >= 5
    board.logs.trouble.clear()
    await board.passes(LOG_RETRY_S[1], written=FULL)
    assert board.logs.done == ["0 is 1", "reopened"]


async def test_one_containers_trouble_is_not_the_others(board: Board) -> None:
    real = board.logs.log_files

    async def log_files(container_id: str) -> Mapping[int, int]:
        if container_id == "bad":
            raise RuntimeFailed("LogFiles", "INTERNAL", "an input/output error")
        return await real(container_id)

    board.logs.log_files = log_files  # type: ignore[method-assign]
    board.shows(container("bad", ContainerState.RUNNING), RUNNING)
    await board.passes(UNSEEN_S, written=FULL)
    assert board.logs.done == ["0 is 1", "reopened"]
