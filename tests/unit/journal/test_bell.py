"""A ring is remembered until somebody waited for it."""

from __future__ import annotations

import asyncio

import pytest

from skerry.journal.bell import Bell


async def test_a_ring_before_the_wait_is_heard_once() -> None:
    bell = Bell()
    bell.ring()
    bell.ring()
    await bell.wait()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(bell.wait(), 0)


async def test_a_ring_wakes_who_waits() -> None:
    bell = Bell()
    waiting = asyncio.ensure_future(bell.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    bell.ring()
    await waiting
