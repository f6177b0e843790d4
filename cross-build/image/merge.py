"""A board's layers as one folder, which is all that its image knows of firmware-configs/.

`python3 -m image.merge` is what the unit `boards:layers` runs; what another board's layers say changes nothing in it.
The folder has `ident` (VENDOR/BOARD), `board.toml`, `fragments/` and `files/`, the merged tree.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from . import layers, layout
from .manifest import Board
from .read import Tree
from .refusal import Refusal


def main(argv: Sequence[str] | None = None) -> int:
    words = argparse.ArgumentParser(prog="image.merge", description=__doc__)
    words.add_argument("board", metavar="VENDOR-BOARD")
    words.add_argument("--configs", type=Path, required=True, help="where firmware-configs/ lies")
    words.add_argument("--out", type=Path, required=True)
    args = words.parse_args(argv)
    try:
        tree = Tree(args.configs)
        write(tree, tree.board(args.board), args.out)
    except Refusal as why:
        print(f"image.merge: {why}", file=sys.stderr)
        return 2
    return 0


def write(tree: Tree, board: Board, out: Path) -> None:
    """Check what can be known without packages, and write the folder. Raises Refusal."""
    files = tree.files(board)
    layers.boot_files(files)
    layout.layout(board)
    layout.pods_mb(board)
    tree.options(board)
    (out / "fragments").mkdir(parents=True)
    (out / "ident").write_text(f"{board.ident}\n")
    shutil.copyfile(tree.folder / "boards" / board.ident / "board.toml", out / "board.toml")
    for name in board.fragments:
        shutil.copyfile(tree.folder / "fragments" / f"{name}.config", out / "fragments" / f"{name}.config")
    for path, entry in files.items():
        target = out / "files" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if entry.link is not None:
            target.symlink_to(entry.link)
        else:
            shutil.copyfile(tree.file(entry), target)
            target.chmod(entry.mode)


if __name__ == "__main__":
    sys.exit(main())
