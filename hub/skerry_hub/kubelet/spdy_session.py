"""A client's SPDY connection: its streams for coroutines, with back-pressure. Decides when a connection is not read
(one of its streams has more than CLIENT_WINDOW_BYTES that nobody took). Knows neither pods nor what a stream is for.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Protocol

from skerry.errors import Malformed, StreamBroken
from skerry.limits import STREAM_PIECE_BYTES_MAX
from skerry.model.streams import Channel, CloseCode, Piece
from skerry.wire import spdy
from skerry_hub.kubelet.counts import Counts
from skerry_hub.limits import CLIENT_WINDOW_BYTES

OWED_BYTES_MAX = 16 * 1024  # answers to pings and refusals that a client has not read: then it is not read either


class Wire(Protocol):
    """The bytes that SPDY runs on: a connection, or the messages of a WebSocket."""

    async def read(self) -> bytes:
        """b"" at the end. Raises Malformed."""

    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None:
        """Raises ConnectionResetError."""

    @property
    def gone(self) -> asyncio.Event:
        """Set once the connection is no more."""


class SpdyStream:
    """One stream of a session. What arrives waits until somebody takes it."""

    def __init__(self, session: SpdySession, number: int, headers: spdy.Headers, ended: bool) -> None:
        self._session, self.number, self.headers = session, number, headers
        self._waiting = bytearray()
        self._ended, self._end_told = ended, False
        self._unwanted = False
        self.stirred = asyncio.Event()  # something arrived, or the stream or its session is over
        self.over: StreamBroken | None = None

    def header(self, name: str) -> str:
        return spdy.header(self.headers, name)

    @property
    def waiting_bytes(self) -> int:
        return len(self._waiting)

    def take(self, channel: Channel) -> Piece | None:
        """What has arrived, as a piece of `channel`; None if nothing has."""
        if not self._waiting and (not self._ended or self._end_told):
            return None
        data = bytes(self._waiting[:STREAM_PIECE_BYTES_MAX])
        del self._waiting[: len(data)]
        self._session.took()
        self._end_told = self._ended and not self._waiting
        return Piece(channel, data, self._end_told)

    async def send(self, data: bytes, end: bool = False) -> None:
        """Return once there is room for more. Raises StreamBroken when the connection or the stream is over."""
        if self.over is not None:
            raise self.over
        await self._session.send(self.number, data, end)

    def forget(self) -> None:
        """Nobody will take what still arrives."""
        self._unwanted = True
        self._waiting.clear()
        self._session.took()

    def arrived(self, data: bytes, end: bool) -> None:
        if not self._unwanted:
            self._waiting += data
        self._ended = self._ended or end
        self.stirred.set()

    def broke(self, why: StreamBroken) -> None:
        self.over = self.over or why
        self.stirred.set()


class SpdySession:
    """`run` reads until the connection ends; the rest is for whoever uses its streams meanwhile."""

    def __init__(self, wire: Wire, counts: Counts) -> None:
        self._wire, self._counts = wire, counts
        self._spdy = spdy.Connection(spdy.Role.SERVER)
        self._streams: dict[int, SpdyStream] = {}
        self._new: deque[SpdyStream] = deque()
        self._came, self._room = asyncio.Event(), asyncio.Event()
        self._owed = 0
        self.bells: set[asyncio.Event] = set()  # rung at the end, for those whose streams are over already
        self.over: StreamBroken | None = None

    @property
    def gone(self) -> asyncio.Event:
        """Set once the client's connection is no more."""
        return self._wire.gone

    async def run(self) -> None:
        """Raises nothing; every stream hears how it ended."""
        why = StreamBroken(CloseCode.CANCELLED, "the client closed the connection")
        try:
            while data := await self._wire.read():
                for event in self._spdy.receive(data):
                    self._take(event)
                self._owed += self._flush()
                if self._owed > OWED_BYTES_MAX:
                    await self._wire.drain()
                    self._owed = 0
                await self._until_room()
        except Malformed as wrong:
            self._counts.malformed += 1
            why = StreamBroken(CloseCode.INVALID, f"SPDY: {wrong}")
        except ConnectionResetError:
            pass
        finally:
            self.over = why
            for stream in self._streams.values():
                stream.broke(why)
            for bell in (self._came, *self.bells):
                bell.set()

    async def accept(self) -> SpdyStream | None:
        """The next stream that the client opened, already answered; None once the connection has ended."""
        while not self._new:
            if self.over is not None:
                return None
            self._came.clear()
            await self._came.wait()
        stream = self._new.popleft()
        self._spdy.reply(stream.number)
        self._flush()
        return stream

    async def send(self, number: int, data: bytes, end: bool) -> None:
        """Raises StreamBroken."""
        self._spdy.send(number, data, end)
        self._flush()
        try:
            await self._wire.drain()
        except ConnectionResetError as why:
            raise StreamBroken(CloseCode.CANCELLED, str(why)) from None

    def reset(self, stream: SpdyStream, status: spdy.Reset) -> None:
        """End one stream at once."""
        self._spdy.reset(stream.number, status)
        self._streams.pop(stream.number, None)
        self._flush()

    def go_away(self) -> None:
        """Take no further stream."""
        self._spdy.go_away()
        self._flush()

    def took(self) -> None:
        """There may be room now."""
        self._room.set()

    async def _until_room(self) -> None:
        """Raises ConnectionResetError when the client goes meanwhile."""
        while any(s.waiting_bytes > CLIENT_WINDOW_BYTES for s in self._streams.values()):
            self._room.clear()
            waits = [asyncio.ensure_future(event.wait()) for event in (self._room, self._wire.gone)]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
            if self._wire.gone.is_set():
                raise ConnectionResetError

    def _flush(self) -> int:
        out = self._spdy.take()
        self._wire.write(out)
        return len(out)

    def _take(self, event: spdy.Event) -> None:
        match event:
            case spdy.SynStream(number, headers, fin):
                stream = self._streams[number] = SpdyStream(self, number, headers, fin)
                self._new.append(stream)
                self._came.set()
            case spdy.Data(number, data, fin):
                if number in self._streams:
                    self._streams[number].arrived(data, fin)
            case spdy.RstStream(number, status):
                if number in self._streams:
                    why = StreamBroken(CloseCode.CANCELLED, f"the client reset the stream ({status})")
                    self._streams.pop(number).broke(why)
            case spdy.SynReply() | spdy.GoAway():
                pass
        if isinstance(event, spdy.Data) and not event.fin:
            return
        for number in self._streams.keys() - self._spdy.streams:  # over, and all that came was taken
            stream = self._streams[number]
            if not stream.waiting_bytes:
                del self._streams[number]


