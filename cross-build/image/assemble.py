"""A board's image from its parts: the merged layers, a target's configured root, kernel and firmware, skerry's package.

`python3 -m image.assemble` is what the unit `boards:image` runs, as root of its sandbox; each step is told in a line.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import bmap, debs, devicetree, disk, initrd, kernel, layout, pause, root, sbom
from .layers import BOOT
from .limits import EPOCH
from .manifest import Board
from .read import board_of, read_toml
from .refusal import Refusal, ToolFailed
from .tool import sha256_of

SLOT = "A"
DTBS = ("usr/lib/linux-image-{}", "usr/lib/modules/{}/dtb")  # where Debian 12 and later have device trees
# The Raspberry Pi's firmware asks for the second stepping's device tree by a name that is not the kernel's.
DTB_NAMES = {"bcm2712-d-rpi-5-b.dtb": "bcm2712d0-rpi-5-b.dtb"}


@dataclass(frozen=True, slots=True)
class Parts:
    """What an image is made from: `packages` are those configured in `root_tar`, `unpacked` kernel and firmware."""

    merged: Path
    root_tar: Path
    packages: Path
    unpacked: Path
    skerry: Path


def main(argv: Sequence[str] | None = None) -> int:
    words = argparse.ArgumentParser(prog="image.assemble", description=__doc__)
    for name in Parts.__slots__:
        words.add_argument(f"--{name.replace('_', '-')}", type=Path, required=True)
    words.add_argument("--work", type=Path, default=Path("work"), help="on the same file system as --out")
    words.add_argument("--out", type=Path, required=True, help="the folder for skerry-BOARD.img and what goes with it")
    args = vars(words.parse_args(argv))
    work, out = args.pop("work"), args.pop("out")
    try:
        image(Parts(**args), work.absolute(), out.absolute())
    except Refusal as why:
        print(f"image.assemble: {why}", file=sys.stderr)
        return 2
    except ToolFailed as why:
        print(f"image.assemble: {why}", file=sys.stderr)
        return 1
    return 0


def image(parts: Parts, work: Path, out: Path) -> Path:
    """Write skerry-BOARD.img, .img.bmap, .cdx.json and .json into `out`. Raises Refusal, ToolFailed."""
    board = board_of(read_toml("board.toml", parts.merged / "board.toml"), (parts.merged / "ident").read_text().strip())
    work.mkdir(parents=True)
    with step("root filled"):
        unpacked = work / "kernel"
        debs.unpack(debs.named(parts.unpacked, board.unpack), unpacked)
        version = _fill(board, parts, unpacked, work)
        _check_kernel(board, parts, unpacked, version)
    with step("boot partition filled"):
        _boot(board, parts, unpacked, version, work)
    target = out / f"skerry-{board.short}.img"
    with step("file systems and card written"):
        plan = layout.layout(board)
        disk.ext4(work / "root.ext4", work / "root", board, layout.ROOT_LABEL, board.root_mb, EPOCH, work)
        disk.ext4(work / "data.ext4", work / "data", board, layout.DATA_LABEL, board.data_mb, EPOCH, work)
        disk.card(target, board, plan, work / "boot", work, EPOCH)
    with step("block map and bill of materials written"):
        mapped = bmap.write(target, plan, work / "root.ext4", work / "data.ext4")
        _tell(board, parts, target, mapped, root.used_bytes(work / "root"))
    return target


def _fill(board: Board, parts: Parts, unpacked: Path, work: Path) -> str:
    """The root's tree and the data partition's; returns the kernel's version."""
    top = work / "root"
    root.unpacked(parts.root_tar, top)
    version = root.modules(top, unpacked)
    root.firmware(top, unpacked)
    root.install_deb(top, parts.skerry)
    root.lay_over(top, parts.merged / "files", leave_out=BOOT)
    pause.write(top / "usr/share/skerry/images/pause.tar", (top / "bin/busybox").read_bytes(), board.arch)
    root.tidy(top, EPOCH)
    layout.check_root(board, root.used_bytes(top))
    _data(top, work / "data")
    return version


def _data(top: Path, data: Path) -> None:
    """What the data partition begins with: the folders that fstab binds, and skerry's configuration as packaged."""
    for name in ("skerry", "containerd", "pods", "etc", "timesync"):
        (data / name).mkdir(parents=True, mode=0o755)
    packaged = top / "etc/skerry/config.toml"
    if packaged.is_file():
        shutil.copyfile(packaged, data / "etc/config.toml")
    for path in [data, *data.rglob("*")]:
        os.utime(path, (EPOCH, EPOCH))


