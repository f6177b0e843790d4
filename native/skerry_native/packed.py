"""Sets in packed form, byte for byte what a set's digest hashes: merges a change into one, and tells two apart.

Packed is: all entries in order, without gaps. An entry is kind, length of the uid, uid, digest: 1 + 1 + n + 16 bytes.
Their order is that of (kind, uid), byte by byte, which for UTF-8 is that of the text; no key comes twice. What a kind
or a digest means is not known here.
"""

from __future__ import annotations

HEAD, BESIDE = 2, 18  # bytes of an entry before its uid, and in all beside it


def merged(base: bytes, deletes: bytes, puts: bytes) -> bytes:
    """`base` without the keys of `deletes`, whose digests do not matter, and then with `puts`. All are packed.

    Raises ValueError for a cut entry, and for changes out of order. A `base` out of order gives a wrong set.
    """
    if deletes:
        base = _woven(base, deletes, False)
    return _woven(base, puts, True)


def difference(base: bytes, target: bytes) -> tuple[bytes, bytes]:
    """(deletes, puts) with which `merged` makes `target` of `base`; all are packed, and a delete has its old digest.

    Raises ValueError for a cut entry. Sets out of order give a wrong difference.
    """
    size, size_to, at, to = len(base), len(target), 0, 0
    deletes, puts = [], []
    while True:
        same = _alike(base, size, at, target, size_to, to)
        if same < 0:
            raise ValueError("a packed set is cut short")
        at, to = at + same, to + same
        if at == size or to == size_to:
            break
        order = _order(base, at, target, to)
        if order <= 0:
            end = _end(base, size, at)
            if order < 0:
                deletes.append(base[at:end])
            at = end
        if order >= 0:
            end = _end(target, size_to, to)
            puts.append(target[to:end])
            to = end
    if not _whole(base, size, at) or not _whole(target, size_to, to):
        raise ValueError("a packed set is cut short")
    deletes.append(base[at:])
    puts.append(target[to:])
    return b"".join(deletes), b"".join(puts)


def _woven(base: bytes, changes: bytes, keep: bool) -> bytes:
    """`base` without the keys of `changes`, and with their entries if `keep`. Copies runs, not entries."""
    size, size_changes, at, change, before = len(base), len(changes), 0, 0, -1
    parts = []
    if not _whole(changes, size_changes, 0):
        raise ValueError("a packed change is cut short")
    while change < size_changes:
        if before >= 0 and _order(changes, before, changes, change) >= 0:
            raise ValueError("a packed change is out of order")
        spot = _place(base, size, at, changes, change)
        if spot < 0:
            raise ValueError("a packed set is cut short")
        parts.append(base[at:spot])
        at = spot
        if at < size and _order(base, at, changes, change) == 0:
            at = _end(base, size, at)
        before, change = change, _end(changes, size_changes, change)
        if keep:
            parts.append(changes[before:change])
    if not _whole(base, size, at):
        raise ValueError("a packed set is cut short")
    parts.append(base[at:])
    return b"".join(parts)


def _place(base: bytes, size: int, at: int, other: bytes, key: int) -> int:
    """Where the first entry of `base` from `at` on is whose key is not below that of other[key]; -1 if one is cut."""
    while at < size:
        end = _end(base, size, at)
        if end < 0 or _order(base, at, other, key) >= 0:
            return at if end > 0 else -1
        at = end
    return at


def _alike(base: bytes, size: int, at: int, target: bytes, size_to: int, to: int) -> int:
    """How many bytes from base[at] and target[to] on are equal entries; -1 if one is cut."""
    first = at
    while at < size and to < size_to:
        end, end_to = _end(base, size, at), _end(target, size_to, to)
        if end < 0 or end_to < 0:
            return -1
        if end - at != end_to - to:
            break
        odd = 0
        for i in range(end - at):  # to the end without a way out: so C compares 16 bytes at once
            odd |= base[at + i] ^ target[to + i]
        if odd:
            break
        at, to = end, end_to
    return at - first


def _whole(data: bytes, size: int, at: int) -> bool:
    """Whether nothing but whole entries follows from `at` on."""
    while 0 <= at < size:
        at = _end(data, size, at)
    return at >= 0


def _end(data: bytes, size: int, at: int) -> int:
    """Where the entry at data[at] ends; -1 if it is cut."""
    end = at + BESIDE
    if end <= size:
        end += data[at + 1]
    return end if end <= size else -1


def _order(a: bytes, at: int, b: bytes, to: int) -> int:
    """Below 0, 0 or above 0 as the key of the entry a[at] is below, equal to or above that of b[to]."""
    if a[at] != b[to]:
        return a[at] - b[to]
    length, other = a[at + 1], b[to + 1]
    for i in range(HEAD, HEAD + min(length, other)):
        if a[at + i] != b[to + i]:
            return a[at + i] - b[to + i]
    return length - other
