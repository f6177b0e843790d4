"""The pinned Debian packages of a target, as values and as the text of a lock in the build engine's form
(crossbuild/locks.py), which is who fetches by it. Opens no file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .refusal import Refusal

HEAD = "# Debian packages of an image, pinned. Made by `make lock-image`; never edited by hand.\n"
_NAME = re.compile(r"([a-z0-9][a-z0-9+.-]*)_([A-Za-z0-9.+~%-]+)_([a-z0-9]+)\.deb")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, order=True)
class Pinned:
    name: str
    version: str
    arch: str
    sha256: str

    @property
    def file_name(self) -> str:
        """As apt names it: the colon of an epoch is %3a."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.arch}.deb"


def written(arch: str, suite: str, pins: Iterable[Pinned], pockets: Iterable[str] = ()) -> str:
    """The lock's text. `pockets` are archives beside the suite itself, as backports is."""
    pins = sorted(pins)
    lines = [
        HEAD + 'from = "debian"', f"architecture = {json.dumps(arch)}", f"suite = {json.dumps(suite)}",
        'components = ["main", "non-free-firmware"]',
        *([f"pockets = {json.dumps(list(pockets))}"] if pockets else []),
        f"want = {json.dumps([pin.name for pin in pins])}",
    ]  # fmt: skip
    for pin in pins:
        want = f"{pin.name}={pin.version}"
        lines.append(f'\n[[file]]\nname = "{pin.file_name}"\nwant = "{want}"\nsha256 = "{pin.sha256}"')
    return "\n".join(lines) + "\n"


def parsed(where: str, said: Mapping[str, Any]) -> tuple[Pinned, ...]:
    """The packages of a lock. Raises Refusal with the entry."""
    pins = []
    for number, table in enumerate(said.get("file", [])):
        named = _NAME.fullmatch(str(table.get("name")))
        digest = str(table.get("sha256"))
        if named is None or _DIGEST.fullmatch(digest) is None:
            raise Refusal(where, f"file {number}", "is no pinned package", "make it anew with make lock-image")
        pins.append(Pinned(named[1], named[2].replace("%3a", ":"), named[3], digest))
    return tuple(pins)


def chosen(where: str, pins: Iterable[Pinned], names: Iterable[str]) -> tuple[Pinned, ...]:
    """Those with these names. Raises Refusal for one that is not locked."""
    by_name = {pin.name: pin for pin in pins}
    for name in names:
        if name not in by_name:
            raise Refusal(where, name, "is not locked", "run make lock-image")
    return tuple(by_name[name] for name in names)
