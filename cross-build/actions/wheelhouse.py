"""The libraries of other people that a package carries: wheels of a target, unpacked, thinned, stripped and checked.

    wheelhouse.py --target TARGET.toml --lock LOCK.txt --wheels DIR [--built DIR] --thin THIN.toml --strip PROGRAM
        --out DIR

`--wheels` holds downloaded wheels, each in the lock by its hash; `--built` holds those that were built here from the
lock's sources (sdist_wheel.py), which no lock can name. Exactly the lock's distributions must be there, each once.
Out: `lib/` with the tree, `licenses.txt`, and `vendored.json` (name, version, digest of each wheel).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from check_elf import checked
from elf import is_elf
from refusal import Refusal, Refusals, entry, toml
from target import Target
from target import read as read_target

# Nothing of this is opened at run time. `_testcapi` and `_testbase` are test code beside the code.
DROPPED_SUFFIXES = (".pyx", ".pxd", ".pxi", ".c", ".h", ".hpp", ".cpp", ".pyi", ".typed", ".a", ".proto", ".md")
DROPPED_FOLDERS = frozenset({"tests", "test", "testing", "testdata", "__pycache__"})
DROPPED_STEMS = frozenset({"_testcapi", "_testbase"})
_LOCKED = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)((?:\s*\\?\s*--hash=sha256:[0-9a-f]{64})+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Locked:
    """One line of a lock: a distribution, its version, and the digests of its files for all platforms."""

    name: str
    version: str
    digests: frozenset[str]


@dataclass(frozen=True, slots=True)
class Wheel:
    """What a wheel's file name says (PEP 427)."""

    file: str
    name: str
    version: str
    pythons: tuple[str, ...]
    abis: tuple[str, ...]
    platforms: tuple[str, ...]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(text: str) -> dict[str, Locked]:
    """A `uv pip compile --generate-hashes` file without markers, by normalised name."""
    found = [
        Locked(normal(m[1]), m[2], frozenset(re.findall(r"sha256:([0-9a-f]{64})", m[3])))
        for m in _LOCKED.finditer(text)
    ]
    return {item.name: item for item in found}


def named(file: str) -> Wheel:
    """Raises Refusal for a file name that is no wheel's."""
    parts = file.removesuffix(".whl").split("-")
    if not file.endswith(".whl") or len(parts) not in (5, 6):
        raise Refusal(file, "name", "no wheel", "NAME-VERSION-PYTHON-ABI-PLATFORM.whl")
    pythons, abis, platforms = (tuple(part.split(".")) for part in parts[-3:])
    return Wheel(file, normal(parts[0]), parts[1], pythons, abis, platforms)


def judged(wheel: Wheel, target: Target) -> list[Refusal]:
    """Why a wheel does not fit the target, by its tags alone; what is in it is judged by check_elf."""
    wrong, minor = [], target.python_minor
    exact = f"cp3{minor}" in wheel.pythons
    stable = "abi3" in wheel.abis and any(_minor(tag) <= minor for tag in wheel.pythons)
    pure = "none" in wheel.abis and any(tag.startswith("py3") for tag in wheel.pythons)
    if not (exact or stable or pure):
        wrong.append(Refusal(wheel.file, "Python", ".".join(wheel.pythons), f"cp3{minor}, abi3 or py3"))
    if not any(_platform_fits(tag, target) for tag in wheel.platforms):
        wanted = f"any, or manylinux for {target.arch} up to glibc {target.glibc_max}"
        wrong.append(Refusal(wheel.file, "platform", ".".join(wheel.platforms), wanted))
    return wrong


def kept(path: PurePosixPath) -> bool:
    """Whether the package needs this file of a wheel at run time."""
    if any(part in DROPPED_FOLDERS or part.endswith((".dist-info", ".data")) for part in path.parts[:-1]):
        return False
    return path.suffix not in DROPPED_SUFFIXES and path.name.partition(".")[0] not in DROPPED_STEMS


def thinned(files: Sequence[str], thin: Mapping[str, Any]) -> list[str]:
    """Those of `files` that the table of unneeded ones names; a pure twin only where its compiled module is there."""
    patterns = list(thin["always"])
    for compiled, twins in thin["compiled"].items():
        if any(fnmatchcase(file, compiled) for file in files):
            patterns += twins
    return [file for file in files if any(fnmatchcase(file, pattern) for pattern in patterns)]


def _minor(tag: str) -> int:
    return int(tag[3:]) if re.fullmatch(r"cp3\d+", tag) else 99


