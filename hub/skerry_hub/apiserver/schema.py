"""Reads the table of `schema_types.py` once into frozen values. Refuses to know what anybody does with them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from .schema_types import TYPES

SCALARS = frozenset(
    ["string", "int32", "int64", "bool", "bytes", "Time", "MicroTime", "Quantity", "IntOrString", "FieldsV1"]
)


@dataclass(frozen=True)
class Type:
    """`shape` is scalar, message, list or map; `name` a scalar's or message's, `element` a list's or map's."""

    shape: str
    name: str = ""
    element: Type | None = None

    @property
    def go(self) -> str:
        """The type's name in Go, as error messages print it."""
        if self.shape == "list":
            return f"[]{self.element.go if self.element else ''}"
        if self.shape == "map":
            return f"map[string]{self.element.go if self.element else ''}"
        if self.name == "bytes":
            return "[]uint8"
        return self.name if self.shape == "scalar" else f"v1.{self.name}"


@dataclass(frozen=True)
class Field:
    name: str
    number: int
    type: Type
    optional: bool  # a pointer: an empty value is kept
    always: bool  # printed even when empty
    merge_key: str | None  # None: a patch replaces the list; "": a set of scalars
    retain_keys: bool


@dataclass(frozen=True)
class Message:
    name: str
    fields: dict[str, Field]  # by JSON name, inlined ones included, in printing order
    numbers: dict[int, Field | Message]  # by protobuf number; an inlined message stands as itself


def _type(text: str) -> Type:
    if text[0] == "[":
        return Type("list", element=_type(text[1:-1]))
    if text[0] == "{":
        return Type("map", element=_type(text[1:-1]))
    return Type("scalar" if text in SCALARS else "message", text)


@cache
def _table() -> dict[str, list[str]]:
    out: dict[str, list[str]] = {}
    for line in TYPES.replace("\n  ", " ").splitlines():
        if line:
            name, _, rest = line.partition(":")
            out[name] = [part.strip() for part in rest.split(";")]
    return out


@cache
def message(name: str) -> Message:
    """The type called `name`. Raises KeyError for a name that is not in the table."""
    fields: dict[str, Field] = {}
    numbers: dict[int, Field | Message] = {}
    for text in _table()[name]:
        number, label, kind, *flags = text.split()
        if label == "...":
            inner = message(kind)
            fields.update(inner.fields)
            numbers[int(number)] = inner
            continue
        merge = next((f[1:] for f in flags if f[0] == "~"), None)
        field = Field(
            label.rstrip("!"),
            int(number),
            _type(kind.lstrip("*")),
            kind[0] == "*",
            label[-1] == "!",
            merge,
            "^" in flags,
        )
        fields[field.name] = field
        numbers[field.number] = field
    return Message(name, fields, numbers)


def names() -> list[str]:
    """All types of the table, in its order."""
    return list(_table())
