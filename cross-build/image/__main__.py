"""`python -m image check|lock|build|list`: what the Makefile's verbs boards, lock-image and image-BOARD run.

Exit code 0 done, 1 a tool or the mirror failed, 2 wrong input; trouble is told on standard error in one line.
"""

# ruff: noqa: T201 - these lines are what a person at the terminal reads
from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from . import check
from .read import CONFIGS, ROOT, Tree
from .refusal import Refusal, ToolFailed


def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments().parse_args(argv)
    tree = Tree(Path(args.configs))
    try:
        if args.command == "check":
            print("\n".join(check.all_boards(tree)))
        elif args.command == "lock":
            lock_all(tree, args.only)
        elif tree.board(args.board).boot == "l4t":
            from . import l4t

            print(l4t.overlay(tree, tree.board(args.board)))
        else:
            from . import build

            build.image(tree, tree.board(args.board), args.out)
    except Refusal as why:
        print(f"image: {why}", file=sys.stderr)
        return 2
    except ToolFailed as why:
        print(f"image: {why}", file=sys.stderr)
        return 1
    return 0


def lock_all(tree: Tree, only: str | None) -> None:
    """Write the locks of each target that a board uses, from the machine's apt sources of today."""
    from . import locking

    wanted: dict[tuple[str, str], tuple[set[str], set[str]]] = {}
    for board in tree.boards():
        if board.boot != "l4t" and only in (None, board.target):
            install, unpack = wanted.setdefault((board.target, board.arch), (set(), set()))
            install |= set(tree.packages(board))
            unpack |= set(board.unpack)
    for (target, arch), (install, unpack) in sorted(wanted.items()):
        pins = locking.lock(tree, target, arch, sorted(install), sorted(unpack))
        print(f"{target}: {len(pins)} packages locked")


def _arguments() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="image", description=__doc__)
    top.add_argument("--configs", default=str(ROOT / CONFIGS), help=argparse.SUPPRESS)
    commands = top.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="all boards, nothing written")
    locking = commands.add_parser("lock", help="pin the Debian packages")
    locking.add_argument("only", nargs="?", metavar="TARGET")
    build = commands.add_parser("build", help="a board's image")
    build.add_argument("board", metavar="VENDOR-BOARD")
    build.add_argument("--out", type=Path, default=ROOT / "build" / "images", help="[build/images]")
    return top


if __name__ == "__main__":
    sys.exit(main())
