"""The virtual loop, pinned: it overrides private parts of asyncio, so this runs on every Python version."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from sim.loop import Asleep, Forbidden, Process, Starved, VirtualLoop, bury


def run(main: Callable[[VirtualLoop], Coroutine[Any, Any, Any]], seed: int = 0) -> Any:
    loop = VirtualLoop(seed)
    try:
        return loop.run_until_complete(main(loop))
    finally:
        bury(loop)


def test_time_jumps_to_the_next_timer() -> None:
    async def main(loop: VirtualLoop) -> float:
        began = loop.time()
        await asyncio.sleep(86_400)
        return loop.time() - began

    before = time.monotonic()
    assert run(main) == 86_400
    assert time.monotonic() - before < 5


def test_timers_fire_in_their_order_and_time_never_passes_one() -> None:
    async def main(loop: VirtualLoop) -> list[float]:
        seen: list[float] = []

        async def nap(seconds: float) -> None:
            await asyncio.sleep(seconds)
            seen.append(loop.time() - 1_000)

        await asyncio.gather(*(nap(s) for s in (3.0, 1.0, 2.0, 1.5)))
        return seen

    assert run(main) == [1.0, 1.5, 2.0, 3.0]


def test_what_is_ready_at_once_runs_in_the_order_of_the_seed() -> None:
    async def main(loop: VirtualLoop) -> tuple[int, ...]:
        seen: list[int] = []

        async def one(number: int) -> None:
            await asyncio.sleep(0)
            seen.append(number)

        await asyncio.gather(*(one(n) for n in range(5)))
        return tuple(seen)

    orders = {run(main, seed) for seed in range(20)}
    assert len(orders) > 5
    assert run(main, 7) == run(main, 7)


def test_sleeping_for_ever_is_an_error_that_says_who() -> None:
    async def forgotten() -> None:
        await asyncio.Event().wait()

    async def main(loop: VirtualLoop) -> None:
        await forgotten()

    with pytest.raises(Asleep, match="forgotten"):
        run(main)


def test_spinning_is_an_error_that_says_who() -> None:
    async def spinner() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(Starved, match="spinner"):
        run(lambda loop: spinner())


def test_a_killed_process_does_nothing_any_more_not_even_its_finally() -> None:
    async def main(loop: VirtualLoop) -> tuple[str, ...]:
        said: list[str] = []

        async def child() -> None:
            try:
                await asyncio.sleep(5)
                said.append("child")
            finally:
                said.append("finally")

        async def parent() -> None:
            task = asyncio.ensure_future(child())
            await asyncio.sleep(1)
            said.append("parent")
            await task

        process = Process("p")
        loop.spawn(process, parent())
        await asyncio.sleep(2)
        loop.kill(process)
        await asyncio.sleep(1000)
        return tuple(said)

    assert run(main) == ("parent",)


def test_a_process_can_die_at_any_step() -> None:
    async def main(loop: VirtualLoop) -> int:
        steps = 0

        async def count() -> None:
            nonlocal steps
            while True:
                steps += 1
                await asyncio.sleep(1)

        process = Process("p")
        process.die_at = (7, lambda: loop.kill(process))
        loop.spawn(process, count())
        await asyncio.sleep(1000)
        return steps

    assert run(main) < 7


def test_a_stopped_process_goes_on_where_it_was() -> None:
    async def main(loop: VirtualLoop) -> list[float]:
        at: list[float] = []

        async def tick() -> None:
            for _ in range(3):
                await asyncio.sleep(10)
                at.append(loop.time() - 1_000)

        process = Process("p")
        task = loop.spawn(process, tick())
        await asyncio.sleep(15)
        loop.stop_process(process)
        await asyncio.sleep(100)
        loop.go_on(process)
        await task
        return at

    assert run(main) == [10, 115, 125]


def test_wait_for_timeouts_and_cancelling_work() -> None:
    async def main(loop: VirtualLoop) -> str:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 30)
        task = asyncio.ensure_future(asyncio.sleep(1000))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        return "cancelled" if task.cancelled() else "not"

    assert run(main) == "cancelled"


def test_threads_sockets_and_processes_are_refused() -> None:
    async def main(loop: VirtualLoop) -> None:
        with pytest.raises(Forbidden):
            await asyncio.to_thread(print)
        with pytest.raises(Forbidden):
            await asyncio.open_connection("127.0.0.1", 1)
        with pytest.raises(Forbidden):
            await asyncio.create_subprocess_exec("true")
        with pytest.raises(Forbidden):
            loop.call_soon_threadsafe(print)
        with pytest.raises(Forbidden):
            loop.add_reader(0, print)

    run(main)
