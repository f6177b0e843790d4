"""Values to deterministic CBOR and back. Any bytes decode or raise Malformed; equal values give equal bytes.

Source: RFC 8949 section 4.2 (core deterministic encoding, with cbor2's length-first order of map keys, which is
deterministic as well and what every golden file holds).
"""

from __future__ import annotations

from typing import Any

import cbor2

from skerry.errors import Malformed
from skerry.wire.wellformed import check

_BYTES = 0x40
_HEADS = {1: b"\x58", 2: b"\x59", 4: b"\x5a"}  # by how many bytes of length follow
_WIDTHS = {head: width for width, head in _HEADS.items()}

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


def bytes_head(size: int) -> bytes:
    """What stands before a byte string of `size` bytes, below 4 GiB (RFC 8949 section 3, major type 2)."""
    if size < 24:
        return bytes((_BYTES | size,))
    for width, head in _HEADS.items():
        if size < 1 << 8 * width:
            return head + size.to_bytes(width, "big")
    raise OverflowError(size)


def bytes_at(data: bytes, at: int) -> tuple[bytes, int]:
    """The byte string whose head is at offset `at`, and where it ends. Raises Malformed with the offset, also where the
    head is longer than it need be."""
    width = _WIDTHS.get(data[at : at + 1], 0)
    start = at + 1 + width
    size = int.from_bytes(data[at + 1 : start], "big") if width else int.from_bytes(data[at:start], "big") & 0x1F
    if size >= len(data) or data[at:start] != bytes_head(size) or start + size > len(data):
        raise Malformed("a byte string expected", at)
    return data[start : start + size], start + size
