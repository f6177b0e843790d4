"""Which kernel options a board needs, and whether its kernel has them.

A fragment is a file of lines `CONFIG_X=y` (built in), `CONFIG_X=m` (a module or built in) and `# CONFIG_X is not set`.
Two fragments that ask for opposite things are refused, both named. Opens no file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .refusal import Refusal

_ASKED = re.compile(r"(CONFIG_[A-Z0-9_a-z]+)=([ym])")
_REFUSED = re.compile(r"# (CONFIG_[A-Z0-9_a-z]+) is not set")


@dataclass(frozen=True, slots=True)
class Wanted:
    """`value` is y, m (at least) or n; `source` is the fragment that asks."""

    value: str
    source: str


def wanted(fragments: Iterable[tuple[str, str]]) -> dict[str, Wanted]:
    """Option → what is asked for, from (path, text) of each fragment. Raises Refusal."""
    all_of: dict[str, Wanted] = {}
    for source, text in fragments:
        for number, line in enumerate(text.splitlines(), 1):
            found = _line(source, number, line.strip())
            if found is None:
                continue
            option, value = found
            known = all_of.get(option)
            if known is not None and "n" in (known.value, value) and known.value != value:
                raise Refusal(source, option, f"{known.source} asks for the opposite", "remove one of the two lines")
            if known is None or (known.value, value) == ("m", "y"):
                all_of[option] = Wanted(value, source)
    return all_of


def lacking(options: Mapping[str, Wanted], config: str) -> list[str]:
    """One line for each option that a kernel's /boot/config does not fulfil; [] is right."""
    has = {m[1]: m[2] for line in config.splitlines() if (m := _ASKED.fullmatch(line.strip()))}
    lines = []
    for option, want in sorted(options.items()):
        value = has.get(option, "n")
        if not (value == want.value or (want.value == "m" and value == "y")):
            lines.append(f"{option}: {want.source} wants {want.value}, the kernel has {value}")
    return lines


def _line(source: str, number: int, line: str) -> tuple[str, str] | None:
    if (asked := _ASKED.fullmatch(line)) is not None:
        return asked[1], asked[2]
    if (refused := _REFUSED.fullmatch(line)) is not None:
        return refused[1], "n"
    if not line or (line.startswith("#") and not line.startswith("# CONFIG_")):
        return None
    raise Refusal(source, f"line {number}", f"{line[:40]!r} is no option", "CONFIG_X=y, CONFIG_X=m or a comment")
