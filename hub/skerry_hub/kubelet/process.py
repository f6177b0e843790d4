"""A client of exec and attach as a Duplex: by SPDY streams, or by the channels of a WebSocket.

Decides what the protocols' versions differ in: how the exit status is told, how stdin ends, and what a resize is. The
status is kept until all output has been handed over.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Iterator
from typing import Protocol

from skerry.errors import Malformed, StreamBroken
from skerry.limits import STREAM_CHUNK_BYTES
from skerry.model.streams import Attach, Channel, CloseCode, Exec, Piece
from skerry_hub.kubelet.counts import Counts
from skerry_hub.kubelet.spdy_session import SpdyChannels, SpdySession, SpdyStream
from skerry_hub.kubelet.websocket import WebSocket
from skerry_hub.limits import KUBELET_CLOSE_S, KUBELET_FIRST_OUTPUT_S, KUBELET_STREAM_CREATE_S, RESIZE_BYTES_MAX
from skerry_hub.transport import Transport

# The client's choice comes first, so these are sets; v1 to v3 tell the status as text, and v1 has no resize.
SPDY_PROTOCOLS = ("v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io")
WEBSOCKET_PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
CLOSE_CHANNEL = 255  # v5: the byte after it names the channel that has ended
STATUS_BYTES_MAX = 64 * 1024
NAMES = {"stdin": Channel.STDIN, "stdout": Channel.STDOUT, "stderr": Channel.STDERR, "error": Channel.ERROR}
Process = Exec | Attach


class ProcessClient(Protocol):
    """A Duplex that keeps what is written to ERROR as `status`, until `finish` sends it."""

    status: bytes

    async def read(self) -> Piece | None: ...
    async def write(self, piece: Piece) -> None: ...
    async def close(self, code: CloseCode = CloseCode.DONE, detail: str = "") -> None: ...

    async def finish(self, status: bytes) -> None:
        """Send the metav1.Status in the client's form, end everything, and wait for the client to close."""


