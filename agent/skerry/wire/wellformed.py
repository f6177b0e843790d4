"""Is this byte string one value of our CBOR subset? Decides that and nothing else; builds no value.

The subset of RFC 8949: definite lengths only, no tags, no simple values but false, true and null, map keys are integers
or text, at most CODEC_DEPTH_MAX deep and CODEC_ITEMS_MAX items. cbor2 alone would accept tags that compile regular
expressions and lengths that promise gigabytes, so nothing reaches it unchecked. The scan itself is
`skerry_native.wellformed`, compiled where a compiler was at hand: it runs over every byte from outside.
"""

from __future__ import annotations

import skerry_native
from skerry.errors import Malformed
from skerry.limits import CODEC_DEPTH_MAX, CODEC_ITEMS_MAX

_scan = skerry_native.load("wellformed").scan

# By the low byte of the scan's answer.
PROBLEMS = (
    "",
    "the value is cut short",
    "a head is cut short",
    "a string is cut short",
    "an indefinite or reserved length",
    "a map key that is neither integer nor text",
    "a container promises more items than there are bytes",
    f"nested deeper than {CODEC_DEPTH_MAX}",
    "a tag",
    "a simple value other than false, true, null or a float",
    f"more than {CODEC_ITEMS_MAX} items",
    "bytes after the value",
    "text that is not UTF-8",
)


def check(data: bytes) -> None:
    """Return if `data` is exactly one value of the subset. Raises Malformed with the offset."""
    answer: int = _scan(data, CODEC_DEPTH_MAX, CODEC_ITEMS_MAX)
    if answer:
        raise Malformed(PROBLEMS[answer & 0xFF], answer >> 8)
