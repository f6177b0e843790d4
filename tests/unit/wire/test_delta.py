"""What may become of a device's set: the Delta's checks over tables, and the way from one set to another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from random import Random
from types import MappingProxyType

import pytest

from skerry.limits import DELTA_BYTES_TARGET, FRAME_BYTES_MAX, OBJECT_BYTES_MAX, OBJECTS_MAX, PODS_MAX
from skerry.model.desired import (
    Change,
    Desired,
    Key,
    Kind,
    Object,
    digest_of,
    object_of,
    packed_objects,
    set_digest,
    short,
)
from skerry.wire.delta import Fault, Step, completed, judge, next_step
from skerry.wire.frame import deflate
from skerry.wire.message import Delta, Put, RejectCode, decode, encode
from unit.wire.pair import EPOCH, OTHER_EPOCH, OTHER_STORE, STORE, config, desired, objects, pod

A, A2, B, C = pod("a"), pod("a", "busybox:2"), pod("b"), config("c")
OWN = desired(A, C)  # store, epoch, version 5, generation 3


def put(o: Object, known: bytes | None = None) -> Put:
    data = o.body if known is None else deflate(o.body, known)
    return Put(o.kind, o.uid, short(o.digest), known is not None, data)


def delta(puts: tuple[Put, ...] = (), deletes: tuple[Key, ...] = (), after: tuple[Object, ...] = (A, C)) -> Delta:
    digest = set_digest((o.key, o.digest) for o in after)
    return Delta(b"n" * 8, STORE, EPOCH, 6, 4, OWN.digest, digest, puts, deletes)


GOOD = delta((put(A2, A.body), put(B)), (C.key,), (A2, B))


def test_a_good_delta_is_the_change_it_announces() -> None:
    change = judge(GOOD, OWN)
    assert isinstance(change, Change)
    after = OWN.changed(change)
    assert after.objects == objects(A2, B)
    assert (after.digest, after.generation, after.resource_version) == (GOOD.digest, 4, 6)


def test_a_repeat_of_what_is_applied_is_no_change_and_no_fault() -> None:
    change = judge(GOOD, OWN)
    assert isinstance(change, Change)
    assert judge(GOOD, OWN.changed(change)) is None


def test_a_delta_that_goes_on_names_no_store_and_means_that_of_the_set() -> None:
    sent = decode(encode(replace(GOOD, continues=True)))
    assert isinstance(sent, Delta)
    assert (sent.store, sent.epoch) == ("", "")
    assert completed(sent, OWN) == GOOD
    assert completed(replace(GOOD, epoch=OTHER_EPOCH), OWN).epoch == OTHER_EPOCH
    first = judge(completed(replace(sent, base=Desired().digest, generation=1), Desired()), Desired())
    assert isinstance(first, Fault)  # a device without a set has none to go on from
    assert first.code is RejectCode.FOREIGN


HUGE = object_of(Kind.POD, "b", bytes(OBJECT_BYTES_MAX + 1))
BOMB = deflate(bytes(64 * OBJECT_BYTES_MAX), A.body)
FAULTS: dict[str, tuple[Delta, RejectCode, str]] = {
    "older generation": (replace(GOOD, generation=3), RejectCode.STALE, "generation 3 after 3"),
    "far generation": (replace(GOOD, generation=5), RejectCode.STALE, "generation 5 after 3"),
    "generation 0": (replace(GOOD, generation=0), RejectCode.STALE, "generation 0"),
    "older version": (replace(GOOD, resource_version=4), RejectCode.STALE, "resourceVersion 4 after 5"),
    "another base": (replace(GOOD, base=b"x" * 16), RejectCode.BASE, "base"),
    "no store": (replace(GOOD, store="", adopt=True), RejectCode.FOREIGN, "no store"),
    "no epoch": (replace(GOOD, epoch="", adopt=True), RejectCode.FOREIGN, "no epoch"),
    "foreign deletes": (
        replace(delta(deletes=(C.key,), after=(A,)), store=OTHER_STORE), RejectCode.FOREIGN, "deletes without",
    ),
    "foreign changes": (
        replace(delta((put(A2),), after=(A2, C)), epoch=OTHER_EPOCH), RejectCode.FOREIGN, "changes objects without",
    ),
    "foreign repeats": (
        replace(delta((put(A),), after=(A, C)), epoch=OTHER_EPOCH), RejectCode.FOREIGN, "changes objects without",
    ),
    "patch of the unknown": (delta((put(B, A.body),), after=(A, B, C)), RejectCode.BASE, "POD b patches"),
    "patch of another body": (delta((put(A2, A2.body),), after=(A2, C)), RejectCode.MALFORMED, "POD a"),
    "patch that is none": (
        delta((replace(put(A2), patched=True),), after=(A2, C)), RejectCode.MALFORMED, "POD a: the deflated part",
    ),
    "bomb": (
        delta((Put(Kind.POD, "a", b"d" * 16, True, BOMB),), after=(A, C)), RejectCode.MALFORMED, "OBJECT_BYTES_MAX",
    ),
    "huge": (delta((put(HUGE),)), RejectCode.MALFORMED, "POD b is over"),
    "digest of an object": (
        delta((replace(put(B), digest=b"x" * 16),), after=(A, B, C)), RejectCode.DIGEST, "POD b does not",
    ),
    "digest of the set": (replace(GOOD, digest=b"x" * 16), RejectCode.DIGEST, "the set"),
    "deletes the unknown": (delta(deletes=(B.key,), after=(A, C)), RejectCode.BASE, "deletes what I do not have"),
    "puts twice": (delta((put(B), put(B)), after=(A, B, C)), RejectCode.MALFORMED, "twice"),
    "deletes twice": (delta(deletes=(C.key, C.key), after=(A,)), RejectCode.MALFORMED, "twice"),
    "puts and deletes": (delta((put(A2),), (A.key,), (A2, C)), RejectCode.MALFORMED, "twice"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_anything_else_is_a_fault_that_says_why_and_never_raises(name: str) -> None:
    bad, code, why = FAULTS[name]
    fault = judge(bad, OWN)
    assert isinstance(fault, Fault)
    assert (fault.code, why in fault.detail) == (code, True), fault


def test_more_pods_or_objects_than_the_device_takes_are_a_fault() -> None:
    pods = tuple(pod(f"p{i}") for i in range(PODS_MAX + 1))
    configs = tuple(config(f"c{i}") for i in range(OBJECTS_MAX + 1))
    for many in (pods, configs):
        fault = judge(replace(delta(tuple(map(put, many)), after=many), base=Desired().digest, generation=1), Desired())
        assert isinstance(fault, Fault)
        assert fault.code is RejectCode.MALFORMED
        fits = judge(
            replace(delta(tuple(map(put, many[:-1])), after=many[:-1]), base=Desired().digest, generation=1), Desired()
        )
        assert isinstance(fits, Change)


def test_a_foreign_hub_may_add_and_the_set_keeps_its_origin() -> None:
    change = judge(replace(delta((put(B),), after=(A, B, C)), store=OTHER_STORE, resource_version=1), OWN)
    assert isinstance(change, Change)
    assert (change.store, change.epoch, change.resource_version) == (STORE, EPOCH, 5)


def test_an_adopted_hub_may_do_everything_and_becomes_the_origin() -> None:
    bold = replace(GOOD, store=OTHER_STORE, epoch=OTHER_EPOCH, resource_version=1, adopt=True)
    change = judge(bold, OWN)
    assert isinstance(change, Change)
    assert (change.store, change.epoch, change.resource_version) == (OTHER_STORE, OTHER_EPOCH, 1)
    assert OWN.changed(change).objects == objects(A2, B)


def test_adoption_does_not_excuse_a_wrong_base_or_generation() -> None:
    for bad in (replace(GOOD, adopt=True, generation=9), replace(GOOD, adopt=True, base=b"x" * 16)):
        assert isinstance(judge(bad, OWN), Fault)


# --- next_step --------------------------------------------------------------------------------------------------------


def steps(base: Desired, target: Mapping[Key, Object], additions_only: bool = False) -> tuple[list[Step], Desired]:
    """Follow next_step to the end, each step judged and applied as a device does."""
    own = base
    taken: list[Step] = []
    while True:
        have = packed_objects(own.objects.values())
        bodies = {k: o.body for k, o in own.objects.items()}
        step = next_step(have, packed_objects(target.values()), target, bodies, additions_only)
        if step is None:
            return taken, own
        taken.append(step)
        sent = Delta(
            b"n" * 8, own.store or STORE, own.epoch or EPOCH, own.resource_version, own.generation + 1,
            digest_of(have), digest_of(step.after), step.puts, step.deletes,
        )  # fmt: skip
        assert len(encode(sent)) <= FRAME_BYTES_MAX
        change = judge(sent, own)
        assert isinstance(change, Change), change
        own = own.changed(change)


def test_equal_sets_need_no_step() -> None:
    assert steps(OWN, OWN.objects)[0] == []


def test_config_maps_and_secrets_travel_before_pods_and_deletions_first() -> None:
    secret = object_of(Kind.SECRET, "s", b"\xa0")
    taken, own = steps(OWN, objects(B, A2, secret, config("d")))
    assert [p.kind for p in taken[0].puts] == [Kind.CONFIG_MAP, Kind.SECRET, Kind.POD, Kind.POD]
    assert taken[0].deletes == (C.key,)
    assert own.objects == objects(B, A2, secret, config("d"))


def test_a_known_object_is_patched_and_a_new_one_is_not() -> None:
    (step,), _ = steps(OWN, objects(A2, B, C))
    assert [(p.uid, p.patched) for p in step.puts] == [("a", True), ("b", False)]
    assert len(step.puts[0].data) < len(A2.body) / 2


def test_much_travels_in_several_steps_each_within_its_target() -> None:
    many = objects(*(pod(f"p{i}", size=DELTA_BYTES_TARGET // 3) for i in range(10)))
    taken, own = steps(OWN, many)
    assert own.objects == many
    assert len(taken) == 5
    assert all(sum(len(p.data) for p in s.puts) <= DELTA_BYTES_TARGET for s in taken)


def test_the_largest_object_travels_alone_even_among_thousands_of_deletions() -> None:
    old = {o.key: o for o in (object_of(Kind.CONFIG_MAP, f"{i:0253}", b"\xa0") for i in range(OBJECTS_MAX))}
    base = replace(OWN, objects=MappingProxyType(old), digest=set_digest((k, o.digest) for k, o in old.items()))
    huge = object_of(Kind.POD, "u" * 253, Random(1).randbytes(OBJECT_BYTES_MAX))
    taken, own = steps(base, objects(huge))
    assert [(len(s.puts), len(s.deletes)) for s in taken] == [(0, OBJECTS_MAX), (1, 0)]
    assert own.objects == objects(huge)


def test_with_additions_only_nothing_is_deleted_or_changed() -> None:
    _, own = steps(OWN, objects(A2, B), additions_only=True)
    assert own.objects == objects(A, B, C)


def test_a_full_set_is_replaced_by_another_full_set() -> None:
    old, new = (objects(*(pod(f"{name}{i}") for i in range(PODS_MAX))) for name in "xy")
    start = replace(OWN, objects=MappingProxyType(old), digest=set_digest((k, o.digest) for k, o in old.items()))
    assert steps(start, new)[1].objects == new


def test_what_is_beyond_the_limits_is_left_out_and_the_rest_arrives() -> None:
    many = objects(*(pod(f"p{i:03}") for i in range(PODS_MAX + 5)), pod("huge", size=OBJECT_BYTES_MAX), C)
    taken, own = steps(Desired(), many)
    assert len(own.objects) == PODS_MAX + 1
    assert C.key in own.objects
    assert len(taken) < 5


def test_to_a_full_journal_deletions_go_first_then_one_object_alone_known_before_new_and_small_before_large() -> None:
    small, large = config("new-small"), config("new-large", "x" * 90_000)
    base = packed_objects((A, B, C))
    bodies = {o.key: o.body for o in (A, B, C)}
    target = objects(A2, C, small, large)
    ways = []
    while (step := next_step(base, packed_objects(target.values()), target, bodies, sparing=True)) is not None:
        ways.append([*(("put", p.uid) for p in step.puts), *(("delete", uid) for _, uid in step.deletes)])
        base = step.after
    assert ways == [[("delete", B.uid)], [("put", A.uid)], [("put", small.uid)], [("put", large.uid)]]
