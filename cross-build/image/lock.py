"""The pinned Debian packages of one suite and architecture, as a value and as the lines of a lock file.

A line is `USE NAME VERSION ARCH SHA256 BYTES`; USE is `install` (configured in the root) or `unpack` (kernels and
firmware, which are only unpacked). Opens no file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from .refusal import Refusal

HEAD = "# Debian packages of an image, pinned. Made by `make lock-image`; never edited by hand.\n"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"[A-Za-z0-9.+:~-]+")


@dataclass(frozen=True, slots=True, order=True)
class Pinned:
    use: str
    name: str
    version: str
    arch: str
    sha256: str
    bytes_count: int

    @property
    def file_name(self) -> str:
        """As the archive names it: the version without its epoch."""
        return f"{self.name}_{self.version.partition(':')[2] or self.version}_{self.arch}.deb"


def written(pins: Iterable[Pinned], remark: str = "") -> str:
    return (
        HEAD
        + (f"# {remark}\n" if remark else "")
        + "".join(f"{p.use} {p.name} {p.version} {p.arch} {p.sha256} {p.bytes_count}\n" for p in sorted(pins))
    )


def parsed(where: str, text: str) -> tuple[Pinned, ...]:
    """The packages of a lock file. Raises Refusal with the line."""
    pins = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        said = line.split()
        good = (
            len(said) == 6 and said[0] in ("install", "unpack") and said[5].isdigit()
            and _DIGEST.fullmatch(said[4]) is not None and _VERSION.fullmatch(said[2]) is not None
        )  # fmt: skip
        if not good:
            raise Refusal(where, f"line {number}", "is no pinned package", "make it anew with make lock-image")
        pins.append(Pinned(said[0], said[1], said[2], said[3], said[4], int(said[5])))
    return tuple(pins)


def chosen(where: str, pins: Iterable[Pinned], use: str, names: Iterable[str]) -> tuple[Pinned, ...]:
    """Those with these names. Raises Refusal for one that is not locked."""
    by_name = {pin.name: pin for pin in pins if pin.use == use}
    for name in names:
        if name not in by_name:
            raise Refusal(where, name, "is not locked", "run make lock-image")
    return tuple(by_name[name] for name in names)
