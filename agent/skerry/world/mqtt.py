"""MQTT 5 by paho-mqtt, driven by the running event loop instead of paho's thread.

`MqttConnection` is one connection from CONNECT to its end; it never reconnects and is used by device and hub alike.
What the broker acknowledges is counted for flow control and believed in nothing else. It does not know what a frame
says.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from skerry.errors import CertificateRefused, LimitExceeded, LinkLost
from skerry.limits import CLOSE_TIMEOUT_S, CONNECT_TIMEOUT_S, PACKET_BYTES_MAX, PAYLOAD_BYTES_MAX
from skerry.world.dial import Dialer
from skerry.world.mqtt_values import MqttCounts, MqttOptions, Offer, Received

if TYPE_CHECKING:
    from skerry.world.paho_client import PahoClient, ReasonCode

T = TypeVar("T")
READS_MAX = 8  # packets read in one go before the loop gets its turn
SLACK_S = 0.02  # timers fire this much after their deadline: uvloop's clock counts milliseconds


class MqttConnection:
    """One connection. All methods belong to the event loop's thread; `lost` holds why it ended."""

    def __init__(
        self,
        options: MqttOptions,
        *,
        dialer: Dialer | None = None,
        counts: MqttCounts | None = None,
        deliver: Callable[[Received], None] | None = None,
    ) -> None:
        """With `deliver` messages go there, on the loop, instead of into recv()'s queue; it must not raise.
        Raises ConfigInvalid for plain MQTT beyond loopback."""
        self._options = options
        self._dialer = dialer or Dialer(options.host, options.port, options.tls, options.insecure)
        self.counts = counts if counts is not None else MqttCounts()
        self.offer = Offer()
        self._loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[LinkLost] = self._loop.create_future()
        self._connack: asyncio.Future[None] = self._loop.create_future()
        self._client: PahoClient | None = None
        self._deliver = deliver or self._enqueue
        self._inbox: deque[Received] = deque()
        self._arrival: asyncio.Future[None] | None = None
        self._unacked: set[int] = set()
        self._in_flight = 0
        self._in_flight_max = options.outbox_max
        self._turns: deque[asyncio.Future[None]] = deque()
        self._written = asyncio.Event()  # some of what waits for the socket
        self._answers: dict[int, asyncio.Future[list[ReasonCode]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._fd = -1
        self._writing = self._flush_soon = self._pong_due = False

    async def connect(self, topics: Sequence[str] = ()) -> None:
        """Once. Connected and subscribed to `topics`, or LinkLost, within `connect_timeout_s`."""
        assert self._client is None, "a connection is not used twice"
        deadline = time.monotonic() + self._options.connect_timeout_s
        try:
            sock = await self._dialer.dial(self._options.connect_timeout_s, _import_paho)
            if self.lost.done():  # closed meanwhile
                sock.close()
                self._alive()
            self._start(sock)
            await self._answer(self._connack, deadline - time.monotonic(), "CONNACK")
            self.counts.resumed += self._dialer.remember(sock)
            if topics:
                await self.subscribe(topics, deadline - time.monotonic())
        except BaseException as problem:
            self._lose(problem if isinstance(problem, LinkLost) else LinkLost(f"connect: {problem!r}"))
            raise
        self.counts.connects += 1
        self._rearm()

    @property
    def turned_away(self) -> bool:
        """TLS came up, and the broker ended it before a CONNACK: it does not take our certificate, or has trouble."""
        return self._client is not None and not self._connack.done() and self.lost.done()

    async def subscribe(self, topics: Sequence[str], timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        """QoS 1, without retained messages. Raises LinkLost when gone, late or refused (then the connection stays)."""
        from skerry.world.paho_client import subscription

        client = self._alive()
        _, mid = client.subscribe([(topic, subscription()) for topic in topics])
        await self._acknowledged(mid, f"SUBACK for {topics[0]}", timeout_s)

    async def unsubscribe(self, topics: Sequence[str], timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        """Raises LinkLost when gone, late or refused (then the connection stays)."""
        _, mid = self._alive().unsubscribe(list(topics))
        await self._acknowledged(mid, f"UNSUBACK for {topics[0]}", timeout_s)

    async def publish(self, topic: str, payload: bytes, qos: int = 1, expiry_s: int = 0) -> None:
        """Hand it over, after waiting for room among `outbox_max` (or the broker's receive maximum) under way. With
        `expiry_s` the broker forgets it after that long. Raises LinkLost, or LimitExceeded when the broker does not
        take packets of this size."""
        client = self._alive()
        size = len(payload) + len(topic.encode()) + 16
        if size > self.offer.packet_bytes_max:
            raise LimitExceeded("the broker's maximum packet size", self.offer.packet_bytes_max, size)
        if qos:
            while self._in_flight >= self._in_flight_max:
                await self._turn()
                self._alive()
            self._in_flight += 1
        else:
            while client.queued >= self._options.outbox_max:
                self._written.clear()
                await self._written.wait()
                self._alive()
        self.counts.published += 1
        code = client.send(topic, payload, qos, expiry_s)
        if code != 0:
            self._lose(LinkLost(f"publish: {code!r}"))
            self._alive()

    async def recv(self) -> Received:
        """The next message, for one caller at a time. Raises LinkLost; what was not yet taken then is gone too."""
        while True:
            self._alive()
            if self._inbox:
                return self._inbox.popleft()
            self._arrival = self._loop.create_future()
            await self._arrival

    def ack(self, handle: int) -> None:
        """PUBACK one received message. Nothing on a lost connection, for an unknown handle or a second time."""
        if handle in self._unacked and not self.lost.done():
            self._unacked.remove(handle)
            self._alive().ack(handle, 1)

    async def close(self) -> None:
        """Say farewell and DISCONNECT, waiting at most CLOSE_TIMEOUT_S. Idempotent; raises nothing."""
        if not self.lost.done() and self._connack.done() and self._client is not None:
            from skerry.world.paho_client import PacketTypes, ReasonCode

            reason = 0x00
            will = self._options.will
            if will is not None:
                if self._in_flight < self._in_flight_max:
                    self._client.publish(will.topic, will.farewell, 1)
                else:  # paho would queue it behind DISCONNECT: let the broker send the will instead
                    reason = 0x04
            if self._client.disconnect(ReasonCode(PacketTypes.DISCONNECT, identifier=reason)) == 0:
                await asyncio.wait({self.lost}, timeout=CLOSE_TIMEOUT_S)
        self._lose(LinkLost("closed"))
        self._tear_down()

    # --- waiting ------------------------------------------------------------------------------------------------------

    def _why_lost(self) -> LinkLost:
        """Of the same kind; each raise gets one of its own, and so a traceback."""
        lost = self.lost.result()
        return type(lost)(str(lost))

    def _alive(self) -> PahoClient:
        if self.lost.done():
            raise self._why_lost()
        if self._client is None or not self._connack.done():
            raise LinkLost("not connected")
        return self._client

    async def _answer(self, answer: asyncio.Future[T], timeout_s: float, what: str) -> T:
        either: set[asyncio.Future[Any]] = {answer, self.lost}
        await asyncio.wait(either, timeout=max(timeout_s, 0.0), return_when=asyncio.FIRST_COMPLETED)
        if self.lost.done():
            raise self._why_lost()
        if not answer.done():
            raise LinkLost(f"{self._options.host}:{self._options.port}: no {what} in time")
        return answer.result()

    async def _acknowledged(self, mid: int | None, what: str, timeout_s: float) -> None:
        assert mid is not None, "an alive client has a socket"
        answer: asyncio.Future[list[ReasonCode]] = self._loop.create_future()
        self._answers[mid] = answer
        try:
            codes = await self._answer(answer, timeout_s, what)
        finally:
            del self._answers[mid]
        refused = [str(code) for code in codes if code.is_failure]
        if refused:
            raise LinkLost(f"{what}: {refused[0]}")

    async def _turn(self) -> None:
        turn: asyncio.Future[None] = self._loop.create_future()
        self._turns.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._next_turn()
            raise

    def _next_turn(self) -> None:
        while self._turns:
            turn = self._turns.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    # --- the end ------------------------------------------------------------------------------------------------------

    def _lose(self, reason: LinkLost) -> None:
        """Safe inside paho's callbacks: the socket is closed by the next turn of the loop."""
        if self.lost.done():
            return
        self.lost.set_result(reason)
        self._inbox.clear()
        self._unacked.clear()
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)
        while self._turns:
            self._next_turn()
        self._written.set()
        self._loop.call_soon(self._tear_down)

    def _tear_down(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._client is not None:
            self._client.drop()

    # --- the loop's events --------------------------------------------------------------------------------------------

    def _start(self, sock: Any) -> None:
        from skerry.world.paho_client import PahoClient

        options = self._options
        client = self._client = PahoClient(options.client_id, sock, options.manual_ack, PACKET_BYTES_MAX)
        if options.will is not None:
            client.set_will(options.will.topic, options.will.payload, options.will.delay_s)
        client.on_connect = self._on_connack
        client.on_disconnect = self._on_disconnect
        client.arrived = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = client.on_unsubscribe = self._on_suback
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = self._on_register_write
        client.on_socket_unregister_write = self._on_unregister_write
        self._fd = sock.fileno()
        self._loop.add_reader(self._fd, self._readable)
        receive_max = options.inbox_max if options.manual_ack else 0
        client.start(options.host, options.port, options.keepalive_s, options.session_expiry_s, receive_max)

    def _readable(self) -> None:
        client = self._client
        if client is None or self.lost.done():
            return
        self.counts.reads += 1
        client.dry = False
        try:
            for _ in range(READS_MAX):
                code = client.loop_read()
                if self.lost.done():
                    return
                if code != 0:
                    self._lose(LinkLost(f"connection lost: {code.name}"))
                    return
                if client.dry:
                    break
            else:
                self._loop.call_soon(self._readable)
            if self._pong_due and not client.pinged():
                self._rearm()
        except Exception as problem:  # whatever hostile bytes make of paho's parser
            self._lose(LinkLost(f"malformed packet: {problem!r}"))

    def _flush(self) -> None:
        self._flush_soon = False
        client = self._client
        if client is None or self.lost.done():
            return
        code = client.loop_write()
        self._written.set()
        if self.lost.done():
            return
        if code != 0:
            self._lose(LinkLost(f"connection lost: {code.name}"))
        elif client.want_write() and not self._writing:
            self._writing = True
            self._loop.add_writer(self._fd, self._flush)

    def _tend(self) -> None:
        """Runs at paho's keepalive deadlines, and once more while a PINGREQ is unanswered."""
        self._timer = None
        client = self._client
        if client is None or self.lost.done():
            return
        pinged = client.pinged()
        if pinged and time.monotonic() >= pinged + self._options.ping_timeout_s:
            self._lose(LinkLost("no PINGRESP in time"))
            return
        code = client.loop_misc()
        if code != 0:
            self._lose(LinkLost(f"keepalive: {code.name}"))
        self._rearm()

    def _rearm(self) -> None:
        """One timer: the next keepalive; traffic does not move it, it is computed anew when it fires."""
        if self._client is None or self.lost.done():
            return
        if self._timer is not None:
            self._timer.cancel()
        due = self._client.misc_due()
        if due is None:
            return
        pinged = self._client.pinged()
        self._pong_due = bool(pinged)
        if pinged:
            due = min(due, pinged + self._options.ping_timeout_s)
        delay = max(due - time.monotonic(), 0.0) + SLACK_S
        self._timer = self._loop.call_at(self._loop.time() + delay, self._tend)

    # --- paho's callbacks, none of which may raise or close the socket ----------------------------------------------

    def _on_connack(self, _client: Any, _data: Any, _flags: Any, reason: ReasonCode, properties: Any) -> None:
        if self._connack.done():
            self._lose(LinkLost("unexpected CONNACK"))
        elif reason.is_failure:
            self._lose(LinkLost(f"{self._options.host}:{self._options.port}: refused: {reason}"))
        else:
            asked = self._options.keepalive_s
            self.offer = Offer(
                receive_max=getattr(properties, "ReceiveMaximum", 65_535),
                packet_bytes_max=getattr(properties, "MaximumPacketSize", 268_435_460),
                topic_alias_max=getattr(properties, "TopicAliasMaximum", 0),
                retain=bool(getattr(properties, "RetainAvailable", 1)),
                shared=bool(getattr(properties, "SharedSubscriptionAvailable", 1)),
                keepalive_s=getattr(properties, "ServerKeepAlive", asked),
            )
            self._in_flight_max = min(self._options.outbox_max, self.offer.receive_max)
            if self._client is not None:
                self._client.limit_in_flight(self._in_flight_max)
            self._connack.set_result(None)

    def _on_disconnect(self, _client: Any, _data: Any, flags: Any, reason: ReasonCode, _properties: Any) -> None:
        who = "broker disconnected" if flags.is_disconnect_packet_from_server else "connection lost"
        client = self._client
        kind = CertificateRefused if client is not None and client.refused else LinkLost
        self._lose(kind(f"{who}: {(client.trouble if client is not None else '') or reason}"))

    def _on_message(self, name: bytes, payload: bytes, mid: int) -> None:
        self.counts.received += 1
        handle = mid if self._options.manual_ack else 0
        if handle:
            self._unacked.add(handle)
        if len(payload) > PAYLOAD_BYTES_MAX:
            self.counts.dropped_large += 1
            self._loop.call_soon(self.ack, handle)
            return
        try:
            topic = name.decode()
        except UnicodeDecodeError:
            self._lose(LinkLost("malformed packet: topic is not UTF-8"))
            return
        self._deliver(Received(topic, payload, handle))

    def _enqueue(self, message: Received) -> None:
        if len(self._inbox) >= self._options.inbox_max:
            self.counts.dropped_full += 1
            if message.handle:  # mosquitto 2.0 sends a whole window for each PUBACK, past the receive maximum
                self._lose(LinkLost("broker exceeded the receive maximum"))
            return
        self._inbox.append(message)
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def _on_publish(self, _client: Any, _data: Any, _mid: int, reason: ReasonCode, _properties: Any) -> None:
        self._in_flight -= 1
        if reason.is_failure:
            self.counts.refused += 1
        self._next_turn()

    def _on_suback(self, _client: Any, _data: Any, mid: int, codes: list[ReasonCode], _properties: Any) -> None:
        answer = self._answers.get(mid)
        if answer is not None and not answer.done():
            answer.set_result(codes)

    def _on_socket_close(self, _client: Any, _data: Any, _sock: Any) -> None:
        self._loop.remove_reader(self._fd)
        self._on_unregister_write(None, None, None)

    def _on_register_write(self, _client: Any, _data: Any, _sock: Any) -> None:
        if not self._flush_soon:
            self._flush_soon = True
            self._loop.call_soon(self._flush)

    def _on_unregister_write(self, _client: Any, _data: Any, _sock: Any) -> None:
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._fd)


def _import_paho() -> None:
    """In the dialler's thread: on a small board it takes as long as connecting."""
    import skerry.world.paho_client  # noqa: F401
