"""ports.Link and the hub's ports.Broker before the simulated broker."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from sim.broker import HOP_S, Broker, Port, Will
from skerry.errors import LimitExceeded, LinkLost
from skerry.limits import CONNECT_TIMEOUT_S, INBOX_FRAMES_MAX, PACKET_BYTES_MAX, PAYLOAD_BYTES_MAX
from skerry.model.streams import streams_name
from skerry.ports import Inbound
from skerry.world.link import streams_down_topic, streams_up_topic

CONNECT_S = (0.02, 0.4)


def down_topic(node: str) -> str:
    return f"skerry/v1/{node}/down"


def up_topic(node: str) -> str:
    return f"skerry/v1/{node}/up"


def will_topic(node: str) -> str:
    return f"skerry/v1/{node}/will"


class Reach:
    """Whether the network leads to the broker, as the fault vocabulary decides. Outlives processes."""

    def __init__(self) -> None:
        self.up = True


async def dial(
    broker: Broker, reach: Reach, client: str, will: Will | None, deliver: Callable[[Port, int, str, bytes], None]
) -> Port:
    """A connection after some time, or LinkLost after some more."""
    await asyncio.sleep(broker.random.uniform(*CONNECT_S))
    port = broker.connect(client, INBOX_FRAMES_MAX, will, deliver) if reach.up else None
    if port is None:
        await asyncio.sleep(broker.random.choice([0.0, CONNECT_TIMEOUT_S]))  # refused, or silence
        raise LinkLost("cannot connect to the broker")
    return port


class SimLink:
    """ports.Link: the device's connection."""

    def __init__(self, broker: Broker, reach: Reach, node: str) -> None:
        self._broker, self._reach, self._node = broker, reach, node
        self._port: Port | None = None
        self._inbox: deque[Inbound] = deque()
        self._ready = asyncio.Event()
        self._why = "not connected"
        self._life = 0
        self.dropped_large = 0
        self.inbox_most = 0
        self.sending: Callable[[bytes], None] = lambda frame: None  # checks look here
        self.got: Callable[[Inbound], None] = lambda inbound: None
        self.acking: Callable[[int], None] = lambda handle: None

    async def connect(self) -> None:
        await self.close()
        self._life += 1
        self._inbox.clear()
        self._ready = asyncio.Event()
        will = Will(will_topic(self._node), b"lost")
        port = await dial(self._broker, self._reach, self._node, will, self._deliver)
        port.lost.append(self._lost)
        self._port, self._why = port, ""
        self._broker.subscribe(port, [down_topic(self._node)])
        await asyncio.sleep(self._broker.random.uniform(*HOP_S))
        self._alive()

    async def recv(self) -> Inbound:
        while not self._inbox:
            self._alive()
            self._ready.clear()
            await self._ready.wait()
        self._alive()
        inbound = self._inbox.popleft()
        self.got(inbound)
        return inbound

    async def send(self, frame: bytes) -> None:
        assert len(frame) <= PAYLOAD_BYTES_MAX, "codec and guard bound what is sent"
        port = self._alive()
        self.sending(frame)
        port.publish(up_topic(self._node), frame)
        await asyncio.sleep(0)

    def ack(self, handle: int) -> None:
        if self._port is not None and handle >> 32 == self._life:
            self.acking(handle)
            self._port.ack(handle & 0xFFFFFFFF)

    async def close(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            if port.open:
                port.publish(will_topic(self._node), b"closed")
            port.disconnect()
        self._lost("closed")

    def _alive(self) -> Port:
        if self._port is None or not self._port.open:
            raise LinkLost(self._why or "closed")
        return self._port

    def _lost(self, why: str) -> None:
        self._why = why
        self._ready.set()

    def _deliver(self, port: Port, handle: int, topic: str, payload: bytes) -> None:
        del topic
        if port is not self._port and self._port is not None:
            return
        if len(payload) > PAYLOAD_BYTES_MAX:
            self.dropped_large += 1
            port.ack(handle)
            return
        self._inbox.append(Inbound(payload, self._life << 32 | handle))
        self.inbox_most = max(self.inbox_most, len(self._inbox))
        self._ready.set()


class SimStreamLink:
    """ports.StreamLink: the device's other connection. The simulated broker knows QoS 1 only: frames are acknowledged
    as they come."""

    def __init__(self, broker: Broker, reach: Reach, node: str) -> None:
        self._broker, self._reach, self._node = broker, reach, node
        self._port: Port | None = None
        self._inbox: deque[bytes] = deque()
        self._ready = asyncio.Event()
        self._why = "not connected"
        self._gone = b""

    async def connect(self, gone: bytes) -> None:
        await self.close()
        self._inbox.clear()
        self._ready = asyncio.Event()
        self._gone = gone
        will = Will(streams_up_topic(self._node), gone)
        port = await dial(self._broker, self._reach, streams_name(self._node), will, self._deliver)
        port.lost.append(self._lost)
        self._port, self._why = port, ""
        self._broker.subscribe(port, [streams_down_topic(self._node)])
        await asyncio.sleep(self._broker.random.uniform(*HOP_S))
        self._alive()

    async def recv(self) -> bytes:
        while not self._inbox:
            self._alive()
            self._ready.clear()
            await self._ready.wait()
        self._alive()
        return self._inbox.popleft()

    async def send(self, frame: bytes, bulk: bool) -> None:
        del bulk
        self._alive().publish(streams_up_topic(self._node), frame)
        await asyncio.sleep(0)

    async def close(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            if port.open:
                port.publish(streams_up_topic(self._node), self._gone)
            port.disconnect(flush=True)
        self._lost("closed")

    def _alive(self) -> Port:
        if self._port is None or not self._port.open:
            raise LinkLost(self._why or "closed")
        return self._port

    def _lost(self, why: str) -> None:
        self._why = why
        self._ready.set()

    def _deliver(self, port: Port, handle: int, topic: str, payload: bytes) -> None:
        del topic
        port.ack(handle)
        if port is self._port or self._port is None:
            self._inbox.append(payload)
            self._ready.set()


class SimHubBroker:
    """skerry_hub.ports.Broker: the hub's connection."""

    def __init__(self, broker: Broker, reach: Reach, client: str) -> None:
        self._broker, self._reach, self._client = broker, reach, client
        self._port: Port | None = None
        self._lost: asyncio.Future[LinkLost] | None = None
        self.sending: Callable[[str, bytes], None] = lambda topic, payload: None

    async def connect(self, deliver: Callable[[str, bytes], None]) -> None:
        await self.close()
        self._lost = asyncio.get_running_loop().create_future()
        hand_over = self._in_process(deliver)

        def delivered(port: Port, handle: int, topic: str, payload: bytes) -> None:
            port.ack(handle)
            hand_over(topic, payload)

        port = await dial(self._broker, self._reach, self._client, None, delivered)
        lost = self._lost
        port.lost.append(lambda why: None if lost.done() else lost.set_result(LinkLost(why)))
        self._port = port

    async def lost(self) -> LinkLost:
        assert self._lost is not None, "connect first"
        return await asyncio.shield(self._lost)

    async def subscribe(self, topics: Sequence[str]) -> None:
        self._broker.subscribe(self._alive(), topics)
        await asyncio.sleep(self._broker.random.uniform(*HOP_S))
        self._alive()

    async def unsubscribe(self, topics: Sequence[str]) -> None:
        self._alive().topics.difference_update(topics)
        await asyncio.sleep(self._broker.random.uniform(*HOP_S))
        self._alive()

    async def publish(self, topic: str, payload: bytes, *, bulk: bool = False, expiry_s: int = 0) -> None:
        if len(payload) > PACKET_BYTES_MAX:
            raise LimitExceeded("PACKET_BYTES_MAX", PACKET_BYTES_MAX, len(payload))
        port = self._alive()
        self.sending(topic, payload)
        port.publish(topic, payload)
        await asyncio.sleep(0)

    async def close(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            port.disconnect()
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(LinkLost("closed"))

    def _alive(self) -> Port:
        if self._port is None or not self._port.open:
            raise LinkLost("not connected")
        return self._port

    def _in_process(self, deliver: Callable[[str, bytes], None]) -> Callable[[str, bytes], None]:
        """`deliver` runs as a step of the process that connected, so never after its death."""
        loop = asyncio.get_running_loop()

        from contextvars import copy_context

        context = copy_context()
        queue: deque[tuple[str, bytes]] = deque()

        def one() -> None:
            deliver(*queue.popleft())

        def hand_over(topic: str, payload: bytes) -> None:
            queue.append((topic, payload))
            loop.call_soon(one, context=context)

        return hand_over
