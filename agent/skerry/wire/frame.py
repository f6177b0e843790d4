"""One MQTT payload: a head byte (version, encoding) and a CBOR array [type, body]. Knows no message.

Head byte: high nibble = protocol version, low nibble = 0 plain or 1 raw deflate (RFC 1951) with the shared dictionary.
"""

from __future__ import annotations

import zlib

from skerry.errors import LimitExceeded, Malformed
from skerry.limits import FRAME_BYTES_MAX, FRAME_INFLATED_BYTES_MAX
from skerry.wire.codec import Value, decode, encode
from skerry.wire.dictionary import DICTIONARY

VERSION = 1
PLAIN, DEFLATED = 0, 1
WINDOW_BITS = -15  # raw deflate: no header, no checksum; TCP, MQTT and later COSE guard the bytes


def pack(kind: int, body: Value, deflated: bool = True) -> bytes:
    """A frame; where `deflated` makes it smaller, in that form. Raises LimitExceeded."""
    plain = encode([kind, body])
    if len(plain) > FRAME_INFLATED_BYTES_MAX:
        raise LimitExceeded("FRAME_INFLATED_BYTES_MAX", FRAME_INFLATED_BYTES_MAX, len(plain))
    small = deflate(plain, DICTIONARY) if deflated else plain
    frame = bytes((VERSION << 4 | DEFLATED,)) + small if len(small) < len(plain) else bytes((VERSION << 4,)) + plain
    if len(frame) > FRAME_BYTES_MAX:
        raise LimitExceeded("FRAME_BYTES_MAX", FRAME_BYTES_MAX, len(frame))
    return frame


def unpack(frame: bytes) -> tuple[int, Value]:
    """(type, body) of a frame. Raises Malformed or LimitExceeded."""
    if len(frame) > FRAME_BYTES_MAX:
        raise LimitExceeded("FRAME_BYTES_MAX", FRAME_BYTES_MAX, len(frame))
    value = decode(inner(frame))
    if not (isinstance(value, list) and len(value) == 2 and type(value[0]) is int):
        raise Malformed("a frame is an array of a type and a body")
    return value[0], value[1]


def inner(frame: bytes) -> bytes:
    """The CBOR inside a frame; this is what the CDDL describes. Raises Malformed or LimitExceeded."""
    if not frame:
        raise Malformed("an empty frame", 0)
    version, encoding = frame[0] >> 4, frame[0] & 15
    if version != VERSION:
        raise Malformed(f"protocol version {version}, this end speaks {VERSION}", 0)
    if encoding == PLAIN:
        return frame[1:]
    if encoding == DEFLATED:
        return inflate(frame[1:], DICTIONARY, FRAME_INFLATED_BYTES_MAX, "FRAME_INFLATED_BYTES_MAX")
    raise Malformed(f"unknown frame encoding {encoding}", 0)


def deflate(data: bytes, dictionary: bytes) -> bytes:
    """Raw deflate against a dictionary (its last 32 KiB count)."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, WINDOW_BITS, zlib.DEF_MEM_LEVEL, zlib.Z_DEFAULT_STRATEGY, dictionary)
    return squeeze.compress(data) + squeeze.flush()


def inflate(data: bytes, dictionary: bytes, bytes_max: int, limit: str) -> bytes:
    """Undo `deflate`. Raises Malformed, or LimitExceeded beyond `bytes_max` without inflating further."""
    swell = zlib.decompressobj(WINDOW_BITS, dictionary)
    try:
        plain = swell.decompress(data, bytes_max + 1)
    except zlib.error:
        raise Malformed("the deflated part is damaged") from None
    if len(plain) > bytes_max:
        raise LimitExceeded(limit, bytes_max, len(plain))
    if not swell.eof or swell.unused_data:
        raise Malformed("the deflated part is cut short or too long")
    return plain
