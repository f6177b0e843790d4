"""Streams to devices: one lane per device that has some, all over one connection of their own. ports.Streams.

Nothing here is opened before somebody wants a stream. A lane that ends takes its streams with it, and whoever still
wants one asks again; nothing is resumed, so nothing stale is ever delivered.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from skerry.errors import LinkLost, Malformed, StreamBroken
from skerry.limits import NONCE_BYTES, STREAM_EXPIRY_S, STREAM_FRAMES_WAITING_MAX, STREAM_OPEN_S
from skerry.model.streams import STREAMS_SUFFIX, CloseCode, StreamRequest, streams_name
from skerry.mux import Mux, MuxStream, StreamCounts
from skerry.ports import Entropy
from skerry.turns import Turns
from skerry_hub.cloudhub.protect import StreamFrames
from skerry_hub.cloudhub.sessions import topic, whose
from skerry_hub.ports import Broker

Log = Callable[[str], None]
Dial = Callable[[str, bytes], bool]  # asks a device for its connection; False when it is not there
FramesOf = Callable[[str, bytes], StreamFrames]
UP, DOWN = "up", "down"  # of the name that the device has for its streams
OPEN_TRIES_MAX = 2  # the device may close an idle connection at the very moment


class Lane:
    """One device's streams of one epoch."""

    def __init__(
        self,
        node: str,
        epoch: bytes,
        broker: Broker,
        counts: StreamCounts,
        frames: StreamFrames | None = None,
        turns: Turns | None = None,
    ) -> None:
        """Without `frames` they are in clear. `turns`: of all lanes."""
        self.node, self._frames = node, frames
        self.dropped = self.unopened = 0
        self.life: asyncio.Task[None] | None = None
        self._broker = broker
        self._inbox: deque[bytes] = deque()
        self._bell = asyncio.Event()
        self.mux = Mux(epoch, self._send, counts, turns=turns)

    def push(self, frame: bytes) -> None:
        """A frame of the device. Over the bound it is dropped: its stream sees the gap."""
        if len(self._inbox) >= STREAM_FRAMES_WAITING_MAX:
            self.dropped += 1
            return
        if self._frames is not None:
            try:
                frame = self._frames.opened(frame)
            except Malformed:
                self.unopened += 1
                return
        self._inbox.append(frame)
        self._bell.set()

    async def run(self) -> None:
        """Until the device closes the connection or falls silent. Raises LinkLost."""
        parts: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(part()) for part in (self._read, self.mux.tend, self.mux.gone.wait)
        ]
        try:
            await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for part in parts:
                if part.done():
                    part.result()
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)

    async def _read(self) -> None:
        while True:
            self._bell.clear()
            while self._inbox:
                await self.mux.received(self._inbox.popleft())
            await self._bell.wait()

    async def _send(self, frame: bytes, bulk: bool) -> None:
        payload = frame if self._frames is None else self._frames.closed(frame)
        await self._broker.publish(topic(streams_name(self.node), DOWN), payload, bulk=bulk, expiry_s=STREAM_EXPIRY_S)


