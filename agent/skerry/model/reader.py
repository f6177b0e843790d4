"""Walk through untrusted JSON-like values, always knowing the path. Decides types; knows no Kubernetes field.

Every error is a Refused whose path is the one that `kubectl explain` would show.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from skerry.errors import Refused

INVALID = "InvalidPod"


@dataclass(frozen=True, slots=True)
class Field:
    """A value and where it stands; absent and null are the same, as in the Kubernetes API."""

    value: Any
    path: str

    def refuse(self, problem: str, reason: str = INVALID) -> NoReturn:
        raise Refused(self.path, problem, reason)

    def __getitem__(self, name: str) -> Field:
        path = f"{self.path}.{name}" if self.path else name
        if self.value is None:
            return Field(None, path)
        if not isinstance(self.value, dict):
            self.refuse("an object is expected")
        return Field(self.value.get(name), path)

    @property
    def absent(self) -> bool:
        """Nothing was said: null, or an empty object, list or text."""
        return self.value is None or self.value in ({}, [], "")

    def names(self) -> list[str]:
        """The keys of an object."""
        if self.value is None:
            return []
        if not isinstance(self.value, dict) or not all(isinstance(k, str) for k in self.value):
            self.refuse("an object is expected")
        return list(self.value)

    def each(self, count_max: int) -> Iterator[Field]:
        """The items of a list."""
        if self.value is None:
            return
        if not isinstance(self.value, list):
            self.refuse("a list is expected")
        if len(self.value) > count_max:
            self.refuse(f"at most {count_max} items are allowed, got {len(self.value)}")
        for i, item in enumerate(self.value):
            yield Field(item, f"{self.path}[{i}]")

    def text(self, default: str | None = None) -> str:
        """A string; required where no default is given."""
        if self.value is None:
            if default is None:
                self.refuse("is required")
            return default
        if not isinstance(self.value, str):
            self.refuse("a string is expected")
        if "\0" in self.value:
            self.refuse("a NUL character is not allowed")
        return self.value

    def texts(self, count_max: int) -> tuple[str, ...]:
        return tuple(item.text() for item in self.each(count_max))

    def text_map(self) -> tuple[tuple[str, str], ...]:
        return tuple((name, self[name].text()) for name in sorted(self.names()))

    def flag(self, default: bool = False) -> bool:
        if self.value is None:
            return default
        if not isinstance(self.value, bool):
            self.refuse("true or false is expected")
        return self.value

    def number(self, low: int, high: int, default: int | None = None) -> int:
        """An integer within [low, high]."""
        if self.value is None:
            if default is None:
                self.refuse("is required")
            return default
        if type(self.value) is not int:
            self.refuse("an integer is expected")
        if not low <= self.value <= high:
            self.refuse(f"must be between {low} and {high}, got {self.value}")
        return self.value

    def one_of(self, *allowed: str, default: str | None = None) -> str:
        said = self.text(default)
        if said not in allowed:
            self.refuse(f"{said!r} is not supported here, only {', '.join(allowed)}", "Unsupported")
        return said

    def only(self, known: Collection[str]) -> Field:
        """Refuse every field of an object that is neither known nor absent. False counts as absent, so a field whose
        default in the API is true must be known."""
        for name in self.names():
            if name not in known and not self[name].absent and self[name].value is not False:
                self[name].refuse("is not supported by this device", "Unsupported")
        return self
