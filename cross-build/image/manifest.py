"""What a board.toml says, as a value. Decides which keys there are and their bounds; opens no file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import limits
from .refusal import Refusal
from .targets import TARGETS, suite_of

BOOTS = ("extlinux", "raspberry-pi", "l4t")
KERNEL_INPUT = "input:"  # a kernel that Debian does not carry: the name of a declared input follows

_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]*")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


@dataclass(frozen=True, slots=True)
class Board:
    """One board. `where` is its manifest, `ident` its folder below boards/ as VENDOR/BOARD; sizes in MiB."""

    where: str
    ident: str
    name: str
    target: str
    kernel: str
    boot: str
    memory_mb: int
    medium_mb: int
    boot_mb: int
    root_mb: int
    data_mb: int
    initrd: tuple[str, ...]
    fragments: tuple[str, ...]
    packages: tuple[str, ...] = ()
    unpacked: tuple[str, ...] = ()
    replaces: tuple[str, ...] = ()

    @property
    def short(self) -> str:
        """VENDOR-BOARD, as in `make image-VENDOR-BOARD`."""
        return self.ident.replace("/", "-")

    @property
    def arch(self) -> str:
        """Debian's name of the architecture."""
        return TARGETS[self.target]

    @property
    def suite(self) -> str:
        return suite_of(self.target)

    @property
    def unpack(self) -> tuple[str, ...]:
        """The packages that are unpacked and never configured: kernel and firmware."""
        return (*([self.kernel_package] if self.kernel_package else []), *self.unpacked)

    @property
    def kernel_package(self) -> str | None:
        return None if self.kernel.startswith(KERNEL_INPUT) else self.kernel


@dataclass(frozen=True, slots=True)
class Key:
    """One key: a word with a closed list, a number of MiB within bounds, or a list of words."""

    kind: type
    needed: bool = True
    choices: tuple[str, ...] = ()
    low: int = 0
    high: int = 0


KEYS: dict[str, Key] = {
    "name": Key(str),
    "target": Key(str, choices=tuple(TARGETS)),
    "kernel": Key(str),
    "boot": Key(str, choices=BOOTS),
    "memory_mb": Key(int, low=limits.MEMORY_MB_MIN, high=limits.MEMORY_MB_MAX),
    "medium_mb": Key(int, low=limits.MEDIUM_MB_MIN, high=limits.MEDIUM_MB_MAX),
    "boot_mb": Key(int, low=limits.BOOT_MB_MIN, high=limits.BOOT_MB_MAX),
    "root_mb": Key(int, low=limits.ROOT_MB_MIN, high=limits.ROOT_MB_MAX),
    "data_mb": Key(int, low=limits.DATA_MB_MIN, high=limits.DATA_MB_MAX),
    "initrd": Key(list),
    "fragments": Key(list),
    "packages": Key(list, needed=False),
    "unpacked": Key(list, needed=False),
    "replaces": Key(list, needed=False),
}


def board(where: str, ident: str, said: Mapping[str, Any]) -> Board:
    """A Board from the keys of its manifest. Raises Refusal with the file and the key."""
    for key in said:
        if key not in KEYS:
            raise Refusal(where, key, "no such key", f"there are {', '.join(KEYS)}")
    made = Board(where, ident, **{name: _value(where, name, key, said.get(name)) for name, key in KEYS.items()})
    package = made.kernel.removeprefix(KERNEL_INPUT)
    if not _PACKAGE.fullmatch(package):
        raise Refusal(where, "kernel", f"{made.kernel!r} is no package", "name a linux-image package, or input:NAME")
    return made


def _value(where: str, name: str, key: Key, value: Any) -> Any:
    if value is None:
        if key.needed:
            raise Refusal(where, name, "is missing", "every board states it")
        return ()
    if type(value) is not key.kind:
        raise Refusal(where, name, f"is {type(value).__name__}", f"write a {key.kind.__name__}")
    if isinstance(value, list):
        return _words(where, name, value)
    if isinstance(value, int):
        if not key.low <= value <= key.high:
            raise Refusal(where, name, f"{value} MiB is out of bounds", f"{key.low} to {key.high} MiB are possible")
        return value
    if key.choices and value not in key.choices:
        raise Refusal(where, name, f"{value!r} is not known", f"there are {', '.join(key.choices)}")
    if not isinstance(value, str) or not value or not value.isprintable():
        raise Refusal(where, name, "is empty or cannot be printed", "write one line of text")
    return value


def _words(where: str, name: str, value: list[Any]) -> tuple[str, ...]:
    """Names of modules, packages and fragments; `replaces` has paths, which layers.py judges."""
    for word in value:
        if not isinstance(word, str) or (name != "replaces" and not _WORD.fullmatch(word)):
            raise Refusal(where, name, f"{word!r} is no name", "letters, digits and . + - _")
        if value.count(word) > 1:
            raise Refusal(where, name, f"{word} stands there twice", "name it once")
    return tuple(value)
