"""The root file system: Debian's packages configured, the layers laid over them, the kernel's modules, our package.

The configured packages are kept in .cache/ by what they were made from, since configuring them under emulation is the
slow part. Configures no kernel: that would build an initrd under emulation, for a quarter of an hour.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import debs
from .layers import Entry
from .lock import Pinned
from .manifest import Board
from .read import CACHE
from .refusal import Refusal, ToolFailed
from .tool import run

HOOKS = "/usr/share/mmdebstrap/hooks/merged-usr"
QUIET = ("/usr/share/man", "/usr/share/doc", "/usr/share/locale", "/usr/share/info", "/usr/share/lintian")
# What a board may need of the kernel's modules; graphics, sound and other people's disks are not among it.
MODULES = (
    "net", "lib", "crypto", "arch", "fs/ext4", "fs/jbd2", "fs/overlayfs", "fs/squashfs", "fs/fat", "fs/nls", "fs/fuse",
    "fs/autofs",
    "mm", "drivers/net", "drivers/block", "drivers/virtio", "drivers/char", "drivers/watchdog", "drivers/md",
    "drivers/mmc", "drivers/usb/core", "drivers/usb/common", "drivers/usb/dwc2", "drivers/usb/phy",
    "drivers/usb/roles", "drivers/usb/host", "drivers/gpio", "drivers/i2c", "drivers/spi", "drivers/rtc",
    "drivers/hwmon", "drivers/thermal", "drivers/firmware", "drivers/mailbox", "drivers/clk", "drivers/phy",
    "drivers/pci", "drivers/nvme",
)  # fmt: skip
# A switch in a rack is not a board.
NOT_MODULES = (
    "drivers/net/ethernet/mellanox", "drivers/net/ethernet/intel", "drivers/net/ethernet/chelsio",
    "drivers/net/ethernet/broadcom/bnx2x", "drivers/net/ethernet/qlogic", "drivers/net/ethernet/netronome",
    "drivers/net/ethernet/cavium", "drivers/net/ethernet/huawei", "drivers/net/ethernet/hisilicon",
    "drivers/net/ethernet/marvell/octeontx2", "drivers/net/ethernet/sfc", "drivers/net/ethernet/emulex",
    "drivers/net/wireless/ath", "drivers/net/wireless/intel", "drivers/net/wireless/mediatek",
    "drivers/net/wireless/ti", "drivers/net/wireless/marvell/mwifiex", "drivers/net/wireless/realtek",
)  # fmt: skip


def configured(board: Board, pins: Sequence[Pinned], epoch: int) -> Path:
    """A tar of all packages configured, from .cache/ when it was made before. Raises ToolFailed, Refusal."""
    options = _mmdebstrap(board, pins)
    said = [board.arch, board.suite, str(epoch), *options, *(f"{p.name} {p.sha256}" for p in pins)]
    key = hashlib.sha256("\n".join(said).encode()).hexdigest()[:24]
    kept = CACHE / "image-root" / f"{board.suite}-{board.arch}-{key}.tar"
    if kept.is_file():
        return kept
    emulation(board.arch)
    kept.parent.mkdir(parents=True, exist_ok=True)
    archive, part = kept.with_suffix(".repository"), kept.with_suffix(".part")
    shutil.rmtree(archive, ignore_errors=True)
    try:
        debs.repository(archive, pins, board.suite, board.arch)
        source = f"deb [trusted=yes] copy:{archive} ./"
        argv = ["mmdebstrap", *options, "--format=tar", board.suite, part, source]
        run(argv, env={"SOURCE_DATE_EPOCH": str(epoch)})
        part.replace(kept)
    finally:
        shutil.rmtree(archive, ignore_errors=True)
        part.unlink(missing_ok=True)
    return kept


def _mmdebstrap(board: Board, pins: Sequence[Pinned]) -> list[str]:
    return [
        f"--architectures={board.arch}", "--variant=essential", f"--mode={'root' if os.geteuid() == 0 else 'unshare'}",
        "--skip=check/qemu", f"--hook-dir={HOOKS}", '--aptopt=Acquire::Languages "none"',
        '--aptopt=APT::Install-Recommends "false"', "--dpkgopt=force-unsafe-io",
        *(f"--dpkgopt=path-exclude={path}/*" for path in QUIET), f"--include={','.join(p.name for p in pins)}",
    ]  # fmt: skip


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


def unpacked(tar: Path, root: Path) -> None:
    """The tree of the tar, fresh."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    run(["tar", "--numeric-owner", "--xattrs", "-xpf", tar, "-C", root])


