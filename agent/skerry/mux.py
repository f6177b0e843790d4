"""Many streams over one connection: both ends of wire.streams. Decides nothing about what a stream is for.

Each stream is a Duplex. Its receiver grants bytes, so what nobody reads stops its own source and nothing else; senders
take turns a chunk at a time, because `send` lets callers go on in the order in which they came.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from skerry.errors import LimitExceeded, LinkLost, Malformed, StreamBroken
from skerry.limits import (
    STREAM_CHUNK_BYTES,
    STREAM_FAST_S,
    STREAM_IDLE_S,
    STREAM_OPEN_S,
    STREAM_PIECE_BYTES_MAX,
    STREAM_PING_S,
    STREAM_SILENCE_S,
    STREAM_WINDOW_BYTES,
    STREAM_WINDOW_BYTES_MAX,
    STREAMS_FAST_MAX,
    STREAMS_MAX,
    STREAMS_TOLD_MAX,
)
from skerry.model.streams import Channel, CloseCode, Piece, StreamRequest
from skerry.ports import Duplex
from skerry.turns import Turns
from skerry.wire import streams as wire
from skerry.wire.streams import Close, Data, Open, Ready, StreamMessage, Window

CONNECTION = 0  # the number in a Close that ends all streams
_BYTES = (Channel.STDIN, Channel.STDOUT, Channel.STDERR)  # where one piece ends and the next begins means nothing
SendFrame = Callable[[bytes, bool], Awaitable[None]]  # a frame, and whether it is bulk; raises LinkLost
Accept = Callable[[StreamRequest, "MuxStream"], None]  # leaves word; sooner or later `accept` or `close` is called


@dataclass(slots=True)
class StreamCounts:
    """What happened, over all epochs that share it."""

    opened: int = 0
    refused: int = 0  # Opens answered with a Close
    broken: int = 0  # streams that ended otherwise than DONE or CANCELLED
    bytes_in: int = 0
    bytes_out: int = 0
    malformed: int = 0  # frames that do not parse
    strays: int = 0  # frames of another epoch, or of a stream that is over


class MuxStream:
    """ports.Duplex over a Mux. Made by it only."""

    def __init__(self, mux: Mux, number: int, until: int, given: bool) -> None:
        """`given`: the other end has been told that it may send."""
        self._mux, self._number = mux, number
        self._sent, self._until = 0, until
        self._received, self._granted, self._unread = 0, STREAM_WINDOW_BYTES, 0
        self._window, self._granted_at = STREAM_WINDOW_BYTES, 0.0
        self._inbox: deque[Piece] = deque()
        self._ended_in: set[Channel] = set()
        self._ended_out: set[Channel] = set()
        self._over: tuple[CloseCode, str] | None = None  # why nothing more comes or goes; DONE is one of the reasons
        self._given = given
        self._claimed = 0  # bytes that the other end said it has sent, when last asked
        self._news, self._room = asyncio.Event(), asyncio.Event()
        self.accepted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()  # at the end that opened it

    async def accept(self) -> None:
        """The stream is open: the other end may send. Raises StreamBroken."""
        self._mux.counts.opened += 1
        self._given = True
        await self._say(Window(self._mux.epoch, self._number, self._granted))

    async def read(self) -> Piece | None:
        await self._mux.turns.next()
        while not self._inbox:
            if self._over is not None:
                if self._over[0] is CloseCode.DONE:
                    return None
                raise StreamBroken(*self._over)
            self._news.clear()
            await self._news.wait()
            await self._mux.turns.next()
        piece = self._joined()
        self._unread -= len(piece.data)
        taken = self._received - self._unread
        if taken + self._window - self._granted >= self._window // 2 and self._over is None:
            self._pace()
            self._granted = max(self._granted, taken + self._window)
            with suppress(StreamBroken):  # what has come is still to be read
                await self._say(Window(self._mux.epoch, self._number, self._granted))
        return piece

    def _pace(self) -> None:
        """Half a window was taken: a larger one if that went fast, a smaller one if slowly. What waits on the way of a
        slow stream would only make others wait."""
        now = asyncio.get_running_loop().time()
        took, self._granted_at = now - self._granted_at, now
        if took < STREAM_FAST_S and self._mux.open_count <= STREAMS_FAST_MAX:
            self._window = min(2 * self._window, STREAM_WINDOW_BYTES_MAX)
        elif took > 2 * STREAM_FAST_S:
            self._window = max(self._window // 2, STREAM_WINDOW_BYTES)

    def _joined(self) -> Piece:
        """What came next, with the bytes that came after it on the same channel."""
        first = self._inbox.popleft()
        if not self._inbox or first.end or first.channel not in _BYTES:
            return first
        parts, size, end = [first.data], len(first.data), False
        while self._inbox and not end:
            following = self._inbox[0]
            size += len(following.data)
            if following.channel is not first.channel or size > STREAM_PIECE_BYTES_MAX:
                break
            self._inbox.popleft()
            parts.append(following.data)
            end = following.end
        return Piece(first.channel, b"".join(parts), end)

    async def write(self, piece: Piece) -> None:
        data = memoryview(piece.data)
        assert piece.channel not in self._ended_out, "nothing follows the end of a channel"
        await self._mux.turns.next()
        while data or piece.end:
            while self._over is None and data and self._sent >= self._until:
                self._room.clear()
                await self._room.wait()
            if self._over is not None:
                if self._over[0] is CloseCode.DONE:
                    return
                raise StreamBroken(*self._over)
            part = data[: min(STREAM_CHUNK_BYTES, self._until - self._sent)] if data else data
            data = data[len(part) :]
            last = piece.end and not data
            offset, self._sent = self._sent, self._sent + len(part)
            self._mux.counts.bytes_out += len(part)
            await self._say(Data(self._mux.epoch, self._number, piece.channel, offset, bytes(part), last))
            if last:
                self._ended_out.add(piece.channel)
                return

    async def close(self, code: CloseCode = CloseCode.DONE, detail: str = "") -> None:
        if self._over is None:
            self.end(code, detail)
            self._inbox.clear()
            with suppress(LinkLost, LimitExceeded):
                await self._mux.say(Close(self._mux.epoch, self._number, code, self._sent, detail))

    # --- what the mux tells it ----------------------------------------------------------------------------------------

    def window(self, until: int) -> None:
        self._until = max(self._until, until)
        self._room.set()
        if not self.accepted.done():
            self.accepted.set_result(True)

    def data(self, got: Data) -> str:
        """Take it; returns what is wrong with it, or nothing."""
        if got.offset != self._received:
            return f"bytes {self._received} to {got.offset} are missing"
        if self._received + len(got.data) > self._granted:
            return f"{len(got.data)} bytes at {got.offset} are beyond the window {self._granted}"
        if got.channel in self._ended_in:
            return f"data after the end of {got.channel.name}"
        self._received += len(got.data)
        self._unread += len(got.data)
        self._mux.counts.bytes_in += len(got.data)
        if got.end:
            self._ended_in.add(got.channel)
        self._inbox.append(Piece(got.channel, got.data, got.end))
        self._news.set()
        return ""

    @property
    def sent(self) -> tuple[int, int]:
        """Its number, and the bytes that were sent in it."""
        return self._number, self._sent

    @property
    def received(self) -> int:
        """Bytes that came in it."""
        return self._received

    @property
    def granted(self) -> Window | None:
        """The window once more, where it was given at all."""
        return Window(self._mux.epoch, self._number, self._granted) if self._given else None

    def overdue(self, sent: int) -> str:
        """What is wrong when the other end says that it has sent so much; what it said the time before is due."""
        due, self._claimed = self._claimed, sent
        return f"bytes {self._received} to {due} are missing" if due > self._received else ""

    def closed(self, got: Close) -> None:
        """The other end ended it."""
        code, detail = got.code, got.detail
        if code is CloseCode.DONE and got.offset != self._received:
            code, detail = CloseCode.LOST, f"bytes {self._received} to {got.offset} are missing"
        self.end(code, detail)

    def end(self, code: CloseCode, detail: str) -> None:
        """Nothing more comes or goes. What came before a DONE is still read."""
        if self._over is not None:
            return
        self._over = code, detail
        if code is not CloseCode.DONE:
            self._inbox.clear()
        if code not in (CloseCode.DONE, CloseCode.CANCELLED):
            self._mux.counts.broken += 1
        self._mux.forget(self._number)
        self._news.set()
        self._room.set()
        if not self.accepted.done():
            self.accepted.set_result(False)

    @property
    def why(self) -> tuple[CloseCode, str]:
        """Why it is over; DONE before it is."""
        return self._over or (CloseCode.DONE, "")

    async def _say(self, said: StreamMessage) -> None:
        try:
            await self._mux.say(said)
        except (LinkLost, LimitExceeded) as why:
            self.end(CloseCode.LOST, str(why))
            raise StreamBroken(CloseCode.LOST, str(why)) from None


class Mux:
    """All streams of one epoch at one end. `received` is called for one frame after the other."""

    def __init__(
        self,
        epoch: bytes,
        send: SendFrame,
        counts: StreamCounts,
        accept: Accept | None = None,
        turns: Turns | None = None,
    ) -> None:
        """`accept` gets what the other end opens; without it an Open is a stray. `turns`: of all on this loop."""
        self.epoch, self._send, self.counts, self._accept = epoch, send, counts, accept
        self.turns = turns or Turns()
        self._streams: dict[int, MuxStream] = {}
        self._last = 0  # the highest number of a stream
        self._lost: LinkLost | None = None
        self._heard_at = asyncio.get_running_loop().time()
        self.ready, self.gone = asyncio.Event(), asyncio.Event()  # the other end was heard; the connection is gone

    @property
    def why(self) -> str:
        """Why the connection is gone."""
        return str(self._lost)

    @property
    def open_count(self) -> int:
        return len(self._streams)

    async def open(self, request: StreamRequest) -> MuxStream:
        """A stream that the other end has accepted. Raises StreamBroken with its refusal, or UNAVAILABLE when it does
        not answer within STREAM_OPEN_S."""
        if self._lost is not None:
            raise StreamBroken(CloseCode.LOST, str(self._lost))
        if len(self._streams) >= STREAMS_TOLD_MAX:
            raise StreamBroken(CloseCode.BUSY, f"{STREAMS_TOLD_MAX} streams are open or asked for")
        self._last += 1
        stream = MuxStream(self, self._last, 0, given=True)
        self._streams[self._last] = stream
        try:
            await self.say(wire.opening(request, self.epoch, self._last, STREAM_WINDOW_BYTES))
            accepted = await asyncio.wait_for(asyncio.shield(stream.accepted), STREAM_OPEN_S)
        except asyncio.TimeoutError:
            await stream.close(CloseCode.CANCELLED)
            raise StreamBroken(CloseCode.UNAVAILABLE, f"no answer within {STREAM_OPEN_S:.0f} s") from None
        except LinkLost as why:
            stream.end(CloseCode.LOST, str(why))
            raise StreamBroken(CloseCode.LOST, str(why)) from None
        except asyncio.CancelledError:
            await stream.close(CloseCode.CANCELLED)
            raise
        if not accepted:
            self.counts.refused += 1
            raise StreamBroken(*stream.why)
        self.counts.opened += 1
        return stream

    async def received(self, frame: bytes) -> None:
        """Any bytes from the other end. A frame that is wrong costs its own stream at most. Raises LinkLost."""
        try:
            got = wire.decode(frame)
        except (Malformed, LimitExceeded):
            self.counts.malformed += 1
            return
        if got.epoch != self.epoch:
            self.counts.strays += 1
            return
        self._heard_at = asyncio.get_running_loop().time()
        self.ready.set()
        if isinstance(got, Ready):
            await self._compare(got)
            return
        if got.stream == CONNECTION and isinstance(got, Close):
            self.lost(got.detail)
            return
        if isinstance(got, Open):
            await self._opened(got)
            return
        stream = self._streams.get(got.stream)
        if stream is None:
            self.counts.strays += 1
            return
        match got:
            case Window(until=until):
                stream.window(until)
            case Close():
                stream.closed(got)
            case Data():
                wrong = stream.data(got)
                if wrong:
                    await stream.close(CloseCode.LOST, wrong)

    async def tend(self) -> None:
        """Tell the other end now and then that this one is there, and what it should know. Raises LinkLost once it was
        silent too long."""
        loop = asyncio.get_running_loop()
        while self._lost is None:
            await asyncio.sleep(STREAM_PING_S)
            if loop.time() - self._heard_at > STREAM_SILENCE_S:
                raise LinkLost(f"the other end was silent for {STREAM_SILENCE_S:.0f} s")
            streams = list(self._streams.values())
            await self.say(Ready(self.epoch, self._last, tuple(stream.sent for stream in streams)))
            for window in [stream.granted for stream in streams]:
                if window is not None:
                    await self.say(window)

    def lost(self, why: str) -> None:
        """The connection is gone, and with it every stream."""
        self._lost = self._lost or LinkLost(why)
        self.gone.set()
        for stream in list(self._streams.values()):
            stream.end(CloseCode.LOST, why)

    async def say(self, said: StreamMessage) -> None:
        """Raises LinkLost."""
        if self._lost is not None:
            raise LinkLost(str(self._lost))
        await self._send(wire.encode(said), isinstance(said, Data))

    def forget(self, number: int) -> None:
        self._streams.pop(number, None)

    async def _compare(self, got: Ready) -> None:
        """A Close, an Open or the last Data may have been lost by the broker: then the ends differ, and this shows."""
        told = dict(got.open)
        for number, stream in list(self._streams.items()):
            if number <= got.last and number not in told:
                await stream.close(CloseCode.LOST, "the other end does not know it any more")
            elif number in told and (wrong := stream.overdue(told[number])):
                await stream.close(CloseCode.LOST, wrong)

    async def _opened(self, got: Open) -> None:
        if self._accept is None or got.stream <= self._last:
            self.counts.strays += 1
            return
        self._last = got.stream
        stream = MuxStream(self, got.stream, got.window, given=False)
        try:
            if len(self._streams) >= STREAMS_MAX:
                raise StreamBroken(CloseCode.BUSY, f"STREAMS_MAX {STREAMS_MAX} streams are open on this device")
            request = wire.requested(got)
        except (StreamBroken, Malformed) as why:
            code = CloseCode(why.code) if isinstance(why, StreamBroken) else CloseCode.INVALID
            self.counts.refused += 1
            await stream.close(code, str(why))
            return
        self._streams[got.stream] = stream
        self._accept(request, stream)


async def join(one: Duplex, other: Duplex) -> None:
    """Carry pieces both ways until one of the two is over, then close both. A stream without a byte for STREAM_IDLE_S
    is over too. Raises nothing; cancelled, it closes both with CANCELLED."""
    loop = asyncio.get_running_loop()
    moved = [loop.time()]

    async def carry(source: Duplex, sink: Duplex) -> None:
        while (piece := await source.read()) is not None:
            moved[0] = loop.time()
            await sink.write(piece)
            moved[0] = loop.time()

    async def idle() -> None:
        left = STREAM_IDLE_S
        while left > 0:
            await asyncio.sleep(left)
            left = moved[0] + STREAM_IDLE_S - loop.time()
        raise StreamBroken(CloseCode.CANCELLED, f"nothing was sent for {STREAM_IDLE_S / 3600:.0f} hours")

    tasks = [asyncio.ensure_future(t) for t in (carry(one, other), carry(other, one), idle())]
    code, detail = CloseCode.CANCELLED, ""
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        code, detail = _why([task for task in tasks if task.done()])
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await one.close(code, detail)
        await other.close(code, detail)


def _why(done: Sequence[asyncio.Task[None]]) -> tuple[CloseCode, str]:
    for task in done:
        problem = task.exception()
        if isinstance(problem, StreamBroken):
            return CloseCode(problem.code), str(problem)
        if problem is not None:
            raise problem
    return CloseCode.DONE, ""
