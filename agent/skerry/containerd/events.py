"""containerd's task events to RuntimeEvents.

Decides which events matter and when they may be told: CRI learns of an exit from the same stream as we do, so a look
right after it could still show the container running; an exit is told once CRI shows it. Any number of events of one
pod that nobody has taken yet are one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from google.protobuf.message import DecodeError

from skerry.containerd.channel import Connection
from skerry.containerd.stubs import events
from skerry.errors import RuntimeAway, RuntimeFailed
from skerry.limits import EXIT_SETTLE_S
from skerry.ports import Clock, RuntimeEvent

SUBSCRIBE = "/containerd.services.events.v1.Events/Subscribe"
NAMESPACE = "k8s.io"  # where containerd's CRI keeps what it makes


class Topic(str, Enum):
    START = "/tasks/start"
    EXIT = "/tasks/exit"
    OOM = "/tasks/oom"


FILTERS = tuple(f'namespace=="{NAMESPACE}",topic=="{topic.value}"' for topic in Topic)


@dataclass(frozen=True, slots=True)
class TaskSeen:
    topic: Topic
    id: str  # of a container or a sandbox


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a task is: the pod, and whether it is its sandbox."""

    pod_uid: str
    sandbox: bool


def task_seen(envelope: events.Envelope) -> TaskSeen | None:
    """None for what does not matter: another topic or namespace, the exit of an exec, a payload that makes no sense."""
    if envelope.namespace != NAMESPACE or envelope.topic not in {topic.value for topic in Topic}:
        return None
    topic = Topic(envelope.topic)
    try:
        if topic is Topic.EXIT:
            ended = events.TaskExit.FromString(envelope.event.value)
            return TaskSeen(topic, ended.container_id) if ended.id == ended.container_id else None
        return TaskSeen(topic, events.TaskEvent.FromString(envelope.event.value).container_id)
    except DecodeError:
        return None


class Feed:
    """Pod uids that wait to be told, each once."""

    def __init__(self) -> None:
        self._uids: dict[str, None] = {}
        self._changed = asyncio.Event()

    def put(self, pod_uid: str) -> None:
        self._uids[pod_uid] = None
        self._changed.set()

    async def take(self) -> str:
        while not self._uids:
            self._changed.clear()
            await self._changed.wait()
        pod_uid = next(iter(self._uids))
        del self._uids[pod_uid]
        return pod_uid


async def listen(
    connection: Connection,
    clock: Clock,
    owners: Mapping[str, Owner],
    ended: Callable[[str, Owner], Awaitable[bool]],
) -> AsyncIterator[RuntimeEvent]:
    """Until RuntimeAway or RuntimeFailed. The first one has no uid: what happened before it went unheard."""
    feed = Feed()
    reading = asyncio.ensure_future(_read(connection, clock, owners, ended, feed))
    taking = asyncio.ensure_future(feed.take())
    try:
        while True:
            await asyncio.wait({reading, taking}, return_when=asyncio.FIRST_COMPLETED)
            if not taking.done():
                reading.result()  # raises: it never returns
            yield RuntimeEvent(taking.result())
            taking = asyncio.ensure_future(feed.take())
    finally:
        await _end(reading, taking)


async def _read(
    connection: Connection,
    clock: Clock,
    owners: Mapping[str, Owner],
    ended: Callable[[str, Owner], Awaitable[bool]],
    feed: Feed,
) -> None:
    """Never leaves an event lying in the connection: its flow control is shared with every call."""
    settling: set[asyncio.Future[None]] = set()
    request = events.SubscribeRequest(filters=FILTERS)
    try:
        async for envelope in connection.subscribe(SUBSCRIBE, request, events.Envelope):
            if envelope is None:
                feed.put("")
                continue
            seen = task_seen(envelope)
            if seen is None:
                continue
            owner = owners.get(seen.id)
            if owner is None:
                # A start that we do not know is not of our making, or whoever makes it waits for the answer.
                if seen.topic is not Topic.START:
                    feed.put("")
            elif seen.topic is Topic.EXIT:
                task = asyncio.ensure_future(_settle(clock, seen.id, owner, ended, feed))
                settling.add(task)
                task.add_done_callback(settling.discard)
            else:
                feed.put(owner.pod_uid)
    finally:
        await _end(*settling)


async def _settle(
    clock: Clock, own_id: str, owner: Owner, ended: Callable[[str, Owner], Awaitable[bool]], feed: Feed
) -> None:
    pause, longest = EXIT_SETTLE_S
    deadline = clock.now() + longest
    try:
        while not await ended(own_id, owner) and clock.now() < deadline:
            await clock.sleep_until(clock.now() + pause)
            pause *= 2
    except (RuntimeAway, RuntimeFailed):
        pass  # the look that follows will say so
    feed.put(owner.pod_uid)


async def _end(*tasks: asyncio.Future[object] | asyncio.Future[None] | asyncio.Future[str]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
