"""The link loop's own words. What it does is the simulator's."""

from __future__ import annotations

import asyncio

from skerry.errors import LinkLost
from skerry.limits import JOURNAL_ALARM_RATIO, LINK_REASONS_MAX
from skerry.loops.link import link_loop
from skerry.loops.pulse import Pulse
from skerry.loops.report import Counters
from skerry.model.desired import Key, Kind, set_digest, short
from skerry.ports import Inbound
from skerry.wire import message
from skerry.wire.message import Delta, Hello, Message, Put, Welcome
from skerry.wire.session import DeviceSession, Identity
from unit.hub.fakes import Dice, ManualClock, settle
from unit.journal.memory_store import MemoryStore, opened, pod_object


class Hub:
    """ports.Link whose other end gives the device one more pod whenever it is told to."""

    def __init__(self) -> None:
        self.hello: Hello | None = None
        self.digests: list[tuple[Key, bytes]] = []
        self._down: asyncio.Queue[Message] = asyncio.Queue()

    async def connect(self) -> None:
        pass

    async def recv(self) -> Inbound:
        return Inbound(message.encode(await self._down.get()), 1)

    async def send(self, frame: bytes) -> None:
        said = message.decode(frame)
        if isinstance(said, Hello):
            self.hello = said
            self._down.put_nowait(Welcome(said.nonce, False, False, 16))

    def ack(self, handle: int) -> None:
        pass

    async def close(self) -> None:
        pass

    def give(self, uid: str) -> None:
        assert self.hello is not None
        pod = pod_object(uid, '{"metadata":{}}')
        base = set_digest(self.digests)
        self.digests.append(((Kind.POD, uid), pod.digest))
        number = len(self.digests)
        put = Put(Kind.POD, uid, short(pod.digest), False, pod.body)
        after = set_digest(self.digests)
        self._down.put_nowait(Delta(self.hello.nonce, "store", "epoch", number, number, base, after, (put,)))


class Filling(MemoryStore):
    """As full as the test says."""

    used = 0.0

    def usage(self) -> float:
        return self.used


async def test_a_journal_that_fills_up_is_said_once_and_again_after_it_had_room() -> None:
    store, lines = Filling(), list[str]()
    hub, journal = Hub(), await opened(store)
    session = DeviceSession(Identity("pi-7", "boot-1", "0.1.0"))
    clock = ManualClock()
    beat = Pulse(clock, ()).of("link")
    dialled = list[bytes]()
    loop = link_loop(
        hub, journal, session, clock, Dice(), lambda line: lines.append(line), Counters(), beat,
        lambda epoch, _secrets: dialled.append(epoch),
    )
    task = asyncio.ensure_future(loop)
    await settle()
    over = JOURNAL_ALARM_RATIO + 0.01
    said = []
    for number, part in enumerate([JOURNAL_ALARM_RATIO, over, over, 0.5, over]):
        store.used = part
        hub.give(f"pod-{number}")
        await settle()
        assert journal.desired.generation == number + 1
        said.append(sum("over 80% of journal_bytes_max" in line for line in lines))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert said == [0, 1, 1, 1, 2]


class Refusing(Hub):
    """One that nobody reaches, for a reason that changes."""

    def __init__(self) -> None:
        super().__init__()
        self.why, self.tries = "no route", 0

    async def connect(self) -> None:
        self.tries += 1
        raise LinkLost(self.why)


async def test_a_new_reason_is_said_however_long_the_link_has_been_away_and_an_old_one_is_not_repeated() -> None:
    hub, lines, clock = Refusing(), list[str](), ManualClock()
    session = DeviceSession(Identity("pi-7", "boot-1", "0.1.0"))
    journal, beat = await opened(MemoryStore()), Pulse(clock, ()).of("link")
    task = asyncio.ensure_future(
        link_loop(hub, journal, session, clock, Dice(), lambda line: lines.append(line), Counters(), beat, print)
    )
    await clock.advance(3_600)
    assert lines == ["link: no route"] * 3
    assert hub.tries > 50
    for why in ("the token has expired", "no route", "the token has expired"):
        hub.why = why
        await clock.advance(600)
    assert lines[3:] == ["link: the token has expired"]
    for number in range(2 * LINK_REASONS_MAX):
        hub.why = f"reason {number}"
        await clock.advance(600)
    assert len(lines) == 2 + LINK_REASONS_MAX, "and there is a bound"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
