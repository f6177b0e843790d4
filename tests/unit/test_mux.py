"""Two ends of skerry.mux back to back: what one writes the other reads, with credit, half-close, refusal and loss."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncIterator, Callable

import pytest

from golden.wirecheck import validate
from skerry import mux as module
from skerry.errors import LinkLost, StreamBroken
from skerry.limits import (
    STREAM_CHUNK_BYTES,
    STREAM_PIECE_BYTES_MAX,
    STREAM_WINDOW_BYTES,
    STREAM_WINDOW_BYTES_MAX,
    STREAMS_FAST_MAX,
    STREAMS_MAX,
)
from skerry.model.streams import Channel, CloseCode, Exec, Logs, Piece, PortForward, StreamRequest
from skerry.mux import Mux, MuxStream, StreamCounts, join
from skerry.wire import streams as wire
from skerry.wire.streams import Close, Data, Open, Window

EPOCH, REQUEST = b"epoch-01", Logs("default", "web", "app")


class Pipe:
    """One direction between two ends; frames arrive in order, unless `lose` takes them."""

    def __init__(self) -> None:
        self.frames: deque[bytes] = deque()
        self.bell = asyncio.Event()
        self.lose: Callable[[bytes], bool] = lambda frame: False
        self.sent: list[wire.StreamMessage] = []
        self.cut = False

    async def send(self, frame: bytes, bulk: bool) -> None:
        if self.cut:
            raise LinkLost("cut")
        said = wire.decode(validate(frame))
        assert bulk == isinstance(said, Data)
        self.sent.append(said)
        if not self.lose(frame):
            self.frames.append(frame)
            self.bell.set()
        await asyncio.sleep(0)

    async def pump(self, mux: Mux) -> None:
        while True:
            while self.frames:
                await mux.received(self.frames.popleft())
            self.bell.clear()
            await self.bell.wait()


class Pair:
    """A hub's end that opens and a device's end that accepts."""

    def __init__(self) -> None:
        self.down, self.up = Pipe(), Pipe()
        self.hub = Mux(EPOCH, self.down.send, StreamCounts())
        self.device = Mux(EPOCH, self.up.send, StreamCounts(), self._accept)
        self.opened: list[tuple[StreamRequest, MuxStream]] = []
        self.refusal: tuple[CloseCode, str] | None = None
        self.tasks: set[asyncio.Task[None]] = {
            asyncio.ensure_future(self.down.pump(self.device)), asyncio.ensure_future(self.up.pump(self.hub))
        }  # fmt: skip

    def _accept(self, request: StreamRequest, stream: MuxStream) -> None:
        self.opened.append((request, stream))
        answer = stream.close(*self.refusal) if self.refusal else stream.accept()
        self.tasks.add(asyncio.ensure_future(answer))

    async def stream(self, request: StreamRequest = REQUEST) -> tuple[MuxStream, MuxStream]:
        at_hub = await asyncio.wait_for(self.hub.open(request), 10)
        return at_hub, self.opened[-1][1]


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    made = Pair()
    yield made
    for task in made.tasks:
        task.cancel()
    await asyncio.gather(*made.tasks, return_exceptions=True)


async def take(stream: MuxStream) -> Piece | None:
    return await asyncio.wait_for(stream.read(), 10)


async def settle(turns: int = 200) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


async def test_the_device_learns_what_is_asked_and_both_ends_talk_until_the_close(pair: Pair) -> None:
    hub, device = await pair.stream(Exec("default", "web", "app", ("cat", "-"), stdin=True))
    assert pair.opened[0][0] == Exec("default", "web", "app", ("cat", "-"), stdin=True)
    await hub.write(Piece(Channel.STDIN, b"ping"))
    await hub.write(Piece(Channel.STDIN, b"", end=True))
    assert await take(device) == Piece(Channel.STDIN, b"ping", end=True)
    await device.write(Piece(Channel.STDOUT, b"pong", end=True))
    await device.close()
    assert await take(hub) == Piece(Channel.STDOUT, b"pong", end=True)
    assert await take(hub) is None
    assert (pair.hub.open_count, pair.device.open_count) == (0, 0)


async def test_a_refusal_reaches_whoever_opened(pair: Pair) -> None:
    pair.refusal = (CloseCode.NOT_FOUND, 'pod "web" does not exist on this device')
    with pytest.raises(StreamBroken, match="does not exist") as caught:
        await pair.stream()
    assert caught.value.code is CloseCode.NOT_FOUND
    assert pair.hub.counts.refused == 1


async def test_what_nobody_reads_stops_its_source_and_no_other_stream(pair: Pair) -> None:
    slow_hub, slow_device = await pair.stream()
    fast_hub, fast_device = await pair.stream()
    writing = asyncio.ensure_future(slow_device.write(Piece(Channel.STDOUT, bytes(STREAM_WINDOW_BYTES * 2))))
    await settle()
    assert not writing.done()
    assert sum(len(m.data) for m in pair.up.sent if isinstance(m, Data)) == STREAM_WINDOW_BYTES
    await asyncio.wait_for(fast_device.write(Piece(Channel.STDOUT, b"quick")), 10)
    assert await take(fast_hub) == Piece(Channel.STDOUT, b"quick")
    while not writing.done():
        await take(slow_hub)
        await settle(20)


async def test_large_data_arrives_whole_in_chunks_within_the_window(pair: Pair) -> None:
    hub, device = await pair.stream()
    body = hashlib.sha256(b"x").digest() * 40_000

    async def send() -> None:
        await device.write(Piece(Channel.STDOUT, body, end=True))
        await device.close()

    sending = asyncio.ensure_future(send())
    got = bytearray()
    while (piece := await take(hub)) is not None:
        assert len(piece.data) <= STREAM_PIECE_BYTES_MAX
        got += piece.data
    await sending
    assert got == body
    assert max(len(m.data) for m in pair.up.sent if isinstance(m, Data)) == STREAM_CHUNK_BYTES
    assert pair.hub.counts.bytes_in == pair.device.counts.bytes_out == len(body)


async def test_bytes_that_wait_are_read_at_once_and_messages_one_by_one(pair: Pair) -> None:
    hub, device = await pair.stream(Exec("default", "web", "app", ("sh",), stdin=True, tty=True))
    said = [(Channel.STDIN, b"a"), (Channel.STDIN, b"b"), (Channel.RESIZE, b"{}"), (Channel.RESIZE, b"{}")]
    said += [(Channel.STDIN, bytes(STREAM_PIECE_BYTES_MAX)), (Channel.STDIN, b"c")]
    for channel, data in said:
        await hub.write(Piece(channel, data))
    await hub.write(Piece(Channel.STDIN, b"", end=True))
    await settle()
    assert [await take(device) for _ in range(5)] == [
        Piece(Channel.STDIN, b"ab"),
        Piece(Channel.RESIZE, b"{}"),
        Piece(Channel.RESIZE, b"{}"),
        Piece(Channel.STDIN, bytes(STREAM_PIECE_BYTES_MAX)),
        Piece(Channel.STDIN, b"c", end=True),
    ]


async def test_a_fast_stream_is_given_a_larger_window_until_it_is_slow(
    monkeypatch: pytest.MonkeyPatch, pair: Pair
) -> None:
    hub, device = await pair.stream()
    monkeypatch.setattr(module, "STREAM_FAST_S", 1e9)
    await carry(device, hub, 4 * STREAM_WINDOW_BYTES_MAX)
    assert STREAM_WINDOW_BYTES_MAX // 2 < given(hub) <= STREAM_WINDOW_BYTES_MAX
    monkeypatch.setattr(module, "STREAM_FAST_S", 0.0)
    await carry(device, hub, 4 * STREAM_WINDOW_BYTES_MAX)
    assert STREAM_WINDOW_BYTES // 2 < given(hub) <= STREAM_WINDOW_BYTES


async def test_no_window_grows_while_many_streams_are_open(monkeypatch: pytest.MonkeyPatch, pair: Pair) -> None:
    monkeypatch.setattr(module, "STREAM_FAST_S", 1e9)
    hub, device = await pair.stream()
    for _ in range(STREAMS_FAST_MAX):
        await pair.stream()
    await carry(device, hub, 4 * STREAM_WINDOW_BYTES)
    assert given(hub) <= STREAM_WINDOW_BYTES


def given(stream: MuxStream) -> int:
    """Bytes that the other end may send now."""
    assert stream.granted is not None
    return stream.granted.until - stream.received


async def carry(source: MuxStream, sink: MuxStream, size: int) -> None:
    writing = asyncio.ensure_future(source.write(Piece(Channel.STDOUT, bytes(size))))
    while size:
        piece = await take(sink)
        assert piece is not None
        size -= len(piece.data)
    await writing


async def test_a_lost_frame_is_seen_and_closes_the_stream_at_both_ends(pair: Pair) -> None:
    hub, device = await pair.stream()
    lost = iter([True])
    pair.up.lose = lambda frame: isinstance(wire.decode(frame), Data) and next(lost, False)
    await device.write(Piece(Channel.STDOUT, b"first"))
    await device.write(Piece(Channel.STDOUT, b"second"))
    with pytest.raises(StreamBroken, match="bytes 0 to 5 are missing"):
        await take(hub)
    with pytest.raises(StreamBroken, match="are missing"):
        await take(device)


async def test_a_close_whose_data_was_lost_is_not_taken_for_the_end(pair: Pair) -> None:
    hub, device = await pair.stream()
    pair.up.lose = lambda frame: isinstance(wire.decode(frame), Data)
    await device.write(Piece(Channel.STDOUT, b"gone"))
    await device.close()
    with pytest.raises(StreamBroken) as caught:
        await take(hub)
    assert caught.value.code is CloseCode.LOST


async def test_a_peer_that_sends_beyond_its_window_loses_that_stream_only(pair: Pair) -> None:
    hub, _ = await pair.stream()
    other, device = await pair.stream()
    chunks = STREAM_WINDOW_BYTES // STREAM_CHUNK_BYTES
    for index in range(chunks + 1):
        data = Data(EPOCH, 1, Channel.STDOUT, index * STREAM_CHUNK_BYTES, bytes(STREAM_CHUNK_BYTES))
        await pair.hub.received(wire.encode(data))
    with pytest.raises(StreamBroken, match="beyond the window"):
        await take(hub)
    await device.write(Piece(Channel.STDOUT, b"well"))
    assert await take(other) == Piece(Channel.STDOUT, b"well")


@pytest.mark.parametrize(
    "frame",
    [b"", b"\xff" * 40, wire.encode(Data(b"stale-00", 1, Channel.STDOUT, 0, b"old")),
     wire.encode(Window(EPOCH, 77, 9)), wire.encode(Open(EPOCH, 1, 9, wire.StreamKind.STATS))],
)  # fmt: skip
async def test_frames_that_mean_nothing_here_are_counted_and_change_nothing(pair: Pair, frame: bytes) -> None:
    hub, device = await pair.stream()
    await pair.hub.received(frame)
    assert pair.hub.counts.malformed + pair.hub.counts.strays == 1
    await device.write(Piece(Channel.STDOUT, b"still here"))
    assert await take(hub) == Piece(Channel.STDOUT, b"still here")


async def test_a_device_opens_no_more_than_its_bound_and_no_nonsense(pair: Pair) -> None:
    for _ in range(STREAMS_MAX):
        await pair.stream()
    with pytest.raises(StreamBroken, match="STREAMS_MAX") as caught:
        await pair.stream()
    assert caught.value.code is CloseCode.BUSY
    await pair.opened[0][1].close()
    with pytest.raises(StreamBroken, match="port: 1 to 65535 expected, got 0") as caught:
        await pair.stream(PortForward("default", "web", 0))
    assert caught.value.code is CloseCode.INVALID


async def test_a_lost_connection_ends_reads_writes_and_opens(pair: Pair) -> None:
    hub, device = await pair.stream()
    writing = asyncio.ensure_future(hub.write(Piece(Channel.STDIN, bytes(STREAM_WINDOW_BYTES + 1))))
    await settle()
    await pair.hub.received(wire.encode(Close(EPOCH, module.CONNECTION, CloseCode.LOST, 0, "the device is gone")))
    for doomed in (writing, hub.read(), pair.hub.open(REQUEST)):
        with pytest.raises(StreamBroken, match="the device is gone") as caught:
            await asyncio.wait_for(doomed, 10)
        assert caught.value.code is CloseCode.LOST
    pair.up.cut = True
    with pytest.raises(StreamBroken, match="cut"):
        await device.write(Piece(Channel.STDOUT, b"x"))


async def test_joined_ends_carry_both_ways_and_end_together(pair: Pair) -> None:
    """The hub's stream on one side, a second pair as what it is joined to."""
    far = Pair()
    try:
        hub, device = await pair.stream()
        source_far, source = await far.stream()
        joined = asyncio.ensure_future(join(device, source_far))
        await hub.write(Piece(Channel.STDIN, b"in"))
        assert await take(source) == Piece(Channel.STDIN, b"in")
        await source.write(Piece(Channel.STDOUT, b"out"))
        await source.close()
        assert [await take(hub), await take(hub)] == [Piece(Channel.STDOUT, b"out"), None]
        await asyncio.wait_for(joined, 10)
        hub, device = await pair.stream()
        source_far, source = await far.stream()
        joined = asyncio.ensure_future(join(device, source_far))
        await hub.close(CloseCode.CANCELLED, "kubectl went away")
        with pytest.raises(StreamBroken, match="kubectl went away"):
            await take(source)
        await asyncio.wait_for(joined, 10)
    finally:
        for task in far.tasks:
            task.cancel()


