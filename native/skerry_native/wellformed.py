"""Is a byte string one value of our CBOR subset? The scan behind `skerry.wire.wellformed`, which defines the subset.

Knows no exception: the answer is a number, because this runs over every byte from outside.
"""

from __future__ import annotations

# What is wrong, as the low byte of an answer; 0 is nothing. All of these are known to C alone when compiled.
CUT_VALUE, CUT_HEAD, CUT_STRING, LENGTH, KEY, PROMISE = 1, 2, 3, 4, 5, 6
DEPTH, TAG, SIMPLE, ITEMS, AFTER, TEXT = 7, 8, 9, 10, 11, 12

SHIFT = 8  # an answer is offset << SHIFT | code
COUNT = 1 << 32  # a good inner answer is items * COUNT + where the value ends


def scan(data: bytes, depth_max: int, items_max: int) -> int:
    """0 if `data` is exactly one value, else `offset << 8 | code` of the first thing that is wrong.

    len(data) < 2^32, depth_max < 256, items_max < 2^31.
    """
    end = _value(data, len(data), 0, depth_max, items_max, False)
    if end < 0:
        return -end
    at = end % COUNT
    return 0 if at == len(data) else at << SHIFT | AFTER


def _value(data: bytes, size: int, at: int, depth: int, items: int, key: bool) -> int:
    """Where the value at `at` ends, with the items it holds; negative: minus the answer of `scan`."""
    if at >= size:
        return -(at << SHIFT | CUT_VALUE)
    start, major, info = at, data[at] >> 5, data[at] & 31
    if items < 1:
        return -(start << SHIFT | ITEMS)
    if key and major != 0 and major != 1 and major != 3:
        return -(start << SHIFT | KEY)
    if info > 27:
        return -(start << SHIFT | LENGTH)
    at, value = at + 1, info
    if info > 23:
        width = 1 << (info - 24)
        if at + width > size:
            return -(start << SHIFT | CUT_HEAD)
        value = 0
        for i in range(at, at + width):
            value = value << 8 | data[i]
        at += width
    if major < 2:
        return COUNT + at
    if major < 4:
        # A length of 2^63 and more is negative here where integers have 64 bits: it is too long as well.
        if value < 0 or value > size - at:
            return -(start << SHIFT | CUT_STRING)
        if major == 3 and not _utf8(data, at, at + value):
            return -(start << SHIFT | TEXT)
        return COUNT + at + value
    if major < 6:
        if value < 0 or value > size - at:
            return -(start << SHIFT | PROMISE)
        if depth < 1:
            return -(start << SHIFT | DEPTH)
        return _children(data, size, at, depth - 1, items - 1, value, major == 5)
    if major == 6:
        return -(start << SHIFT | TAG)
    if info < 20 or info == 23 or info == 24:
        return -(start << SHIFT | SIMPLE)
    return COUNT + at


def _children(data: bytes, size: int, at: int, depth: int, items: int, pairs: int, is_map: bool) -> int:
    """The values inside an array (`pairs` of them) or a map (twice as many)."""
    used = 1
    for _ in range(pairs):
        if is_map:
            end = _value(data, size, at, depth, items, True)
            if end < 0:
                return end
            at, used, items = end % COUNT, used + end // COUNT, items - end // COUNT
        end = _value(data, size, at, depth, items, False)
        if end < 0:
            return end
        at, used, items = end % COUNT, used + end // COUNT, items - end // COUNT
    return used * COUNT + at


def _utf8(data: bytes, at: int, end: int) -> bool:
    """Whether data[at:end] is UTF-8 (RFC 3629: shortest form, no surrogates, up to U+10FFFF)."""
    while at < end:
        first = data[at]
        at += 1
        if first < 0x80:
            continue
        low, high = 0x80, 0xBF  # of the second byte
        if 0xC2 <= first <= 0xDF:
            more = 1
        elif 0xE0 <= first <= 0xEF:
            more = 2
            if first == 0xE0:
                low = 0xA0
            elif first == 0xED:
                high = 0x9F
        elif 0xF0 <= first <= 0xF4:
            more = 3
            if first == 0xF0:
                low = 0x90
            elif first == 0xF4:
                high = 0x8F
        else:
            return False
        if at + more > end:
            return False
        for _ in range(more):
            if not low <= data[at] <= high:
                return False
            low, high = 0x80, 0xBF
            at += 1
    return True
