"""`make image-BOARD`: the steps in their order, each told in one line with what it took."""

# ruff: noqa: T201 - these lines are what a person at the terminal reads
from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import bmap, check, debs, disk, initrd, layers, layout, pause, root, sbom
from .layers import Entry
from .lock import Pinned
from .manifest import Board
from .read import ROOT, Tree, present, sha256_of
from .refusal import Refusal, ToolFailed
from .tool import run

EPOCH = 1_767_225_600  # 2026-01-01: the times in an image, and the clock's floor; SOURCE_DATE_EPOCH is another
OUT = ROOT / "build" / "images"
SLOT = "A"
DEBS = "build/deb"  # where make_deb.py puts packages
TARGETS = {"arm64": "aarch64", "armhf": "armhf"}  # Debian's name of an architecture → its targets' name


def image(tree: Tree, board: Board, deb: Path | None) -> Path:
    """Build and return the image. Raises Refusal before anything is written, ToolFailed when a tool fails."""
    began = time.monotonic()
    print(check.one(tree, board))
    if board.boot == "l4t":
        return overlay_only(tree, board)
    outside = {made.name: present(made) for made in tree.inputs(board)}
    deb = deb or newest_deb(board)
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", EPOCH))
    pins = check.packages(tree, board)
    files = tree.files(board)
    made, key = OUT / f"skerry-{board.short}.img", fingerprint(tree, board, files, pins, deb, outside, epoch)
    if made.is_file() and _told(made).get("key") == key:
        print(f"{made.relative_to(ROOT)}: unchanged")
        return made
    work = OUT / f"{board.short}.work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    with step("packages fetched and verified"):
        debs.Apt(board.suite, board.arch).fetch(pins)
    with step("packages configured (kept in .cache/image-root)"):
        tar = root.configured(board, [p for p in pins if p.use == "install"], epoch)
    with step("root filled"):
        kernel = _kernel(board, pins, outside, work)
        version = _fill(tree, board, files, deb, kernel, tar, work, epoch)
    with step("boot partition filled"):
        _boot(tree, board, files, pins, kernel, version, work, epoch)
    _card(made, board, deb, outside, pins, work, epoch, key)
    shutil.rmtree(work)
    print(f"{made.relative_to(ROOT)}: {made.stat().st_size / 1e6:.0f} MB, {made.stat().st_blocks * 512 / 1e6:.0f} MB "
          f"on disk, {time.monotonic() - began:.0f} s")  # fmt: skip
    return made


def fingerprint(
    tree: Tree, board: Board, files: dict[str, Entry], pins: list[Pinned], deb: Path, outside: dict[str, Path],
    epoch: int,
) -> str:  # fmt: skip
    """A digest of all that an image is made from: equal digest, equal image."""
    digest = hashlib.sha256(f"{board} {epoch} {pins}".encode())
    for path, entry in files.items():
        content = b"" if entry.link is not None else (tree.top / entry.source).read_bytes()
        digest.update(f"{path} {entry.mode} {entry.link} {hashlib.sha256(content).hexdigest()}\n".encode())
    for part in [*sorted(Path(__file__).parent.glob("*.py")), deb, *outside.values()]:
        digest.update(f"{part.name} {sha256_of(part)}\n".encode())
    return digest.hexdigest()


def _told(image: Path) -> dict[str, object]:
    """What was written beside an image when it was done."""
    beside = image.with_suffix(".json")
    value = json.loads(beside.read_text()) if beside.is_file() else {}
    assert isinstance(value, dict)
    return value


def newest_deb(board: Board) -> Path:
    """Our own package for this board, from where `make deb` puts it. Raises Refusal."""
    name = f"skerry_*+{board.suite}_{board.arch}.deb"
    found = sorted((ROOT / DEBS).glob(name), key=lambda p: p.stat().st_mtime)
    if not found:
        raise Refusal(f"{DEBS}/{name}", "", "is not built", f"make deb TARGET={TARGETS[board.arch]}-{board.suite}")
    return found[-1]


def _fill(
    tree: Tree, board: Board, files: dict[str, Entry], deb: Path, kernel: Path, tar: Path, work: Path, epoch: int
) -> str:
    """The root's tree and the data partition's; returns the kernel's version."""
    top = work / "root"
    root.unpacked(tar, top)
    version = root.modules(top, kernel)
    root.emulation(board.arch)
    root.install_deb(top, deb)
    root.lay_over(top, tree.top, layers.root_files(files))
    pause.write(top / "usr/share/skerry/images/pause.tar", (top / "bin/busybox").read_bytes(), board.arch)
    root.tidy(top, epoch)
    layout.check_root(board, root.used_bytes(top))
    _data(top, work / "data", epoch)
    return version