class SpdyChannels:
    """ports.Duplex over streams of one session. A stream that the client resets is the end of its channel, or with
    `fragile` of everything."""

    def __init__(
        self,
        session: SpdySession,
        into: Mapping[Channel, SpdyStream],
        out: Mapping[Channel, SpdyStream],
        fragile: bool = False,
    ) -> None:
        self._session, self._into, self._out, self._fragile = session, dict(into), dict(out), fragile
        self._stirred = asyncio.Event()
        session.bells.add(self._stirred)
        for stream in (*self._into.values(), *self._out.values()):
            stream.stirred = self._stirred

    async def read(self) -> Piece | None:
        while True:
            self._stirred.clear()
            for channel, stream in list(self._into.items()):
                piece = stream.take(channel)
                if piece is not None:
                    if piece.end:
                        del self._into[channel]
                    return piece
                if stream.over is not None and self._session.over is None and not self._fragile:
                    del self._into[channel]
                    return Piece(channel, b"", end=True)
                if stream.over is not None and self._fragile:
                    raise stream.over
            if self._session.over is not None:
                raise self._session.over
            if self._fragile and (broke := next((s.over for s in self._out.values() if s.over), None)) is not None:
                raise broke
            await self._stirred.wait()

    async def write(self, piece: Piece) -> None:
        stream = self._out.get(piece.channel)
        if stream is None:
            return
        if stream.over is not None and self._session.over is None and not self._fragile:
            return
        await stream.send(piece.data, piece.end)

    async def close(self, code: CloseCode = CloseCode.DONE, detail: str = "") -> None:
        self._session.bells.discard(self._stirred)
        for stream in (*self._into.values(), *self._out.values()):
            stream.forget()
