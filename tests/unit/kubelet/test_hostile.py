"""Bytes after the upgrade that no honest client sends end that one connection, with a counter, and leave nothing; so
does a client that goes at a bad moment."""

from __future__ import annotations

import asyncio
import contextlib
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wsproto import events
from wsproto.connection import Connection, ConnectionType

from properties.amount import examples
from skerry.model.streams import StreamRequest
from skerry.ports import Duplex
from skerry.wire import spdy
from skerry_hub.kubelet import portforward, process
from unit.kubelet.plain import EXEC, FORWARD, LOGS, plain, spdy_head, websocket_head

FUZZ = settings(max_examples=examples(60), deadline=None, suppress_health_check=list(HealthCheck))
V4, V5 = "v4.channel.k8s.io", "v5.channel.k8s.io"


def masked(data: bytes) -> bytes:
    return Connection(ConnectionType.CLIENT).send(events.BytesMessage(data=data))


def syn(stream: int, **headers: str) -> bytes:
    return spdy.Encoder().syn_stream(stream, tuple(headers.items()))


async def ended(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(ConnectionResetError):
        while await asyncio.wait_for(reader.read(65536), 30):
            pass


@pytest.mark.parametrize(
    ("head", "bad"),
    [
        (spdy_head(EXEC, V4), b"\x80\x02" + b"\0" * 30),
        (spdy_head(EXEC, V4), syn(1, streamtype="error") + struct.pack(">HHI", 0x8003, 1, 0xFFFFFF)),
        (spdy_head(EXEC, V4), syn(1, streamtype="nonsense")),
        (spdy_head(FORWARD, "portforward.k8s.io"), b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"),
        (websocket_head(EXEC, V5), b"\x82\x03abc"),  # not masked
        (websocket_head(EXEC, V5), b"\xff" * 20),
        (websocket_head(FORWARD, "SPDY/3.1+portforward.k8s.io"), masked(b"\x80\x02" + b"\0" * 30)),
    ],
    ids=["version", "length", "stream type", "HTTP", "no mask", "opcode", "SPDY in WebSocket"],
)
async def test_hostile_bytes_end_the_connection_and_are_counted(head: bytes, bad: bytes) -> None:
    async with plain() as site:
        reader, writer = await site.send(head)
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        writer.write(bad)
        await ended(reader)
        writer.close()
        await site.quiet()
        assert site.parts.counts.malformed == 1


async def test_a_resize_that_is_no_size_ends_the_connection() -> None:
    async with plain() as site:
        reader, writer = await site.send(websocket_head(EXEC.replace("cat", "sleep&command=60") + "&tty=1", V5))
        await reader.readuntil(b"\r\n\r\n")
        writer.write(masked(b'\x04{"Width":80,"Height":24}') + masked(b'\x04{"Width":-1,"Height":99999999}'))
        await ended(reader)
        writer.close()
        await site.quiet()
        assert site.parts.counts.malformed == 1


async def test_a_channel_of_no_port_ends_the_connection() -> None:
    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with plain() as site, await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await site.send(websocket_head(f"{FORWARD}?port={port}", V4))
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        ports = b"".join(bytes((0x82, 3, channel)) + port.to_bytes(2, "little") for channel in (0, 1))
        assert await reader.readexactly(len(ports)) == ports
        writer.write(masked(b"\x00word") + masked(b"\x02beyond the last channel"))
        await ended(reader)
        writer.close()
        await site.quiet()
        assert site.parts.counts.malformed == 1


async def test_a_client_that_opens_no_streams_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "KUBELET_STREAM_CREATE_S", 0.3)
    async with plain() as site:
        reader, writer = await site.send(spdy_head(EXEC, V4))
        await reader.readuntil(b"\r\n\r\n")
        writer.write(syn(1, streamtype="error"))
        await ended(reader)
        writer.close()
        await site.quiet()
        assert site.parts.counts.slow == 1


@pytest.mark.parametrize(
    "head",
    [
        f"GET {LOGS}?follow=true HTTP/1.1\r\nHost: n\r\n\r\n".encode(),
        spdy_head(EXEC, V4),
        websocket_head(EXEC, V5),
    ],
    ids=["logs", "SPDY", "WebSocket"],
)
async def test_a_client_that_goes_while_the_device_is_asked_leaves_no_stream(
    monkeypatch: pytest.MonkeyPatch, head: bytes
) -> None:
    asked, answer, opened = asyncio.Event(), asyncio.Event(), asyncio.Event()
    async with plain() as site:
        site.streams.grown = asyncio.Event()  # a log to which no line comes
        at_once = site.streams.open

        async def late(node: str, request: StreamRequest) -> Duplex:
            asked.set()
            await answer.wait()
            device = await at_once(node, request)
            opened.set()
            return device

        monkeypatch.setattr(site.streams, "open", late)
        _, writer = await site.send(head)
        await asked.wait()
        writer.transport.abort()
        while site.connections.open:
            await asyncio.sleep(0.01)
        answer.set()
        await opened.wait()
        await site.quiet()


async def test_half_a_pair_of_a_port_forward_is_reset_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portforward, "KUBELET_STREAM_CREATE_S", 0.3)
    async with plain() as site:
        reader, writer = await site.send(spdy_head(FORWARD, "portforward.k8s.io"))
        await reader.readuntil(b"\r\n\r\n")
        client = spdy.Connection(spdy.Role.CLIENT)
        stream = client.open((("streamtype", "error"), ("port", "80"), ("requestid", "0")))
        wrong = client.open((("streamtype", "data"), ("port", "99999"), ("requestid", "1")))
        writer.write(client.take())
        resets: set[int] = set()
        while resets != {stream, wrong}:
            for event in client.receive(await asyncio.wait_for(reader.read(65536), 30)):
                resets |= {event.stream} if isinstance(event, spdy.RstStream) else set()
        assert site.parts.counts.slow == 1
        writer.close()