def _data(top: Path, data: Path, epoch: int) -> None:
    """What the data partition begins with: the folders that fstab binds, and skerry's configuration as packaged."""
    for name in ("skerry", "containerd", "pods", "etc", "timesync"):
        (data / name).mkdir(parents=True, mode=0o755)
    packaged = top / "etc/skerry/config.toml"
    if packaged.is_file():
        shutil.copyfile(packaged, data / "etc/config.toml")
    for path in [data, *data.rglob("*")]:
        os.utime(path, (epoch, epoch))


def _kernel(board: Board, pins: list[Pinned], outside: dict[str, Path], work: Path) -> Path:
    """The kernel package's files, unpacked."""
    folder = work / "kernel"
    folder.mkdir()
    if board.kernel_package is None:
        run(["dpkg-deb", "-x", outside[board.kernel.partition(":")[2]], folder])
    else:
        debs.unpack([p for p in pins if p.use == "unpack" and p.name == board.kernel_package], folder)
    return folder


def _boot(
    tree: Tree, board: Board, files: dict[str, Entry], pins: list[Pinned], kernel: Path, version: str, work: Path,
    epoch: int,
) -> None:  # fmt: skip
    """Kernel and initrd in the slot's own folder, the board's boot files, and a Pi's firmware and device trees."""
    boot = work / "boot"
    slot = boot / SLOT
    slot.mkdir(parents=True)
    shutil.copyfile(kernel / "boot" / f"vmlinuz-{version}", slot / "vmlinuz")
    initrd.write(
        slot / "initrd.gz", work, work / "root", version, work / "root/bin/busybox", board.initrd,
        layout.overlay_mb(board), epoch,
    )  # fmt: skip
    if board.boot == "raspberry-pi":
        for path in sorted((kernel / "usr/lib" / f"linux-image-{version}").rglob("bcm2*-rpi-*.dtb")):
            shutil.copyfile(path, slot / path.name)
        firmware = work / "firmware"
        firmware.mkdir()
        debs.unpack([p for p in pins if p.use == "unpack" and p.name in board.unpacked], firmware)
        for path in sorted((firmware / "usr/lib/raspi-firmware").glob("*.*")):
            if path.suffix in (".bin", ".elf", ".dat"):
                shutil.copyfile(path, boot / path.name)
    for name, entry in layers.boot_files(files).items():
        (boot / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(tree.top / entry.source, boot / name)
    for path in boot.rglob("*"):
        os.utime(path, (epoch, epoch))
    taken = sum(p.stat().st_size for p in boot.rglob("*") if p.is_file())
    second = sum(p.stat().st_size for p in slot.iterdir())
    layout.check_boot(board, taken + second)


def _card(
    target: Path, board: Board, deb: Path, outside: dict[str, Path], pins: list[Pinned], work: Path, epoch: int,
    key: str,
) -> None:  # fmt: skip
    """File systems, card, block map, bill of materials; last the .json beside, which says that all is there."""
    plan = layout.layout(board)
    target.with_suffix(".json").unlink(missing_ok=True)
    with step("file systems and card written"):
        disk.ext4(work / "root.ext4", work / "root", board, layout.ROOT_LABEL, board.root_mb, epoch, work)
        disk.ext4(work / "data.ext4", work / "data", board, layout.DATA_LABEL, board.data_mb, epoch, work)
        disk.card(target, board, plan, work / "boot", work, epoch)
    with step("block map and bill of materials written"):
        mapped = bmap.write(target, plan, work / "root.ext4", work / "data.ext4")
        digest = sha256_of(target)
        own = [sbom.Own(name, path.name, sha256_of(path)) for name, path in outside.items()]
        own.append(sbom.Own("skerry", run(["dpkg-deb", "--field", deb, "Version"]).strip(), sha256_of(deb)))
        target.with_suffix(".cdx.json").write_text(sbom.bill(board, pins, own, digest, epoch))
        said = {"board": board.short, "bytes": target.stat().st_size, "mapped_bytes": mapped,
                "sha256": digest, "root_bytes": root.used_bytes(work / "root"), "deb": deb.name,
                "packages": len(pins), "key": key}  # fmt: skip
        target.with_suffix(".json").write_text(json.dumps(said, indent=1) + "\n")


def overlay_only(tree: Tree, board: Board) -> Path:
    """For a board whose image its maker builds: a tar to lay over it, once its declared inputs are there."""
    for made in tree.inputs(board):
        present(made)
    work = OUT / f"{board.short}.work"
    shutil.rmtree(work, ignore_errors=True)
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", EPOCH))
    root.lay_over(work, tree.top, tree.files(board))
    target = OUT / f"skerry-{board.short}-overlay.tar"
    run(["tar", "--sort=name", f"--mtime=@{epoch}", "--owner=0", "--group=0", "--numeric-owner", "-cf", target,
         "-C", work, "."])  # fmt: skip
    shutil.rmtree(work)
    print(f"{target.relative_to(ROOT)}: unpack it over the maker's root file system")
    return target


@contextmanager
def step(what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    print(f"{time.monotonic() - began:7.1f} s  {what}", flush=True)


__all__ = ["Refusal", "ToolFailed", "image"]
