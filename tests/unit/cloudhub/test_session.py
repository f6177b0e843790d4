"""A device's session and its hub session against each other: the stories, then storms that must end in agreement."""

from __future__ import annotations

from random import Random

import pytest

from skerry.limits import HAIL_BACKOFF_S, REPORT_ITEMS_MAX
from skerry.model.report import Phase
from skerry.wire import message
from skerry.wire import session as wire_session
from skerry.wire.message import Ack, Delta, Inventory, Reject, RejectCode, Report, Welcome
from skerry_hub.cloudhub.session import HubSession, Send, State
from unit.wire.pair import (
    EPOCH,
    NODE,
    STORE,
    Board,
    Pair,
    config,
    desired,
    kinds,
    objects,
    origin,
    pod,
    settled,
    target,
)

A, B, C = pod("a"), pod("b"), config("c")


# --- the main cases ---------------------------------------------------------------------------------------------------


def test_a_device_joins() -> None:
    pair = Pair(target(A, C))
    pair.connect()
    pair.calm()
    assert kinds(pair.said) == ["Hello", "Welcome", "Delta", "Ack"]
    assert pair.board.desired.objects.keys() == {A.key, C.key}
    assert origin(pair) == (STORE, EPOCH, 5)


def test_a_reconnect_with_nothing_changed_is_one_hello_and_one_ack() -> None:
    pair = settled(A, C)
    pair.cut()
    pair.will()
    assert kinds(pair.said) == ["Reject"], "asks whether it has come again, and is heard by nobody"
    pair.connect()
    pair.calm()
    assert kinds(pair.said) == ["Reject", "Hello", "Ack"]


def test_a_session_that_is_left_alone_says_nothing_and_wants_no_clock() -> None:
    pair = settled(A, C)
    pair.deliver()
    assert (pair.device.deadline, pair.hub.deadline, pair.said) == (None, None, [])


def test_a_changed_field_is_one_delta_with_one_patch() -> None:
    pair = settled(A, C)
    pair.set_target(target(pod("a", "busybox:2"), C, version=6))
    pair.calm()
    delta, ack = pair.said
    assert isinstance(delta, Delta)
    assert [p.patched for p in delta.puts] == [True]
    assert isinstance(ack, Ack)
    assert len(message.encode(delta)) < 160


def test_a_change_while_a_delta_is_under_way_becomes_the_next_one() -> None:
    pair = settled(A, C)
    pair.set_target(target(A, C, B, version=6))
    pair.set_target(target(A, version=7))
    assert kinds(pair.said) == ["Delta"]
    pair.calm()
    assert kinds(pair.said) == ["Delta", "Ack", "Delta", "Ack"]
    assert pair.board.desired.objects.keys() == {A.key}


def test_a_hub_that_lost_its_memory_asks_for_an_inventory_and_all_statuses() -> None:
    pair = settled(A, C)
    pair.restart_hub()
    pair.set_target(target(A, B, version=9))
    pair.calm()
    assert {"Reject", "Hello", "Welcome", "Inventory", "Delta", "Report"} <= set(kinds(pair.said))
    assert [c.deletes for c in pair.board.commits[1:]] == [frozenset({C.key})]


def test_a_restarted_hub_whose_target_the_device_has_needs_no_inventory() -> None:
    pair = settled(A, C)
    pair.restart_hub()
    pair.calm()
    assert not any(isinstance(m, Inventory) for m in pair.said)
    assert len(pair.board.commits) == 1


def test_a_set_that_needs_several_deltas_is_patched_against_what_the_device_has() -> None:
    """Objects that a step leaves for the next one keep their old bodies at the hub."""
    pair = settled(*(pod(f"p{i}", "v1", size=20_000) for i in range(20)))
    pair.set_target(target(*(pod(f"p{i}", "v2", size=20_000) for i in range(20)), version=6))
    pair.calm()
    assert set(kinds(pair.said)) == {"Delta", "Ack"}
    assert len(pair.said) > 4


def test_the_device_rejects_a_delta_and_the_next_session_repairs_it() -> None:
    pair = settled(A, C)
    assert pair.hub.base is not None
    other = pod("a", "busyboy")
    pair.hub.base.bodies[A.key] = other.body  # not what the device has, so the patch gives something else there
    pair.set_target(target(other, C, version=6))
    pair.calm()
    rejects = [m for m in pair.said if isinstance(m, Reject)]
    assert [r.code for r in rejects] == [RejectCode.DIGEST]
    assert any(isinstance(m, Inventory) for m in pair.said)


# --- reports ----------------------------------------------------------------------------------------------------------


def test_a_report_is_forgotten_only_once_the_api_has_it() -> None:
    pair = settled(A)
    pair.api_up = False
    pair.tell("a", Phase.FAILED)
    pair.deliver()
    assert pair.board.items
    pair.api_up = True
    pair.calm()
    assert not pair.board.items
    assert pair.shown["a"][1] == pair.board.statuses["a"]