async def test_pings_that_are_never_read_stop_the_reading() -> None:
    async with plain() as site:
        reader, writer = await site.send(spdy_head(FORWARD, "portforward.k8s.io"))
        await reader.readuntil(b"\r\n\r\n")
        ping = struct.pack(">HHII", 0x8003, 6, 4, 1) * 10_000

        async def push() -> None:
            while True:
                writer.write(ping)
                await writer.drain()

        pushing = asyncio.ensure_future(push())
        done, _ = await asyncio.wait([pushing], timeout=3)
        stopped = writer.transport.get_write_buffer_size() > 0
        assert stopped, "the client could send for ever"
        assert not done
        pushing.cancel()
        writer.close()


parts = st.one_of(
    st.binary(max_size=60),
    st.binary(max_size=40).map(masked),
    st.sampled_from(["error", "stdin", "stdout", "resize", "data"]).flatmap(
        lambda kind: st.integers(1, 9).map(lambda n: syn(n, streamtype=kind, port="1", requestid="r"))
    ),
    st.builds(lambda n, data: b"".join(spdy.encode_data(n, data, True)), st.integers(1, 9), st.binary(max_size=40)),
    st.binary(max_size=20).map(lambda b: masked(b"\x00" + b)),
    st.sampled_from([masked(b"\xff\x00"), masked(b"\x04{"), b"\x88\x82\0\0\0\0\x03\xe8"]),
)
heads = st.sampled_from(
    [
        spdy_head(EXEC, V4),
        spdy_head(FORWARD, "portforward.k8s.io"),
        websocket_head(EXEC, V5),
        websocket_head(EXEC, V4),
        websocket_head(FORWARD, "SPDY/3.1+portforward.k8s.io"),
        websocket_head(f"{FORWARD}?port=9&port=9", V4),
    ]
)


@FUZZ
@given(heads, st.lists(parts, max_size=5))
async def test_any_bytes_after_the_upgrade_leave_nothing_behind(head: bytes, sent: list[bytes]) -> None:
    problems: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context))
    async with plain() as site:
        reader, writer = await site.send(head)
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
        with contextlib.suppress(OSError):
            for part in sent:
                writer.write(part)
                await asyncio.sleep(0)
            writer.write_eof()
            await ended(reader)
        writer.close()
        await site.quiet()
    assert problems == []
