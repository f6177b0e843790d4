"""How one field of a message is written and read, and how a table of fields makes a message of a frame.

Keys that this version does not know are kept in `extra` and written again, so that an older end never loses what a
newer one said. Knows no message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any
from uuid import UUID

from skerry.errors import Malformed
from skerry.limits import NAME_CHARS_MAX, NONCE_BYTES, TEXT_CHARS_MAX
from skerry.wire import frame

NO_EXTRA: Mapping[int, Any] = {}

Coder = tuple[Callable[[Any], Any], Callable[[Any, str], Any]]


def text(chars_max: int) -> Coder:
    def read(value: Any, name: str) -> str:
        if not isinstance(value, str) or len(value) > chars_max:
            raise Malformed(f"{name}: text of at most {chars_max} characters expected")
        return value

    return str, read


def data(size: int | None = None) -> Coder:
    def read(value: Any, name: str) -> bytes:
        if not isinstance(value, bytes) or (size is not None and len(value) != size):
            raise Malformed(f"{name}: bytes expected" if size is None else f"{name}: {size} bytes expected")
        return value

    return bytes, read


def _uint(value: Any, name: str) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise Malformed(f"{name}: an unsigned integer below 2^63 expected")
    return value


def _flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise Malformed(f"{name}: true or false expected")
    return value


def enum(of: type[IntEnum]) -> Coder:
    def read(value: Any, name: str) -> Any:
        try:
            return of(_uint(value, name))
        except ValueError:
            raise Malformed(f"{name}: unknown {of.__name__} {value}") from None

    return int, read


def _id_out(value: str) -> str | bytes:
    """A uuid in its usual spelling travels as 16 bytes, anything else as text."""
    if len(value) == 36:
        try:
            as_uuid = UUID(value)
        except ValueError:
            return value
        return as_uuid.bytes if str(as_uuid) == value else value
    return value


def _id_in(value: Any, name: str) -> str:
    if isinstance(value, bytes) and len(value) == 16:
        return str(UUID(bytes=value))
    said = str(text(NAME_CHARS_MAX)[1](value, name))
    if not all(" " <= c <= "~" for c in said):
        raise Malformed(f"{name}: printable ASCII text or 16 bytes expected")
    return said


def _uid_in(value: Any, name: str) -> str:
    """A uid names records and folders on the device, so it must be fit for that."""
    uid = _id_in(value, name)
    if not uid or uid in (".", "..") or not all("!" <= c <= "~" and c != "/" for c in uid):
        raise Malformed(f"{name}: a uid of printable characters without '/' expected")
    return uid


def _nonce_or_none(value: Any, name: str) -> bytes:
    if not isinstance(value, bytes) or len(value) not in (0, NONCE_BYTES):
        raise Malformed(f"{name}: {NONCE_BYTES} bytes or none expected")
    return value


def items(count_max: int, out: Callable[[Any], Any], make: Callable[..., Any], *coders: Coder) -> Coder:
    """A list of small arrays; `out` gives an item's parts, `make` puts them together."""

    def write(values: Any) -> list[Any]:
        return [[coder[0](part) for coder, part in zip(coders, out(v), strict=True)] for v in values]

    def read(value: Any, name: str) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) > count_max:
            raise Malformed(f"{name}: a list of at most {count_max} expected")
        for item in value:
            if not isinstance(item, list) or len(item) != len(coders):
                raise Malformed(f"{name}: each item has {len(coders)} parts")
        return tuple(make(*(c[1](part, name) for c, part in zip(coders, item, strict=True))) for item in value)

    return write, read


UINT: Coder = (int, _uint)
FLAG: Coder = (bool, _flag)
ID: Coder = (_id_out, _id_in)
UID: Coder = (_id_out, _uid_in)  # of an object
NAME, DETAIL = text(NAME_CHARS_MAX), text(TEXT_CHARS_MAX)
NONCE = data(NONCE_BYTES)
NONCE_OR_NONE: Coder = (bytes, _nonce_or_none)

Rows = tuple[tuple[int, str, Coder], ...]  # (key, field, coder)
Table = Mapping[int, tuple[type[Any], Rows]]  # type → (class, rows)
Optional = Mapping[type[Any], Mapping[str, Any]]  # class → the fields that may be absent, with what they are then


def pack(kind: int, rows: Rows, optional: Mapping[str, Any], message: Any, deflated: bool = True) -> bytes:
    """A message as a frame. Raises LimitExceeded if it does not fit one."""
    body = dict(message.extra)
    for key, name, (write, _) in rows:
        value = getattr(message, name)
        if name not in optional or value != optional[name]:
            body[key] = write(value)
    return frame.pack(kind, body, deflated)


def unpack(table: Table, optional: Optional, data: bytes) -> Any:
    """The message in a frame. Raises Malformed (with the field's name) or LimitExceeded."""
    kind, body = frame.unpack(data)
    if kind not in table:
        raise Malformed(f"unknown message type {kind}")
    cls, rows = table[kind]
    if not isinstance(body, dict) or not all(type(k) is int for k in body):
        raise Malformed(f"{cls.__name__}: the body is a map with integer keys")
    absent, values = optional.get(cls, {}), dict(body)
    fields: dict[str, Any] = {}
    for key, name, (_, read) in rows:
        if key in values:
            fields[name] = read(values.pop(key), f"{cls.__name__}.{name}")
        elif name in absent:
            fields[name] = absent[name]
        else:
            raise Malformed(f"{cls.__name__}.{name} is missing")
    return cls(**fields, extra=values or NO_EXTRA)
