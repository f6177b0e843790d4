"""A simulated MQTT broker: QoS 1 with all that a broker may do to it.

Per client one bounded queue and a window of unacknowledged messages. It drops what it acknowledged, repeats and delays
messages (over reconnects too, which reorders them), restarts and forgets everything, and connections end half-open.
Topics are matched exactly. Wills come after their delay, or at once when a clean start ends the session.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from sim.world import World
from skerry.limits import INBOX_FRAMES_MAX, MQTT_KEEPALIVE_S, MQTT_WILL_DELAY_S, PING_TIMEOUT_S

QUEUE_MAX = 200  # messages waiting for one client; more are dropped
HOP_S = (0.002, 0.08)


@dataclass(slots=True)
class Will:
    topic: str
    payload: bytes


Deliver = Callable[["Port", int, str, bytes], None]  # (port, handle, topic, payload)


class Port:
    """One client's connection, as both ends see it."""

    def __init__(self, broker: Broker, client: str, window: int, will: Will | None, deliver: Deliver) -> None:
        self.broker, self.client, self.window, self.will, self.deliver = broker, client, window, will, deliver
        self.alive = True  # the broker believes in it
        self.open = True  # the client believes in it
        self.half_open = False  # packets vanish
        self.topics: set[str] = set()
        self.queue: deque[tuple[str, bytes]] = deque()
        self.unacked: dict[int, tuple[str, bytes]] = {}
        self.lost: list[Callable[[str], None]] = []
        self._up, self._down, self._next = 0.0, 0.0, 0

    # --- the client's side --------------------------------------------------------------------------------------------

    def publish(self, topic: str, payload: bytes) -> None:
        world = self.broker.world
        self._up = max(self._up, world.now) + self.broker.random.uniform(*HOP_S)
        world.loop.at(self._up, self._arrives, topic, payload)

    def ack(self, handle: int) -> None:
        if self.open and not self.half_open:
            self.broker.world.after(self.broker.random.uniform(*HOP_S), self._acked, handle)

    def disconnect(self, flush: bool = False) -> None:
        """A clean end: no will. With `flush` what was published before arrives first, as it does on a whole TCP
        connection."""
        if self.open:
            self.open, self.will = False, None
            world = self.broker.world
            world.loop.at(max(self._up if flush else 0.0, world.now) + 0.01, self._gone)

    # --- the broker's side --------------------------------------------------------------------------------------------

    def push(self, topic: str, payload: bytes) -> None:
        if len(self.queue) >= QUEUE_MAX:
            self.broker.drop("queue full", self.client, topic)
            return
        self.queue.append((topic, payload))
        self._pump()

    def _pump(self) -> None:
        world = self.broker.world
        while self.queue and len(self.unacked) < self.window:
            message = self.queue.popleft()
            self._next += 1
            self.unacked[self._next] = message
            self._down = max(self._down, world.now) + self.broker.random.uniform(*HOP_S)
            world.loop.at(self._down, self._reaches, self._next, *message)

    def _reaches(self, handle: int, topic: str, payload: bytes) -> None:
        if self.open and not self.half_open and self.alive:
            self.deliver(self, handle, topic, payload)

    def _arrives(self, topic: str, payload: bytes) -> None:
        if self.alive and not self.half_open:
            self.broker.route(topic, payload)

    def _acked(self, handle: int) -> None:
        if self.alive and self.unacked.pop(handle, None) is not None:
            self._pump()

    def _gone(self) -> None:
        if self.alive:
            self.alive = False
            self.broker.ended(self)

    # --- what the world does to it ------------------------------------------------------------------------------------

    def cut(self, why: str, notice: tuple[float, float] = (0.0, 0.0)) -> None:
        """The connection breaks; client and broker notice after so many seconds. What is under way is lost."""
        self.half_open = True
        self.broker.world.after(notice[0], self._client_notices, why)
        self.broker.world.after(notice[1], self._gone)

    def freeze(self) -> None:
        """Half-open: both ends find out by their keepalive."""
        random = self.broker.random
        notice = random.uniform(0, MQTT_KEEPALIVE_S + PING_TIMEOUT_S), random.uniform(0, 1.5 * MQTT_KEEPALIVE_S)
        self.cut("no answer to the ping", notice)

    def _client_notices(self, why: str) -> None:
        if self.open:
            self.open = False
            for told in self.lost:
                told(why)


@dataclass(slots=True)
class Mood:
    """What the broker does to messages now."""

    dropping: float = 0.0
    repeating: float = 0.0
    delaying: float = 0.0
    late_s: float = 30.0


@dataclass(slots=True)
class Broker:
    world: World
    random: Random
    up: bool = True
    mood: Mood = field(default_factory=Mood)
    ports: dict[str, Port] = field(default_factory=dict)
    watchers: list[Callable[[str, bytes], None]] = field(default_factory=list)  # see what is published
    messages: int = 0

    def connect(self, client: str, window: int, will: Will | None, deliver: Deliver) -> Port | None:
        """Clean Start. None: nobody answers."""
        if not self.up:
            return None
        before = self.ports.pop(client, None)
        if before is not None:
            before.cut("taken over")
            if before.alive:
                before.alive = False
                if before.will is not None and self.random.random() < 0.5:
                    self.route(before.will.topic, before.will.payload)
                before.will = None
        port = self.ports[client] = Port(self, client, window, will, deliver)
        return port

    def subscribe(self, port: Port, topics: Sequence[str]) -> None:
        port.topics.update(topics)

    def route(self, topic: str, payload: bytes) -> None:
        """A message has arrived and is acknowledged to its sender; now the broker may do anything with it."""
        self.messages += 1
        for watcher in self.watchers:
            watcher(topic, payload)
        mood, luck = self.mood, self.random.random()
        if luck < mood.dropping:
            self.drop("dropped", "", topic)
            return
        if luck > 1 - mood.delaying:
            self.world.after(self.random.uniform(0, mood.late_s), self._hand_out, topic, payload)
        else:
            self._hand_out(topic, payload)
        if self.random.random() < mood.repeating:
            self.world.tell("fault", f"repeats a message on {topic}")
            self.world.after(self.random.uniform(0, mood.late_s), self._hand_out, topic, payload)

    def inject(self, topic: str, payload: bytes) -> None:
        """What nobody published: the broker's own."""
        self._hand_out(topic, payload)

    def _hand_out(self, topic: str, payload: bytes) -> None:
        for port in list(self.ports.values()):
            if topic in port.topics and port.alive:
                port.push(topic, payload)

    def drop(self, why: str, client: str, topic: str) -> None:
        self.world.count("broker dropped")
        self.world.tell("fault", f"broker: {why} {client} {topic}")

    def ended(self, port: Port) -> None:
        """A connection ended without its client's leave (or with it, then it has no will any more)."""
        if self.ports.get(port.client) is port:
            del self.ports[port.client]
        if port.will is not None:
            self.world.after(MQTT_WILL_DELAY_S, self._will, port)

    def _will(self, port: Port) -> None:
        """Unless the client came back in time."""
        if port.will is not None and self.up and (port.client not in self.ports or self.random.random() < 0.3):
            self.route(port.will.topic, port.will.payload)

    def restart(self) -> None:
        """Without persistence: every session, queue and will is forgotten."""
        for port in list(self.ports.values()):
            port.will = None
            port.cut("the broker is gone", (self.random.uniform(0, 2), 0.0))
        self.ports.clear()

    def window(self) -> int:
        return INBOX_FRAMES_MAX
