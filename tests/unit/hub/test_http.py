"""The HTTP layer alone, on plain TCP: any bytes end in an answer or a cut, and an upgrade gets the wire."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skerry_hub import limits
from skerry_hub.apiserver import credentials
from skerry_hub.http import App as Served
from skerry_hub.http import Connections, Reply, Request
from skerry_hub.transport import Transport

TCP_ESTABLISHED = 1  # linux/tcp_states.h
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Shout(asyncio.Protocol):
    """What owns the wire after an upgrade: answers everything in capitals."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.wire = transport

    def data_received(self, data: bytes) -> None:
        self.wire.write(data.upper())


class App:
    """Echoes; streams until it is cancelled; upgrades."""

    def __init__(self) -> None:
        self.seen: list[Request] = []
        self.cancelled = asyncio.Event()

    async def __call__(self, request: Request, reply: Reply) -> None:
        self.seen.append(request)
        if request.path == "/stream":
            reply.start(200, [("transfer-encoding", "chunked")])
            reply.write(b"first")
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        elif request.path == "/shout":
            reply.upgrade([("connection", "Upgrade"), ("upgrade", "SPDY/3.1")], Shout)
        else:
            reply.send(200, [("content-type", "text/plain")], request.method.encode() + b" " + request.body)


@contextlib.asynccontextmanager
async def served(app: Served, tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[Connections, int]]:
    connections = Connections(app)
    server = await asyncio.get_running_loop().create_server(connections.new, "127.0.0.1", 0, ssl=tls)
    try:
        yield connections, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await connections.close()


async def talk(port: int, data: bytes, half: bool = False) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    if half:
        writer.write_eof()
    try:
        return await asyncio.wait_for(reader.read(), 30)
    finally:
        writer.close()


GET = b"GET /a?x=1&x=2 HTTP/1.1\r\nHost: h\r\n\r\n"


async def test_requests_on_one_connection_are_answered_in_order_even_when_sent_at_once() -> None:
    app = App()
    async with served(app) as (_, port):
        put = b"PUT /b HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nX-V: 1\r\nX-V: 2\r\nConnection: close\r\n\r\nabc"
        out = await talk(port, GET + put)
    assert out.count(b"HTTP/1.1 200") == 2
    assert out.index(b"GET ") < out.index(b"PUT abc")
    assert app.seen[0].query == {"x": ["1", "2"]}
    assert app.seen[1].header("x-v") == "1", "repeated lines are never joined"
    assert app.seen[1].header_list("x-v") == ["1", "2"]


