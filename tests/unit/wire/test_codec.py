"""Equal values give equal bytes, whatever the order in which a map was filled."""

from __future__ import annotations

import datetime

import pytest

from skerry.errors import Malformed
from skerry.wire.codec import BYTES, bytes_at, decode, encode, head


def test_a_map_has_one_spelling() -> None:
    assert encode({"b": 1, "a": 2, 10: 3, 9: 4}) == encode({9: 4, "a": 2, 10: 3, "b": 1})


def test_numbers_have_their_shortest_spelling() -> None:
    assert [encode(v).hex() for v in (23, 24, 256, -1, 1.5)] == ["17", "1818", "190100", "20", "f93e00"]


def test_types_come_back_as_they_went() -> None:
    value = {"text": "ü", "bytes": b"\0", 7: [None, True, False, -1, 2**64 - 1, 1.5, {}]}
    assert decode(encode(value)) == value
    assert type(decode(encode(True))) is bool


@pytest.mark.parametrize("value", [2**64, {1, 2}, datetime.date(2026, 1, 1)])
def test_what_we_may_not_send_cannot_be_read_back(value: object) -> None:
    """Encoding trusts its caller; the other end does not."""
    try:
        data = encode(value)
    except Exception:
        return
    with pytest.raises(Malformed):
        decode(data)


@pytest.mark.parametrize("size", [0, 1, 23, 24, 255, 256, 16_400, 65_535, 65_536, 300_000])
def test_a_byte_string_by_hand_is_the_one_that_a_library_makes(size: int) -> None:
    whole = encode(bytes(size))
    assert head(BYTES, size) + bytes(size) == whole
    assert bytes_at(b"front" + whole + b"behind", 5) == (bytes(size), 5 + len(whole))


@pytest.mark.parametrize(
    "data", ["", "41", "5801aa", "590001aa", "5a00000001aa", "5b0000000000000001aa", "5fff", "60", "a0", "58", "5900"]
)
def test_any_other_spelling_of_a_byte_string_is_malformed(data: str) -> None:
    with pytest.raises(Malformed, match="at byte 1"):
        bytes_at(b"." + bytes.fromhex(data), 1)
