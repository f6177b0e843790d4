"""Attach against streaming servers that refuse, lie or fall silent: a typed error each time, in time. A right one is
containerd's, tests/e2e/test_streams.py.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from skerry.containerd import attach as module
from skerry.containerd.attach import attach
from skerry.errors import RuntimeAway, RuntimeFailed, StreamBroken
from skerry.model.streams import Attach, Channel, Piece
from skerry.wire.spdy import Connection, Data, Reset, Role, SynStream, header

REQUEST = Attach("default", "tide", "ebb", stdin=True)
UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"
WAIT_S = 20.0
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(talk: Talk) -> AsyncIterator[str]:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await talk(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/attach/token"
    finally:
        server.close()


def answering(data: bytes) -> Talk:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()

    return talk


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 101", b"x" * 100_000, UPGRADED, UPGRADED + b"\xff" * 64])
async def test_a_server_that_makes_no_sense_is_as_good_as_away(data: bytes) -> None:
    async with serving(answering(data)) as url:
        with pytest.raises((RuntimeAway, RuntimeFailed)):
            await asyncio.wait_for(attach(url, os.getpid(), REQUEST), WAIT_S)


async def test_a_refusal_is_told() -> None:
    async with serving(answering(b"HTTP/1.1 404 Not Found\r\n\r\n")) as url:
        with pytest.raises(RuntimeFailed, match="404 Not Found"):
            await attach(url, os.getpid(), REQUEST)


async def test_a_silent_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DIAL_TIMEOUT_S", 0.2)

    async def talk(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(talk) as url:
        with pytest.raises(RuntimeAway, match="no answer"):
            await asyncio.wait_for(attach(url, os.getpid(), REQUEST), WAIT_S)


@pytest.mark.parametrize("url", ["", "https://127.0.0.1:1/x", "http://127.0.0.1/x", "ftp://x:1/y", "http://[::1:9/x"])
async def test_a_strange_url_is_not_dialled(url: str) -> None:
    with pytest.raises(RuntimeFailed, match="makes no sense"):
        await attach(url, os.getpid(), REQUEST)


async def test_nobody_there() -> None:
    with pytest.raises(RuntimeAway):
        await attach("http://127.0.0.1:9/x", os.getpid(), REQUEST)


class Server:
    """Takes every stream, then says what it is told to."""

    def __init__(self, last: Callable[[Connection, dict[str, int]], None]) -> None:
        self._last, self.heard = last, b""

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        spdy, streams = Connection(Role.SERVER), dict[str, int]()
        writer.write(UPGRADED)
        while data := await reader.read(65_536):
            for event in spdy.receive(data):
                if isinstance(event, SynStream):
                    streams[header(event.headers, "streamtype")] = event.stream
                    spdy.reply(event.stream)
                elif isinstance(event, Data):
                    self.heard += event.data
            if len(streams) == 4 and b"go" in self.heard:
                self._last(spdy, streams)
                self.heard = b""
            writer.write(spdy.take())
            await writer.drain()


async def test_each_stream_has_its_channel_and_its_end() -> None:
    def last(spdy: Connection, streams: dict[str, int]) -> None:
        spdy.send(streams["stdout"], b"out", fin=True)
        spdy.send(streams["stderr"], b"err", fin=True)
        spdy.send(streams["error"], b'{"status":"Success"}', fin=True)
        spdy.reset(streams["stdin"], Reset.CANCEL)

    async with serving(Server(last).talk) as url:
        stream = await attach(url, os.getpid(), REQUEST)
        await stream.write(Piece(Channel.STDIN, b"go"))
        got: dict[Channel, bytes] = {}
        for _ in range(4):
            piece = await asyncio.wait_for(stream.read(), WAIT_S)
            assert piece is not None
            assert piece.end
            got[piece.channel] = piece.data
        assert got == {
            Channel.STDOUT: b"out", Channel.STDERR: b"err", Channel.ERROR: b'{"status":"Success"}', Channel.STDIN: b"",
        }  # fmt: skip
        await stream.close()


async def test_bytes_that_are_no_frames_break_the_stream() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server = Server(lambda *_: None)
        serving = asyncio.ensure_future(server.talk(reader, writer))
        await asyncio.sleep(0.3)
        serving.cancel()
        writer.write(b"\xff" * 64)
        await writer.drain()
        await asyncio.sleep(1)

    async with serving(talk) as url:
        stream = await attach(url, os.getpid(), REQUEST)
        with pytest.raises(StreamBroken):
            await asyncio.wait_for(stream.read(), WAIT_S)
        assert await stream.read() is None
        await stream.write(Piece(Channel.STDIN, b"too late"))
        await stream.close()