def test_a_lost_report_is_not_covered_by_the_ack_of_the_next_one() -> None:
    pair = settled(A)
    pair.tell("first", Phase.RUNNING)
    pair.to_hub.clear()  # the broker dropped it
    pair.tell("second", Phase.RUNNING)
    pair.calm()
    assert pair.shown.keys() == {"a", "first", "second"}


def test_a_lost_ack_of_reports_is_repeated_at_the_next_hello_and_nothing_is_told_twice() -> None:
    pair = settled(A)
    pair.tell("b", Phase.RUNNING)
    pair.hub_gets()
    pair.store()
    pair.to_device.clear()
    pair.cut()
    pair.connect()
    pair.calm()
    assert kinds(pair.said) == ["Report", "Ack", "Hello", "Ack"]


def test_a_lost_welcome_is_given_again_so_that_every_status_is_told() -> None:
    """A restarted hub asks once; if the asking is lost with the connection it must ask again."""
    pair = settled(A)
    pair.restart_hub()
    pair.sync_informers()
    pair.deliver_until(Welcome)
    pair.cut()
    pair.shown.clear()  # the API came from an older backup
    pair.connect()
    pair.calm()
    assert pair.shown.keys() == {"a"}


def test_reports_stay_within_a_frame_however_long_their_messages_are() -> None:
    pair = settled(A)
    pair.cut()
    for i in range(REPORT_ITEMS_MAX * 3):
        pair.board.tell(f"pod-{i}", Phase.FAILED, "".join(Random(i).choices("abcdefghijkl", k=2_000)))
    pair.connect()
    pair.calm()
    assert len(pair.shown) == 1 + REPORT_ITEMS_MAX * 3


def test_an_api_that_is_away_makes_the_device_come_back_less_and_less_often() -> None:
    pair = settled(A)
    pair.api_up = False
    pair.tell("a", Phase.FAILED)
    began = pair.now
    while pair.now < began + 3_600:
        pair.deliver()
        assert pair.device.deadline is not None, "an unstored report has a deadline"
        pair.device_ticks()
    assert 8 <= kinds(pair.said).count("Hello") <= 60
    pair.api_up = True
    pair.calm(seconds=400)


# --- loss, silence, strangers -----------------------------------------------------------------------------------------


def test_a_hub_that_accepts_and_never_answers_is_asked_again_with_growing_pauses() -> None:
    pair = Pair()
    pair.connect()
    began = pair.now
    while pair.now < began + 86_400:
        pair.to_hub.clear()
        pair.device_ticks()
    assert 200 <= kinds(pair.said).count("Hello") <= 1_200
    pair.set_target(target(A))
    pair.calm(seconds=400)


def test_a_full_journal_is_tried_again_with_growing_pauses_and_heals() -> None:
    pair = settled(A)
    pair.board.full = True
    pair.set_target(target(A, B, version=6))
    began = pair.now
    while pair.now < began + 3_600:
        pair.deliver()
        assert pair.device.deadline is not None
        pair.device_ticks()
    rejects = [m for m in pair.said if isinstance(m, Reject)]
    assert {r.code for r in rejects} == {RejectCode.FULL}
    assert 8 <= len(rejects) <= 60
    assert pair.full == "map full"
    pair.board.full = False
    pair.calm(seconds=400)
    assert pair.full == ""


def test_a_will_that_is_older_than_the_session_does_not_leave_the_hub_deaf() -> None:
    """The device is asked at once; where a broker says one will after the other, at a pace."""
    pair = settled(A)
    pair.will()
    assert kinds(pair.said) == ["Reject"]
    pair.calm(seconds=HAIL_BACKOFF_S[0] / 2)
    assert kinds(pair.said) == ["Reject", "Hello", "Ack"]
    pair.will()
    assert (pair.hub.state, len(pair.said)) == (State.AWAY, 3)
    assert pair.hub.deadline == pair.now + HAIL_BACKOFF_S[0]
    pair.set_target(target(A, B, version=6))
    pair.calm(seconds=60)


def test_a_repeated_hello_changes_nothing() -> None:
    pair = Pair(target(A))
    pair.connect()
    hello = pair.to_hub[0]
    pair.calm()
    said = len(pair.said)
    pair.to_hub.append(hello)
    pair.deliver()
    assert len(pair.said) == said
    assert pair.agreed()


def test_a_late_repeated_hello_does_not_make_the_hub_believe_what_was_true_then() -> None:
    """The set went from A to A and B and is on its way back to A when the Hello of the time of A comes again."""
    pair = settled(A)
    pair.cut()
    pair.connect()
    hello = pair.to_hub[0]
    pair.calm()
    pair.set_target(target(A, B, version=6))
    pair.calm()
    pair.set_target(target(A, version=7))
    pair.to_device.clear()  # the Delta is lost
    pair.to_hub.append(hello)
    pair.calm()
    assert pair.board.desired.objects == objects(A)