async def test_a_chunked_body_and_expect_100_are_understood() -> None:
    app = App()
    async with served(app) as (_, port):
        head = b"POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n"
        head += b"Connection: close\r\n\r\n"
        out = await talk(port, head + b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")
    assert out.endswith(b"POST abc")


async def test_an_upgrade_hands_over_the_wire_and_what_was_already_sent() -> None:
    async with served(App()) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = (
            b"POST /shout HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 0\r\n\r\n"
        )
        writer.write(head + b"early \x00\xff")
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert b"spdy/3.1" in answer.lower()
        assert await reader.readexactly(8) == b"EARLY \x00\xff"
        for word in (b"later", b"x" * 300_000):
            writer.write(word)
            assert await reader.readexactly(len(word)) == word.upper()
        writer.close()


@pytest.mark.parametrize("said", [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"])
async def test_the_body_that_an_upgrade_announces_is_not_waited_for(said: bytes) -> None:
    async with served(App()) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"POST /shout HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n" + said + b"\r\n"
        )
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
        writer.write(b"hello")
        assert await asyncio.wait_for(reader.readexactly(5), 30) == b"HELLO"
        writer.close()


async def test_an_upgrade_that_is_refused_is_an_ordinary_answer() -> None:
    async with served(App()) as (_, port):
        head = b"POST /other HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
        assert b"200" in await talk(port, head + b"Content-Length: 5\r\n\r\n")
        last = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        out = await talk(port, head + b"Content-Length: 0\r\n\r\n" + last)
        assert out.count(b"HTTP/1.1 200") == 2, "without a body the connection lives on"


async def test_an_upgrade_works_over_tls(tmp_path: Path) -> None:
    credentials.prepare(tmp_path, "127.0.0.1")
    async with served(App(), credentials.tls_context(tmp_path)) as (_, port):
        trust = ssl.create_default_context(cafile=str(tmp_path / "ca.crt"))
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust)
        writer.write(b"GET /shout HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly")
        await reader.readuntil(b"\r\n\r\nEARLY")
        for word in (b"later", b"x" * 300_000):
            writer.write(word)
            assert await reader.readexactly(len(word)) == word.upper()
        writer.close()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("turns", range(7))
def test_a_client_that_goes_while_it_is_upgraded_is_noticed(
    tmp_path: Path, run: Callable[[Coroutine[Any, Any, None]], None], turns: int
) -> None:
    """The upgrade comes `turns` of the event loop after the end of the socket: before, while and after it is heard."""
    credentials.prepare(tmp_path, "127.0.0.1")

    async def story() -> None:
        taken: asyncio.Queue[Transport] = asyncio.Queue()
        asked = asyncio.Event()

        async def late(request: Request, reply: Reply) -> None:
            asked.set()
            peer = reply._connection._transport.get_extra_info("socket")
            while peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_ESTABLISHED:
                await asyncio.sleep(0)
            for _ in range(turns):
                await asyncio.sleep(0)
            taken.put_nowait(reply.take_over([("connection", "Upgrade"), ("upgrade", "SPDY/3.1")]))

        async with served(late, credentials.tls_context(tmp_path)) as (connections, port):
            trust = ssl.create_default_context(cafile=str(tmp_path / "ca.crt"))
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust)
            writer.write(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n")
            await asked.wait()
            writer.transport.abort()  # as a kill does: no close_notify
            transport = await taken.get()
            assert await transport.read() == b""
            await transport.gone.wait()
            with pytest.raises(ConnectionResetError):
                await transport.drain()
            transport.close()
            transport.abort()
            while connections.open:
                await asyncio.sleep(0)

    run(asyncio.wait_for(story(), 30))


async def test_an_upgraded_connection_ends_with_the_server() -> None:
    app = App()
    async with served(app) as (connections, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /shout HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi")
        await reader.readuntil(b"HI")
        await connections.close()
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 30) == b""
        writer.close()


async def test_a_stream_is_cancelled_when_its_client_goes() -> None:
    app = App()
    async with served(app) as (connections, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /stream HTTP/1.1\r\nHost: h\r\n\r\n")
        await reader.readuntil(b"first")
        writer.close()
        await asyncio.wait_for(app.cancelled.wait(), 30)
        assert not connections.tasks or await asyncio.wait(connections.tasks, timeout=30)
    assert not connections.open


async def test_a_stream_ends_well_when_the_server_ends() -> None:
    app = App()
    async with served(app) as (connections, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /stream HTTP/1.1\r\nHost: h\r\n\r\n")
        await reader.readuntil(b"first")
        await connections.close()
        assert (await asyncio.wait_for(reader.read(), 30)).endswith(b"0\r\n\r\n"), "the last chunk is sent"
        writer.close()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"a" * (limits.HTTP_HEAD_BYTES_MAX * 5), 431),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999\r\n\r\n", 413),
        (b"\x16\x03\x01 not http\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET /?" + b"&".join(b"a=1" for _ in range(300)) + b" HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ],
)
async def test_what_cannot_be_served_hears_why_and_is_cut(data: bytes, status: int) -> None:
    async with served(App()) as (_, port):
        out = await talk(port, data)
        assert out.startswith(b"HTTP/1.1 %d " % status)
        assert (await talk(port, GET, half=True)).startswith(b"HTTP/1.1 200"), "others are served on"


async def test_a_body_that_grows_past_the_limit_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HTTP_BODY_BYTES_MAX", 1000)
    async with served(App()) as (_, port):
        chunk = b"200\r\n" + b"x" * 512 + b"\r\n"
        out = await talk(port, b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * 3)
        assert out.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("data", [b"", b"GET / HT", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab"])
async def test_a_slow_client_is_cut_alone(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    app = App()
    async with served(app) as (connections, port):
        with monkeypatch.context() as hasty:
            hasty.setattr(limits, "HTTP_HEAD_S", 0.2)
            hasty.setattr(limits, "HTTP_BODY_S", 0.2)
            assert await talk(port, data) == b""
        assert app.seen == []
        assert (await talk(port, GET, half=True)).startswith(b"HTTP/1.1 200")
    assert not connections.open


async def test_one_byte_at_a_time_does_not_prolong_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HTTP_HEAD_S", 0.4)
    async with served(App()) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for byte in GET * 3:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.03)
            if writer.transport.is_closing() or reader.at_eof():
                break
        else:
            pytest.fail("the connection lived on")


async def test_more_connections_than_allowed_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HTTP_CONNECTIONS_MAX", 1)
    async with served(App()) as (connections, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        await reader.readuntil(b"GET ")
        with contextlib.suppress(ConnectionResetError):
            assert await talk(port, GET) == b""
        assert connections.refused == 1
        writer.close()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.one_of(st.binary(max_size=200), st.sampled_from([GET, b"\r\n", b"HTTP/1.1", b"POST /stream "])), max_size=5
    )
)
async def test_any_bytes_are_answered_or_cut(parts: list[bytes]) -> None:
    app = App()
    problems: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context))
    async with served(app) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(OSError):
            for part in parts:
                writer.write(part)
                await asyncio.sleep(0)
            writer.write_eof()
            await asyncio.wait_for(reader.read(), 30)
        writer.close()
    assert problems == []
