"""What a unit is made of, as one value without any path of the machine, and the key that names it.

Pure but for reading the declared inputs. A need counts by the digest of its outputs, so a need that was rebuilt with
the same result changes no key above it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from crossbuild.declare import Command, Unit
from crossbuild.errors import DeclarationInvalid, InputMissing
from crossbuild.limits import CHUNK_BYTES

HEX = re.compile(r"[0-9a-f]{64}")
FORM = 1  # of keys, entries and trees together: another form shares nothing with this one
Made = dict[str, Any]  # the JSON value that a key is the digest of


@dataclass(frozen=True, slots=True)
class Output:
    """One output: a file's bytes, or a folder as the bytes of its tar (trees.py)."""

    path: str
    kind: str  # "file", "program" (mode 755) or "tree"
    sha256: str


@dataclass(frozen=True, slots=True)
class Input:
    """One declared input as found: `digest` is of its bytes, for a link of the text that it points to."""

    kind: str  # "file", "program" or "link"
    digest: str


def inputs_of(unit: Unit) -> dict[str, Input]:
    """The files that the unit's globs name, by unit-relative path. Raises InputMissing: a glob without a file."""
    found: set[Path] = set()
    for pattern in unit.inputs:
        bare = pattern.removeprefix("!")
        matched = {
            p for p in unit.folder.glob(bare + "/*" if bare.endswith("**") else bare) if p.is_symlink() or p.is_file()
        }
        if pattern.startswith("!"):
            found -= matched
        elif not matched:
            raise InputMissing(
                unit.file, f"{unit.key}.inputs", f"no file matches {pattern!r}", "For a folder write folder/**"
            )
        else:
            found |= matched
    return {p.relative_to(unit.folder).as_posix(): read_input(p) for p in sorted(found)}


def handed_on(unit: Unit, inputs: Mapping[str, Input]) -> tuple[Output, ...]:
    """The outputs of a unit that only hands its inputs on."""
    for path, found in inputs.items():
        if found.kind == "link":
            raise DeclarationInvalid(unit.file, f"{unit.key}.inputs", f"{path} is a link", "Name the file itself")
    return tuple(Output(path, found.kind, found.digest) for path, found in inputs.items())


def made_from(unit: Unit, inputs: Mapping[str, Input], tools: Mapping[str, str], needs: Mapping[str, str]) -> Made:
    """Everything that may change what the unit's command writes; `needs` maps a need's name to its outputs' digest."""
    assert isinstance(unit.work, Command)
    return {
        "form": FORM,
        "argv": list(unit.work.argv),
        "environment": dict(unit.work.environment),
        "tools": dict(tools),
        "inputs": {path: f"{found.kind} {found.digest}" for path, found in inputs.items()},
        "needs": dict(needs),
        "outputs": list(unit.outputs),
        **({"root": True} if unit.work.root else {}),
    }


def digest_of(value: object) -> str:
    """sha256 over the one JSON spelling of `value`."""
    return hashlib.sha256(canonical(value)).hexdigest()


def canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def outputs_digest(outputs: tuple[Output, ...]) -> str:
    return digest_of([asdict(output) for output in outputs])


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def differences(one: Made, other: Made) -> list[str]:
    """What differs between two values that keys were made of, a line each: "inputs hot.c: file 12… → file 34…"."""
    lines = []
    for part in sorted(one.keys() | other.keys()):
        a, b = one.get(part), other.get(part)
        if isinstance(a, dict) and isinstance(b, dict):
            lines += [
                f"{part} {name}: {a.get(name, 'absent')} → {b.get(name, 'absent')}"
                for name in sorted(a.keys() | b.keys()) if a.get(name) != b.get(name)
            ]  # fmt: skip
        elif a != b:
            lines.append(f"{part}: {a} → {b}")
    return lines


def read_input(path: Path) -> Input:
    if path.is_symlink():
        return Input("link", hashlib.sha256(str(path.readlink()).encode()).hexdigest())
    return Input("program" if path.stat().st_mode & 0o100 else "file", file_digest(path))
