"""Devices at a broker that vanishes, and beside devices that flood, hang and talk nonsense."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from skerry.limits import (
    ACK_TIMEOUT_S,
    CREDIT_FRAMES,
    FLOOD_DROPS_MAX,
    FLOOD_PAUSE_S,
    RECONNECT_BACKOFF_S,
    SESSION_QUEUE_FRAMES_MAX,
)
from skerry.model.desired import Object
from skerry.model.report import OutboxItem, Phase, PodStatus, ReportKind
from skerry.wire import message
from skerry.wire.message import Ack, Delta, Hello, Message, Reject, RejectCode, Report, Welcome
from skerry.wire.report import encode_report
from skerry.wire.session import Commit, DeviceSession, Effect, Identity, Retell, Send, Trim
from skerry_hub.cloudhub.session import State, Target
from skerry_hub.cloudhub.sessions import Sessions, topic
from skerry_hub.limits import PRESENCE_GRACE_S
from unit.hub.fakes import Dice, FakeBroker, FakeController, ManualClock, settle
from unit.wire.pair import EPOCH, NODE, STORE, Board, objects, pod

OTHER = "pi-8"
A, B = pod("a"), pod("b")


def target(*what: Object, version: int = 5) -> Target:
    return Target(STORE, EPOCH, version, objects(*what))


class Site:
    def __init__(self) -> None:
        self.broker, self.controller, self.clock = FakeBroker(), FakeController(), ManualClock()
        self.log: list[str] = []
        self.sessions = Sessions(self.broker, self.controller, self.clock, Dice(), self.log.append)
        self.task: asyncio.Task[None] | None = None

    async def start(self, *nodes: str) -> None:
        self.sessions.nodes(nodes)
        self.task = asyncio.ensure_future(self.sessions.run())
        await self.clock.advance(0.5)

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    def up(self, node: str, said: Message) -> bool:
        return self.broker.say(topic(node, "up"), message.encode(said))

    def counts(self, node: str = NODE) -> dict[str, Any]:
        shown: dict[str, Any] = self.sessions.snapshot()["devices"][node]
        return shown


class Device:
    """The device's real session over the fake broker, with its journal in memory."""

    def __init__(self, site: Site, node: str = NODE) -> None:
        self.site, self.node, self.board = site, node, Board()
        self.session = DeviceSession(Identity(node, "boot", "0.1.0"))
        self.heard: list[Message] = []
        self._hellos = 0

    async def connect(self) -> None:
        self._hellos += 1
        self.site.broker.heard(self.node)  # Clean Start: what was said before is gone
        nonce = self._hellos.to_bytes(8, "big")
        self._do(self.session.opened(self.board, self.site.clock.now(), 0.0, nonce))
        await self.converse()

    async def converse(self) -> None:
        """Until neither end has anything to say without time passing."""
        for _ in range(20):
            await self.site.clock.advance(0.06)  # beyond STATUS_COALESCE_S
            heard = self.site.broker.heard(self.node)
            self.heard += heard
            for said in heard:
                now = self.site.clock.now()
                self._do(self.session.received(message.encode(said), self.board, now, 0.5))
            if not heard:
                return

    async def tell(self, uid: str, phase: Phase) -> None:
        self.board.tell(uid, phase)
        self._do(self.session.flush(self.board, self.site.clock.now()))
        await self.converse()

    def _do(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(said):
                    self.site.up(self.node, said)
                case Commit(change):
                    self.board.apply(change, hub_may_wipe=True)
                    self._do(self.session.committed(self.board, self.site.clock.now()))
                case Trim(seq):
                    self.board.trim(seq)
                case Retell():
                    self.board.retell()
                case _:
                    pass


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    site.controller.targets = {NODE: target(A), OTHER: target(B)}
    yield site
    await site.stop()


def hello(node: str = NODE, nonce: bytes = b"12345678") -> Hello:
    board = Board()
    return Hello(
        node, nonce, board.journal_id, "boot", "", "", 0, 0, board.desired.digest, 1, board.outbox_next, 0, "0.1.0"
    )


def report(first: int, count: int = 1, after: int | None = None, nonce: bytes = b"12345678") -> Report:
    body = encode_report(PodStatus("a", "default", "a", Phase.RUNNING))
    items = tuple(OutboxItem(first + i, ReportKind.POD_STATUS, "a", body) for i in range(count))
    return Report(nonce, b"j" * 16, items, first - 1 if after is None else after)


# --- the main cases ---------------------------------------------------------------------------------------------------


async def test_every_device_is_subscribed_by_name_and_hailed_once(site: Site) -> None:
    await site.start(NODE, OTHER)
    assert site.broker.topics == {topic(n, w) for n in (NODE, OTHER) for w in ("up", "will")}
    for node in (NODE, OTHER):
        assert [m.code for m in site.broker.heard(node) if isinstance(m, Reject)] == [RejectCode.NO_SESSION]


async def test_a_device_joins_gets_its_set_and_reports(site: Site) -> None:
    await site.start(NODE)
    device = Device(site)
    await device.connect()
    assert device.board.desired.objects.keys() == {A.key}
    assert ("live", NODE) in site.controller.said
    await device.tell("a", Phase.RUNNING)
    assert device.board.items == {}
    assert {node for node, _ in site.controller.stored} == {NODE}
    site.controller.targets[NODE] = target(A, B, version=6)
    site.sessions.changed(NODE)
    await device.converse()
    assert device.board.desired.objects.keys() == {A.key, B.key}
    assert site.counts()["generation"] == 2


async def test_a_hello_is_answered_once_the_informers_are_synced(site: Site) -> None:
    synced = site.controller.targets.pop(NODE)
    await site.start(NODE)
    device = Device(site)
    await device.connect()
    assert not any(isinstance(m, (Welcome, Ack, Delta)) for m in device.heard)
    site.controller.targets[NODE] = synced
    site.sessions.changed(NODE)
    await device.converse()
    assert device.board.desired.objects.keys() == {A.key}


async def test_reports_are_acknowledged_only_once_stored(site: Site) -> None:
    await site.start(NODE)
    device = Device(site)
    await device.connect()
    site.controller.api_up.clear()
    await device.tell("a", Phase.RUNNING)
    assert device.board.items
    site.controller.api_up.set()
    await device.converse()
    assert device.board.items == {}


async def test_an_api_that_is_away_keeps_no_change_of_the_set_waiting(site: Site) -> None:
    await site.start(NODE)
    device = Device(site)
    await device.connect()
    site.controller.api_up.clear()
    await device.tell("a", Phase.RUNNING)
    site.controller.targets[NODE] = target(A, B, version=6)
    site.sessions.changed(NODE)
    await device.converse()
    assert device.board.desired.objects.keys() == {A.key, B.key}


async def test_reports_that_come_close_together_are_one_batch(site: Site) -> None:
    await site.start(NODE)
    site.up(NODE, hello())
    await site.clock.advance(0.1)
    site.up(NODE, report(1))
    await site.clock.advance(0.01)
    for seq in range(2, 10):
        site.up(NODE, report(seq))
    await site.clock.advance(0.1)
    assert site.controller.batches == [1, 8]


# --- presence ---------------------------------------------------------------------------------------------------------


async def test_a_will_ends_the_session_at_once(site: Site) -> None:
    await site.start(NODE)
    await Device(site).connect()
    site.broker.say(topic(NODE, "will"), b"lost")
    await settle()
    assert site.controller.said[-1] == ("gone", NODE)
    assert site.counts()["state"] == State.AWAY.value


async def test_a_device_that_never_answers_counts_as_away_after_the_grace(site: Site) -> None:
    await site.start(NODE)
    await site.clock.advance(PRESENCE_GRACE_S - 2)
    assert site.controller.said == []
    await site.clock.advance(2)
    assert site.controller.said == [("gone", NODE)]


async def test_a_broker_that_restarts_flaps_no_node(site: Site) -> None:
    await site.start(NODE)
    device = Device(site)
    await device.connect()
    site.broker.up = False
    site.broker.cut()
    device.session.lost()
    await site.clock.advance(20)
    site.broker.up = True
    await site.clock.advance(RECONNECT_BACKOFF_S[1])
    await device.connect()
    await site.clock.advance(10 * PRESENCE_GRACE_S)
    assert site.controller.said.count(("live", NODE)) == 1
    assert ("gone", NODE) not in site.controller.said
    assert site.broker.connects == 2
    assert site.counts()["state"] == State.LIVE.value


async def test_a_broker_that_stays_away_shows_after_the_grace(site: Site) -> None:
    await site.start(NODE)
    await Device(site).connect()
    site.broker.up = False
    site.broker.cut()
    await site.clock.advance(PRESENCE_GRACE_S + 1)
    assert site.controller.said[-1] == ("gone", NODE)


async def test_hails_are_spread(site: Site) -> None:
    nodes = [f"pi-{i}" for i in range(100)]
    site.sessions.nodes(nodes)
    site.task = asyncio.ensure_future(site.sessions.run())
    await settle()
    early = len(site.broker.published)
    await site.clock.advance(0.25)
    middle = len(site.broker.published)
    await site.clock.advance(1.0)
    assert early < middle < len(site.broker.published) == 100
    assert early <= 25


async def test_a_device_that_does_not_answer_a_delta_is_asked_to_begin_anew(site: Site) -> None:
    await site.start(NODE)
    site.up(NODE, hello())
    await settle()
    assert any(isinstance(m, Delta) for m in site.broker.heard(NODE))
    await site.clock.advance(ACK_TIMEOUT_S + 1)
    (reject,) = [m for m in site.broker.heard(NODE) if isinstance(m, Reject)]
    assert reject.code is RejectCode.NO_SESSION


# --- nodes come and go ------------------------------------------------------------------------------------------------


async def test_a_new_node_is_subscribed_and_a_deleted_one_is_not_listened_to(site: Site) -> None:
    await site.start(NODE)
    site.sessions.nodes([NODE, OTHER])
    await settle()
    assert topic(OTHER, "up") in site.broker.topics
    site.sessions.nodes([OTHER])
    await settle()
    assert topic(NODE, "up") not in site.broker.topics
    assert NODE not in site.sessions.snapshot()["devices"]


async def test_a_message_on_a_strange_topic_is_counted(site: Site) -> None:
    await site.start(NODE)
    site.broker.topics.add("skerry/v1/stranger/up")
    site.broker.say("skerry/v1/stranger/up", b"x")
    assert site.sessions.counts.strays == 1


# --- hostile and broken devices ---------------------------------------------------------------------------------------


async def test_a_malformed_frame_is_counted_and_costs_only_that_session(site: Site) -> None:
    await site.start(NODE, OTHER)
    one, two = Device(site, NODE), Device(site, OTHER)
    await one.connect()
    await two.connect()
    site.broker.say(topic(NODE, "up"), b"\xff\xff")
    await settle()
    (reject,) = [m for m in site.broker.heard(NODE) if isinstance(m, Reject)]
    assert reject.code is RejectCode.MALFORMED
    assert site.counts()["malformed"] == 1
    assert site.counts()["state"] == State.AWAY.value
    assert site.counts(OTHER)["state"] == State.LIVE.value
    assert site.broker.connects == 1


async def test_nonsense_is_not_answered_frame_by_frame(site: Site) -> None:
    await site.start(NODE)
    site.broker.heard(NODE)
    for i in range(50):
        site.broker.say(topic(NODE, "up"), b"\xff%d" % i)
        await settle()
    assert len(site.broker.heard(NODE)) == 1
    assert site.counts()["rejects_held"] == 49


async def test_a_burst_beyond_the_queue_is_dropped_and_counted(site: Site) -> None:
    await site.start(NODE)
    for _ in range(SESSION_QUEUE_FRAMES_MAX + 10):
        site.broker.say(topic(NODE, "up"), b"x")
    counts = site.counts()
    assert (counts["queue"], counts["dropped_queue"]) == (SESSION_QUEUE_FRAMES_MAX, 10)
    assert counts["queue_peak"] == SESSION_QUEUE_FRAMES_MAX


async def test_a_flood_is_not_listened_to_for_a_while_and_others_go_on(site: Site) -> None:
    await site.start(NODE, OTHER)
    two = Device(site, OTHER)
    await two.connect()
    for _ in range(SESSION_QUEUE_FRAMES_MAX + FLOOD_DROPS_MAX + 1):
        site.broker.say(topic(NODE, "up"), b"x")
    await settle()
    assert not {topic(NODE, "up"), topic(NODE, "will")} & site.broker.topics
    assert site.counts()["floods"] == 1
    assert site.counts()["queue"] == 0
    await two.tell("b", Phase.RUNNING)
    assert two.board.items == {}
    await site.clock.advance(1.5 * FLOOD_PAUSE_S[0] + 1)
    assert topic(NODE, "up") in site.broker.topics
    device = Device(site, NODE)
    await device.connect()
    assert device.board.desired.objects.keys() == {A.key}


async def test_the_pause_grows_with_each_flood_and_stays_bounded(site: Site) -> None:
    await site.start(NODE)
    pauses = []
    for _ in range(7):
        for _ in range(SESSION_QUEUE_FRAMES_MAX + FLOOD_DROPS_MAX + 1):
            site.broker.say(topic(NODE, "up"), b"x")
        await settle()
        began = site.clock.now()
        while topic(NODE, "up") not in site.broker.topics:
            await site.clock.advance(5)
        pauses.append(site.clock.now() - began)
    assert max(pauses) <= FLOOD_PAUSE_S[1] + FLOOD_PAUSE_S[0]
    assert max(pauses[3:]) > 60


async def test_wills_in_a_row_are_a_flood_too(site: Site) -> None:
    await site.start(NODE)
    for _ in range(FLOOD_DROPS_MAX + 2):
        site.broker.say(topic(NODE, "will"), b"lost")
    await settle()
    assert topic(NODE, "will") not in site.broker.topics


async def test_reports_beyond_the_credit_are_dropped_and_not_covered_by_an_ack(site: Site) -> None:
    await site.start(NODE)
    site.up(NODE, hello())
    await settle()
    site.controller.api_up.clear()
    for seq in range(1, CREDIT_FRAMES + 4):
        site.up(NODE, report(seq))
    await site.clock.advance(0.1)
    assert site.counts()["dropped_credit"] == 3
    site.controller.api_up.set()
    await site.clock.advance(0.1)
    site.up(NODE, report(CREDIT_FRAMES + 4))
    await site.clock.advance(0.1)
    acked = [m.seq for m in site.broker.heard(NODE) if isinstance(m, Ack) and m.seq is not None]
    assert max(acked) == CREDIT_FRAMES
    assert [seq for _, seq in site.controller.stored] == list(range(1, CREDIT_FRAMES + 1))


async def test_a_device_whose_publish_hangs_delays_nobody(site: Site) -> None:
    await site.start(NODE, OTHER)
    site.broker.stuck.add(topic(NODE, "down"))
    site.up(NODE, hello())
    await settle()
    for _ in range(1_000):
        site.broker.say(topic(NODE, "up"), b"x")
    device = Device(site, OTHER)
    await device.connect()
    await device.tell("b", Phase.RUNNING)
    assert device.board.desired.objects.keys() == {B.key}
    assert device.board.items == {}


async def test_a_hello_for_another_node_on_my_topic_changes_nothing(site: Site) -> None:
    await site.start(NODE, OTHER)
    site.up(NODE, hello(OTHER))
    await settle()
    assert site.counts()["state"] == site.counts(OTHER)["state"] == State.AWAY.value
    assert site.controller.said == []


async def test_a_bug_in_one_session_is_counted_and_that_session_begins_anew(site: Site) -> None:
    await site.start(NODE, OTHER)
    broken = site.sessions.device(NODE)
    assert broken is not None
    broken.session.received = None  # type: ignore[method-assign, assignment]
    site.up(NODE, hello())
    await settle()
    assert site.counts()["crashes"] == 1
    assert len(site.log) == 1
    device = Device(site, OTHER)
    await device.connect()
    assert device.board.desired.objects.keys() == {B.key}
    await site.clock.advance(5)
    mine = Device(site, NODE)
    await mine.connect()
    assert mine.board.desired.objects.keys() == {A.key}


async def test_an_api_writer_that_fails_is_a_counted_bug_and_the_reports_come_again(site: Site) -> None:
    await site.start(NODE)
    device = Device(site)
    await device.connect()

    async def broken(node: str, items: object) -> None:
        raise ZeroDivisionError

    whole, site.controller.store_reports = site.controller.store_reports, broken  # type: ignore[method-assign]
    await device.tell("a", Phase.RUNNING)
    assert site.counts()["crashes"] == 1
    site.controller.store_reports = whole  # type: ignore[method-assign]
    assert device.board.items
    await site.clock.advance(5)
    await device.connect()
    assert device.board.items == {}


async def test_an_idle_session_sets_no_timer(site: Site) -> None:
    await site.start(NODE)
    await Device(site).connect()
    before = site.counts()
    await site.clock.advance(86_400)
    assert site.counts() == before
