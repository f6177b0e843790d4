"""The scan at both speeds: one set of stories, run on the pure form and on the compiled one where there is one."""

from __future__ import annotations

from types import ModuleType

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import skerry_native
from properties.amount import examples
from skerry.limits import CODEC_DEPTH_MAX, CODEC_ITEMS_MAX

PURE, FAST = skerry_native.load("wellformed", pure=True), skerry_native.load("wellformed", pure=False)
COMPILED = skerry_native.compiled(FAST)
SPEEDS = [pytest.param(PURE, id="pure")] + ([pytest.param(FAST, id="compiled")] if COMPILED else [])
both_speeds = pytest.mark.parametrize("native", SPEEDS)

heads = st.sampled_from([bytes((n,)) for n in (*range(0x00, 0x100, 5), 0x80, 0x81, 0xA1, 0x61, 0x41, 0xF4, 0xF6, 0xF9)])
texts = st.text(max_size=8).map(cbor2.dumps)
rough = st.lists(heads | texts | st.binary(max_size=4), max_size=14).map(b"".join) | st.binary(max_size=64)


def scan(
    native: ModuleType, data: bytes, depth: int = CODEC_DEPTH_MAX, items: int = CODEC_ITEMS_MAX
) -> tuple[int, int]:
    """(offset, code) of what is wrong, (0, 0) for nothing."""
    answer = native.scan(data, depth, items)
    return answer >> 8, answer & 0xFF


@both_speeds
def test_a_value_is_fine_and_every_cut_of_it_is_not(native: ModuleType) -> None:
    data = cbor2.dumps({1: [True, None, -5, 1.5], "naïve €": b"\x00" * 300, "deep": [[[{}]]]})
    assert scan(native, data) == (0, 0)
    for end in range(len(data)):
        assert scan(native, data[:end])[1], f"cut at {end}"


@both_speeds
@pytest.mark.parametrize(
    ("data", "offset", "code"),
    [
        ("", 0, 1), ("18", 0, 2), ("4261", 0, 3), ("5f", 0, 4), ("a14100f5", 1, 5), ("9bffffffffffffffff", 0, 6),
        ("82c000", 1, 8), ("f7", 0, 9), ("0000", 1, 11), ("8161ff", 1, 12),
    ],
)  # fmt: skip
def test_what_is_wrong_has_its_number_and_its_byte(native: ModuleType, data: str, offset: int, code: int) -> None:
    assert scan(native, bytes.fromhex(data)) == (offset, code)


@both_speeds
def test_depth_and_items_end_at_their_bounds(native: ModuleType) -> None:
    assert scan(native, b"\x81" * 3 + b"\x00", depth=3) == (0, 0)
    assert scan(native, b"\x81" * 4 + b"\x00", depth=3) == (3, 7)
    assert scan(native, b"\x83\x00\x00\x00", items=4) == (0, 0)
    assert scan(native, b"\x83\x00\x00\x00", items=3) == (3, 10)


@both_speeds
@given(st.binary(max_size=12) | st.text(max_size=6).map(str.encode))
def test_text_is_what_python_reads_as_utf_8(native: ModuleType, text: bytes) -> None:
    try:
        text.decode()
        good = True
    except UnicodeDecodeError:
        good = False
    assert (scan(native, bytes((0x60 | len(text),)) + text) == (0, 0)) is good


@pytest.mark.skipif(not COMPILED, reason="not compiled here")
@settings(max_examples=examples(2000))
@given(rough)
def test_both_speeds_give_the_same_answer_to_any_bytes(data: bytes) -> None:
    assert FAST.scan(data, 5, 20) == PURE.scan(data, 5, 20)


@both_speeds
def test_lengths_of_two_to_the_sixty_third_are_too_long(native: ModuleType) -> None:
    for major, code in ((2, 3), (3, 3), (4, 6), (5, 6)):
        for length in (2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1):
            data = bytes((major << 5 | 27,)) + length.to_bytes(8, "big") + b"\x00" * 9
            assert scan(native, data) == (0, code)
