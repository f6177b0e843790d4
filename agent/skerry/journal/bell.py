"""How one loop learns that the journal changed for it. A bell remembers that it rang until somebody waited for it."""

from __future__ import annotations

import asyncio


class Bell:
    def __init__(self) -> None:
        self._rang = asyncio.Event()

    def ring(self) -> None:
        self._rang.set()

    async def wait(self) -> None:
        """Return at the next ring, or at once if it rang since the last wait."""
        await self._rang.wait()
        self._rang.clear()
