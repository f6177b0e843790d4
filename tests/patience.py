"""Waiting for what is to come: nothing is late on a slow machine until the bound, and a quick one does not wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

WAIT_S = 30.0
LOOK_S = 0.01


async def until(so: Callable[[], object], what: str, within_s: float = WAIT_S) -> None:
    """Look until it is so. Raises AssertionError that names `what` when it is not within `within_s`."""
    loop = asyncio.get_running_loop()
    end = loop.time() + within_s
    while not so():
        assert loop.time() < end, f"not in time: {what}"
        await asyncio.sleep(LOOK_S)
