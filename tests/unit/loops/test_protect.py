"""What a device does with frames on a broker that may send anything: what it hears, what it drops, what it says when.

`unit/wire/test_guard.py` has the decisions; here they are carried out, in a session with its journal too.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from skerry.errors import Malformed
from skerry.limits import EXCHANGE_KEY_BYTES, REPLAY_WINDOW_MAX
from skerry.loops.link import link_loop
from skerry.loops.protect import Protected, Protection, SealedStreamLink
from skerry.loops.pulse import Pulse
from skerry.loops.report import Counters
from skerry.model.desired import Kind, set_digest, short
from skerry.model.report import ReportKind
from skerry.model.streams import CloseCode
from skerry.mux import CONNECTION, StreamCounts
from skerry.ports import Inbound
from skerry.wire import message
from skerry.wire.delta import statement
from skerry.wire.guard import DOWN, SEALED, SIGNED, UP, DeviceGuard, HubGuard, Signer, stream_label
from skerry.wire.message import Ack, Delta, Hello, Message, Put, Reject, RejectCode, Welcome
from skerry.wire.report import decode_report
from skerry.wire.session import DeviceSession, Identity
from skerry.wire.streams import Close
from skerry.wire.streams import encode as encode_stream
from skerry.world.sodium import Sodium
from skerry_hub.cloudhub.protect import StreamFrames
from skerry_hub.cloudhub.streams import Lane
from skerry_hub.crypto import OpenSsl
from unit.hub.fakes import Dice, FakeBroker, ManualClock, settle
from unit.journal.memory_store import MemoryStore, opened, pod_object

DEVICE, HUB, NEXT, STRANGER = (bytes((n,)) * 32 for n in (1, 2, 3, 4))
STAMP = b" by the authority"
HELLO = Hello("pi-7", b"12345678", b"j" * 16, "boot", "", "", 0, 0, set_digest(()), 1, 1, 0, "0.1.0")
WELCOME = Welcome(HELLO.nonce, inventory=False, reports=False, credit=16)
OPENSSL = OpenSsl()


def signer(seed: bytes) -> Signer:
    return Signer(seed, OPENSSL.public(seed) + STAMP)


class Authority:
    """ports.Authority, which counts."""

    def __init__(self) -> None:
        self.asked = 0

    async def certified(self, chain: bytes) -> bytes:
        self.asked += 1
        if not chain.endswith(STAMP):
            raise Malformed("not certified")
        return chain.removesuffix(STAMP)


class Wire:
    """ports.Link whose other end is the test."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.down: asyncio.Queue[bytes] = asyncio.Queue()
        self.acked = 0

    async def connect(self) -> None:
        pass

    async def recv(self) -> Inbound:
        return Inbound(await self.down.get(), 1)

    async def send(self, frame: bytes) -> None:
        self.sent.append(frame)

    def ack(self, handle: int) -> None:
        self.acked += 1

    async def close(self) -> None:
        pass


class Site:
    """A device's frames and the hub's guard at the other end."""

    def __init__(self) -> None:
        self.wire, self.clock, self.dice = Wire(), ManualClock(), Dice(5)
        self.authority, self.counters, self.log = Authority(), Counters(), list[str]()
        self.guard = DeviceGuard(Sodium(), DEVICE)
        self.signer = signer(HUB)
        self.hub = HubGuard(OPENSSL, lambda: self.signer, lambda _: OPENSSL.public(DEVICE), number=count(1).__next__)
        self.protection = Protection(self.guard, self.authority)
        self.reconnect()

    def reconnect(self) -> None:
        """The frames of another connection."""
        self.frames = Protected(self.wire, self.protection, self.clock, self.dice, self.say, self.counters)

    def say(self, line: str) -> None:
        self.log.append(line)

    async def greet(self) -> bytes:
        await self.frames.send(HELLO)
        hello = self.wire.sent.pop()
        assert message.decode(self.hub.open(hello)) == HELLO
        return hello

    def down(self, said: Message) -> bytes:
        return self.hub.close(message.encode(said), self.dice.token(EXCHANGE_KEY_BYTES))

    async def live(self) -> bytes:
        """The answer."""
        await self.greet()
        answer = self.down(WELCOME)
        assert await self.frames.opened(answer) == message.encode(WELCOME)
        assert self.hub.open(self.wire.sent.pop()) == b"", "the proof that the Hello was no copy"
        return answer


@pytest.fixture
def site() -> Site:
    return Site()


async def test_nothing_but_a_hello_is_said_before_the_answer(site: Site) -> None:
    await site.greet()
    await site.frames.send(Reject(HELLO.nonce, RejectCode.MALFORMED))
    assert site.wire.sent == []
    assert await site.frames.opened(site.down(WELCOME)) is not None
    await site.frames.send(Ack(HELLO.nonce, 1, bytes(16)))
    assert [payload[:1] for payload in site.wire.sent] == [SEALED, SEALED]
    assert site.hub.open(site.wire.sent[0]) == b""
    assert site.hub.open(site.wire.sent[1]) != b""


