"""A container's own stdin, stdout and stderr, through CRI's Attach: SPDY/3.1 to containerd's streaming server.

That server listens on the loopback of whoever serves the socket, so it is dialled there. Knows no Kubernetes beyond the
names of the streams (client-go remotecommand, v4.channel.k8s.io).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from typing import Any
from urllib.parse import urlsplit

from skerry.containerd.channel import nonsense
from skerry.containerd.netns import dial, of_process
from skerry.errors import Malformed, RuntimeAway, RuntimeFailed, StreamBroken
from skerry.limits import ATTACH_HEAD_BYTES_MAX, DIAL_TIMEOUT_S, STREAM_CHUNK_BYTES
from skerry.model.streams import Attach, Channel, CloseCode, Piece
from skerry.wire.spdy import Connection, Data, Event, GoAway, Role, RstStream, SynReply

PROTOCOL = "v4.channel.k8s.io"
CALL = "Attach"


async def attach(url: str, pid: int, request: Attach) -> Attached:
    """`url`: what Attach answered; `pid`: of a process in the server's network. Raises RuntimeFailed or RuntimeAway."""
    try:
        parts = urlsplit(url)
        port = parts.port if parts.scheme == "http" and parts.path else None
    except ValueError:
        port = None
    if not port:
        raise nonsense(CALL, "its URL is not http://HOST:PORT/PATH")
    try:
        sock = await dial(of_process(pid), port)
    except OSError as error:
        raise RuntimeAway(f"{CALL}: the streaming server at port {port}: {error.strerror or error}") from error
    try:
        return await asyncio.wait_for(_upgraded(sock, parts.path, parts.netloc, request), DIAL_TIMEOUT_S)
    except (OSError, asyncio.TimeoutError, Malformed, StreamBroken) as error:
        sock.close()
        raise RuntimeAway(f"{CALL}: the streaming server: {str(error) or 'no answer'}") from error
    except BaseException:
        sock.close()
        raise


async def _upgraded(sock: socket.socket, path: str, host: str, request: Attach) -> Attached:
    loop = asyncio.get_running_loop()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 0\r\n"
        f"X-Stream-Protocol-Version: {PROTOCOL}\r\n\r\n"
    )
    await loop.sock_sendall(sock, head.encode())
    got = b""
    while b"\r\n\r\n" not in got:
        more = await loop.sock_recv(sock, STREAM_CHUNK_BYTES)
        if not more or len(got) > ATTACH_HEAD_BYTES_MAX:
            raise nonsense(CALL, "no HTTP answer")
        got += more
    said, _, rest = got.partition(b"\r\n\r\n")
    status = said.partition(b"\r\n")[0].decode("latin-1")
    if status.split(" ")[1:2] != ["101"]:
        raise RuntimeFailed(CALL, "UNKNOWN", f"the streaming server answers {status}")
    channels = [Channel.ERROR, *[Channel.STDIN] * request.stdin, *[Channel.STDOUT] * request.stdout]
    channels += [Channel.RESIZE] if request.tty else [Channel.STDERR] * request.stderr
    attached = Attached(sock)
    await attached.open(channels, rest)
    return attached


class Attached:
    """ports.Duplex. Closing it leaves the container alone."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock, self._spdy = sock, Connection(Role.CLIENT)
        self._streams: dict[Channel, int] = {}
        self._channels: dict[int, Channel] = {}
        self._unanswered: set[int] = set()
        self._pieces: deque[Piece] = deque()
        self._over = self._closed = False
        self._sending = asyncio.Lock()
        self._shut: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def open(self, channels: list[Channel], rest: bytes) -> None:
        """Open the streams and wait until the server has taken each: it drops what comes on one before that."""
        for channel in channels:
            stream = self._spdy.open((("streamtype", channel.name.lower()),))
            self._streams[channel], self._channels[stream] = stream, channel
            self._unanswered.add(stream)
        await self._flush()
        self._heard(self._spdy.receive(rest))
        while self._unanswered and not self._over:
            await self._hear()
        if self._unanswered:
            raise StreamBroken(CloseCode.FAILED, "it ended before all streams were open")

    async def read(self) -> Piece | None:
        while not self._pieces and not self._over:
            await self._hear()
        return self._pieces.popleft() if self._pieces and not self._closed else None

    async def write(self, piece: Piece) -> None:
        stream = self._streams.get(piece.channel)
        if stream is None or self._over or piece.channel not in (Channel.STDIN, Channel.RESIZE):
            return
        self._spdy.send(stream, piece.data, piece.end)
        await self._flush()

    async def close(self, code: CloseCode = CloseCode.DONE, detail: str = "") -> None:
        if not self._closed:
            self._closed = self._over = True
            self._shut.set_result(None)
            await asyncio.sleep(0)  # whoever reads or writes lets go of it first
            self._sock.close()

    # --- private ------------------------------------------------------------------------------------------------------

    async def _hear(self) -> None:
        loop = asyncio.get_running_loop()
        hearing: asyncio.Future[Any] = asyncio.ensure_future(loop.sock_recv(self._sock, STREAM_CHUNK_BYTES))
        try:
            await asyncio.wait({hearing, self._shut}, return_when=asyncio.FIRST_COMPLETED)
            if not hearing.done() or self._closed:
                return
            data = hearing.result()
            self._over = not data
            self._heard(self._spdy.receive(data))
        except (OSError, Malformed) as error:
            self._over = True
            raise StreamBroken(CloseCode.FAILED, f"the container's stdio: {error}") from error
        finally:
            hearing.cancel()
        if not self._sending.locked():  # who writes sends this as well; waiting for it could be for ever
            await self._flush()

    def _heard(self, events: list[Event]) -> None:
        for event in events:
            match event:
                case SynReply(stream=stream):
                    self._unanswered.discard(stream)
                case Data(stream=stream, data=data, fin=fin) if stream in self._channels:
                    self._pieces.append(Piece(self._channels[stream], data, fin))
                case RstStream(stream=stream) if stream in self._channels:
                    self._unanswered.discard(stream)
                    self._pieces.append(Piece(self._channels[stream], b"", end=True))
                case GoAway():
                    self._over = not self._spdy.streams
                case _:
                    pass
        if not self._spdy.streams and not self._unanswered:
            self._over = True

    async def _flush(self) -> None:
        async with self._sending:
            while (out := self._spdy.take()) and not self._closed:
                sending: asyncio.Future[Any] = asyncio.ensure_future(
                    asyncio.get_running_loop().sock_sendall(self._sock, out)
                )
                try:
                    await asyncio.wait({sending, self._shut}, return_when=asyncio.FIRST_COMPLETED)
                    if sending.done():
                        sending.result()
                except OSError:
                    with contextlib.suppress(OSError):  # what the other side no longer wants
                        self._sock.shutdown(socket.SHUT_WR)
                finally:
                    sending.cancel()
