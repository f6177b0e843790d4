"""What the hub is told while the container runtime comes and goes: watch and introduce, on a scripted runtime."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from skerry import __version__
from skerry.errors import RuntimeAway, RuntimeFailed, SkerryError
from skerry.limits import RUNTIME_OUTAGE_S, RUNTIME_STEADY_S, STATUS_MESSAGE_CHARS_MAX
from skerry.loops.introduce import introduce_loop
from skerry.loops.pulse import Pulse
from skerry.loops.report import Counters
from skerry.loops.watch import watch_loop
from skerry.model.observed import PodSeen
from skerry.model.report import NodeFacts
from skerry.ports import RuntimeEvent
from unit.hub.fakes import Dice, ManualClock
from unit.journal.memory_store import MemoryStore, facts, opened

FIRST_S, _ = RUNTIME_OUTAGE_S
VERSION = "containerd://1.7.2"


class Engine:
    """As much of ports.Runtime and ports.Host as the two loops use."""

    def __init__(self) -> None:
        self.trouble: SkerryError | None = None
        self.boot_id = "boot-1"
        self.version_says = VERSION
        self._gone = asyncio.Event()

    def goes(self, why: SkerryError | None = None) -> None:
        self.trouble = why or RuntimeAway("no answer in time")
        self._gone.set()
        self._gone = asyncio.Event()

    def comes(self) -> None:
        self.trouble = None

    async def version(self) -> str:
        self._answer()
        return self.version_says

    async def look(self, pod_uid: str | None = None) -> dict[str, PodSeen]:
        self._answer()
        return {}

    async def events(self) -> AsyncIterator[RuntimeEvent]:
        self._answer()
        yield RuntimeEvent("")
        await self._gone.wait()
        raise RuntimeAway("the stream ended")

    def facts(self) -> NodeFacts:
        return facts(self.boot_id)

    def _answer(self) -> None:
        if self.trouble is not None:
            raise self.trouble


class Board:
    """A running pair of loops on a store, and what the card says of the node."""

    def __init__(self, store: MemoryStore) -> None:
        self.store, self.engine, self.clock = store, Engine(), ManualClock()
        self.told: list[str] = []  # problems in the order of their commits
        self._tasks: list[asyncio.Future[None]] = []

    async def start(self) -> None:
        self.journal = await opened(self.store)
        journal, engine, clock, dice = self.journal, self.engine, self.clock, Dice()
        real = journal.tell_node

        async def tell_node(facts: NodeFacts, boot_id: str) -> None:
            await real(facts, boot_id)
            self.told.append(facts.problem)

        journal.tell_node = tell_node  # type: ignore[method-assign]
        beat = Pulse(clock, ()).of("watch")
        loops = (
            watch_loop(engine, journal, clock, dice, lambda line: None, Counters(), beat),  # type: ignore[arg-type]
            introduce_loop(journal, engine, engine, clock, dice),  # type: ignore[arg-type]
        )
        self._tasks = [asyncio.ensure_future(loop) for loop in loops]
        await self.clock.advance(0.001)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def outage(self, seconds: float, up_s: float = 11.0) -> None:
        """Away for so long, then up; the watch loop's longest back-off passes within `up_s`."""
        self.engine.goes()
        await self.clock.advance(seconds)
        self.engine.comes()
        await self.clock.advance(up_s)


@pytest.fixture
async def board() -> AsyncIterator[Board]:
    made = Board(MemoryStore())
    await made.start()
    yield made
    await made.stop()


DOWN = "container runtime is down: no answer in time"


async def test_a_board_is_told_once_with_the_runtimes_version(board: Board) -> None:
    assert board.journal.node is not None
    assert (board.journal.node.runtime, board.journal.node.agent) == (VERSION, __version__)
    await board.clock.advance(10_000.0)
    assert board.told == [""]


async def test_a_runtime_that_stays_away_is_told_and_its_return_too(board: Board) -> None:
    board.engine.goes()
    await board.clock.advance(FIRST_S - 0.1)
    assert board.told == [""]
    await board.clock.advance(1.0)
    assert board.told == ["", "container runtime is down: the stream ended"]
    await board.clock.advance(1_000.0)  # the same outage, whatever its later words are
    assert len(board.told) == 2
    assert board.journal.node is not None
    assert board.journal.node.runtime == VERSION
    board.engine.comes()
    await board.clock.advance(11.0)
    assert board.told[2:] == [""]


async def test_a_runtime_that_is_upgraded_is_told(board: Board) -> None:
    board.engine.version_says = "containerd://2.0.0"
    await board.outage(1.0)
    assert board.told == ["", ""]
    assert board.journal.node is not None
    assert board.journal.node.runtime == "containerd://2.0.0"


async def test_short_outages_are_not_told(board: Board) -> None:
    for _ in range(20):
        await board.outage(4.0)
    assert board.told == [""]
    assert board.store.commits == 2  # recovery's, and the introduction


async def test_a_runtime_that_crashes_in_a_loop_writes_the_card_rarely(board: Board) -> None:
    for _ in range(200):
        await board.outage(60.0)
    told = [problem for problem in board.told if problem]
    assert len(told) == 3  # after 10, 20 and 40 s; 80 s are longer than any of these outages
    await board.clock.advance(RUNTIME_STEADY_S)
    await board.outage(FIRST_S + 1.0)
    assert len([problem for problem in board.told if problem]) == 4


async def test_a_board_whose_runtime_never_came_up_says_so() -> None:
    board = Board(MemoryStore())
    board.engine.goes(RuntimeFailed("ListPodSandbox", "UNKNOWN", "x" * 9_000))
    await board.start()
    assert board.journal.node is None
    await board.clock.advance(FIRST_S + 1.0)
    assert board.journal.node is not None
    assert (board.journal.node.runtime, len(board.journal.node.problem)) == ("", STATUS_MESSAGE_CHARS_MAX)
    assert board.journal.boot_id == ""  # what survived the boot is to be looked at still
    board.engine.comes()
    await board.clock.advance(11.0)
    assert (board.journal.node.runtime, board.journal.node.problem) == (VERSION, "")
    assert board.journal.boot_id == "boot-1"
    await board.stop()


async def test_an_agent_that_restarts_within_an_outage_goes_on_telling_it_and_takes_it_back(board: Board) -> None:
    board.engine.goes()
    await board.clock.advance(FIRST_S + 1.0)
    await board.stop()
    again = Board(board.store)
    again.engine.goes()
    await again.start()
    await again.clock.advance(1_000.0)
    assert again.journal.node is not None
    assert again.journal.node.problem == DOWN
    assert again.told == [DOWN]  # in the words of this process
    again.engine.comes()
    await again.clock.advance(11.0)
    assert again.told == [DOWN, ""]
    await again.stop()


async def test_a_full_journal_delays_it(board: Board) -> None:
    board.store.full = True
    board.engine.goes()
    await board.clock.advance(100.0)
    assert board.told == [""]
    board.store.full = False
    await board.clock.advance(11.0)
    assert len(board.told) == 2
    assert board.told[1]
