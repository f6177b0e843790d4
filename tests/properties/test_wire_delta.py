"""From any set to any other: next_step ends at the target, each step is accepted, and their number is bounded.

Bound: one step, and one more for each DELTA_BYTES_TARGET that the puts and deletions of the way cost, doubled because a
step may be closed half full.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from types import MappingProxyType

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.errors import LimitExceeded
from skerry.limits import DELTA_BYTES_TARGET, FRAME_BYTES_MAX, OBJECTS_MAX, PODS_MAX
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
from skerry.wire.delta import ITEM_BYTES, Fault, judge, next_step
from skerry.wire.frame import deflate, inflate
from skerry.wire.message import Delta, Put, encode

bodies = st.binary(max_size=40) | st.builds(
    lambda seed, size: (bytes((seed,)) * 7 + b"metadata") * size, st.integers(0, 3), st.integers(0, 8_000)
)
stored = st.builds(object_of, st.sampled_from(Kind), st.sampled_from([f"uid-{i}" for i in range(12)]), bodies)
sets = st.lists(stored, max_size=14).map(lambda os: {o.key: o for o in os})
FEW = settings(max_examples=150, deadline=None)


def held(objects: dict[Key, Object]) -> Desired:
    digest = set_digest((k, o.digest) for k, o in objects.items())
    return Desired("store", "epoch", 1, 1, MappingProxyType(objects), digest)


@FEW
@given(sets, sets, st.booleans(), st.booleans())
def test_the_way_ends_at_the_target_in_a_bounded_number_of_steps(
    base: dict[Key, Object], target: dict[Key, Object], additions_only: bool, bodies_known: bool
) -> None:
    own = held(base)
    cost = sum(len(o.body) + len(o.uid) + ITEM_BYTES for o in target.values()) + len(base) * (8 + ITEM_BYTES)
    for _ in range(2 + 2 * cost // DELTA_BYTES_TARGET):
        have = packed_objects(own.objects.values())
        known = {k: o.body for k, o in own.objects.items()} if bodies_known else {}
        step = next_step(have, packed_objects(target.values()), target, known, additions_only)
        if step is None:
            break
        assert not additions_only or not step.deletes
        digest = digest_of(step.after)
        sent = Delta(b"n" * 8, "store", "epoch", 1, own.generation + 1, own.digest, digest, step.puts, step.deletes)
        assert len(encode(sent)) <= FRAME_BYTES_MAX
        change = judge(sent, own)
        assert isinstance(change, Change)
        own = own.changed(change)
        assert own.digest == digest
    else:
        raise AssertionError("more steps than promised")
    assert dict(own.objects) == (target | base if additions_only else target)


@FEW
@given(sets, st.builds(
    Delta, st.just(b"n" * 8), st.sampled_from(["store", "other", ""]), st.sampled_from(["epoch", "other", ""]),
    st.integers(0, 2), st.integers(0, 3), st.just(b"x" * 16), st.binary(min_size=16, max_size=16),
    st.lists(st.builds(
        Put, st.sampled_from(Kind), st.sampled_from(["uid-1", "uid-2"]), st.binary(min_size=16, max_size=16),
        st.booleans(), st.binary(max_size=30),
    ), max_size=3).map(tuple),
    st.lists(st.tuples(st.sampled_from(Kind), st.sampled_from(["uid-1", "uid-2"])), max_size=3).map(tuple),
    st.booleans(),
), st.booleans(), st.booleans())  # fmt: skip
def test_no_delta_makes_the_judge_raise_or_break_a_promise(
    base: dict[Key, Object], hostile: Delta, right_base: bool, right_digests: bool
) -> None:
    own = held(base)
    if right_base:
        hostile = _aimed(hostile, own, right_digests)
    verdict = judge(hostile, own)
    if not isinstance(verdict, Change):
        assert verdict is None or isinstance(verdict, Fault)
        return
    after = own.changed(verdict)
    assert after.generation == own.generation + 1
    assert after.digest == hostile.digest
    assert after.store
    assert after.epoch
    assert len(after.objects) <= OBJECTS_MAX
    assert sum(k[0] is Kind.POD for k in after.objects) <= PODS_MAX
    if not hostile.adopt and (hostile.store, hostile.epoch) != (own.store, own.epoch):
        assert own.objects.items() <= after.objects.items()
        assert (after.store, after.epoch) == (own.store, own.epoch)


@FEW
@given(bodies, bodies)
def test_a_patch_gives_the_body_and_stops_at_its_bound(body: bytes, known: bytes) -> None:
    patch = deflate(body, known)
    assert inflate(patch, known, len(body), "OBJECT_BYTES_MAX") == body
    if body:
        try:
            inflate(patch, known, len(body) - 1, "OBJECT_BYTES_MAX")
        except LimitExceeded:
            return
        raise AssertionError("inflated beyond the bound")


def _aimed(hostile: Delta, own: Desired, right_digests: bool) -> Delta:
    """The same with the base, generation and perhaps the digests that a hub would give."""
    puts = hostile.puts
    if right_digests:
        puts = tuple(replace(p, patched=False, digest=sha256(p.data).digest()[:16]) for p in puts)
    after = {k: short(o.digest) for k, o in own.objects.items() if k not in hostile.deletes}
    after |= {(p.kind, p.uid): p.digest for p in puts}
    return replace(hostile, base=own.digest, generation=2, puts=puts, digest=set_digest(after.items()))
