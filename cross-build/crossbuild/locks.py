"""Reads the locks of fetch units: which bytes, so that their outputs are known without fetching. Fetches nothing.

The form of a lock (`crossbuild lock UNIT` writes the [[file]] tables):

    from = "pip"                    # or "debian"
    want = ["ziglang==0.17.1"]      # exact versions, or the name of a requirements file beside it, with hashes;
                                    # debian: package names, of the day on which they are locked
    only = ["uvloop"], without = ["lmdb"]           # these of the requirements file, all but these
    platforms = ["any"], python = "3.11"            # pip: wheels for elsewhere; "manylinux_2_36_armv7l": and all older
    source = 1                                      # pip: source archives instead of wheels
    architecture = "arm64", suite = "bookworm"      # debian
    components = ["non-free-firmware"], pockets = ["backports"]     # debian: beyond what this machine's sources name
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
    "only": list,
    "without": list,
    "platforms": list,
    "python": str,
    "source": int,
    "architecture": str,
    "suite": str,
    "components": list,
    "pockets": list,
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
    path, files = lock_of(unit), []
    for n, table in enumerate(read_lock(unit).get("file", [])):
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
    lines = re.findall(r"^(([\w.-]+)==[^\s;\\]+)((?:.*\\\n)*.*)$", text, re.MULTILINE)
    names = {name for _, name, _ in lines}
    for key in ("only", "without"):
        if unknown := sorted(set(said.get(key, [])) - names):
            raise DeclarationInvalid(lock_of(unit), key, f"{unknown[0]} is not in {want}", "Is it spelled as there?")
    chosen = set(said.get("only", names)) - set(said.get("without", []))
    return {
        exact: tuple(re.findall(r"--hash=sha256:([0-9a-f]{64})", rest)) for exact, name, rest in lines if name in chosen
    }


def lock_of(unit: Unit) -> Path:
    assert isinstance(unit.work, Fetch)
    return unit.work.lock
