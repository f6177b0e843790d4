"""Task events: which are told, when, and how often."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from skerry.containerd.channel import Connection
from skerry.containerd.events import FILTERS, Feed, Owner, TaskSeen, Topic, listen, task_seen
from skerry.containerd.stubs import events
from skerry.errors import RuntimeAway
from skerry.limits import EXIT_SETTLE_S
from skerry.ports import RuntimeEvent


def envelope(topic: str, payload: bytes, namespace: str = "k8s.io") -> events.Envelope:
    return events.Envelope(namespace=namespace, topic=topic, event=events.Payload(type_url="x", value=payload))


def started(container_id: str) -> events.Envelope:
    return envelope("/tasks/start", events.TaskEvent(container_id=container_id).SerializeToString())


def exited(container_id: str, process: str | None = None) -> events.Envelope:
    ended = events.TaskExit(container_id=container_id, id=container_id if process is None else process)
    return envelope("/tasks/exit", ended.SerializeToString())


@pytest.mark.parametrize(
    ("said", "seen"),
    [
        (started("c"), TaskSeen(Topic.START, "c")),
        (exited("c"), TaskSeen(Topic.EXIT, "c")),
        (exited("c", "exec-of-a-probe"), None),
        (envelope("/tasks/oom", events.TaskEvent(container_id="c").SerializeToString()), TaskSeen(Topic.OOM, "c")),
        (envelope("/tasks/paused", b""), None),
        (envelope("/tasks/start", b"\n\x01c", namespace="moby"), None),
        (envelope("/tasks/exit", b"\xff\xff\xff"), None),
        (events.Envelope(), None),
    ],
)
def test_which_events_matter(said: events.Envelope, seen: TaskSeen | None) -> None:
    assert task_seen(said) == seen


def test_containerd_filters_by_namespace_and_topic() -> None:
    assert FILTERS[0] == 'namespace=="k8s.io",topic=="/tasks/start"'


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return 0.0

    async def sleep_until(self, when: float) -> None:
        self.time = max(self.time, when)
        await asyncio.sleep(0)


class World:
    """A connection that says what is put into `said`, and a CRI that shows an exit after `lag` questions."""

    def __init__(self, lag: int = 0) -> None:
        self.said: asyncio.Queue[events.Envelope | None] = asyncio.Queue()
        self.clock = Clock()
        self.owners = {
            "c": Owner("u-1", sandbox=False),
            "s": Owner("u-1", sandbox=True),
            "d": Owner("u-2", sandbox=False),
        }
        self.lag = lag
        self.asked = 0

    async def subscribe(self, *_: object) -> AsyncIterator[events.Envelope | None]:
        yield None
        while True:
            said = await self.said.get()
            if said is None:
                raise RuntimeAway("Subscribe: gone")
            yield said

    async def ended(self, own_id: str, owner: Owner) -> bool:
        del own_id, owner
        self.asked += 1
        return self.asked > self.lag

    def listen(self) -> AsyncIterator[RuntimeEvent]:
        return listen(cast(Connection, self), self.clock, self.owners, self.ended)


async def following(told: AsyncIterator[RuntimeEvent]) -> str:
    return (await asyncio.wait_for(told.__anext__(), 5)).pod_uid


async def test_the_first_event_says_that_listening_has_begun_then_pods_are_named() -> None:
    world = World()
    told = world.listen()
    assert await following(told) == ""
    world.said.put_nowait(started("d"))
    assert await following(told) == "u-2"
    world.said.put_nowait(exited("s"))
    assert await following(told) == "u-1"
    world.said.put_nowait(started("of somebody else"))
    world.said.put_nowait(exited("made before the first look"))
    assert await following(told) == ""
    world.said.put_nowait(None)
    with pytest.raises(RuntimeAway):
        await following(told)


async def test_an_exit_is_told_once_cri_shows_it() -> None:
    world = World(lag=3)
    told = world.listen()
    await following(told)
    world.said.put_nowait(exited("c"))
    assert await following(told) == "u-1"
    assert world.asked == 4


async def test_an_exit_that_cri_never_shows_is_told_in_the_end() -> None:
    world = World(lag=1_000_000)
    told = world.listen()
    await following(told)
    world.said.put_nowait(exited("c"))
    assert await following(told) == "u-1"
    assert world.clock.time >= EXIT_SETTLE_S[1]
    assert world.asked < 20


async def test_events_that_nobody_takes_are_one_for_each_pod() -> None:
    world = World()
    told = world.listen()
    await following(told)
    for _ in range(1_000):
        world.said.put_nowait(started("c"))
        world.said.put_nowait(started("d"))
    while not world.said.empty():
        await asyncio.sleep(0)
    taken = [await following(told) for _ in range(2)]
    assert sorted(taken) == ["u-1", "u-2"]
    nothing = asyncio.ensure_future(cast(Any, told).__anext__())
    await asyncio.sleep(0.01)
    assert not nothing.done()
    nothing.cancel()


async def test_who_stops_listening_leaves_no_task() -> None:
    world = World(lag=1_000_000)
    told = world.listen()
    await following(told)
    world.said.put_nowait(exited("c"))
    await asyncio.sleep(0)
    await cast(Any, told).aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_feed_gives_each_uid_once_in_order() -> None:
    feed = Feed()
    for uid in ("a", "b", "a"):
        feed.put(uid)
    assert [await feed.take(), await feed.take()] == ["a", "b"]
