"""An overlay over NVIDIA's L4T: skerry's package and a board's layers, composed with the maker's root file system.

The maker's tree is the lowest layer of the checked merge, so none of its files is written over unless the board names
it in `replaces`. Its extlinux.conf is kept, and gets the words that boot/extlinux/append has. skerry's package
goes along as a file, and the device's own dpkg installs it at the first boot. Knows nothing of flashing.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from .layers import Entry, Layer, merged
from .limits import EPOCH
from .manifest import Board
from .read import ROOT, Tree, present
from .refusal import Refusal
from .root import lay_over
from .tool import run

OUT = ROOT / "build" / "images"
DEBS = "build/deb"  # where `make deb` puts packages
APPEND, EXTLINUX = "boot/extlinux/append", "boot/extlinux/extlinux.conf"
PACKAGE = "usr/share/skerry/skerry.deb"  # skerry-install.service takes it from there


def overlay(tree: Tree, board: Board, out: Path = OUT) -> Path:
    """The maker's root with skerry in it, as a tar for NVIDIA's flash.sh. Raises Refusal: an input is not there."""
    (declared,) = tree.inputs(board)
    packed = present(declared)
    name = f"skerry_*+{board.suite}_{board.arch}.deb"
    debs = sorted((ROOT / DEBS).glob(name), key=lambda path: path.stat().st_mtime)
    if not debs:
        raise Refusal(f"{DEBS}/{name}", "", "is not built", f"make deb TARGET={board.target}")
    work = out / f"{board.short}.work"
    shutil.rmtree(work, ignore_errors=True)
    root = work / "root"
    root.mkdir(parents=True)
    run(["tar", "--numeric-owner", "--xattrs", "-xpf", packed, "-C", root])
    compose(tree, board, root, debs[-1], work)
    target = out / f"skerry-{board.short}-root.tar"
    run(["tar", "--sort=name", f"--mtime=@{EPOCH}", "--clamp-mtime", "--numeric-owner", "--xattrs", "-cf", target,
         "-C", root, "."])  # fmt: skip
    shutil.rmtree(work)
    return target


def compose(tree: Tree, board: Board, root: Path, deb: Path, work: Path) -> None:
    """Lay the board's layers and skerry's package over the maker's tree at `root`. Raises Refusal, before it writes."""
    files = _files(tree, board, root)
    append = files.pop(APPEND, None)
    boot = root / EXTLINUX
    if not boot.is_file():
        raise Refusal(EXTLINUX, "", "is not in the maker's root", "pack it after NVIDIA's apply_binaries.sh has run")
    extlinux = boot.read_text()
    if append is not None:
        extlinux = appended(extlinux, tree.file(append).read_text().split())
    layered = work / "layered"
    for path, entry in files.items():
        (layered / path).parent.mkdir(parents=True, exist_ok=True)
        if entry.link is not None:
            (layered / path).symlink_to(entry.link)
        else:
            shutil.copyfile(tree.file(entry), layered / path)
            (layered / path).chmod(entry.mode)
    (layered / PACKAGE).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(deb, layered / PACKAGE)
    lay_over(root, layered)
    boot.write_text(extlinux)


def appended(extlinux: str, words: Iterable[str]) -> str:
    """The default entry's APPEND line with `words`, which take the place of those with the same key. Raises Refusal."""
    lines, default, label = extlinux.splitlines(), "", ""
    for number, line in enumerate(lines):
        said = line.split()
        if said[:1] == ["DEFAULT"] and len(said) == 2:
            default = said[1]
        elif said[:1] == ["LABEL"] and len(said) == 2:
            label = said[1]
        elif said[:1] == ["APPEND"] and label == default:
            keys = {word.partition("=")[0] for word in words}
            kept = [word for word in said[1:] if word.partition("=")[0] not in keys]
            lines[number] = f"{line[: line.index('APPEND')]}APPEND {' '.join([*kept, *words])}"
            return "\n".join(lines) + "\n"
    raise Refusal(EXTLINUX, "DEFAULT", "has no entry of that name with an APPEND line", "see that it is L4T's own file")


def _files(tree: Tree, board: Board, root: Path) -> dict[str, Entry]:
    """What goes over the maker's tree: the merge, of which that tree is the lowest layer."""
    layers = tree.layers(board)
    ours = {path for layer in layers for path in layer.entries}
    theirs = {path: Entry(f"L4T/{path}", 0) for path in ours if (root / path).is_symlink() or (root / path).exists()}
    whole = merged([Layer("L4T", theirs), *layers])
    return {path: entry for path, entry in whole.items() if not entry.source.startswith("L4T/")}
