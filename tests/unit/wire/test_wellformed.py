"""The border: what is not our CBOR subset never reaches cbor2, and the error names the byte."""

from __future__ import annotations

import pytest

from skerry.errors import Malformed
from skerry.limits import CODEC_DEPTH_MAX, CODEC_ITEMS_MAX
from skerry.wire.wellformed import check


@pytest.mark.parametrize(
    "data",
    [
        "00", "1bffffffffffffffff", "3bffffffffffffffff", "40", "4161", "60", "62c3bc", "80", "820102", "a0",
        "a2016161616102", "f4", "f5", "f6", "f93c00", "fa3fc00000", "fb3ff8000000000000", "1818", "180a",
    ],
)  # fmt: skip
def test_one_value_of_the_subset_is_accepted(data: str) -> None:
    check(bytes.fromhex(data))


@pytest.mark.parametrize(
    ("data", "offset", "problem"),
    [
        ("", 0, "cut short"),
        ("0000", 1, "bytes after"),
        ("c000", 0, "a tag"),
        ("82c35c28", 1, "a tag"),  # tag 35 would be a regular expression
        ("5f4161ff", 0, "indefinite"),
        ("9fff", 0, "indefinite"),
        ("bfff", 0, "indefinite"),
        ("1c", 0, "reserved"),
        ("f7", 0, "simple"),  # undefined
        ("f8ff", 0, "simple"),
        ("e0", 0, "simple"),
        ("18", 0, "head is cut short"),
        ("1900", 0, "head is cut short"),
        ("4261", 0, "string is cut short"),
        ("5bffffffffffffffff", 0, "string is cut short"),
        ("9bffffffffffffffff", 0, "promises more"),
        ("bbffffffffffffffff", 0, "promises more"),
        ("8201", 0, "promises more"),
        ("820181", 2, "promises more"),
        ("a101", 2, "cut short"),
        ("a14100f5", 1, "key"),
        ("a1f500", 1, "key"),
        ("a1800000", 1, "key"),
        ("a1f93c0000", 1, "key"),
        ("8161ff", 1, "UTF-8"),
        ("8163eda080", 1, "UTF-8"),  # a surrogate
    ],
)
def test_anything_else_is_malformed_at_its_byte(data: str, offset: int, problem: str) -> None:
    with pytest.raises(Malformed, match=problem) as caught:
        check(bytes.fromhex(data))
    assert caught.value.offset == offset
    assert f"at byte {offset}" in str(caught.value)


def test_nesting_ends_at_its_bound() -> None:
    check(b"\x81" * CODEC_DEPTH_MAX + b"\x00")
    with pytest.raises(Malformed, match="deeper") as caught:
        check(b"\x81" * (CODEC_DEPTH_MAX + 1) + b"\x00")
    assert caught.value.offset == CODEC_DEPTH_MAX


def test_items_end_at_their_bound() -> None:
    """The array itself counts as one."""
    head = b"\x9a" + (CODEC_ITEMS_MAX - 1).to_bytes(4, "big")
    check(head + b"\x00" * (CODEC_ITEMS_MAX - 1))
    with pytest.raises(Malformed, match="items"):
        check(b"\x9a" + CODEC_ITEMS_MAX.to_bytes(4, "big") + b"\x00" * CODEC_ITEMS_MAX)