class DeviceStreams:
    """ports.Streams over a Broker that carries nothing else."""

    def __init__(
        self, broker: Broker, dial: Dial, entropy: Entropy, log: Log, frames_of: FramesOf | None = None
    ) -> None:
        """`frames_of` makes what protects an epoch of a device; None where streams are in clear."""
        self._broker, self._dial, self._entropy, self._log = broker, dial, entropy, log
        self._frames_of, self._turns = frames_of, Turns()
        self._lanes: dict[str, Lane] = {}
        self._connecting = asyncio.Lock()
        self._watch: asyncio.Task[None] | None = None  # lives as long as the connection
        self.counts = StreamCounts()
        self.strays = 0  # messages of a device that has no lane
        self._dropped = self._unopened = 0  # by lanes that are no more: sums never go back

    async def open(self, node: str, request: StreamRequest) -> MuxStream:
        """Raises StreamBroken: the device's refusal, LOST when it is not there, UNAVAILABLE when it does not answer."""
        for left in reversed(range(OPEN_TRIES_MAX)):
            lane = await self._lane(node)
            try:
                return await lane.mux.open(request)
            except StreamBroken as why:
                if why.code is not CloseCode.LOST or not left:
                    raise
                await self._end(lane)
        raise AssertionError("the last try returns or raises")

    def cut(self, node: str) -> None:
        """All streams of a device end now."""
        lane = self._lanes.get(node)
        if lane is not None and lane.life is not None:
            lane.mux.lost("the device was revoked")
            lane.life.cancel()

    def snapshot(self) -> dict[str, int]:
        """Counters of this moment."""
        return {
            "lanes": len(self._lanes),
            "open": sum(lane.mux.open_count for lane in self._lanes.values()),
            "opened": self.counts.opened,
            "refused": self.counts.refused,
            "broken": self.counts.broken,
            "bytes_in": self.counts.bytes_in,
            "bytes_out": self.counts.bytes_out,
            "malformed": self.counts.malformed,
            "strays": self.counts.strays + self.strays,
            "dropped": self._dropped + sum(lane.dropped for lane in self._lanes.values()),
            "unopened": self._unopened + sum(lane.unopened for lane in self._lanes.values()),
        }

    async def close(self) -> None:
        """All streams end. Raises nothing."""
        for lane in list(self._lanes.values()):
            await self._end(lane)
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self._broker.close()

    # --- lanes --------------------------------------------------------------------------------------------------------

    async def _lane(self, node: str) -> Lane:
        """The device's lane, made and answered. Whoever finds one that is being made waits for it too."""
        await self._connected()
        lane = self._lanes.get(node)
        if lane is None:
            epoch = self._entropy.token(NONCE_BYTES)
            frames = self._frames_of(node, epoch) if self._frames_of is not None else None
            lane = self._lanes[node] = Lane(node, epoch, self._broker, self.counts, frames, self._turns)
            lane.life = asyncio.ensure_future(self._run(lane))
        waits = [asyncio.ensure_future(lane.mux.ready.wait()), asyncio.ensure_future(lane.mux.gone.wait())]
        try:
            await asyncio.wait(waits, timeout=STREAM_OPEN_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if lane.mux.gone.is_set():
            raise StreamBroken(CloseCode.LOST, lane.mux.why)
        if not lane.mux.ready.is_set():
            await self._end(lane)
            raise StreamBroken(CloseCode.UNAVAILABLE, f"device {node} did not answer within {STREAM_OPEN_S:.0f} s")
        return lane

    async def _run(self, lane: Lane) -> None:
        """A lane's life, from the subscription to the end of its streams."""
        why = "closed"
        try:
            await self._broker.subscribe([topic(streams_name(lane.node), UP)])
            if not self._dial(lane.node, lane.mux.epoch):
                raise LinkLost(f"device {lane.node} is not connected")
            await lane.run()
        except LinkLost as lost:
            why = str(lost)
        finally:
            if self._forget(lane, why):
                with suppress(LinkLost):
                    await self._broker.unsubscribe([topic(streams_name(lane.node), UP)])

    async def _end(self, lane: Lane) -> None:
        """End a lane and wait until it has: its topic is free for the next one."""
        if lane.life is not None:
            lane.life.cancel()
            await asyncio.gather(lane.life, return_exceptions=True)
        self._forget(lane, "closed")  # a task that never ran ends nothing by itself

    def _forget(self, lane: Lane, why: str) -> bool:
        """Whether it was there."""
        lane.mux.lost(why)
        there = self._lanes.get(lane.node) is lane
        if there:
            del self._lanes[lane.node]
            self._dropped += lane.dropped
            self._unopened += lane.unopened
        return there

    # --- the connection -----------------------------------------------------------------------------------------------

    async def _connected(self) -> None:
        """Connect if there is no connection. Raises StreamBroken."""
        async with self._connecting:
            if self._watch is not None and not self._watch.done():
                return
            try:
                await self._broker.connect(self._deliver)
            except LinkLost as why:
                raise StreamBroken(CloseCode.UNAVAILABLE, f"broker: {why}") from None
            self._watch = asyncio.ensure_future(self._watched())

    async def _watched(self) -> None:
        """Until the connection is lost; then every lane is."""
        why = await self._broker.lost()
        self._log(f"streams: {why}")
        for lane in list(self._lanes.values()):
            lane.mux.lost(str(why))
        await self._broker.close()

    def _deliver(self, name: str, payload: bytes) -> None:
        client, which = whose(name)
        lane = self._lanes.get(client.removesuffix(STREAMS_SUFFIX))
        if lane is None or client != streams_name(lane.node) or which != UP:
            self.strays += 1
        else:
            lane.push(payload)
