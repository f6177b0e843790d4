"""Port-forwards of one client connection: two SPDY streams each (data and error), one device stream for each TCP
connection. Decides which streams belong together and what a client hears when a connection fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from skerry.errors import StreamBroken
from skerry.model.streams import Channel, CloseCode
from skerry.ports import Duplex
from skerry.wire.spdy import Reset
from skerry_hub.kubelet.counts import Counts
from skerry_hub.kubelet.relay import relay
from skerry_hub.kubelet.spdy_session import SpdyChannels, SpdySession, SpdyStream
from skerry_hub.limits import KUBELET_STREAM_CREATE_S, PORT_FORWARDS_MAX

PROTOCOL = "portforward.k8s.io"
TUNNEL_PROTOCOL = "SPDY/3.1+portforward.k8s.io"  # SPDY in the binary messages of a WebSocket
OpenPort = Callable[[int], Awaitable[Duplex]]  # raises StreamBroken


@dataclass(slots=True)
class _Pair:
    port: int
    streams: dict[str, SpdyStream] = field(default_factory=dict)
    late: asyncio.TimerHandle | None = None


class Forwards:
    """Until the session ends. `open_port` makes the device's stream of one TCP connection."""

    def __init__(self, session: SpdySession, open_port: OpenPort, pod: str, counts: Counts) -> None:
        self._session, self._open_port, self._pod, self._counts = session, open_port, pod, counts
        self._pairs: dict[str, _Pair] = {}  # by request id, those that lack a stream
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Takes streams until the client goes; then whatever still runs is ended."""
        try:
            while (stream := await self._session.accept()) is not None:
                self._take(stream)
        finally:
            for pair in self._pairs.values():
                if pair.late is not None:
                    pair.late.cancel()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _take(self, stream: SpdyStream) -> None:
        kind, port = stream.header("streamtype"), stream.header("port")
        right = kind in ("data", "error") and port.isascii() and port.isdigit() and 1 <= int(port[:9]) <= 0xFFFF
        # Clients before 1.2 sent no id: their error stream comes first, with the next lower number.
        request = stream.header("requestid")[:128] or str(stream.number - (2 if kind == "data" else 0))
        pair = self._pairs.get(request)
        if not right or (pair is not None and (kind in pair.streams or pair.port != int(port))):
            self._counts.wrong += 1
            self._session.reset(stream, Reset.PROTOCOL_ERROR)
            return
        if pair is None:
            if len(self._pairs) + len(self._tasks) >= PORT_FORWARDS_MAX:
                self._counts.refused += 1
                self._session.reset(stream, Reset.REFUSED_STREAM)
                return
            pair = self._pairs[request] = _Pair(int(port))
            loop = asyncio.get_running_loop()
            pair.late = loop.call_later(KUBELET_STREAM_CREATE_S, self._give_up, request)
        pair.streams[kind] = stream
        if len(pair.streams) == 2:
            assert pair.late is not None
            pair.late.cancel()
            del self._pairs[request]
            task = asyncio.ensure_future(self._forward(pair))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _give_up(self, request: str) -> None:
        """The other stream of a pair did not come."""
        self._counts.slow += 1
        for stream in self._pairs.pop(request).streams.values():
            self._session.reset(stream, Reset.CANCEL)

    async def _forward(self, pair: _Pair) -> None:
        data, error = pair.streams["data"], pair.streams["error"]
        error.forget()
        client = SpdyChannels(self._session, {Channel.STDIN: data}, {Channel.STDOUT: data}, fragile=True)
        told = b""
        try:
            try:
                device = await self._open_port(pair.port)
            except StreamBroken as why:
                self._counts.refused += 1
                told = forward_error(pair.port, self._pod, why)
                return
            self._counts.streams += 1
            code = CloseCode.CANCELLED
            try:
                ended = await relay(client, device, self._session.gone)
                if ended.device is not None:
                    self._counts.broken += 1
                    told = forward_error(pair.port, self._pod, ended.device)
                elif not ended.client_gone:
                    code = CloseCode.DONE
            finally:
                await device.close(code)
        finally:
            await client.close()
            try:
                await error.send(told, end=True)  # before the data: a client that sees that end asks for no error
                await data.send(b"", end=True)
            except StreamBroken:
                pass


def forward_error(port: int, pod: str, why: StreamBroken) -> bytes:
    """What a client hears on an error channel, in a kubelet's words."""
    return f"error forwarding port {port} to pod {pod}, uid : {why}".encode()