def _check_kernel(board: Board, parts: Parts, unpacked: Path, version: str) -> None:
    """The options that the board's fragments ask for, in the kernel that was unpacked. Raises Refusal."""
    files = [parts.merged / "fragments" / f"{name}.config" for name in board.fragments]
    options = kernel.wanted((f"firmware-configs/fragments/{path.name}", path.read_text()) for path in files)
    config = _one(unpacked, f"boot/config-{version}", f"usr/lib/modules/{version}/config")
    lacking = kernel.lacking(options, config.read_text())
    if lacking:
        raise Refusal(board.where, "kernel", "; ".join(lacking), "take another kernel or drop what needs them")


def _check_drivers(board: Board, unpacked: Path, version: str, slot: Path, work: Path) -> None:
    """Whether the initrd drives all that the card depends on, in each device tree of the slot. Raises Refusal."""
    known = devicetree.drivers((unpacked / "lib/modules" / version / "modules.alias").read_text())
    loaded = {path.stem for path in (work / "initrd/m").glob("*.ko")}
    for path in sorted(slot.glob("*.dtb")):
        lacking = devicetree.lacking(path.read_bytes(), known, loaded)
        if lacking:
            raise Refusal(board.where, "initrd", f"{path.name}: {'; '.join(lacking)}", "name these modules too")


def _one(unpacked: Path, *places: str) -> Path:
    for place in places:
        if (unpacked / place).is_file():
            return unpacked / place
    raise ToolFailed(f"the kernel's packages have no {' and no '.join(places)}")


def _boot(board: Board, parts: Parts, unpacked: Path, version: str, work: Path) -> None:
    """Kernel and initrd in the slot's own folder, the board's boot files, and a Pi's firmware and device trees."""
    boot = work / "boot"
    slot = boot / SLOT
    slot.mkdir(parents=True)
    vmlinuz = _one(unpacked, f"boot/vmlinuz-{version}", f"usr/lib/modules/{version}/vmlinuz")
    shutil.copyfile(vmlinuz, slot / "vmlinuz")
    initrd.write(
        slot / "initrd.gz", work, work / "root", version, work / "root/bin/busybox", board.initrd,
        layout.overlay_mb(board), EPOCH,
    )  # fmt: skip
    if board.boot == "raspberry-pi":
        found = (path for top in DTBS for path in (unpacked / top.format(version)).rglob("bcm2*-rpi-*.dtb"))
        for path in sorted(found):
            shutil.copyfile(path, slot / DTB_NAMES.get(path.name, path.name))
        _check_drivers(board, unpacked, version, slot, work)
        for path in sorted((unpacked / "usr/lib/raspi-firmware").glob("*.*")):
            if path.suffix in (".bin", ".elf", ".dat"):
                shutil.copyfile(path, boot / path.name)
    shutil.copytree(parts.merged / "files" / BOOT, boot, dirs_exist_ok=True, copy_function=shutil.copyfile)
    for path in boot.rglob("*"):
        os.utime(path, (EPOCH, EPOCH))
    taken = sum(p.stat().st_size for p in boot.rglob("*") if p.is_file())
    second = sum(p.stat().st_size for p in slot.iterdir())
    layout.check_boot(board, taken + second)


def _tell(board: Board, parts: Parts, target: Path, mapped: int, root_bytes: int) -> None:
    """The bill of materials, and the .json with sizes and digests."""
    known = [*sorted(parts.packages.glob("*.deb")), *debs.named(parts.unpacked, board.unpack)]
    digest = sha256_of(target)
    (own,) = debs.described([parts.skerry])
    bill = sbom.bill(board, debs.described(known), [own], digest, EPOCH)
    target.with_suffix(".cdx.json").write_text(bill)
    said = {"board": board.short, "bytes": target.stat().st_size, "mapped_bytes": mapped, "sha256": digest,
            "root_bytes": root_bytes, "deb": parts.skerry.name, "packages": len(known)}  # fmt: skip
    target.with_suffix(".json").write_text(json.dumps(said, indent=1) + "\n")


@contextmanager
def step(what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    print(f"{time.monotonic() - began:7.1f} s  {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
