"""Packed sets at both speeds, against what a dict does: the same stories for the pure form and the compiled one."""

from __future__ import annotations

from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import skerry_native
from properties.amount import examples

PURE, FAST = skerry_native.load("packed", pure=True), skerry_native.load("packed", pure=False)
COMPILED = skerry_native.compiled(FAST)
SPEEDS = [pytest.param(PURE, id="pure")] + ([pytest.param(FAST, id="compiled")] if COMPILED else [])
both_speeds = pytest.mark.parametrize("native", SPEEDS)

Set = dict[tuple[int, str], bytes]  # (kind, uid) → digest

D, E = b"d" * 16, b"e" * 16
# Few letters, so that keys meet, begin alike and differ in length; one of two bytes, one of four.
keys = st.tuples(st.integers(1, 3), st.text("ab0é\U0001f984", max_size=4) | st.text("ab", min_size=60, max_size=63))
sets = st.dictionaries(keys, st.sampled_from([D, E, bytes(16), b"\xff" * 16]) | st.binary(min_size=16, max_size=16))
rough = st.lists(st.binary(max_size=20) | st.just(b"\1\1a" + D) | st.just(b"\2\0" + E), max_size=6).map(b"".join)


def pack(entries: Set) -> bytes:
    names = [(kind, uid.encode(), digest) for (kind, uid), digest in sorted(entries.items())]
    return b"".join(bytes((kind, len(name))) + name + digest for kind, name, digest in names)


@both_speeds
@given(sets, sets, sets)
def test_a_change_does_what_it_does_to_a_dict(native: ModuleType, base: Set, deletes: Set, puts: Set) -> None:
    after = {k: d for k, d in base.items() if k not in deletes} | puts
    assert native.merged(pack(base), pack(deletes), pack(puts)) == pack(after)


@both_speeds
@given(sets, sets)
def test_a_difference_is_what_is_gone_and_what_is_new_or_other(native: ModuleType, base: Set, target: Set) -> None:
    gone = {k: d for k, d in base.items() if k not in target}
    puts = {k: d for k, d in target.items() if base.get(k) != d}
    found = native.difference(pack(base), pack(target))
    assert found == (pack(gone), pack(puts))
    assert native.merged(pack(base), *found) == pack(target)


@both_speeds
@given(sets, st.data())
def test_a_small_change_of_a_set_is_found_again(native: ModuleType, base: Set, data: st.DataObject) -> None:
    puts = data.draw(st.dictionaries(st.sampled_from(sorted(base)), st.just(E), max_size=2)) if base else {}
    target = native.merged(pack(base), b"", pack(puts))
    assert native.difference(pack(base), target) == (b"", pack({k: d for k, d in puts.items() if base[k] != d}))


@both_speeds
def test_the_order_is_kind_then_uid_and_a_beginning_comes_first(native: ModuleType) -> None:
    ordered = [(1, ""), (1, "a"), (1, "a" * 255), (1, "b"), (1, "ü"), (2, "a"), (3, "")]
    whole = b""
    for key in reversed(ordered):
        whole = native.merged(whole, b"", pack({key: D}))
    assert whole == b"".join(pack({key: D}) for key in ordered)


@both_speeds
def test_a_key_that_is_deleted_and_put_is_there(native: ModuleType) -> None:
    mine = {(1, "a"): D, (1, "b"): D}
    assert native.merged(pack(mine), pack({(1, "a"): D}), pack({(1, "a"): E})) == pack({**mine, (1, "a"): E})


@both_speeds
def test_a_digest_that_differs_in_one_bit_differs(native: ModuleType) -> None:
    for bit in range(128):
        other = (1 << bit).to_bytes(16, "big")
        assert native.difference(pack({(1, "a"): bytes(16)}), pack({(1, "a"): other})) == (b"", pack({(1, "a"): other}))


@both_speeds
def test_a_cut_entry_is_refused_wherever_it_stands(native: ModuleType) -> None:
    whole, other = pack({(1, "aa"): D, (1, "bb"): D, (2, "cc"): D}), pack({(1, "bb"): E})
    for end in range(1, len(whole)):
        cut = whole[:end]
        if end % 20 == 0:
            continue  # whole entries
        for base, deletes, puts in ((cut, b"", b""), (cut, other, b""), (cut, b"", other)):
            with pytest.raises(ValueError, match="cut short"):
                native.merged(base, deletes, puts)
        for base, deletes, puts in ((whole, cut, b""), (whole, b"", cut), (b"", b"", cut)):
            with pytest.raises(ValueError, match="cut short"):
                native.merged(base, deletes, puts)
        for base, target in (
            (cut, whole),
            (cut, other),
            (cut, b""),
            (cut, cut),
            (whole, cut),
            (other, cut),
            (b"", cut),
        ):
            with pytest.raises(ValueError, match="cut short"):
                native.difference(base, target)


@both_speeds
def test_changes_out_of_order_and_keys_that_come_twice_are_refused(native: ModuleType) -> None:
    a, b = pack({(1, "a"): D}), pack({(1, "b"): D})
    for wrong in (b + a, a + a, pack({(2, "a"): D}) + b):
        with pytest.raises(ValueError, match="out of order"):
            native.merged(a, b"", wrong)
        with pytest.raises(ValueError, match="out of order"):
            native.merged(a, wrong, b"")


@pytest.mark.skipif(not COMPILED, reason="not compiled here")
@pytest.mark.parametrize("wrong", [None, "text", 1, [b""]])
def test_the_compiled_form_takes_nothing_but_bytes(wrong: object) -> None:
    good = pack({(1, "a"): D})
    for parts in ((wrong, b"", good), (good, wrong or 1, b""), (good, b"", wrong)):
        with pytest.raises(TypeError):
            FAST.merged(*parts)
    for pair in ((wrong, good), (good, wrong)):
        with pytest.raises(TypeError):
            FAST.difference(*pair)


def answer(native: ModuleType, name: str, *parts: bytes) -> object:
    try:
        return getattr(native, name)(*parts)
    except ValueError as why:
        return str(why)


@pytest.mark.skipif(not COMPILED, reason="not compiled here")
@settings(max_examples=examples(800), deadline=None)
@given(rough, rough, rough)
def test_both_speeds_give_the_same_answer_to_any_bytes(a: bytes, b: bytes, c: bytes) -> None:
    assert answer(FAST, "merged", a, b, c) == answer(PURE, "merged", a, b, c)
    assert answer(FAST, "difference", a, b) == answer(PURE, "difference", a, b)
