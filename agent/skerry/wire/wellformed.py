"""Is this byte string one value of our CBOR subset? Decides that and nothing else; builds no value.

The subset of RFC 8949: definite lengths only, no tags, no simple values but false, true and null, map keys are integers
or text, at most CODEC_DEPTH_MAX deep and CODEC_ITEMS_MAX items. cbor2 alone would accept tags that compile regular
expressions and lengths that promise gigabytes, so nothing reaches it unchecked.
"""

from __future__ import annotations

from skerry.errors import Malformed
from skerry.limits import CODEC_DEPTH_MAX, CODEC_ITEMS_MAX

UINT, NINT, BYTES, TEXT, ARRAY, MAP, TAG, SIMPLE = range(8)


def check(data: bytes) -> None:
    """Return if `data` is exactly one value of the subset. Raises Malformed with the offset."""
    at, items, end = 0, 0, len(data)
    open_: list[int] = [1]  # how many values each enclosing container still wants; the outermost wants one
    keys: list[bool] = [False]  # whether that container is a map
    while open_:
        left = open_[-1]
        if left == 0:
            open_.pop()
            keys.pop()
            continue
        if at >= end:
            raise Malformed("the value is cut short", at)
        start, major, info = at, data[at] >> 5, data[at] & 31
        open_[-1] = left - 1
        items += 1
        if items > CODEC_ITEMS_MAX:
            raise Malformed(f"more than {CODEC_ITEMS_MAX} items", start)
        if keys[-1] and left % 2 == 0 and major not in (UINT, NINT, TEXT):
            raise Malformed("a map key that is neither integer nor text", start)
        at, value = _head(data, at, info)
        if major in (BYTES, TEXT):
            at += value
            if at > end:
                raise Malformed("a string is cut short", start)
            if major == TEXT and not _utf8(data[at - value : at]):
                raise Malformed("text that is not UTF-8", start)
        elif major in (ARRAY, MAP):
            if value > end - at:
                raise Malformed("a container promises more items than there are bytes", start)
            if len(open_) > CODEC_DEPTH_MAX:
                raise Malformed(f"nested deeper than {CODEC_DEPTH_MAX}", start)
            open_.append(value * 2 if major == MAP else value)
            keys.append(major == MAP)
        elif major == TAG:
            raise Malformed("a tag", start)
        elif major == SIMPLE and info not in (20, 21, 22, 25, 26, 27):
            raise Malformed("a simple value other than false, true, null or a float", start)
    if at != end:
        raise Malformed("bytes after the value", at)


def _utf8(text: bytes) -> bool:
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _head(data: bytes, at: int, info: int) -> tuple[int, int]:
    """The argument of the head at `at`, and where the head ends."""
    if info < 24:
        return at + 1, info
    if info > 27:
        raise Malformed("an indefinite or reserved length", at)
    size = 1 << (info - 24)
    if at + 1 + size > len(data):
        raise Malformed("a head is cut short", at)
    return at + 1 + size, int.from_bytes(data[at + 1 : at + 1 + size], "big")
