"""Devices' sessions on a broker that vanishes and comes back, beside an API that is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from skerry.limits import (
    ACK_TIMEOUT_S,
    RECONNECT_BACKOFF_S,
)
from skerry.model.report import Phase
from skerry.wire.message import Ack, Delta, Reject, RejectCode, Welcome
from skerry_hub.cloudhub.session import State
from skerry_hub.cloudhub.sessions import RIVAL, topic, whose
from skerry_hub.limits import BROKER_STEADY_S, PRESENCE_GRACE_S
from unit.hub.fakes import settle
from unit.hub.session_site import OTHER, A, B, Device, Site, hello, report, target
from unit.wire.pair import NODE


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    site.controller.targets = {NODE: target(A), OTHER: target(B)}
    yield site
    await site.stop()


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


async def test_two_hubs_that_throw_each_other_off_are_told(site: Site) -> None:
    """Of one name, as without --replica. Once, and not of a broker that is away or that ends an old connection."""
    await site.start(NODE)
    for connects in (2, 3, 4, 5):
        site.broker.cut()
        while site.broker.connects < connects:
            await site.clock.advance(1.0)
        await site.clock.advance(0.5)
    assert [line for line in site.log if "--replica" in line] == [f"broker: {RIVAL}"]
    site.log.clear()
    for connects in (6, 7, 8):
        await site.clock.advance(BROKER_STEADY_S)
        site.broker.cut()
        while site.broker.connects < connects:
            await site.clock.advance(1.0)
    assert not [line for line in site.log if "--replica" in line]


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


DOTTED = ["a", "a.b", "a.b.c", "a.up", "a.will", "up", "skerry", "skerry.v1.a", "a.streams", "v1"]


def test_a_topic_names_one_node_in_either_spelling() -> None:
    """RabbitMQ hands back `/` for `.`; no node's name has a `/`, so nothing falls together."""
    for spelled in (str, lambda name: name.replace(".", "/")):
        said = {spelled(topic(node, which)): (node, which) for node in DOTTED for which in ("up", "will", "down")}
        assert len(said) == 3 * len(DOTTED)
        assert {name: whose(name) for name in said} == said


@pytest.mark.parametrize("name", ["", "up", "skerry/v1/up", "skerry/v1//up", "other/skerry/v1/a/up", "skerry/v2/a/up"])
def test_a_topic_of_others_is_nobodys(name: str) -> None:
    assert whose(name) == ("", "")


async def test_a_dotted_node_is_heard_from_a_broker_that_takes_dots_for_slashes(site: Site) -> None:
    node, neighbour = "pi.7", "pi-7"
    site.broker.slashes = True
    site.controller.targets = {node: target(A), neighbour: target(B)}
    await site.start(node, neighbour)
    device = Device(site, node)
    await device.connect()
    assert device.board.desired.objects.keys() == {A.key}
    await device.tell("a", Phase.RUNNING)
    assert {name for name, _ in site.controller.stored} == {node}
    site.broker.say(topic(node, "will"), b"lost")
    assert (site.counts(node)["wills"], site.counts(neighbour)["frames"]) == (1, 0)
    assert site.sessions.counts.strays == 0


async def test_an_idle_session_sets_no_timer(site: Site) -> None:
    await site.start(NODE)
    await Device(site).connect()
    before = site.counts()
    await site.clock.advance(86_400)
    assert site.counts() == before


async def test_a_device_that_goes_while_it_is_being_subscribed_is_not_hailed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another replica took it over: the hub goes on with the others."""
    subscribe = site.broker.subscribe

    async def slowly(topics: Sequence[str]) -> None:
        site.sessions.nodes([NODE])  # OTHER is not ours any more
        await subscribe(topics)

    monkeypatch.setattr(site.broker, "subscribe", slowly)
    await site.start(NODE, OTHER)
    assert [m.code for m in site.broker.heard(NODE) if isinstance(m, Reject)] == [RejectCode.NO_SESSION]
    assert site.broker.heard(OTHER) == []
    assert site.broker.topics == {topic(NODE, w) for w in ("up", "will")}