async def test_without_protection_frames_pass_as_they_are(site: Site) -> None:
    plain = Protected(site.wire, None, site.clock, site.dice, site.say, site.counters)
    await plain.send(HELLO)
    assert message.decode(site.wire.sent[0]) == HELLO
    assert await plain.opened(b"anything") == b"anything"
    assert plain.secrets is None


async def test_outside_a_session_a_hail_is_heard_and_nothing_else(site: Site) -> None:
    hail = message.encode(Reject(b"", RejectCode.NO_SESSION))
    assert await site.frames.opened(site.hub.word(hail)) == hail
    others = (
        Reject(HELLO.nonce, RejectCode.NO_SESSION),
        Ack(HELLO.nonce, 0, HELLO.digest),
        Delta(HELLO.nonce, "store", "epoch", 1, 1, bytes(16), bytes(16)),
        WELCOME,
    )
    for said in others:
        assert await site.frames.opened(site.hub.word(message.encode(said))) is None
    assert await site.frames.opened(site.hub.word(b"\xff")) is None
    assert site.counters["frames_refused"] == len(others) + 1
    assert site.wire.sent == []


async def test_what_came_before_is_counted_and_dropped_the_answer_too(site: Site) -> None:
    answer = await site.live()
    ack = site.down(Ack(HELLO.nonce, 1, bytes(16)))
    assert await site.frames.opened(ack) is not None
    for payload in (ack, answer, ack):
        assert await site.frames.opened(payload) is None
    assert site.counters == {"frames_replayed": 3}
    assert site.wire.sent == []


async def test_what_is_no_frame_of_the_hub_is_counted_dropped_and_harms_nothing(site: Site) -> None:
    answer = await site.live()
    await site.greet()
    turned = bytearray(site.down(WELCOME))
    turned[-1] ^= 1
    for payload in (message.encode(WELCOME), answer, bytes(turned), b"", SIGNED, SEALED, SEALED + b"junk"):
        assert await site.frames.opened(payload) is None
    assert site.counters["frames_refused"] == 7
    turned[-1] ^= 1
    assert await site.frames.opened(bytes(turned)) == message.encode(WELCOME)


# --- a session with its journal ---------------------------------------------------------------------------------------