def install_deb(root: Path, deb: Path) -> None:
    """Our own package, by dpkg inside the root, so that its scripts run as they will on a board. Raises ToolFailed."""
    inside = root / "skerry.deb"
    shutil.copyfile(deb, inside)
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        run(["chroot", root, "dpkg", "--force-unsafe-io", "--install", "/skerry.deb"],
            env={"DEBIAN_FRONTEND": "noninteractive", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})  # fmt: skip
    finally:
        inside.unlink()
        policy.unlink()


def lay_over(root: Path, top: Path, files: Mapping[str, Entry]) -> None:
    """The merged layers over the tree."""
    for path, entry in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_symlink() or target.exists():
            target.unlink()
        if entry.link is not None:
            target.symlink_to(entry.link)
        else:
            shutil.copyfile(top / entry.source, target)
            target.chmod(entry.mode)


def modules(root: Path, kernel: Path) -> str:
    """The kernel's modules that a board may need, into the root; returns the kernel's version. Raises Refusal."""
    versions = [p.name for p in (kernel / "lib" / "modules").iterdir()] if (kernel / "lib/modules").is_dir() else []
    if len(versions) != 1:
        raise Refusal("kernel", "lib/modules", f"has {len(versions)} versions", "a kernel package has one")
    version = versions[0]
    run(["depmod", "-b", kernel, version])
    source, target = kernel / "lib/modules" / version, root / "usr/lib/modules" / version
    for name in sorted(kept((source / "modules.dep").read_text())):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)
    for path in source.glob("modules.*"):
        shutil.copyfile(path, target / path.name)
    run(["depmod", "-b", root, version])
    return version


def kept(dependencies: str) -> set[str]:
    """Of the modules in modules.dep, those in the folders that a board may need, and all that they depend on."""
    found: set[str] = set()
    for line in dependencies.splitlines():
        name, _, needs = line.partition(":")
        inner = name.removeprefix("kernel/")
        if inner.startswith(tuple(f"{m}/" for m in MODULES)) and not inner.startswith(NOT_MODULES):
            found |= {name, *needs.split()}
    return found


def tidy(root: Path, epoch: int) -> None:
    """Remove what differs from run to run or is of no use on a board, and let no file be younger than `epoch`."""
    for pattern in ("var/cache/apt/*", "var/lib/apt/lists/*", "var/log/*.log", "var/log/apt/*", "var/cache/debconf/*",
                    "var/cache/ldconfig/*", "var/lib/dpkg/*-old", "run/*", "tmp/*", "etc/apt/sources.list*",
                    "etc/.pwd.lock", "etc/hostname"):  # fmt: skip
        for path in root.glob(pattern):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    (root / "etc/machine-id").write_text("")  # empty, not absent: a new one each boot, and no first-boot questions
    for folder, names, files in os.walk(root, topdown=False):
        for name in (*names, *files):
            _clamp(Path(folder) / name, epoch)
    _clamp(root, epoch)


def _clamp(path: Path, epoch: int) -> None:
    if path.lstat().st_mtime > epoch:
        os.utime(path, (epoch, epoch), follow_symlinks=False)


def used_bytes(root: Path) -> int:
    """What the tree takes in blocks of 4 KiB."""
    total = 0
    for path in root.rglob("*"):
        info = path.lstat()
        if not path.is_symlink() and path.is_file() and info.st_nlink == 1:
            total += (info.st_size + 4095) // 4096 * 4096
        else:
            total += 4096 if path.is_dir() else 0
    return total
