"""One node's endpoint on plain TCP in the test's own loop, where everybody may everything."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from skerry_hub.http import Connections
from skerry_hub.kubelet.access import Identity
from skerry_hub.kubelet.app import NodeEndpoint, Parts
from unit.kubelet.local_streams import LocalStreams


class Everybody:
    """Access for tests of what comes after it."""

    async def identify(self, certificate: Mapping[str, Any] | None, authorization: str) -> Identity | None:
        return Identity("tester", ())

    async def allowed(self, who: Identity, verb: str, subresource: str, node: str) -> bool:
        return True


@dataclass
class Plain:
    port: int
    parts: Parts
    streams: LocalStreams
    connections: Connections

    async def send(self, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        return reader, writer

    async def quiet(self) -> None:
        """Until no device stream is open."""

        async def wait() -> None:
            while self.streams.now:
                await asyncio.sleep(0.01)

        await asyncio.wait_for(wait(), 30)


@contextlib.asynccontextmanager
async def plain() -> AsyncIterator[Plain]:
    streams = LocalStreams()
    parts = Parts(streams, Everybody())
    connections = Connections(NodeEndpoint("dev1", parts))
    server = await asyncio.get_running_loop().create_server(connections.new, "127.0.0.1", 0)
    try:
        yield Plain(server.sockets[0].getsockname()[1], parts, streams, connections)
    finally:
        server.close()
        await connections.close()


EXEC = "/exec/default/web/a?command=cat&input=1&output=1"
LOGS = "/containerLogs/default/web/a"
FORWARD = "/portForward/default/web"


def spdy_head(path: str, protocol: str) -> bytes:
    """The versions come one line each, the best first, as kubectl sends them."""
    lines = "".join(f"X-Stream-Protocol-Version: {p}\r\n" for p in protocol.split())
    head = f"POST {path} HTTP/1.1\r\nHost: n\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n{lines}"
    return f"{head}Content-Length: 0\r\n\r\n".encode()


def websocket_head(path: str, protocol: str) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: n\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        f"Sec-WebSocket-Protocol: {protocol}\r\n\r\n"
    ).encode()
