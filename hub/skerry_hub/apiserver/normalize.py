"""Brings an object of any client into the one form that is stored: known fields only, typed, in the table's order.

Decides what is an unknown field, a wrong type, an empty value that is dropped and one that is printed. Refuses to
know defaults (defaults.py) and what values mean (validate.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from . import quantity
from .schema import Field, Message, Type, message

Obj = dict[str, Any]
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_BASE64_SET = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
_RANGE = {"int32": 2**31, "int64": 2**63}


class WrongType(ValueError):
    """A value does not fit its field; the text is what the API says about it."""


def normalise(kind: str, obj: Obj) -> tuple[Obj, list[str]]:
    """The object in stored form, and the paths of the fields that were dropped as unknown, in document order.

    `kind` is a type of the table; apiVersion and kind of the top level are kept in front. Raises WrongType.
    """
    walk = _Walk()
    out: Obj = {key: obj[key] for key in ("kind", "apiVersion") if key in obj}
    body = {key: value for key, value in obj.items() if key not in ("kind", "apiVersion")}
    out.update(walk.struct(message(kind), body, "", ""))
    return out, walk.unknown


def go_kind(value: Any) -> str:
    """A JSON value's kind as the API's messages name it."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, int):
        return "number"
    if isinstance(value, float):
        return f"number {value}"
    return "array" if isinstance(value, list) else "object"


class _Walk:
    """One pass over one object."""

    def __init__(self) -> None:
        self.unknown: list[str] = []

    def struct(self, msg: Message, value: Any, path: str, plain: str) -> Obj:
        """`path` names list items by index (for unknown fields), `plain` leaves them out (for type errors)."""
        given: dict[str, Any] = {}
        for key, inner in value.items():
            field = msg.fields.get(key)
            if field is None:
                self.unknown.append(f"{path}.{key}" if path else key)
            elif inner is not None:
                here = f"{path}.{key}" if path else key
                flat = f"{plain}.{key}" if plain else key
                given[key] = self.value(field.type, inner, here, flat, msg.name)
        return {
            key: given[key] if key in given else _zero(field)
            for key, field in msg.fields.items()
            if (key in given and _kept(field, given[key])) or (field.always and _zero(field) is not None)
        }

    def value(self, kind: Type, value: Any, path: str, plain: str, owner: str) -> Any:
        if kind.shape == "scalar":
            if kind.name == "string" and type(value) is str:
                return value
            return _SCALARS[kind.name](value, kind, plain, owner)
        if kind.shape == "message":
            if not isinstance(value, dict):
                raise _mismatch(value, kind, plain, owner)
            return self.struct(message(kind.name), value, path, plain)
        assert kind.element is not None
        if kind.shape == "list":
            if not isinstance(value, list):
                raise _mismatch(value, kind, plain, owner)
            element = kind.element
            if element.shape == "message":  # a null item is an empty one
                value = [{} if v is None else v for v in value]
            return [self.value(element, v, f"{path}[{i}]", plain, owner) for i, v in enumerate(value)]
        if not isinstance(value, dict):
            raise _mismatch(value, kind, plain, owner)
        element = kind.element
        return {k: self.value(element, "" if v is None else v, path, plain, owner) for k, v in value.items()}


def _kept(field: Field, value: Any) -> bool:
    if field.optional or field.always:
        return True
    if value in ("", 0, False) or value == [] or value == {}:
        return field.type.shape == "message"
    return True


def _zero(field: Field) -> Any:
    """What an always-printed field holds when nothing was given; None: nothing is printed."""
    if field.optional or field.type.shape in ("list", "map"):
        return None
    if field.type.shape == "message":
        return _Walk().struct(message(field.type.name), {}, "", "")
    return {"string": "", "int32": 0, "int64": 0, "bool": False, "Quantity": "0", "IntOrString": 0}.get(field.type.name)


def _mismatch(value: Any, kind: Type, plain: str, owner: str) -> WrongType:
    text = f"json: cannot unmarshal {go_kind(value)} into Go struct field {owner}.{plain} of type {kind.go}"
    return WrongType(text)


def _string(value: Any, kind: Type, plain: str, owner: str) -> Any:
    if not isinstance(value, str):
        raise _mismatch(value, kind, plain, owner)
    return value


def _integer(value: Any, kind: Type, plain: str, owner: str) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _mismatch(value, kind, plain, owner)
    bound = _RANGE[kind.name]
    if not -bound <= value < bound:
        raise WrongType(
            f"json: cannot unmarshal number {value} into Go struct field {owner}.{plain} of type {kind.name}"
        )
    return value


def _bool(value: Any, kind: Type, plain: str, owner: str) -> Any:
    if not isinstance(value, bool):
        raise _mismatch(value, kind, plain, owner)
    return value


def _bytes(value: Any, kind: Type, plain: str, owner: str) -> Any:
    if not isinstance(value, str):
        raise _mismatch(value, kind, plain, owner)
    text = value.replace("\n", "").replace("\r", "")
    if not _BASE64.fullmatch(text):
        bad = next((i for i, c in enumerate(text.rstrip("=")) if c not in _BASE64_SET), len(text.rstrip("=")) & ~3)
        raise WrongType(f"illegal base64 data at input byte {bad}")
    return text


def parse_time(value: str) -> datetime:
    """An RFC 3339 time with zone. Raises ValueError."""
    hit = _TIME.fullmatch(value)
    if hit is None:
        raise ValueError(value)
    day, clock, fraction, zone = hit.groups()
    stamp = datetime.strptime(f"{day}T{clock}", "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    if zone not in "Zz":
        offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[4:6]))
        stamp = stamp - offset if zone[0] == "+" else stamp + offset
    return stamp.replace(microsecond=int((fraction or "0")[:6].ljust(6, "0")))


def _time(value: Any, kind: Type, plain: str, owner: str) -> Any:
    if not isinstance(value, str):
        raise _mismatch(value, kind, plain, owner)
    try:
        stamp = parse_time(value)
    except (ValueError, OverflowError):
        form = "2006-01-02T15:04:05.000000Z07:00" if kind.name == "MicroTime" else "2006-01-02T15:04:05Z07:00"
        raise WrongType(f'parsing time "{value}" as "{form}": cannot parse "{value}" as "2006"') from None
    return print_time(stamp, micro=kind.name == "MicroTime")


def print_time(stamp: datetime, micro: bool = False) -> str:
    """A UTC time as the API prints it."""
    return stamp.strftime("%Y-%m-%dT%H:%M:%S.%fZ" if micro else "%Y-%m-%dT%H:%M:%SZ")


def _quantity(value: Any, kind: Type, plain: str, owner: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise _mismatch(value, kind, plain, owner)
    try:
        return quantity.canonical(str(value))
    except quantity.BadQuantity:
        raise WrongType(
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
        ) from None


def _int_or_string(value: Any, kind: Type, plain: str, owner: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise _mismatch(value, kind, plain, owner)
    return value


def _free(value: Any, kind: Type, plain: str, owner: str) -> Any:
    return value


_SCALARS: dict[str, Callable[[Any, Type, str, str], Any]] = {
    "string": _string,
    "int32": _integer,
    "int64": _integer,
    "bool": _bool,
    "bytes": _bytes,
    "Time": _time,
    "MicroTime": _time,
    "Quantity": _quantity,
    "IntOrString": _int_or_string,
    "FieldsV1": _free,
}
