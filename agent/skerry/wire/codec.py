"""Values to deterministic CBOR and back. Any bytes decode or raise Malformed; equal values give equal bytes.

Source: RFC 8949 section 4.2 (core deterministic encoding, with cbor2's length-first order of map keys, which is
deterministic as well and what every golden file holds).
"""

from __future__ import annotations

from typing import Any

import cbor2

from skerry.errors import Malformed
from skerry.wire.wellformed import check

UNSIGNED, BYTES, ARRAY, MAP = 0, 2, 4, 5  # major types
_WIDTHS = (1, 2, 4, 8)  # of an argument that does not fit into the first byte

Value = Any  # None, bool, int, float, str, bytes, list[Value], dict[int | str, Value]


def encode(value: Value) -> bytes:
    """Deterministic CBOR. `value` is ours, so a type outside the subset is a programming error."""
    return cbor2.dumps(value, canonical=True)


def decode(data: bytes) -> Value:
    """The one value in `data`. Raises Malformed with the offset."""
    check(data)
    try:
        return cbor2.loads(data, str_errors="strict")
    except (cbor2.CBORDecodeError, UnicodeDecodeError, OverflowError) as why:
        raise Malformed(f"not CBOR: {type(why).__name__}") from None


def head(major: int, argument: int) -> bytes:
    """What a data item begins with, its argument below 2^64 in the shortest form (RFC 8949 sections 3 and 4.2.1)."""
    if argument < 24:
        return bytes((major << 5 | argument,))
    for more, width in enumerate(_WIDTHS):
        if argument < 1 << 8 * width:
            return bytes((major << 5 | 24 + more,)) + argument.to_bytes(width, "big")
    raise OverflowError(argument)


def head_at(data: bytes, at: int, major: int) -> tuple[int, int]:
    """The argument of the data item at offset `at`, and where what follows its head begins. Raises Malformed with the
    offset where it is of another major type, cut short, or longer than it need be."""
    more = data[at] - (major << 5) if at < len(data) else -1
    if 0 <= more < 24:
        return more, at + 1
    if 24 <= more < 24 + len(_WIDTHS):
        end = at + 1 + _WIDTHS[more - 24]
        argument = int.from_bytes(data[at + 1 : end], "big")
        if data[at:end] == head(major, argument):
            return argument, end
    raise Malformed(f"a data item of major type {major} expected", at)


def bytes_at(data: bytes, at: int) -> tuple[bytes, int]:
    """The byte string whose head is at offset `at`, and where it ends. Raises Malformed with the offset."""
    size, start = head_at(data, at, BYTES)
    if start + size > len(data):
        raise Malformed("a byte string that is cut short", at)
    return data[start : start + size], start + size
