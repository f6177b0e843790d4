"""Bulk takes turns, so that nothing else waits long for the event loop."""

from __future__ import annotations

import asyncio


class Turns:
    """One stream moves one piece in each turn of the event loop, the one that has waited longest. So whatever else the
    loop has to do waits for one piece, and not for a piece of each stream."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def next(self) -> None:
        async with self._lock:
            await asyncio.sleep(0)
