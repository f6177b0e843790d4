"""Tools of the host as trees of exactly their files: "debian:gcc" is the installed package gcc and what it depends on.

A tool's digest is over name, version, architecture and the md5sums of every package of that closure, so two machines
with the same packages have the same keys, and a changed compiler changes them. The tree is copied once per closure
and every file is checked against its package while it is copied: what a hand or another installer changed is an error.
Documentation is left out; /etc stays out too, the sandbox has its own.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from crossbuild.declare import Command, Unit
from crossbuild.errors import ToolMissing
from crossbuild.keys import digest_of
from crossbuild.trees import settle, stamp

DPKG = Path("/var/lib/dpkg")
_LEFT_OUT = re.compile(r"(etc|usr/share/(doc|man|info|locale|lintian|bug|doc-base))(/|$)")
_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_FIELD = re.compile(r"^(Package|Version|Architecture|Status|Depends|Pre-Depends|Provides): (.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Package:
    name: str
    version: str
    architecture: str
    depends: tuple[tuple[str, ...], ...]  # all of, each any of


def tools_of(unit: Unit) -> dict[str, str]:
    """The digests of the unit's tools. Raises ToolMissing."""
    if not isinstance(unit.work, Command):
        return {}
    digests = {}
    for tool in unit.work.tools:
        kind, _, name = tool.partition(":")
        if kind != "debian":
            raise ToolMissing(unit.file, f"{unit.key}.tools", f"{tool!r} is no tool", 'Write "debian:PACKAGE"')
        packages = closure(name)
        if packages is None:
            cure = f"Run: apt-get install --no-install-recommends {name}"
            raise ToolMissing(unit.file, f"{unit.key}.tools", f"the Debian package {name} is not installed", cure)
        digests[tool] = _digest(tuple(sorted(p.name for p in packages)))
    return digests


def tree_of(tools: Mapping[str, str], folder: Path) -> Path:
    """The tree below `folder` with the files of all `tools`, made when it is not there yet. Raises ToolMissing."""
    tree = folder / digest_of(sorted(tools.values()))
    if not tree.exists():
        packages = {p.name for tool in tools for p in closure(tool.partition(":")[2]) or ()}
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as new:
            made = Path(new) / "made"
            (made / "usr").mkdir(parents=True)
            for name in sorted(packages):
                _copy(name, made)
            stamp(made / "usr")
            settle(made, tree)
    os.utime(tree)  # used now, for gc
    return tree


@cache
def closure(name: str) -> tuple[Package, ...] | None:
    """The installed package and all that it depends on, or None when it is not installed."""
    installed, provided = _status()
    if name not in installed:
        return None
    found: dict[str, Package] = {}
    todo = [name]
    while todo:
        package = installed[todo.pop()]
        if package.name not in found:
            found[package.name] = package
            for any_of in package.depends:
                todo += [n for n in (provided.get(d, d) for d in any_of) if n in installed][:1]
    return tuple(found[n] for n in sorted(found))


@cache
def _status() -> tuple[dict[str, Package], dict[str, str]]:
    """Installed packages by name, and which of them provides a virtual one. Foreign architectures are not tools."""
    installed: dict[str, Package] = {}
    provided: dict[str, str] = {}
    file = DPKG / "status"
    for paragraph in file.read_text(errors="replace").split("\n\n") if file.exists() else ():
        said = dict(_FIELD.findall(paragraph))
        if said.get("Status", "").split()[-1:] != ["installed"] or said["Package"] in installed:
            continue
        depends = [*_names(said.get("Pre-Depends", "")), *_names(said.get("Depends", ""))]
        package = Package(said["Package"], said["Version"], said["Architecture"], tuple(depends))
        installed[package.name] = package
        provided |= {name: package.name for any_of in _names(said.get("Provides", "")) for name in any_of}
    return installed, provided


def _names(relation: str) -> Iterator[tuple[str, ...]]:
    """ "a (>= 1) | b, c:any" → ("a", "b"), ("c",)."""
    for part in filter(None, map(str.strip, relation.split(","))):
        yield tuple(re.split(r"[ (:]", option.strip(), maxsplit=1)[0] for option in part.split("|"))


@cache
def _digest(names: tuple[str, ...]) -> str:
    installed, _ = _status()
    return digest_of([
        [p.name, p.version, p.architecture, hashlib.sha256(_info(p, "md5sums").encode()).hexdigest()]
        for p in map(installed.__getitem__, names)
    ])  # fmt: skip


def _info(package: Package, kind: str) -> str:
    for name in (f"{package.name}:{package.architecture}", package.name):
        file = DPKG / "info" / f"{name}.{kind}"
        if file.exists():
            return file.read_text()
    return ""


def _copy(name: str, into: Path) -> None:
    """Copy the files of one package; those of /bin, /sbin and /lib* go below usr, where a merged Debian has them."""
    package = _status()[0][name]
    sums = {line[34:]: line[:32] for line in _info(package, "md5sums").splitlines()}
    for path in _paths(_info(package, "list").splitlines()):
        source, to = Path("/") / path, into / _merged(path)
        if source.is_symlink():
            if not to.is_symlink():
                to.parent.mkdir(parents=True, exist_ok=True)
                to.symlink_to(source.readlink())
        elif source.is_dir():
            to.mkdir(parents=True, exist_ok=True)
        else:
            to.parent.mkdir(parents=True, exist_ok=True)
            try:
                shutil.copyfile(source, to)
                to.chmod(0o755 if source.stat().st_mode & 0o100 else 0o644)
                changed = path in sums and hashlib.md5(to.read_bytes(), usedforsecurity=False).hexdigest() != sums[path]
            except PermissionError:
                continue  # what only root may read is no tool
            except OSError:
                changed = True
            if changed:
                cure = f"Run: apt-get install --reinstall {name}"
                raise ToolMissing(source, "", f"is not as the Debian package {name} brought it", cure)


def _paths(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        path = line.lstrip("/")
        if path not in ("", ".", *_MERGED) and not _LEFT_OUT.match(path):
            yield path


def _merged(path: str) -> PurePosixPath:
    return PurePosixPath("usr", path) if path.partition("/")[0] in _MERGED else PurePosixPath(path)