def test_a_repeated_inventory_leaves_the_deadline_of_a_delta_alone() -> None:
    pair = settled(A)
    pair.restart_hub()
    pair.set_target(target(A, B, version=7))
    pair.deliver_until(Welcome)
    pair.device_gets()
    inventory = pair.to_hub[0]
    pair.hub_gets()
    pair.to_device.clear()  # the Delta is lost
    pair.to_hub.append(inventory)
    pair.calm()
    assert pair.board.desired.objects == objects(A, B)


def test_a_repeated_report_that_is_stored_is_acknowledged_again_at_once() -> None:
    pair = settled(A)
    pair.tell("b", Phase.RUNNING)
    pair.hub_gets(keep=True)
    pair.store()
    pair.to_device.clear()  # its Ack is lost
    began = pair.now
    pair.deliver()
    assert (pair.board.items, pair.device.deadline, pair.now) == ({}, None, began)


def test_an_answer_for_another_set_than_the_device_has_starts_the_session_anew() -> None:
    pair = settled(A)
    pair.cut()
    pair.connect()
    hello = message.decode(pair.to_hub[0])
    pair.to_device.append(message.encode(Ack(hello.nonce, generation=99, digest=b"d" * 16)))
    pair.device_gets()
    assert pair.device.state is wire_session.State.PAUSED


def test_a_delta_that_overtakes_the_welcome_does_not_hide_what_the_welcome_asks() -> None:
    pair = settled(A)
    pair.restart_hub()
    pair.set_target(target(A, B, version=7))
    pair.deliver_until(Welcome)
    pair.to_device.pop()
    pair.shown.clear()
    hello = pair.said[-2]
    delta = Delta(hello.nonce, STORE, EPOCH, 7, 2, pair.board.desired.digest, b"x" * 16)
    pair.to_device.append(message.encode(delta))
    pair.device_gets()
    assert pair.device.state is wire_session.State.GREETING
    pair.calm()
    assert pair.shown.keys() == {"a"}


def test_a_late_frame_of_an_earlier_session_cannot_end_the_present_one() -> None:
    pair = settled(A)
    pair.tell("b", Phase.RUNNING)
    late = list(pair.to_hub)
    pair.to_hub.clear()
    pair.cut()
    pair.connect()
    pair.calm()
    pair.said.clear()
    pair.to_hub += late
    pair.calm()
    pair.deliver()
    assert kinds(pair.said) == ["Reject"]
    assert pair.device.state is wire_session.State.LIVE


def test_a_hello_of_another_node_is_not_answered() -> None:
    pair = settled(A)
    pair.hub = HubSession("another")
    pair.hub.target(target(A), pair.now)
    pair.cut()
    pair.connect()
    pair.hub_gets()
    assert pair.to_device == []


def test_a_cloned_disk_does_not_have_its_reports_acknowledged_unseen() -> None:
    """The same journal id with lower sequences: the hub's memory of that journal is worth nothing."""
    pair = settled(A)
    for i in range(20):
        pair.tell(f"p{i}", Phase.RUNNING)
    pair.calm()
    pair.cut()
    pair.board.items, pair.board.outbox_next = {}, 3
    pair.shown.clear()
    pair.board.tell("new", Phase.RUNNING)
    pair.connect()
    pair.calm()
    assert "new" in pair.shown


@pytest.mark.parametrize("what", [Welcome(b"n" * 8, True, True, 16), Report(b"n" * 8, b"j" * 16, (), 0)])
def test_a_message_of_a_device_without_a_session_never_raises(what: message.Message) -> None:
    session = HubSession(NODE)
    for effect in session.received(what, 0.0):
        if isinstance(effect, Send):
            assert isinstance(effect.message, Reject)


def test_an_absent_device_is_hailed_for_ever_but_rarely() -> None:
    session = HubSession(NODE)
    session.hail(0.0)
    session.lost(1.0)
    now, hails = 1.0, 0
    while now < 7 * 86_400:
        assert session.deadline is not None
        now = session.deadline
        hails += sum(isinstance(e, Send) for e in session.tick(now))
    assert 24 * 7 - 1 <= hails <= 24 * 7 + 10


def test_a_hello_that_comes_after_a_later_one_does_not_leave_both_ends_silent() -> None:
    """Of a time when the device had nothing: the hub believes it and, wanting nothing, has nothing to ask."""
    pair = Pair(target(version=6))
    pair.connect()
    late = pair.to_hub.pop()
    pair.cut()
    pair.board = Board(desired(A))
    pair.connect()
    pair.deliver_until(Welcome)
    pair.device_gets()
    pair.to_hub.clear()
    pair.to_hub.append(late)
    pair.calm(seconds=100)
    assert pair.board.desired.objects == {}
