"""`python -m image check|lock|build|list`: what the Makefile's verbs boards, lock-image and image-BOARD run.

Exit code 0 done, 1 a tool or the mirror failed, 2 wrong input; trouble is told on standard error in one line.
"""

# ruff: noqa: T201 - these lines are what a person at the terminal reads
from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from . import check, lock
from .debs import Apt
from .read import ROOT, Tree
from .refusal import Refusal, ToolFailed


def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments().parse_args(argv)
    tree = Tree(Path(args.top))
    try:
        if args.command == "check":
            print("\n".join(check.all_boards(tree)))
        elif args.command == "lock":
            lock_all(tree, args.only)
        else:
            from . import build

            build.image(tree, tree.board(args.board), args.deb)
    except Refusal as why:
        print(f"image: {why}", file=sys.stderr)
        return 2
    except ToolFailed as why:
        print(f"image: {why}", file=sys.stderr)
        return 1
    return 0


def lock_all(tree: Tree, only: str | None) -> None:
    """Write the lock of each suite and architecture that a board uses, from the machine's apt sources of today."""
    wanted: dict[tuple[str, str], tuple[set[str], set[str]]] = {}
    for board in tree.boards():
        install, unpack = wanted.setdefault((board.suite, board.arch), (set(), set()))
        install |= set(tree.packages(board))
        unpack |= {*board.unpacked, *([board.kernel_package] if board.kernel_package else [])}
    for (suite, arch), (install, unpack) in sorted(wanted.items()):
        if only not in (None, f"{suite}-{arch}"):
            continue
        apt = Apt(suite, arch)
        remark = apt.update()
        pins = apt.resolve(sorted(install), sorted(unpack))
        path = tree.lock_path(suite, arch)
        path.parent.mkdir(exist_ok=True)
        path.write_text(lock.written(pins, remark))
        print(f"{path.relative_to(tree.top)}: {len(pins)} packages, {sum(p.bytes_count for p in pins) / 1e6:.0f} MB")
        if remark:
            print(f"  {remark}")


def _arguments() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="image", description=__doc__)
    top.add_argument("--top", default=str(ROOT), help=argparse.SUPPRESS)
    commands = top.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="all boards, nothing written")
    locking = commands.add_parser("lock", help="pin the Debian packages")
    locking.add_argument("only", nargs="?", metavar="SUITE-ARCH")
    build = commands.add_parser("build", help="a board's image")
    build.add_argument("board", metavar="VENDOR-BOARD")
    build.add_argument("--deb", type=Path, help="skerry's own package; else the newest in build/deb/ for the board")
    return top


if __name__ == "__main__":
    sys.exit(main())
