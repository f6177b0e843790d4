"""`make image-BOARD`: checks the board, has the build engine make the unit boards:image@BOARD, unpacks what it made."""

# ruff: noqa: T201 - these lines are what a person at the terminal reads
from __future__ import annotations

import os
import shutil
from pathlib import Path

from crossbuild.cli import main as crossbuild

from . import check
from .manifest import Board
from .read import CONFIGS, ROOT, Tree
from .refusal import ToolFailed
from .tool import run

OUT = ROOT / "build" / "images"
PARTS = (".img.bmap", ".cdx.json", ".json")  # beside the .img; the last says that all is there


def image(tree: Tree, board: Board, out: Path = OUT) -> Path:
    """Build and return the image. Raises Refusal before anything is written, ToolFailed when a tool fails."""
    print(check.one(tree, board))
    emulation(board.arch)
    out.mkdir(parents=True, exist_ok=True)
    units = out / ".units"
    if crossbuild(["build", f"boards:image@{board.short}", "--root", str(ROOT / CONFIGS), "--out", str(units)]) != 0:
        raise ToolFailed(f"{board.short} is not built; why is above")
    made, target = units / "boards", out / f"skerry-{board.short}.img"
    said = target.with_suffix(".json")
    if target.is_file() and said.is_file() and said.read_bytes() == (made / said.name).read_bytes():
        print(f"{target.name}: unchanged")
    else:
        said.unlink(missing_ok=True)
        run(["zstd", "-q", "-d", "-f", "--sparse", made / f"{target.name}.zst", "-o", target])
        for ending in PARTS:
            shutil.copyfile(made / f"skerry-{board.short}{ending}", out / f"skerry-{board.short}{ending}")
        print(f"{target.name}: {target.stat().st_size / 1e6:.0f} MB, {target.stat().st_blocks * 512 / 1e6:.0f} on disk")
    shutil.rmtree(units)
    return target


def emulation(arch: str) -> None:
    """Whether this machine runs programs of `arch`: its own, or by binfmt and qemu-user. Raises ToolFailed."""
    machine = {"arm64": "aarch64", "armhf": "arm"}[arch]
    handler = Path(f"/proc/sys/fs/binfmt_misc/qemu-{machine}")
    if os.uname().machine == machine or handler.is_file():
        return
    if os.geteuid() == 0:
        run(["mount", "-t", "binfmt_misc", "binfmt_misc", "/proc/sys/fs/binfmt_misc"], codes=(0, 32))
        run(["update-binfmts", "--enable", f"qemu-{machine}"], codes=(0, 2))
    if not handler.is_file():
        raise ToolFailed(f"this machine cannot run {arch} programs; run tools/setup image as root")
