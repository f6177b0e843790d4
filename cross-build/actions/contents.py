"""What goes where in a package: our code, the native wheel, the vendored libraries, the packaging files, launchers."""

from __future__ import annotations

import gzip
import shutil
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from refusal import Refusal, Refusals, toml
from wheelhouse import named

# Not opened at run time: types for checkers, C types for the compiler, the sources of generated stubs.
LEFT_OUT = (".pyi", ".pxd", ".typed", ".proto", ".pyc", ".so", ".c")
LAUNCHER = """#!/usr/bin/python3 -IS
import sys

sys.path[:0] = ["{home}", "{home}/lib"]
from {module} import {function}

sys.exit({function}())
"""


@dataclass(frozen=True, slots=True)
class Placed:
    """One line of files.toml: `source` relative to the packaging folder, `path` on the device."""

    source: str
    path: str
    mode: int


def placed(where: str, text: str) -> list[Placed]:
    """The files of a packaging folder. Raises Refusals that name each entry and key."""
    said = toml(where, text)
    wrong = [Refusal(where, key, "an unknown key", "file") for key in said if key != "file"]
    good = []
    for number, entry in enumerate(said.get("file", []), 1):
        at = f"file {number}"
        wrong += [
            Refusal(where, f"{at}: {key}", "an unknown key", "source, path or mode")
            for key in entry if key not in ("source", "path", "mode")
        ]  # fmt: skip
        source, path, mode = entry.get("source"), entry.get("path"), _mode(entry.get("mode", "0644"))
        if not isinstance(source, str) or PurePosixPath(source).is_absolute() or ".." in PurePosixPath(source).parts:
            wrong.append(Refusal(where, f"{at}: source", repr(source), "a path below the packaging folder"))
        elif not isinstance(path, str) or not path.startswith("/") or ".." in PurePosixPath(path).parts:
            wrong.append(Refusal(where, f"{at}: path", repr(path), "an absolute path"))
        elif mode is None:
            wrong.append(Refusal(where, f"{at}: mode", repr(entry["mode"]), 'octal digits, as "0644"'))
        else:
            good.append(Placed(source, path, mode))
    if wrong:
        raise Refusals(wrong)
    return good


def _mode(text: Any) -> int | None:
    try:
        return int(text, 8)
    except (TypeError, ValueError):
        return None


def put_code(packages: Iterable[Path], home: Path) -> None:
    """Copy Python packages below `home`, without what a run leaves beside them."""
    for package in packages:
        if not (package / "__init__.py").is_file():
            raise Refusal(str(package), "--code", "no Python package", "a folder with __init__.py")
        for path in sorted(package.rglob("*")):
            if path.is_file() and path.suffix not in LEFT_OUT and "__pycache__" not in path.parts:
                _copy(path, home / package.name / path.relative_to(package))


def put_wheel(wheel: Path, home: Path) -> None:
    """Unpack our own native wheel below `home`."""
    named(wheel.name)
    with zipfile.ZipFile(wheel) as archive:
        for item in archive.infolist():
            inside = PurePosixPath(item.filename)
            if item.is_dir() or inside.suffix in (".pxd", ".pyi", ".typed") or inside.parts[0].endswith(".dist-info"):
                continue
            if inside.is_absolute() or ".." in inside.parts:
                raise Refusal(wheel.name, "path", item.filename, "a path below the wheel")
            (home / inside).parent.mkdir(parents=True, exist_ok=True)
            (home / inside).write_bytes(archive.read(item))


def put_tree(tree: Path, place: Path) -> None:
    for path in sorted(tree.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            _copy(path, place / path.relative_to(tree))


def put_files(packaging: Path, files: Iterable[Placed], root: Path) -> None:
    """Copy the packaging files. Raises Refusal for one that is not there or would replace another."""
    for file in files:
        place = root / file.path.lstrip("/")
        if not (packaging / file.source).is_file():
            raise Refusal("files.toml", file.source, "no such file", f"a file below {packaging.name}")
        if place.exists():
            raise Refusal("files.toml", file.path, "two files for one place", "one")
        _copy(packaging / file.source, place)
        if place.is_relative_to(root / "usr/share/man") and place.suffix != ".gz":  # Policy 12.1
            data = place.read_bytes()
            place.unlink()
            place = place.with_name(place.name + ".gz")
            place.write_bytes(gzip.compress(data, 9, mtime=0))
        place.chmod(file.mode)


def put_launchers(scripts: dict[str, str], home: str, root: Path) -> None:
    """One program for each `[project.scripts]` line, isolated from the user's environment and from site-packages."""
    for name, target in sorted(scripts.items()):
        module, _, function = target.partition(":")
        place = root / "usr/bin" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(LAUNCHER.format(home=home, module=module, function=function))
        place.chmod(0o755)


def _copy(source: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, place)
    place.chmod(0o644)
