"""Which protocol is taken, and what a client hears that asks for none."""

from __future__ import annotations

import asyncio

import pytest

from skerry_hub.kubelet import process
from unit.kubelet.plain import EXEC, FORWARD, plain, spdy_head, websocket_head


async def answer(head: bytes) -> str:
    async with plain() as site:
        reader, writer = await site.send(head)
        said = await asyncio.wait_for(reader.read(4096), 30)
        writer.close()
        return said.decode("latin-1")


@pytest.mark.parametrize(
    ("offered", "taken"),
    [
        ("v4.channel.k8s.io v3.channel.k8s.io v2.channel.k8s.io channel.k8s.io", "v4.channel.k8s.io"),
        ("v5.channel.k8s.io v4.channel.k8s.io channel.k8s.io", "v4.channel.k8s.io"),
        ("channel.k8s.io", "channel.k8s.io"),
        ("v9.channel.k8s.io,v2.channel.k8s.io", "v2.channel.k8s.io"),
    ],
)
async def test_spdy_takes_the_first_that_it_serves_line_by_line(offered: str, taken: str) -> None:
    said = await answer(spdy_head(EXEC, offered))
    assert said.startswith("HTTP/1.1 101 ")
    assert f"X-Stream-Protocol-Version: {taken}\r\n" in said


@pytest.mark.parametrize(
    ("path", "offered", "taken"),
    [
        (EXEC, "v5.channel.k8s.io", "v5.channel.k8s.io"),
        (EXEC, "v4.channel.k8s.io, v5.channel.k8s.io", "v4.channel.k8s.io"),
        (FORWARD, "SPDY/3.1+portforward.k8s.io", "SPDY/3.1+portforward.k8s.io"),
        (f"{FORWARD}?port=80", "v5.channel.k8s.io,v4.channel.k8s.io", "v4.channel.k8s.io"),
    ],
)
async def test_websocket_takes_the_clients_first(path: str, offered: str, taken: str) -> None:
    said = await answer(websocket_head(path, offered))
    assert said.startswith("HTTP/1.1 101 ")
    assert f"Sec-WebSocket-Protocol: {taken}\r\n" in said
    assert "Sec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\n" in said


@pytest.mark.parametrize(
    ("head", "status", "text"),
    [
        (spdy_head(EXEC, "v9.channel.k8s.io"), 403, "unable to negotiate protocol"),
        (spdy_head(FORWARD, ""), 403, "unable to negotiate protocol"),
        (websocket_head(FORWARD, "v4.channel.k8s.io"), 400, 'query parameter "port" is required'),
        (websocket_head(f"{FORWARD}?port=80,x", "v4.channel.k8s.io"), 400, "unable to parse 'x' as a port"),
        (websocket_head(f"{FORWARD}?port=65536", "v4.channel.k8s.io"), 400, "unable to parse '65536' as a port"),
        (websocket_head(f"{FORWARD}?{'&'.join(['port=80'] * 65)}", "v4.channel.k8s.io"), 400, "at most 64 ports"),
        (websocket_head(EXEC, "base64.channel.k8s.io"), 400, "the server accepts the WebSocket protocols"),
        (
            websocket_head(EXEC, "v5.channel.k8s.io").replace(b"AAAAAAAAAAAAAAAAAAAAAA==", b"AA=="),
            400,
            "Sec-WebSocket-Key",
        ),
        (websocket_head(EXEC, "v5.channel.k8s.io").replace(b"Version: 13", b"Version: 8"), 400, "Version 13"),
        (b"POST " + EXEC.encode() + b" HTTP/1.1\r\nHost: n\r\n\r\n", 400, "missing upgrade headers"),
        (spdy_head("/exec/default/web/a?command=x", "v4.channel.k8s.io"), 400, "at least 1 of stdin, stdout, stderr"),
        (spdy_head("/exec/default/web/a?output=1", "v4.channel.k8s.io"), 400, "at least one command"),
        (spdy_head("/exec/default/gone/a?output=1&command=x", "v4.channel.k8s.io"), 404, "pod does not exist"),
        (spdy_head("/run/default/web/a", "v4.channel.k8s.io"), 404, "404 page not found"),
        (b"DELETE /pods HTTP/1.1\r\nHost: n\r\n\r\n", 405, "method not allowed"),
    ],
)
async def test_what_cannot_be_upgraded_is_told(head: bytes, status: int, text: str) -> None:
    said = await answer(head)
    assert said.startswith(f"HTTP/1.1 {status} ")
    assert text in said


@pytest.mark.parametrize("command", ["echo&command=said", "false"])
async def test_nothing_is_sent_until_a_client_has_made_its_streams(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kubectl 1.30 to 1.33 loses what comes sooner, output or status (kubernetes#131189)."""
    monkeypatch.setattr(process, "KUBELET_FIRST_OUTPUT_S", 1.0)
    loop = asyncio.get_running_loop()
    async with plain() as site:
        asked_at = loop.time()
        reader, writer = await site.send(websocket_head(EXEC.replace("cat", command), "v5.channel.k8s.io"))
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
        assert await asyncio.wait_for(reader.readexactly(3), 30) == b"\x82\x01\x01"
        assert loop.time() - asked_at >= 1.0
        await asyncio.wait_for(reader.readuntil(b'"status":'), 30)
        writer.close()
        await site.quiet()


async def test_a_client_that_goes_before_its_first_output_leaves_no_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "KUBELET_FIRST_OUTPUT_S", 0.5)
    async with plain() as site:
        reader, writer = await site.send(websocket_head(EXEC, "v5.channel.k8s.io"))
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
        assert site.streams.now
        writer.close()
        await site.quiet()