class Talk:
    """The link's loop of a device, at the other end of which the test says what a hub would."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.hello = HELLO

    async def start(self) -> None:
        self.journal = await opened(MemoryStore())
        site, session = self.site, DeviceSession(Identity("pi-7", "boot-1", "0.1.0"))
        beat = Pulse(site.clock, ()).of("link")
        loop = link_loop(
            site.wire, self.journal, session, site.clock, Dice(), site.say, site.counters, beat,
            lambda _epoch, _secrets: None, lambda: site.protection,
        )  # fmt: skip
        self.task = asyncio.ensure_future(loop)
        await settle()

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def greeted(self) -> None:
        """A session is live."""
        hello = message.decode(self.site.hub.open(self.site.wire.sent.pop()))
        assert isinstance(hello, Hello)
        self.hello = hello
        await self.says(Welcome(hello.nonce, False, False, 16))

    async def again(self) -> None:
        """The next session, after the pause."""
        sent = self.site.wire.sent
        sent.clear()
        while not sent or sent[-1][:1] != SIGNED:
            await self.site.clock.advance(1)
        await self.greeted()

    async def says(self, said: Message) -> None:
        self.site.wire.down.put_nowait(self.site.down(said))
        await settle()

    def delta(self) -> Delta:
        pod = pod_object("pod-1", '{"metadata":{}}')
        put = Put(Kind.POD, "pod-1", short(pod.digest), False, pod.body)
        after = set_digest([((Kind.POD, "pod-1"), pod.digest)])
        return Delta(self.hello.nonce, "store", "epoch", 1, 1, self.hello.digest, after, (put,))

    def proven(self, said: Delta, hub: HubGuard | None = None, device: bytes = b"") -> Delta:
        return replace(said, proof=(hub or self.site.hub).prove(statement(said, device or self.site.guard.kid)))

    def events(self) -> list[tuple[str, str]]:
        items = [item for item in self.journal.outbox(0, 100) if item.kind is ReportKind.EVENT]
        found: list[Any] = [decode_report(item.kind, item.body) for item in items]
        return [(event.reason, event.message) for event in found]


@pytest.mark.parametrize("how", ["absent", "a stranger's", "for another device", "for another session", "one bit"])
async def test_a_set_that_is_not_signed_by_this_hub_for_this_device_now_is_refused_and_told_once(
    site: Site, how: str
) -> None:
    """By whoever has the session's keys and not the signing key, such as a hub's memory that was read."""
    talk = Talk(site)
    await talk.start()
    await talk.greeted()
    good = talk.delta()
    stranger = HubGuard(OPENSSL, lambda: signer(STRANGER), lambda _: OPENSSL.public(DEVICE))
    bad = {
        "absent": good,
        "a stranger's": talk.proven(good, stranger),
        "for another device": talk.proven(good, device=b"another0"),
        "for another session": replace(talk.proven(replace(good, nonce=b"another0")), nonce=good.nonce),
        "one bit": replace(good, proof=_turned(talk.proven(good).proof)),
    }[how]
    await talk.says(bad)
    for _ in range(3):
        await talk.again()
        await talk.says(replace(bad, nonce=talk.hello.nonce))
    assert talk.journal.desired.generation == 0
    assert talk.events() == [("SetRefused", "the set is not signed by my hub for me")]
    await talk.again()
    await talk.says(talk.proven(talk.delta()))
    assert talk.journal.desired.generation == 1
    await talk.stop()


def _turned(data: bytes) -> bytes:
    return data[:-1] + bytes((data[-1] ^ 1,))


async def test_a_signed_set_that_comes_again_changes_nothing(site: Site) -> None:
    """As it travelled, and signed anew by a hub that went back."""
    talk = Talk(site)
    await talk.start()
    await talk.greeted()
    first = talk.proven(talk.delta())
    payload = site.down(first)
    for _ in range(3):
        site.wire.down.put_nowait(payload)
        await settle()
    assert talk.journal.desired.generation == 1
    assert site.counters["frames_replayed"] == 2
    older = replace(first, generation=0, resource_version=0)
    await talk.says(talk.proven(older))
    assert talk.journal.desired.generation == 1
    assert talk.events() == [("SetRefused", "generation 0 after 1")]
    await talk.stop()


async def test_every_frame_is_acknowledged_to_the_broker_also_one_that_is_dropped(site: Site) -> None:
    """Else it would come again for ever."""
    talk = Talk(site)
    await talk.start()
    for payload in (b"", b"junk", SEALED + b"junk", SIGNED):
        site.wire.down.put_nowait(payload)
        await settle()
    assert site.wire.acked == 4
    await talk.stop()


# --- streams ----------------------------------------------------------------------------------------------------------


class StreamWire:
    """ports.StreamLink whose other end is the test."""

    def __init__(self) -> None:
        self.will = b""
        self.sent: list[bytes] = []
        self.down: asyncio.Queue[bytes] = asyncio.Queue()

    async def connect(self, gone: bytes) -> None:
        self.will = gone

    async def recv(self) -> bytes:
        return await self.down.get()

    async def send(self, frame: bytes, bulk: bool) -> None:
        self.sent.append(frame)

    async def close(self) -> None:
        pass


EPOCH = b"epoch-01"


async def test_what_is_not_the_hubs_on_a_connection_for_streams_is_counted_and_passed_over(site: Site) -> None:
    await site.live()
    secrets, wire = site.frames.secrets, StreamWire()
    assert secrets is not None
    assert site.hub.secrets is not None
    link = SealedStreamLink(wire, secrets, EPOCH, site.counters)
    down, other = (site.hub.secrets.sender(stream_label(epoch, DOWN)) for epoch in (EPOCH, b"epoch-02"))
    good = down.seal(b"open a shell")
    up = secrets.sender(stream_label(EPOCH, UP)).seal(b"the device's own")
    for payload in (b"open a shell", other.seal(b"of another epoch"), up, SEALED, good, good, down.seal(b"next")):
        wire.down.put_nowait(payload)
    assert [await link.recv(), await link.recv()] == [b"open a shell", b"next"]
    assert site.counters["frames_refused"] == 5


async def test_a_will_is_believed_after_any_number_of_frames_and_ends_the_streams(site: Site) -> None:
    """The broker has it from the beginning; a log that was followed for hours ends at once when its device vanishes."""
    await site.live()
    secrets, wire, counts = site.frames.secrets, StreamWire(), StreamCounts()
    assert secrets is not None
    link = SealedStreamLink(wire, secrets, EPOCH, site.counters)
    lane = Lane("pi-7", EPOCH, FakeBroker(), counts, StreamFrames(EPOCH, lambda: site.hub.secrets))
    life = asyncio.ensure_future(lane.run())
    await link.connect(encode_stream(Close(EPOCH, CONNECTION, CloseCode.LOST, 0, "gone")))
    for number in range(REPLAY_WINDOW_MAX + 10):
        await link.send(encode_stream(Close(EPOCH, 1_000 + number, CloseCode.DONE, 0)), bulk=True)
        lane.push(wire.sent[-1])
        if not number % 100:
            await settle()
    assert (lane.unopened, lane.dropped) == (0, 0)
    assert not lane.mux.gone.is_set()
    lane.push(wire.will)
    await settle()
    assert lane.mux.gone.is_set()
    for payload in (wire.sent[0], wire.sent[-1], wire.will):
        lane.push(payload)
    assert lane.unopened == 3
    life.cancel()
    await asyncio.gather(life, return_exceptions=True)


async def test_streams_that_nobody_asked_for_have_no_keys(site: Site) -> None:
    """Neither can a broker dial, nor does the hub say anything before it has."""
    frames = StreamFrames(EPOCH, lambda: None)
    for call in (frames.opened, frames.closed):
        with pytest.raises(Malformed, match="nobody asked for"):
            call(b"anything")
