"""Brings what lies in firmware-configs/ as values: boards, layers, fragments, package lists, locks, declared inputs."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import limits
from .kernel import Wanted, wanted
from .layers import Entry, Layer, merged
from .lock import Pinned, parsed
from .manifest import Board, board
from .refusal import Refusal
from .tool import sha256_of

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = "firmware-configs"  # how the folder is called in messages, wherever it lies
# Over a system that its maker builds goes only what containers need: partitions, network and log stay as they are.
BASE_OVER_L4T = ("etc/cni/", "etc/modules-load.d/", "etc/sysctl.d/")
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
    """firmware-configs/, which lies at `folder`; paths that come out begin with its own name."""

    def __init__(self, folder: Path = ROOT / CONFIGS) -> None:
        self.folder = folder

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
                return board_of(self._toml(path), name)
        known = (str(path.parent.relative_to(self.folder / "boards")) for path in self._manifests())
        names = ", ".join(name.replace("/", "-") for name in known)
        raise Refusal("firmware-configs/boards", ident, "no such board", f"there are {names}")

    def files(self, made: Board) -> dict[str, Entry]:
        """The merged tree of a board: base ← architecture ← vendor ← board. Raises Refusal."""
        maker = [Layer("L4T", {path: Entry(f"L4T/{path}", 0) for path in made.replaces})] if made.boot == "l4t" else []
        return merged([*maker, *self.layers(made)])

    def layers(self, made: Board) -> list[Layer]:
        """The layers of a board, lowest first."""
        vendor = made.ident.partition("/")[0]
        folders = ("base", f"arch/{made.arch}", f"boards/{vendor}", f"boards/{made.ident}")
        layers = [self._layer(self.folder / name / "overlay") for name in folders[:-1]]
        if made.boot == "l4t":
            taken = {path: entry for path, entry in layers[0].entries.items() if path.startswith(BASE_OVER_L4T)}
            layers[0] = Layer(layers[0].where, taken)
        last = self._layer(self.folder / folders[-1] / "overlay", made.where, made.replaces)
        return [*layers, last]

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
        """The Debian packages of a board, by name: base, architecture, vendor, board."""
        names: dict[str, None] = {}
        for folder in ("base", f"arch/{made.arch}", f"boards/{made.ident.partition('/')[0]}"):
            path = self.folder / folder / "packages"
            if path.is_file():
                names |= dict.fromkeys(w for line in path.read_text().splitlines() for w in line.split("#")[0].split())
        return (*names, *(name for name in made.packages if name not in names))

    def lock_path(self, target: str, unpacked: bool = False) -> Path:
        return self.folder / "root" / "locks" / f"{target}{'-unpacked' if unpacked else ''}.toml"

    def locked(self, made: Board, unpacked: bool = False) -> tuple[str, tuple[Pinned, ...]]:
        """The lock file's name and its packages; none when it was not made yet."""
        path = self.lock_path(made.target, unpacked)
        name = self._name(path)
        return name, parsed(name, self._toml(path, limits.LOCK_BYTES_MAX)) if path.is_file() else ()

    def file(self, entry: Entry) -> Path:
        """Where the file of an overlay lies."""
        return self.folder / entry.source.removeprefix(f"{CONFIGS}/")

    def unit_target(self, made: Board) -> Path:
        """The file by which the build engine knows a board, and its target."""
        return self.folder / "targets" / f"{made.short}.toml"

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
        return f"{CONFIGS}/{path.relative_to(self.folder)}"

    def _toml(self, path: Path, bytes_max: int = limits.MANIFEST_BYTES_MAX) -> dict[str, Any]:
        return read_toml(self._name(path), path, bytes_max)

    def _layer(self, folder: Path, where: str | None = None, replaces: tuple[str, ...] = ()) -> Layer:
        entries = {str(p.relative_to(folder)): self._entry(p) for p in _walk(folder)}
        return Layer(where or self._name(folder), entries, replaces)

    def _entry(self, path: Path) -> Entry:
        if path.is_symlink():
            return Entry(self._name(path), 0, link=str(path.readlink()))
        mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
        return Entry(self._name(path), path.stat().st_size, mode)


def board_of(said: Mapping[str, Any], ident: str) -> Board:
    """The Board of a manifest's keys. Raises Refusal."""
    return board(f"{CONFIGS}/boards/{ident}/board.toml", ident, said)


def read_toml(name: str, path: Path, bytes_max: int = limits.MANIFEST_BYTES_MAX) -> dict[str, Any]:
    """A TOML file, `name` in messages. Raises Refusal."""
    tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        data = path.read_bytes()
        if len(data) > bytes_max:
            raise Refusal(name, "", f"is larger than {bytes_max} bytes", "shorten it")
        said: dict[str, Any] = tomllib.loads(data.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as why:
        raise Refusal(name, "", f"is no TOML: {why}", "correct it") from None
    return said


def present(made: Input) -> Path:
    """The file of a declared input, its digest checked. Raises Refusal that says where to put it, or what to state."""
    path = INPUTS / made.file
    if not path.is_file():
        cure = f"take it from {made.source} and put it at .cache/inputs/{made.file}"
        raise Refusal(made.where, made.name, f"{made.file} is not there", cure)
    digest = sha256_of(path)
    if not made.sha256:
        cure = f'if you trust it, state that there: sha256 = "{digest}"'
        raise Refusal(made.where, f"{made.name}.sha256", f".cache/inputs/{made.file} is not pinned yet", cure)
    if digest != made.sha256:
        cure = f'take the file that was pinned, or state this one: sha256 = "{digest}"'
        raise Refusal(made.where, f"{made.name}.sha256", f".cache/inputs/{made.file} has another digest", cure)
    return path


def _walk(folder: Path) -> Iterable[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.rglob("*") if p.is_symlink() or p.is_file())
