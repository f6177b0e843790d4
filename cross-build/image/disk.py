"""File systems and the card, without mounting anything: mke2fs, debugfs, genimage. The same bytes each time.

mke2fs takes contents from a tree; identity, hash seed and times are given, and the times that it takes from the
building machine (ctime, atime) are set afterwards by debugfs.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from . import layout
from .manifest import Board
from .tool import run

MODES = "^metadata_csum_seed,^orphan_file"  # what an older e2fsck on a board does not know


def ext4(target: Path, tree: Path, board: Board, label: str, size_mb: int, epoch: int, work: Path) -> None:
    """An ext4 of `size_mb` MiB with the content of `tree`. Raises ToolFailed."""
    target.unlink(missing_ok=True)
    env = {"E2FSPROGS_FAKE_TIME": str(epoch), "MKE2FS_DEVICE_SECTSIZE": str(layout.SECTOR)}
    identity = layout.identity(board, label)
    run(
        ["mke2fs", "-q", "-t", "ext4", "-b", "4096", "-m", "1", "-L", label, "-U", identity,
         "-E", f"hash_seed={layout.identity(board, label + ' hash')},nodiscard,root_owner=0:0", "-d", tree, target,
         f"{size_mb}M"],
        env=env,
    )  # fmt: skip
    commands = work / f"{label}.debugfs"
    commands.write_text("".join(_times(tree, epoch)))
    run(["debugfs", "-w", "-f", commands, target], env=env)
    commands.unlink()


def _times(tree: Path, epoch: int) -> list[str]:
    stamp = f"@{epoch}"
    lines = [f'sif "/" {field} {stamp}\n' for field in ("ctime", "atime", "mtime", "crtime")]
    lines += [f'sif "/lost+found" {field} {stamp}\n' for field in ("ctime", "atime", "mtime", "crtime")]
    for path in sorted(tree.rglob("*")):
        name = "/" + str(path.relative_to(tree))
        lines += [f'sif "{name}" {field} {stamp}\n' for field in ("ctime", "atime", "crtime")]
    return lines


def card(target: Path, board: Board, plan: layout.Layout, boot: Path, work: Path, epoch: int) -> None:
    """The card from `work`/root.ext4, `work`/data.ext4 and the files below `boot`. Raises ToolFailed."""
    names = sorted(str(p.relative_to(boot)) for p in boot.rglob("*") if p.is_file())
    config = work / "genimage.cfg"
    config.write_text(layout.genimage_config(board, plan, names, target.name))
    for name in ("empty", "tmp", "out"):
        shutil.rmtree(work / name, ignore_errors=True)
        (work / name).mkdir()
    linked = work / "boot"
    assert linked == boot
    run(
        ["genimage", "--config", config, "--rootpath", work / "empty", "--inputpath", work, "--tmppath", work / "tmp",
         "--outputpath", work / "out"],
        env={"SOURCE_DATE_EPOCH": str(epoch)},
    )  # fmt: skip
    (work / "out" / target.name).replace(target)
