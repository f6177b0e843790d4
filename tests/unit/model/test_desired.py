"""The set's digest: equal exactly when the sets are equal, whatever their order; and how a change is applied."""

from __future__ import annotations

from hashlib import sha256
from itertools import permutations

from skerry.model.desired import Change, Desired, Kind, object_of, set_digest, short

A, B = object_of(Kind.POD, "a", b"1"), object_of(Kind.CONFIG_MAP, "b", b"2")
PAIRS = [(o.key, o.digest) for o in (A, B, object_of(Kind.POD, "c", b"3"))]


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


def test_a_change_gives_the_set_that_its_digest_names_and_leaves_the_old_one_alone() -> None:
    before = Desired().changed(Change("s", "e", 1, 1, (A, B)))
    newer = object_of(Kind.POD, "a", b"9")
    after = before.changed(Change("s", "e", 2, 2, (newer,), frozenset({B.key})))
    assert before.objects == {A.key: A, B.key: B}
    assert after.objects == {A.key: newer}
    assert after.digest == set_digest([(newer.key, newer.digest)])
    assert (after.store, after.epoch, after.resource_version, after.generation) == ("s", "e", 2, 2)
