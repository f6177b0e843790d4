"""An empty, old or foreign hub deletes and changes nothing on a device until it is adopted; it may add objects."""

from __future__ import annotations

from dataclasses import replace

import pytest

from skerry.limits import OBJECT_BYTES_MAX, PODS_MAX, RESTORED_WAIT_S
from skerry.model.desired import Kind
from skerry.wire.message import Reject
from skerry_hub.cloudhub.session import HubSession
from unit.wire.pair import (
    EPOCH,
    NODE,
    OTHER_EPOCH,
    OTHER_STORE,
    STORE,
    Pair,
    config,
    desired,
    objects,
    origin,
    pod,
    settled,
    target,
)

A, B, C = pod("a"), pod("b"), config("c")


@pytest.mark.parametrize(("store", "epoch"), [(OTHER_STORE, OTHER_EPOCH), (STORE, OTHER_EPOCH), (OTHER_STORE, EPOCH)])
def test_another_store_or_epoch_deletes_and_changes_nothing_until_adopted(store: str, epoch: str) -> None:
    pair = Pair(target(store=store, epoch=epoch, version=1), start=desired(A, C))
    pair.connect()
    pair.calm()
    pair.set_target(target(pod("a", "evil"), B, store=store, epoch=epoch, version=2))
    pair.calm()
    assert pair.held is True
    assert pair.board.desired.objects == objects(A, C, B), "only new objects are accepted"
    assert origin(pair) == (STORE, EPOCH, 5)

    pair.set_target(target(pod("a", "evil"), B, store=store, epoch=epoch, version=2, adopted=True))
    pair.calm()
    assert pair.held is False
    assert pair.board.desired.objects == objects(pod("a", "evil"), B)
    assert (pair.board.desired.store, pair.board.desired.epoch) == (store, epoch)


def test_adoption_of_an_equal_set_only_changes_where_it_comes_from() -> None:
    pair = Pair(target(A, epoch=OTHER_EPOCH, adopted=True), start=desired(A))
    pair.connect()
    pair.calm()
    assert pair.board.desired.epoch == OTHER_EPOCH
    assert pair.board.commits[0].puts == ()


def test_an_older_backup_of_the_same_store_asks_for_an_epoch_at_once_and_changes_nothing_meanwhile() -> None:
    """Before the hub's own writes can carry a restored API past what the device has seen."""
    pair = Pair(target(version=3), start=desired(A, C, version=5))
    pair.connect()
    pair.deliver()
    assert pair.epochs == 1
    assert pair.board.commits == []
    pair.set_target(target(epoch=OTHER_EPOCH, version=3))
    pair.calm()
    assert pair.held is True
    assert pair.board.desired.objects == objects(A, C)


def test_a_restored_api_that_has_passed_the_device_by_its_own_writes_is_doubted_all_the_same() -> None:
    """The hub began to follow it at 3; Leases have brought it to 9; the device has 5, and not from this process."""
    pair = Pair(replace(target(version=9), floor=3), start=desired(A, C, version=5))
    pair.connect()
    pair.deliver()
    assert pair.epochs == 1
    assert pair.board.commits == []


def test_what_a_device_has_from_this_very_process_is_no_cause_for_doubt() -> None:
    """Also in a new session, and when the device comes again after it was removed."""
    pair = Pair(replace(target(A, version=9), floor=3), start=desired(version=2))
    pair.connect()
    pair.calm()
    assert pair.board.desired.resource_version == 9
    pair.hub = HubSession(NODE, pair.hub.given)
    pair.set_target(replace(target(version=12), floor=3))
    pair.connect()
    pair.calm()
    assert pair.epochs == 0
    assert pair.board.desired.objects == {}


def test_an_epoch_that_could_not_be_opened_is_asked_for_again_without_a_hot_loop() -> None:
    pair = Pair(target(version=3), start=desired(A, C, version=5))
    pair.connect()
    pair.deliver()
    asked = []
    for _ in range(12):
        if pair.hub.deadline is not None:
            pair.hub_ticks()
        pair.deliver()
        asked.append((pair.now, pair.epochs))
    assert pair.epochs >= 3
    assert pair.now >= 1_000 + 3 * RESTORED_WAIT_S
    assert pair.board.commits == []


def test_a_hub_that_is_merely_behind_goes_on_as_soon_as_it_has_caught_up() -> None:
    pair = Pair(target(A, version=4), start=desired(A, C, version=5))
    pair.connect()
    pair.deliver()
    pair.set_target(target(A, version=6))  # what the new listing showed: it was only behind
    pair.calm()
    assert pair.epochs == 1, "asked once; whether one is opened is decided by the new listing"
    assert pair.held is False
    assert pair.board.desired.objects == objects(A)


def test_a_held_device_takes_new_objects_only_as_far_as_its_limits_reach() -> None:
    """Else a restored hub and its devices would reject each other until somebody adopts."""
    mine = [pod(f"mine{i}") for i in range(PODS_MAX - 2)]
    theirs = [pod(f"theirs{i}") for i in range(5)]
    pair = Pair(target(*theirs, C, epoch=OTHER_EPOCH), start=desired(*mine))
    pair.connect()
    pair.deliver()
    assert not any(isinstance(m, Reject) for m in pair.said)
    assert len(pair.board.desired.objects) == PODS_MAX + 1
    pair.deliver()
    assert (pair.device.deadline, pair.hub.deadline) == (None, None)


def test_one_object_beyond_the_limit_does_not_hold_up_the_others() -> None:
    pair = settled(A)
    huge = pod("huge", size=OBJECT_BYTES_MAX)
    pair.set_target(target(huge, B, version=6))
    pair.deliver()
    assert pair.board.desired.objects == objects(B)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_namesake_of_what_the_device_has_waits_for_the_adoption_too(restarted: bool) -> None:
    """Another uid is another object, but two of one name would take each other's ports and folders."""
    pair = settled(A, C)
    if restarted:
        pair.restart_hub()
    pair.set_target(target(pod("z", name="a"), B, store=OTHER_STORE, epoch=OTHER_EPOCH, version=1))
    pair.calm(seconds=100)
    assert pair.board.desired.objects.keys() == {A.key, C.key, B.key}
    pair.set_target(target(pod("z", name="a"), B, store=OTHER_STORE, epoch=OTHER_EPOCH, version=2, adopted=True))
    pair.calm(seconds=100)
    assert pair.board.desired.objects.keys() == {(Kind.POD, "z"), B.key}


def test_a_namesake_of_what_the_foreign_hub_added_itself_waits_too() -> None:
    pair = settled(A)
    pair.restart_hub()
    pair.set_target(target(B, store=OTHER_STORE, epoch=OTHER_EPOCH, version=1))
    pair.calm(seconds=100)
    pair.set_target(target(pod("z", name="b"), store=OTHER_STORE, epoch=OTHER_EPOCH, version=2))
    pair.calm(seconds=100)
    assert pair.board.desired.objects.keys() == {A.key, B.key}
