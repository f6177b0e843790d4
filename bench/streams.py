"""A stream's throughput through mosquitto beside what the same broker and client carry bare, in the same payloads.

Both ends live in this process, in both measurements, and rounds alternate, so the ratio means the same on any machine.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import uvloop

from bench.report import Row
from contract.broker import Broker
from skerry.limits import STREAM_CHUNK_BYTES, STREAM_PIECE_BYTES_MAX
from skerry.model.streams import Channel, CloseCode, Piece, PortForward, StreamRequest
from skerry.mux import Mux, MuxStream, StreamCounts, join
from skerry.wire import streams as wire
from skerry.world.entropy import SystemEntropy
from skerry.world.link import MqttStreamLink
from skerry.world.mqtt import MqttConnection
from skerry.world.mqtt_values import MqttOptions
from skerry_hub.cloudhub.mqtt import MqttBroker
from skerry_hub.cloudhub.streams import DeviceStreams

BUDGET = 0.5  # of the broker's own throughput
IN_FLIGHT = 64  # payloads under way in the bare measurement
PORT = PortForward("default", "web", 80)


def rows(quick: bool = False) -> Iterator[Row]:
    rounds, megabytes = (3, 20) if quick else (9, 60)
    up, down, alone = uvloop.run(_measure(rounds, megabytes * 1_000_000))
    note = f"median of {rounds} alternating rounds of {megabytes} MB in payloads of {STREAM_CHUNK_BYTES} B"
    yield Row("streams", "from the device", up, "MB/s", "bare publishes through the broker", alone, "higher", note)
    yield Row("streams", "to the device", down, "MB/s", "bare publishes through the broker", alone, "higher", note)
    ratio, aim = min(up, down) / alone, "of the broker's own"
    yield Row("streams", "slower way", ratio, aim, "budget", BUDGET, "higher", note)
    from bench import chain  # it measures with `bare`

    yield from chain.rows(quick)


class Zeros:
    """A Duplex that gives `left` zero bytes, and counts what it is given."""

    def __init__(self, left: int) -> None:
        self.left, self.got = left, 0
        self.ended = asyncio.Event()

    async def read(self) -> Piece | None:
        if self.left <= 0:
            await self.ended.wait()
            return None
        self.left -= STREAM_PIECE_BYTES_MAX
        if self.left <= 0:
            self.ended.set()
        return Piece(Channel.STDOUT, bytes(STREAM_PIECE_BYTES_MAX))

    async def write(self, piece: Piece) -> None:
        self.got += len(piece.data)
        if piece.end:
            self.ended.set()

    async def close(self, code: CloseCode = CloseCode.DONE, detail: str = "") -> None:
        self.ended.set()


class Device:
    """The device's end without a loop of its own: one epoch at a time, every stream joined to `source`."""

    def __init__(self, port: int) -> None:
        self._link = MqttStreamLink("bench", MqttOptions("127.0.0.1", port, "bench"))
        self._tasks: set[asyncio.Task[None]] = set()
        self.source = Zeros(0)

    def dial(self, _node: str, epoch: bytes) -> bool:
        self._keep(self._serve(epoch))
        return True

    async def _serve(self, epoch: bytes) -> None:
        await self._link.connect(b"")
        mux = Mux(epoch, self._link.send, StreamCounts(), self._accept)
        await self._link.send(wire.encode(wire.Ready(epoch)), False)
        while True:
            await mux.received(await self._link.recv())

    def _accept(self, _request: StreamRequest, stream: MuxStream) -> None:
        self._keep(self._joined(stream))

    async def _joined(self, stream: MuxStream) -> None:
        await stream.accept()
        await join(stream, self.source)

    def _keep(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._link.close()


async def _measure(rounds: int, size: int) -> tuple[float, float, float]:
    """MB/s from the device, to the device, and bare."""
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(Path(folder))
        device = Device(broker.port)
        hub = DeviceStreams(
            MqttBroker(MqttOptions("127.0.0.1", broker.port, "hub")), device.dial, SystemEntropy(), lambda line: None
        )
        found: list[tuple[float, float, float]] = []
        try:
            for _ in range(rounds):
                up, down = await _up(hub, device, size), await _down(hub, device, size)
                found.append((up, down, await bare(broker.port, size)))
        finally:
            await hub.close()
            await device.close()
            broker.stop()
    up, down, broker_alone = (statistics.median(column) for column in zip(*found, strict=True))
    return up, down, broker_alone


async def _up(hub: DeviceStreams, device: Device, size: int) -> float:
    device.source = Zeros(size)
    stream = await hub.open("bench", PORT)
    began, got = time.monotonic(), 0
    while (piece := await stream.read()) is not None:
        got += len(piece.data)
    assert got >= size
    return got / (time.monotonic() - began) / 1e6


async def _down(hub: DeviceStreams, device: Device, size: int) -> float:
    sink = device.source = Zeros(0)
    stream = await hub.open("bench", PORT)
    began, chunk = time.monotonic(), bytes(STREAM_PIECE_BYTES_MAX)
    for _ in range(size // len(chunk)):
        await stream.write(Piece(Channel.STDIN, chunk))
    await stream.write(Piece(Channel.STDIN, b"", end=True))
    assert await stream.read() is None
    assert sink.got == size // len(chunk) * len(chunk)
    return sink.got / (time.monotonic() - began) / 1e6


async def bare(port: int, size: int) -> float:
    """MB/s of publishes of the same size, QoS 0, received by a second connection."""
    ends = [MqttOptions("127.0.0.1", port, name) for name in ("bare-1", "bare-2")]
    return await published(ends[0], ends[1], "bench/bare", size)


async def published(
    reader: MqttOptions,
    writer: MqttOptions,
    topic: str,
    size: int,
    where: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> float:
    """MB/s from one client of a broker to another, both in this process. The writer dials within `where`."""
    here, there = (
        MqttConnection(replace(options, inbox_max=IN_FLIGHT, outbox_max=IN_FLIGHT)) for options in (reader, writer)
    )
    await here.connect([topic])
    with where():
        await there.connect()
    room, payload, count = asyncio.Semaphore(IN_FLIGHT), bytes(STREAM_CHUNK_BYTES), size // STREAM_CHUNK_BYTES

    async def send() -> None:
        for _ in range(count):
            await room.acquire()
            await there.publish(topic, payload, 0)

    began = time.monotonic()
    sending = asyncio.ensure_future(send())
    for _ in range(count):
        await here.recv()
        room.release()
    took = time.monotonic() - began
    await sending
    await here.close()
    await there.close()
    return count * len(payload) / took / 1e6