def _platform_fits(tag: str, target: Target) -> bool:
    old = {"manylinux2014": "manylinux_2_17", "manylinux2010": "manylinux_2_12"}
    for before, after in old.items():
        tag = tag.replace(before + "_", after + "_")
    made_for = re.fullmatch(rf"manylinux_2_(\d+)_{target.arch}", tag)
    return tag == "any" or (made_for is not None and (2, int(made_for.group(1))) <= target.glibc)


def chosen(lock: dict[str, Locked], wheels: Path, built: Path | None, target: Target) -> list[tuple[Wheel, Path]]:
    """The wheel of each locked distribution; one built here goes before one that was downloaded. Raises Refusals."""
    found: dict[str, tuple[Wheel, Path]] = {}
    wrong: list[Refusal] = []
    for folder, ours in ((built, True), (wheels, False)):
        for path in sorted(folder.glob("*.whl")) if folder else ():
            wheel = named(path.name)
            pin = lock.get(wheel.name)
            if pin is None or pin.version != wheel.version:
                wanted = f"{pin.version}" if pin else "a distribution that the lock names"
                wrong.append(Refusal(path.name, "lock", f"{wheel.name} {wheel.version}", wanted))
                continue
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            if not ours and digest not in pin.digests:
                wrong.append(Refusal(path.name, "sha256", digest, "a digest of the lock"))
            if wheel.name in found and ours == (found[wheel.name][1].parent == built):
                wrong.append(Refusal(path.name, "lock", "two wheels of one distribution", "one"))
            if ours or wheel.name not in found:
                wrong += judged(wheel, target)
                found[wheel.name] = (wheel, path)
    wrong += [Refusal("lock", name, "no wheel", f"one of {lock[name].version}") for name in lock if name not in found]
    if wrong:
        raise Refusals(wrong)
    return [found[name] for name in sorted(found)]


def short(licence: str) -> str:
    """A licence's text; Debian has the Apache License already (Policy 12.5)."""
    whole = "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION" in licence and "Version 2.0" in licence
    return "The Apache License, version 2.0: /usr/share/common-licenses/Apache-2.0" if whole else licence


def unpacked(path: Path, lib: Path) -> str:
    """Unpack one wheel into `lib`; the text of its licences. Raises Refusal for a path that leads out."""
    texts = []
    with zipfile.ZipFile(path) as archive:
        for item in sorted(archive.infolist(), key=lambda i: i.filename):
            inside = PurePosixPath(item.filename)
            if inside.is_absolute() or ".." in inside.parts:
                raise Refusal(path.name, "path", item.filename, "a path below the wheel")
            if item.is_dir():
                continue
            licence = re.match(r"(?i)(licen[cs]e|copying|notice|authors)", inside.name)
            if licence and any(part.endswith(".dist-info") for part in inside.parts):
                texts.append(short(archive.read(item).decode(errors="replace").strip()))
            if kept(inside):
                place = lib / inside
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(archive.read(item))
    return "\n\n".join(texts)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for word in ("--target", "--lock", "--wheels", "--out"):
        words.add_argument(word, type=Path, required=True)
    words.add_argument("--thin", type=Path, required=True)
    words.add_argument("--built", type=Path)
    words.add_argument("--strip", required=True, help="the target's strip, by name or path")
    args = words.parse_args()
    target = read_target(args.target)
    wheels = chosen(locked(args.lock.read_text()), args.wheels, args.built, target)
    lib: Path = args.out / "lib"
    if lib.exists():
        shutil.rmtree(lib)
    lib.mkdir(parents=True)
    licences, said = [], []
    for wheel, path in wheels:
        licences.append(f"{wheel.name} {wheel.version}\n\n{unpacked(path, lib)}\n")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        said.append({"name": wheel.name, "version": wheel.version, "file": path.name, "sha256": digest})
    files = [str(path.relative_to(lib)) for path in lib.rglob("*") if path.is_file()]
    for file in thinned(files, toml(args.thin.name, args.thin.read_text())):
        (lib / file).unlink()
    for path in sorted(lib.rglob("*")):
        if is_elf(path):
            subprocess.run([args.strip, "--strip-unneeded", str(path)], check=True, capture_output=True)
    found = checked(lib, target)
    (args.out / "licenses.txt").write_text(("\n" + "-" * 80 + "\n\n").join(licences))
    (args.out / "vendored.json").write_text(json.dumps(said, indent=1) + "\n")
    print(f"{len(wheels)} distributions, {len(found)} ELF files")


if __name__ == "__main__":
    entry(main)
