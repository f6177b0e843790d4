"""Values to deterministic CBOR and back. Any bytes decode or raise Malformed; equal values give equal bytes.

Source: RFC 8949 section 4.2 (core deterministic encoding, with cbor2's length-first order of map keys, which is
deterministic as well and what every golden file holds).
"""

from __future__ import annotations

from typing import Any

import cbor2

from skerry.errors import Malformed
from skerry.wire.wellformed import check

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
