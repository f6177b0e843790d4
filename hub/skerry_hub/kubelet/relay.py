"""Join a client and a device, both ways, until one of them has ended. Reads one piece ahead of nobody: a side that does
not take what it is given stops the other side's source."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from skerry.errors import StreamBroken
from skerry.limits import STREAM_IDLE_S
from skerry.model.streams import CloseCode
from skerry.ports import Duplex

log = logging.getLogger("skerry_hub.kubelet")


@dataclass(frozen=True, slots=True)
class Ended:
    """`device` is why the device's side broke, None if it sent all that there was; `client_gone`: nobody is there to
    be told."""

    device: StreamBroken | None = None
    client_gone: bool = False


@dataclass(slots=True)
class _Copy:
    """One direction; `moved` counts its pieces."""

    source: Duplex
    sink: Duplex
    moved: int = 0
    source_broke: StreamBroken | None = None
    sink_broke: StreamBroken | None = None

    async def run(self) -> None:
        while True:
            try:
                piece = await self.source.read()
            except StreamBroken as why:
                self.source_broke = why
                return
            if piece is None:
                return
            try:
                await self.sink.write(piece)
            except StreamBroken as why:
                self.sink_broke = why
                return
            self.moved += 1


async def relay(client: Duplex, device: Duplex, gone: asyncio.Event) -> Ended:
    """Copies until the device sends no more, either breaks, or `gone` says that the client's connection is no more (a
    client is not read while the device takes nothing). Closes neither. A pair that moves nothing for STREAM_IDLE_S has
    ended too."""
    up, down = _Copy(client, device), _Copy(device, client)
    up_task, down_task = asyncio.ensure_future(up.run()), asyncio.ensure_future(down.run())
    gone_task = asyncio.ensure_future(_wait(gone))
    try:
        before = -1
        while not (down_task.done() or gone_task.done() or up.source_broke is not None):
            waits = {task for task in (up_task, down_task, gone_task) if not task.done()}
            done, _ = await asyncio.wait(waits, timeout=STREAM_IDLE_S, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if (bug := task.exception()) is not None:
                    log.error("a stream failed", exc_info=bug)
                    return Ended(StreamBroken(CloseCode.FAILED, "unexpected failure, see the hub's log"))
            if not done:
                if up.moved + down.moved == before:
                    return Ended(StreamBroken(CloseCode.CANCELLED, f"nothing moved for {STREAM_IDLE_S:.0f} s"))
                before = up.moved + down.moved
        if not down_task.done() or down.sink_broke is not None:
            return Ended(client_gone=True)
        return Ended(down.source_broke)
    finally:
        for task in (up_task, down_task, gone_task):
            task.cancel()
        await asyncio.gather(up_task, down_task, gone_task, return_exceptions=True)


async def _wait(event: asyncio.Event) -> None:
    await event.wait()