def lose_once(pipe: Pipe, kind: type) -> None:
    """The broker loses the next frame of this kind, though it acknowledged it."""
    left = iter([True])
    pipe.lose = lambda frame: isinstance(wire.decode(frame), kind) and next(left, False)


@pytest.fixture
async def tended(monkeypatch: pytest.MonkeyPatch, pair: Pair) -> Pair:
    """Both ends say often that they are there."""
    monkeypatch.setattr(module, "STREAM_PING_S", 0.02)
    pair.tasks |= {asyncio.ensure_future(mux.tend()) for mux in (pair.hub, pair.device)}
    return pair


async def test_a_lost_close_ends_the_stream_at_the_other_end_all_the_same(tended: Pair) -> None:
    hub, device = await tended.stream()
    lose_once(tended.down, Close)
    await hub.close(CloseCode.CANCELLED, "kubectl went away")
    with pytest.raises(StreamBroken, match="does not know it any more"):
        await take(device)
    assert tended.device.open_count == 0


async def test_a_lost_window_is_told_again(tended: Pair) -> None:
    hub, device = await tended.stream()
    lose_once(tended.down, Window)
    body = bytes(STREAM_WINDOW_BYTES * 2)
    writing = asyncio.ensure_future(device.write(Piece(Channel.STDOUT, body)))
    got = 0
    while got < len(body):
        piece = await take(hub)
        assert piece is not None
        got += len(piece.data)
    await writing


async def test_lost_data_after_which_nothing_comes_is_missed(tended: Pair) -> None:
    hub, device = await tended.stream()
    lose_once(tended.down, Data)
    await hub.write(Piece(Channel.STDIN, b"the end of a command's input", end=True))
    with pytest.raises(StreamBroken, match="bytes 0 to 28 are missing"):
        await take(device)


async def test_an_end_that_hears_nothing_takes_the_other_for_gone(monkeypatch: pytest.MonkeyPatch, pair: Pair) -> None:
    monkeypatch.setattr(module, "STREAM_PING_S", 0.01)
    monkeypatch.setattr(module, "STREAM_SILENCE_S", 0.05)
    with pytest.raises(LinkLost, match="silent"):
        await asyncio.wait_for(pair.hub.tend(), 10)  # nobody tends the device's end
    tending = asyncio.ensure_future(pair.device.tend())
    hub, _ = await pair.stream()
    heard = asyncio.ensure_future(pair.hub.tend())
    await asyncio.sleep(0.2)
    assert not heard.done()
    for task in (tending, heard):
        task.cancel()
    await hub.close()
