"""The set that a device has, as the hub knows it after a step: which bodies are known, and what it still lacks."""

from __future__ import annotations

from skerry.model.desired import Kind, Object, object_of, packed_objects, set_digest
from skerry_hub.sets import KnownSet, Target

A, A2, B, C = (object_of(Kind.POD, uid, body) for uid, body in (("a", b"1"), ("a", b"2"), ("b", b"3"), ("c", b"4")))


def target(*objects: Object) -> Target:
    return Target("store", "epoch", 1, {o.key: o for o in objects})


def known(*objects: Object) -> KnownSet:
    return KnownSet(packed_objects(objects), {o.key: o.body for o in objects})


def test_a_targets_packed_form_is_that_of_its_objects_in_any_order() -> None:
    assert target(B, A).packed == target(A, B).packed == packed_objects((A, B))
    assert known(A, B).digest == set_digest([(B.key, B.digest), (A.key, A.digest)])


def test_at_the_target_all_bodies_are_known_and_the_bytes_are_shared() -> None:
    goal = target(A2, B)
    there = known(A, B).after(packed_objects((A2, B)), goal)
    assert there == known(A2, B)
    assert there.packed is goal.packed


def test_on_the_way_a_body_is_the_one_that_the_device_has_not_the_one_it_will_get() -> None:
    """B arrived, A is still the old one, C is new and not sent yet, a foreign D stays without a body."""
    d = object_of(Kind.SECRET, "d", b"5")
    base = KnownSet(packed_objects((A, d)), {A.key: A.body}, {d.key: "ns/d"})
    way = base.after(packed_objects((A, B, d)), target(A2, B, C))
    assert way.packed == packed_objects((A, B, d))
    assert way.bodies == {A.key: A.body, B.key: B.body}
    assert way.names == {d.key: "ns/d"}


def test_what_a_step_deleted_is_forgotten() -> None:
    assert known(A, B).after(packed_objects((B,)), target(B, C)).bodies == {B.key: B.body}


def test_a_body_that_the_hub_did_not_know_is_learned_from_an_equal_digest() -> None:
    base = KnownSet(packed_objects((A, B)))
    assert base.after(base.packed, target(A, C)).bodies == {A.key: A.body}