class Resizes:
    """The JSON objects of a resize stream, however they are cut."""

    def __init__(self) -> None:
        self._rest = ""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Each complete one, {"Width": columns, "Height": rows}. Raises Malformed."""
        self._rest = (self._rest + data.decode("utf-8", "replace")).lstrip()
        while self._rest:
            try:
                value, end = json.JSONDecoder().raw_decode(self._rest)
            except (ValueError, RecursionError):
                if len(self._rest) > RESIZE_BYTES_MAX:
                    raise Malformed("a resize is no JSON object") from None
                return
            self._rest = self._rest[end:].lstrip()
            size = [value.get(name) for name in ("Width", "Height")] if isinstance(value, dict) else [None]
            if not all(type(n) is int and 0 <= n <= 0xFFFF for n in size):
                raise Malformed("a resize is {Width, Height}, each 0 to 65535")
            yield json.dumps({"Width": size[0], "Height": size[1]}, separators=(",", ":")).encode()


def text_of(status: bytes) -> bytes:
    """A metav1.Status as protocols before v4 tell it: nothing for Success, else the message."""
    try:
        value = json.loads(status)
        return b"" if value["status"] == "Success" else str(value.get("message") or value["status"]).encode()
    except (ValueError, KeyError, TypeError, AttributeError):
        return status


class SpdyProcess:
    """Over the streams that `wait` collects."""

    def __init__(self, session: SpdySession, streams: dict[str, SpdyStream], protocol: str, counts: Counts) -> None:
        self._session, self._streams, self._protocol, self._counts = session, streams, protocol, counts
        into = {Channel.RESIZE: streams["resize"]} if "resize" in streams else {}
        if "stdin" in streams:
            into[Channel.STDIN] = streams["stdin"]
        out = {NAMES[name]: streams[name] for name in ("stdout", "stderr") if name in streams}
        self._channels = SpdyChannels(session, into, out)
        self._resizes, self._ready = Resizes(), deque[Piece]()
        self.status = b""

    async def read(self) -> Piece | None:
        while not self._ready:
            piece = await self._channels.read()
            if piece is None or piece.channel is not Channel.RESIZE:
                return piece
            try:
                self._ready.extend(Piece(Channel.RESIZE, size) for size in self._resizes.feed(piece.data))
            except Malformed as why:
                self._counts.malformed += 1
                raise StreamBroken(CloseCode.INVALID, str(why)) from None
        return self._ready.popleft()

    async def write(self, piece: Piece) -> None:
        if piece.channel is Channel.ERROR:
            self.status = (self.status + piece.data)[:STATUS_BYTES_MAX]
        else:
            await self._channels.write(piece)

    async def finish(self, status: bytes) -> None:
        told = status if self._protocol == SPDY_PROTOCOLS[0] else text_of(status)
        try:
            for name in ("stdout", "stderr"):
                if name in self._streams:
                    await self._streams[name].send(b"", end=True)
            await self._streams["error"].send(told, end=True)
        except StreamBroken:
            return
        self._session.go_away()
        await self.close()
        deadline = asyncio.get_running_loop().time() + KUBELET_CLOSE_S
        while self._session.over is None:  # a client that has all closes at once
            left = deadline - asyncio.get_running_loop().time()
            try:
                extra = await asyncio.wait_for(self._session.accept(), max(left, 0.0))
            except asyncio.TimeoutError:
                return
            if extra is not None:
                extra.forget()

    async def close(self, code: CloseCode = CloseCode.DONE, detail: str = "") -> None:
        await self._channels.close(code, detail)


async def wait_streams(session: SpdySession, what: Process, protocol: str) -> dict[str, SpdyStream]:
    """The streams that the request asks for, by type. Raises StreamBroken when they do not come in time, when one comes
    twice or when one is not asked for."""
    wanted = {"error"}
    wanted |= {name for name, on in (("stdin", what.stdin), ("stdout", what.stdout), ("stderr", what.stderr)) if on}
    if what.tty and protocol not in SPDY_PROTOCOLS[2:]:
        wanted.add("resize")

    async def collect() -> dict[str, SpdyStream]:
        found: dict[str, SpdyStream] = {}
        while found.keys() != wanted:
            stream = await session.accept()
            if stream is None:
                raise session.over or StreamBroken(CloseCode.CANCELLED, "the client went away")
            kind = stream.header("streamtype")
            if kind not in wanted or kind in found:
                raise StreamBroken(CloseCode.INVALID, f"unexpected stream type {kind[:40]!r}")
            found[kind] = stream
        return found

    try:
        return await asyncio.wait_for(collect(), KUBELET_STREAM_CREATE_S)
    except asyncio.TimeoutError:
        raise StreamBroken(CloseCode.UNAVAILABLE, "timed out waiting for client to create streams") from None


class WebSocketProcess:
    """Over the channels of a WebSocket, v4 or v5."""

    def __init__(self, transport: Transport, what: Process, protocol: str, counts: Counts) -> None:
        self._socket, self._what, self._v5 = WebSocket(transport), what, protocol == WEBSOCKET_PROTOCOLS[0]
        self._counts = counts
        self._ready: deque[Piece] = deque()
        self._resizes = Resizes()
        self._channel: int | None = None  # of the message under way
        self._stdin_ended = not what.stdin
        self.status = b""

    async def greet(self) -> None:
        """An empty message on the lowest channel: some clients take it as word that the process runs. To be awaited
        before all else: a v5 client is sent nothing sooner.

        kubectl 1.30 to 1.33 reads messages before it has made the streams that they are for, and throws them away
        (kubernetes#131189). A kubelet starts the process only after the upgrade, which takes it some time; here the
        first output may be right behind. A client of v4 waits for nothing: client-go asks for v5 first, and the Python
        client keeps each message by its channel, so it loses none by either."""
        if self._v5:
            await asyncio.sleep(KUBELET_FIRST_OUTPUT_S)
        lowest = next((c for c, on in ((1, self._what.stdout), (2, self._what.stderr)) if on), 3)
        self._socket.send(bytes((lowest,)))

    async def read(self) -> Piece | None:
        while not self._ready:
            try:
                part = await self._socket.receive()
                if part is None:
                    raise StreamBroken(CloseCode.CANCELLED, "the client closed the connection")
                self._take(part.data, part.first)
            except Malformed as why:
                self._counts.malformed += 1
                raise StreamBroken(CloseCode.INVALID, str(why)) from None
        return self._ready.popleft()

    def _take(self, data: bytes, first: bool) -> None:
        if first:
            self._channel, data = data[0], data[1:]
        if self._channel == CLOSE_CHANNEL and self._v5 and data:
            self._channel = None
            if data[0] == Channel.STDIN and not self._stdin_ended:
                self._stdin_ended = True
                self._ready.append(Piece(Channel.STDIN, b"", end=True))
        elif self._channel == Channel.STDIN and not self._stdin_ended:
            for at in range(0, len(data), STREAM_CHUNK_BYTES):
                self._ready.append(Piece(Channel.STDIN, data[at : at + STREAM_CHUNK_BYTES]))
        elif self._channel == Channel.RESIZE and self._what.tty:
            self._ready.extend(Piece(Channel.RESIZE, size) for size in self._resizes.feed(data))

    async def write(self, piece: Piece) -> None:
        if piece.channel is Channel.ERROR:
            self.status = (self.status + piece.data)[:STATUS_BYTES_MAX]
            return
        asked = {Channel.STDOUT: self._what.stdout, Channel.STDERR: self._what.stderr}.get(piece.channel, False)
        if asked and piece.data:
            self._socket.send(bytes((piece.channel,)) + piece.data)
            try:
                await self._socket.drain()
            except ConnectionResetError as why:
                raise StreamBroken(CloseCode.CANCELLED, str(why)) from None

    async def finish(self, status: bytes) -> None:
        self._socket.send(bytes((Channel.ERROR,)) + status)
        await self._socket.close()

    async def close(self, code: CloseCode = CloseCode.DONE, detail: str = "") -> None:
        self._ready.clear()
