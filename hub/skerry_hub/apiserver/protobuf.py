"""Decodes the protobuf bodies that kubectl and client-go send: envelope, then the object by the table's numbers.

Any bytes give an object or BadProtobuf. Replies are never protobuf. Source: the envelope of
k8s.io/apimachinery/pkg/runtime/serializer/protobuf and the protocol buffers encoding guide.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

from .limits import JSON_DEPTH_MAX
from .schema import Field, Message, Type, message

MAGIC = b"k8s\x00"
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_SECONDS_MAX = 253_402_300_799  # the year 9999
_SECONDS_MIN = -62_135_596_800  # the year 1


class BadProtobuf(ValueError):
    """The bytes are not what they say; the text names the offset or field."""


def envelope(body: bytes) -> tuple[str, str, bytes]:
    """apiVersion, kind and the object's own bytes. Raises BadProtobuf."""
    if body[:4] != MAGIC:
        raise BadProtobuf("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    version = kind = ""
    raw = b""
    for number, value in _fields(body[4:]):
        if number == 1 and isinstance(value, bytes):
            for inner, text in _fields(value):
                if inner == 1 and isinstance(text, bytes):
                    version = _text(text)
                elif inner == 2 and isinstance(text, bytes):
                    kind = _text(text)
        elif number == 2 and isinstance(value, bytes):
            raw = value
    return version, kind, raw


def decode(kind: str, raw: bytes) -> dict[str, Any]:
    """The object of type `kind` as JSON would hold it; unknown numbers are dropped. Raises BadProtobuf."""
    return _struct(message(kind), raw, 0)


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise BadProtobuf(f"illegal tag 0 at byte {at}")
        value: int | bytes
        if wire == 0:
            value, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
            value, at = data[at : at + size], at + size
        elif wire == 2:
            size, at = _varint(data, at)
            value, at = data[at : at + size], at + size
        else:
            raise BadProtobuf(f"illegal wire type {wire} at byte {at}")
        if at > end:
            raise BadProtobuf("unexpected EOF")
        yield number, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data):
            raise BadProtobuf("unexpected EOF")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value & (2**64 - 1), at
        if shift > 63:
            raise BadProtobuf(f"integer overflow at byte {at}")


def _struct(msg: Message, raw: bytes, depth: int) -> dict[str, Any]:
    if depth > JSON_DEPTH_MAX:
        raise BadProtobuf("nested too deep")
    out: dict[str, Any] = {}
    for number, value in _fields(raw):
        field = msg.numbers.get(number)
        if isinstance(field, Message):
            out.update(_struct(field, _need(value, field.name), depth + 1))
        elif field is not None:
            _put(out, field, value, depth)
    return out


def _put(out: dict[str, Any], field: Field, value: int | bytes, depth: int) -> None:
    kind = field.type
    if kind.shape == "list":
        assert kind.element is not None
        items = out.setdefault(field.name, [])
        if isinstance(value, bytes) and kind.element.name in ("int32", "int64"):  # packed
            at = 0
            while at < len(value):
                number, at = _varint(value, at)
                items.append(_signed(number))
        else:
            items.append(_value(kind.element, value, field.name, depth))
    elif kind.shape == "map":
        assert kind.element is not None
        key, inner = "", None
        for number, part in _fields(_need(value, field.name)):
            if number == 1:
                key = _text(_need(part, field.name))
            elif number == 2:
                inner = _value(kind.element, part, field.name, depth)
        out.setdefault(field.name, {})[key] = "" if inner is None else inner
    else:
        out[field.name] = _value(kind, value, field.name, depth)


def _need(value: int | bytes, name: str) -> bytes:
    if not isinstance(value, bytes):
        raise BadProtobuf(f"wrong wire type for field {name}")
    return value


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise BadProtobuf("a string is not UTF-8") from None


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def _value(kind: Type, value: int | bytes, name: str, depth: int) -> Any:
    if kind.shape == "message":
        return _struct(message(kind.name), _need(value, name), depth + 1)
    if kind.name in ("int32", "int64", "bool"):
        if not isinstance(value, int):
            raise BadProtobuf(f"wrong wire type for field {name}")
        return bool(value) if kind.name == "bool" else _signed(value)
    raw = _need(value, name)
    if kind.name == "string":
        return _text(raw)
    if kind.name == "bytes":
        return base64.b64encode(raw).decode()
    return _well_known(kind.name, dict(_fields(raw)), name)


def _well_known(kind: str, parts: dict[int, int | bytes], name: str) -> Any:
    if kind in ("Time", "MicroTime"):
        seconds, nanos = parts.get(1, 0), parts.get(2, 0)
        if not isinstance(seconds, int) or not isinstance(nanos, int):
            raise BadProtobuf(f"wrong wire type for field {name}")
        seconds = _signed(seconds)
        if not _SECONDS_MIN <= seconds <= _SECONDS_MAX or nanos >= 10**9:
            raise BadProtobuf(f"field {name} is no time")
        if seconds == _SECONDS_MIN or not parts:
            return None  # Go's zero time
        stamp = _EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1000)
        return stamp.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if kind == "Quantity":
        return _text(_need(parts.get(1, b"0"), name)) or "0"
    if kind == "IntOrString":
        if parts.get(1, 0) == 1:
            return _text(_need(parts.get(3, b""), name))
        number = parts.get(2, 0)
        return _signed(number) if isinstance(number, int) else 0
    assert kind == "FieldsV1", kind
    try:
        return json.loads(_need(parts.get(1, b"{}"), name))
    except (ValueError, RecursionError):
        raise BadProtobuf(f"field {name} is not JSON") from None
