"""Devices that flood, hang and talk nonsense: each is bounded and counted, and delays no other."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from skerry.limits import (
    CREDIT_FRAMES,
    FLOOD_DROPS_MAX,
    FLOOD_PAUSE_S,
    SESSION_QUEUE_FRAMES_MAX,
)
from skerry.model.report import Phase
from skerry.wire.message import Ack, Reject, RejectCode
from skerry_hub.cloudhub.session import State
from skerry_hub.cloudhub.sessions import topic
from unit.hub.fakes import settle
from unit.hub.session_site import OTHER, A, B, Device, Site, hello, report, target
from unit.wire.pair import NODE


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    site.controller.targets = {NODE: target(A), OTHER: target(B)}
    yield site
    await site.stop()


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
