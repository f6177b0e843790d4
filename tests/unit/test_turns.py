"""However many streams move, what else the loop has to do comes up between any two pieces."""

from __future__ import annotations

import asyncio

from skerry.turns import Turns


async def test_between_two_pieces_the_loop_does_what_else_there_is() -> None:
    turns, order = Turns(), []

    async def stream(name: str) -> None:
        for _ in range(3):
            await turns.next()
            order.append(name)

    async def other() -> None:
        for _ in range(9):
            await asyncio.sleep(0)
            order.append(".")

    await asyncio.gather(stream("a"), stream("b"), stream("c"), other())
    told = "".join(order)
    assert "".join(told.split(".")) == "abcabcabc", "each in its turn"
    assert all(two not in told.rstrip("abc") for two in ("ab", "bc", "ca")), told


async def test_one_that_is_cancelled_holds_up_nobody() -> None:
    turns = Turns()
    first, gone, last = (asyncio.ensure_future(turns.next()) for _ in range(3))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait_for(asyncio.gather(first, last), 10)
    assert gone.cancelled()
