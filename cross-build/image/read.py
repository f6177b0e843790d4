"""Brings what lies in firmware-configs/ as values: boards, layers, fragments, package lists, locks, declared inputs."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import limits
from .kernel import Wanted, wanted
from .layers import Entry, Layer, merged
from .lock import Pinned, parsed
from .manifest import Board, board
from .refusal import Refusal

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache"
INPUTS = CACHE / "inputs"


@dataclass(frozen=True, slots=True)
class Input:
    """Something that no package archive of ours has: its file below .cache/inputs/ and the digest it must have."""

    where: str
    name: str
    file: str
    sha256: str
    source: str


class Tree:
    """firmware-configs/ in one place; paths that come out are relative to `top`, which holds that folder."""

    def __init__(self, top: Path = ROOT) -> None:
        self.top = top
        self.folder = top / "firmware-configs"

    def boards(self) -> list[Board]:
        """All boards, sorted. Raises Refusal for the first that is wrong."""
        found = [self.board(str(path.parent.relative_to(self.folder / "boards"))) for path in self._manifests()]
        if not found:
            raise Refusal("firmware-configs/boards", "", "there is no board", "add VENDOR/BOARD/board.toml")
        return found

    def board(self, ident: str) -> Board:
        """One board, by VENDOR/BOARD or VENDOR-BOARD. Raises Refusal."""
        for path in self._manifests():
            name = str(path.parent.relative_to(self.folder / "boards"))
            if ident in (name, name.replace("/", "-")):
                return board(self._name(path), name, self._toml(path))
        known = (str(path.parent.relative_to(self.folder / "boards")) for path in self._manifests())
        names = ", ".join(name.replace("/", "-") for name in known)
        raise Refusal("firmware-configs/boards", ident, "no such board", f"there are {names}")

    def files(self, made: Board) -> dict[str, Entry]:
        """The merged tree of a board: base ← architecture ← vendor ← board. Raises Refusal."""
        vendor = made.ident.partition("/")[0]
        folders = ("base", f"arch/{made.arch}", f"boards/{vendor}", f"boards/{made.ident}")
        layers = [self._layer(self.folder / name / "overlay") for name in folders[:-1]]
        last = self._layer(self.folder / folders[-1] / "overlay", made.where, made.replaces)
        return merged([*layers, last])

    def options(self, made: Board) -> dict[str, Wanted]:
        """The kernel options that a board's fragments ask for. Raises Refusal."""
        texts = []
        for name in made.fragments:
            path = self.folder / "fragments" / f"{name}.config"
            if not path.is_file():
                cure = f"write {self._name(path)}"
                raise Refusal(made.where, "fragments", f"there is no fragment {name}", cure)
            texts.append((self._name(path), path.read_text()))
        return wanted(texts)

    def packages(self, made: Board) -> tuple[str, ...]:
        """The Debian packages of a board, by name: base, architecture, board."""
        names: dict[str, None] = {}
        for path in (self.folder / "base" / "packages", self.folder / "arch" / made.arch / "packages"):
            if path.is_file():
                names |= dict.fromkeys(w for line in path.read_text().splitlines() for w in line.split("#")[0].split())
        return (*names, *(name for name in made.packages if name not in names))

    def lock_path(self, suite: str, arch: str) -> Path:
        return self.folder / "locks" / f"{suite}-{arch}.lock"

    def locked(self, made: Board) -> tuple[str, tuple[Pinned, ...]]:
        """The lock file's name and its packages; none when it was not made yet."""
        path = self.lock_path(made.suite, made.arch)
        name = self._name(path)
        return name, parsed(name, path.read_text()) if path.is_file() else ()

    def inputs(self, made: Board) -> tuple[Input, ...]:
        """The declared inputs of a board. Raises Refusal for a wrong key."""
        path = self.folder / "boards" / made.ident / "inputs.toml"
        if not path.is_file():
            return ()
        where, found = self._name(path), []
        for name, said in self._toml(path).items():
            if not isinstance(said, dict) or set(said) != {"file", "sha256", "source"}:
                raise Refusal(where, name, "is not an input", "state file, sha256 and source, all three")
            found.append(Input(where, name, *(str(said[key]) for key in ("file", "sha256", "source"))))
        return tuple(found)

    def _manifests(self) -> list[Path]:
        return sorted((self.folder / "boards").glob("*/*/board.toml"))

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.top))

    def _toml(self, path: Path) -> dict[str, Any]:
        tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
        try:
            data = path.read_bytes()
            if len(data) > limits.MANIFEST_BYTES_MAX:
                raise Refusal(self._name(path), "", f"is larger than {limits.MANIFEST_BYTES_MAX} bytes", "shorten it")
            said: dict[str, Any] = tomllib.loads(data.decode())
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as why:
            raise Refusal(self._name(path), "", f"is no TOML: {why}", "correct it") from None
        return said

    def _layer(self, folder: Path, where: str | None = None, replaces: tuple[str, ...] = ()) -> Layer:
        entries = {str(p.relative_to(folder)): self._entry(p) for p in _walk(folder)}
        return Layer(where or self._name(folder), entries, replaces)

    def _entry(self, path: Path) -> Entry:
        if path.is_symlink():
            return Entry(self._name(path), 0, link=str(path.readlink()))
        mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
        return Entry(self._name(path), path.stat().st_size, mode)


def present(made: Input) -> Path:
    """The file of a declared input, its digest checked. Raises Refusal that says where to put it."""
    path = INPUTS / made.file
    if len(made.sha256) != 64:
        cure = f"take {made.file} from {made.source}, put it at .cache/inputs/{made.file} and write its sha256 there"
        raise Refusal(made.where, made.name, "has no digest yet", cure)
    if not path.is_file():
        cure = f"take it from {made.source} and put it at .cache/inputs/{made.file}"
        raise Refusal(made.where, made.name, f"{made.file} is not there", cure)
    digest = sha256_of(path)
    if digest != made.sha256:
        raise Refusal(made.where, made.name, f"{made.file} has sha256 {digest}", f"{made.sha256} is wanted")
    return path


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _walk(folder: Path) -> Iterable[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.rglob("*") if p.is_symlink() or p.is_file())
