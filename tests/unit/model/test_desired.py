"""The set's digest: equal exactly when the sets are equal, whatever their order; and how a change is applied."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from skerry.model.desired import Change, Desired, Key, Kind, Object, object_of, packed, set_digest, short

A, B = object_of(Kind.POD, "a", b"1"), object_of(Kind.CONFIG_MAP, "b", b"2")
PAIRS = [(o.key, o.digest) for o in (A, B, object_of(Kind.POD, "c", b"3"))]
some_objects = st.builds(object_of, st.sampled_from(Kind), st.sampled_from(["", "a", "aa", "b", "é", "z"]), st.binary())


def test_an_objects_digest_is_that_of_its_bytes() -> None:
    assert A.digest == sha256(b"1").digest()
    assert short(A.digest) == A.digest[:16]


def test_the_order_of_a_set_does_not_matter() -> None:
    assert len({set_digest(p) for p in permutations(PAIRS)}) == 1


def test_full_and_short_digests_of_the_objects_give_the_same_set_digest() -> None:
    assert set_digest(PAIRS) == set_digest((k, short(d)) for k, d in PAIRS)


def test_every_part_of_a_set_matters() -> None:
    different = [
        (), PAIRS, PAIRS[:2], PAIRS[1:],
        [((Kind.SECRET, "a"), A.digest), *PAIRS[1:]],
        [((Kind.POD, "aa"), A.digest), *PAIRS[1:]],
        [((Kind.POD, "a"), B.digest), *PAIRS[1:]],
    ]  # fmt: skip
    assert len({set_digest(s) for s in different}) == len(different)


def test_the_digest_is_frozen() -> None:
    """It lies in journals and is compared across versions."""
    assert set_digest(()).hex() == "e3b0c44298fc1c149afbf4c8996fb924"
    assert set_digest(PAIRS).hex() == "ec8b368add4a4912701ff47e6873d4a5"


def test_a_packed_set_is_its_entries_in_order_with_short_digests() -> None:
    c, b = object_of(Kind.POD, "c", b"3"), short(B.digest)
    assert packed(PAIRS) == b"\1\1a" + short(A.digest) + b"\1\1c" + short(c.digest) + b"\2\1b" + b
    assert packed(()) == b""


def test_a_change_gives_the_set_that_its_digest_names_and_leaves_the_old_one_alone() -> None:
    before = Desired().changed(Change("s", "e", 1, 1, (A, B)))
    newer = object_of(Kind.POD, "a", b"9")
    after = before.changed(Change("s", "e", 2, 2, (newer,), frozenset({B.key})))
    assert before.objects == {A.key: A, B.key: B}
    assert after.objects == {A.key: newer}
    assert after.digest == set_digest([(newer.key, newer.digest)])
    assert (after.store, after.epoch, after.resource_version, after.generation) == ("s", "e", 2, 2)


@given(st.lists(st.tuples(st.lists(some_objects, max_size=4), st.sets(st.sampled_from("abz"), max_size=2)), max_size=6))
def test_any_chain_of_changes_gives_the_digest_of_what_is_there(steps: list[tuple[list[Object], set[str]]]) -> None:
    own, held = Desired(), dict[Key, Object]()
    for n, (puts, gone) in enumerate(steps):
        deletes = frozenset((Kind.POD, uid) for uid in gone)  # of which some are not there
        own = own.changed(Change("s", "e", n, n, tuple(puts), deletes))
        held = {k: o for k, o in held.items() if k not in deletes} | {o.key: o for o in puts}
        assert own.objects == held
        assert own.digest == set_digest((o.key, o.digest) for o in held.values())


def test_a_set_of_which_the_objects_were_replaced_does_not_remember_the_old_ones() -> None:
    before = Desired().changed(Change("s", "e", 1, 1, (A,)))
    other = replace(before, objects={B.key: B}, digest=set_digest([(B.key, B.digest)]))
    after = other.changed(Change("s", "e", 2, 2))
    assert after.digest == other.digest
