"""One connection as a coroutine sees it, on real TCP."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
import uvloop

from skerry_hub import limits
from skerry_hub.transport import Transport

Peer = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[tuple[Transport, Peer]]:
    came: asyncio.Queue[Peer] = asyncio.Queue()
    server = await asyncio.start_server(lambda r, w: came.put_nowait((r, w)), "127.0.0.1", 0)
    transport = await Transport.dial("127.0.0.1", server.sockets[0].getsockname()[1], None)
    peer = await came.get()
    try:
        yield transport, peer
    finally:
        transport.abort()
        peer[1].close()
        server.close()


async def test_bytes_go_both_ways_and_the_end_is_told() -> None:
    async with connected() as (transport, (reader, writer)):
        transport.write(b"to")
        await transport.drain()
        assert await reader.readexactly(2) == b"to"
        writer.write(b"from")
        assert await transport.read() == b"from"
        writer.write(b"last")
        writer.close()
        assert await transport.read() == b"last"
        assert await transport.read() == b""
        while not transport.lost:
            await asyncio.sleep(0.01)
        transport.write(b"more")
        with pytest.raises(ConnectionResetError):
            await transport.drain()


async def test_a_peer_is_read_no_faster_than_the_coroutine_reads() -> None:
    async with connected() as (transport, (_, writer)):
        writer.write(b"x" * 64_000_000)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(writer.drain(), 0.5)
        assert transport.read_bytes <= limits.READ_HIGH_BYTES + 1_000_000, "and one read of the loop"
        got = 0
        while got < 64_000_000:
            got += len(await asyncio.wait_for(transport.read(), 60))


async def test_a_writer_waits_for_a_peer_that_does_not_read() -> None:
    async with connected() as (transport, (reader, _)):

        async def push() -> None:
            for _ in range(200):
                transport.write(b"y" * 200_000)
                await transport.drain()

        task = asyncio.ensure_future(push())
        await asyncio.sleep(0.3)
        assert not task.done()
        for _ in range(200):
            await reader.readexactly(200_000)
        await asyncio.wait_for(task, 60)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_peer_that_goes_is_noticed_though_it_is_not_read(
    monkeypatch: pytest.MonkeyPatch, run: Callable[[Coroutine[Any, Any, None]], None]
) -> None:
    monkeypatch.setattr(limits, "PEER_CHECK_S", 0.1)

    async def story() -> None:
        async with connected() as (transport, (_, writer)):
            writer.write(b"z" * 200_000)
            await writer.drain()
            await asyncio.sleep(0.5)
            assert not transport.lost, "a peer that waits is left alone"
            writer.close()
            while not transport.lost:
                await asyncio.sleep(0.05)

    run(asyncio.wait_for(story(), 60))


async def test_one_that_never_had_a_connection_reads_as_ended() -> None:
    transport = Transport()
    transport.write(b"x")
    assert await transport.read() == b""
    transport.close()
    with pytest.raises(ConnectionResetError):
        await transport.drain()
