"""Reads the locks of fetch units: which bytes, so that their outputs are known without fetching. Fetches nothing.

The form of a lock (`crossbuild lock UNIT` writes the [[file]] tables):

    from = "pip"                    # or "debian"
    want = ["ziglang==0.17.1"]      # exact versions, or the name of a requirements file beside it, with hashes;
                                    # debian: package names, of the day on which they are locked
    platforms = ["any"], python = "3.11"            # pip: wheels for elsewhere
    source = 1                                      # pip: source archives instead of wheels
    architecture = "arm64", suite = "bookworm"      # debian
    pins = "x.debs"                 # debian: instead of want and [[file]], a file of lines NAME VERSION SHA256
    [[file]]
    name, want, sha256              # want: "ziglang==0.17.1", "libc6=2.36-9"
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossbuild.declare import Fetch, Unit, read_toml
from crossbuild.errors import DeclarationInvalid
from crossbuild.keys import HEX, Output

_KEYS: dict[str, type | tuple[type, ...]] = {
    "from": str,
    "want": (list, str),
    "pins": str,
    "platforms": list,
    "python": str,
    "source": int,
    "architecture": str,
    "suite": str,
    "file": list,
}
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~!%-]*")


@dataclass(frozen=True, slots=True)
class Locked:
    """One pinned file."""

    name: str
    want: str
    sha256: str


def locked(unit: Unit) -> tuple[Output, ...]:
    """The outputs of a fetch unit, as its lock has them. Raises DeclarationInvalid."""
    files = files_of(unit)
    if not files:
        raise DeclarationInvalid(lock_of(unit), "file", "nothing is locked", f"Run: crossbuild lock {unit.id}")
    return tuple(Output(f.name, "file", f.sha256) for f in files)


def files_of(unit: Unit) -> list[Locked]:
    path, said = lock_of(unit), read_lock(unit)
    tables = _pinned(path.parent / said["pins"]) if "pins" in said else said.get("file", [])
    files = []
    for n, table in enumerate(tables):
        try:
            file = Locked(**table)
        except TypeError as e:
            raise DeclarationInvalid(path, f"file.{n}", str(e), f"Run: crossbuild lock {unit.id}") from e
        if not HEX.fullmatch(file.sha256) or not _FILE_NAME.fullmatch(file.name):
            raise DeclarationInvalid(path, f"file.{n}", "an odd name or digest", f"Run: crossbuild lock {unit.id}")
        files.append(file)
    return files


def read_lock(unit: Unit) -> dict[str, Any]:
    path = lock_of(unit)
    said = read_toml(path)
    for key, value in said.items():
        if key not in _KEYS or not isinstance(value, _KEYS[key]):
            raise DeclarationInvalid(path, key, "unknown key or another type", f"Known are {', '.join(sorted(_KEYS))}")
    if said.get("from") not in ("pip", "debian"):
        raise DeclarationInvalid(path, "from", "is missing", 'Write "pip" or "debian"')
    for key in ("architecture", "suite") if said["from"] == "debian" else ():
        if not re.fullmatch(r"[a-z0-9-]+", said.get(key, "")):
            raise DeclarationInvalid(path, key, "is missing or odd", "Name Debian's architecture and suite")
    return said


def wanted(unit: Unit, said: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """What to lock, each with the digests that may come; none: any."""
    want = said.get("want", [])
    if isinstance(want, list):
        return dict.fromkeys(want, ())
    try:
        text = (lock_of(unit).parent / want).read_text()
    except OSError as e:
        raise DeclarationInvalid(
            lock_of(unit), "want", str(e), "Name a requirements file, from the lock's folder"
        ) from e
    lines = re.findall(r"^([\w.-]+==[^\s;\\]+)((?:.*\\\n)*.*)$", text, re.MULTILINE)
    return {name: tuple(re.findall(r"--hash=sha256:([0-9a-f]{64})", rest)) for name, rest in lines}


def files_read(unit: Unit) -> list[Path]:
    """The files that say what a fetch unit's outputs are."""
    path, said = lock_of(unit), read_lock(unit)
    return [path, path.parent / said["pins"]] if "pins" in said else [path]


def lock_of(unit: Unit) -> Path:
    assert isinstance(unit.work, Fetch)
    return unit.work.lock


def _pinned(path: Path) -> list[dict[str, str]]:
    """The lines NAME VERSION SHA256 of a .debs file, as tables of a lock."""
    try:
        lines = [line.split() for line in path.read_text().splitlines() if line and not line.startswith("#")]
        return [{"name": f"{n}.deb", "want": f"{n}={version}", "sha256": digest} for n, version, digest in lines]
    except (OSError, ValueError) as e:
        raise DeclarationInvalid(path, "", str(e), "Lines are NAME VERSION SHA256") from e
