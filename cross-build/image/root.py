"""A board's root file system: the target's configured packages (configure.py), and over them the kernel's modules, our
package, the merged layers."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from .refusal import Refusal
from .tool import run

# What a board may need of the kernel's modules; graphics, sound and other people's disks are not among it.
MODULES = (
    "net", "lib", "crypto", "arch", "fs/ext4", "fs/jbd2", "fs/overlayfs", "fs/squashfs", "fs/fat", "fs/nls", "fs/fuse",
    "fs/autofs",
    "mm", "drivers/net", "drivers/block", "drivers/virtio", "drivers/char", "drivers/watchdog", "drivers/md",
    "drivers/mmc", "drivers/usb/core", "drivers/usb/common", "drivers/usb/dwc2", "drivers/usb/phy",
    "drivers/usb/roles", "drivers/usb/host", "drivers/gpio", "drivers/i2c", "drivers/spi", "drivers/rtc",
    "drivers/hwmon", "drivers/thermal", "drivers/firmware", "drivers/mailbox", "drivers/clk", "drivers/phy",
    "drivers/pci", "drivers/nvme", "drivers/pinctrl", "drivers/irqchip", "drivers/misc/rp1", "drivers/regulator",
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
# What radios load, of those that a board has on it: 43430 (Raspberry Pi 3 B, Zero 2 W) and 43455 (3 B+, 4, 5).
FIRMWARE = (
    "brcm/brcmfmac43430-sdio*", "brcm/brcmfmac43455-sdio*", "cypress/cyfmac43430-sdio*", "cypress/cyfmac43455-sdio*",
    "regulatory.db*",
)  # fmt: skip


def unpacked(tar: Path, root: Path) -> None:
    """The tree of the tar, fresh, without device nodes: the kernel makes those, and only the real root could."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    run(["tar", "--numeric-owner", "--xattrs", "--exclude=./dev/*", "-xpf", tar, "-C", root])


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


def lay_over(root: Path, files: Path, leave_out: str = "") -> None:
    """The merged layers, which are a tree of their own, over the tree of packages; not their folder `leave_out`."""
    for path in sorted(files.rglob("*")):
        if (path.is_dir() and not path.is_symlink()) or path.relative_to(files).parts[0] == leave_out:
            continue
        target = root / path.relative_to(files)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_symlink() or target.exists():
            target.unlink()
        if path.is_symlink():
            target.symlink_to(path.readlink())
        else:
            shutil.copyfile(path, target)
            target.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)


def modules(root: Path, kernel: Path) -> str:
    """The kernel's modules that a board may need, into the root; returns the kernel's version. Raises Refusal."""
    folders = [path for top in ("lib/modules", "usr/lib/modules") for path in (kernel / top).glob("*/kernel")]
    if len(folders) != 1:
        raise Refusal("kernel", "lib/modules", f"has {len(folders)} versions", "a kernel's packages have one")
    source = folders[0].parent
    version, target = source.name, root / "usr/lib/modules" / source.name
    if not (kernel / "lib/modules").exists():  # depmod looks there
        (kernel / "lib").symlink_to("usr/lib")
    run(["depmod", "-b", kernel, version])
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


def firmware(root: Path, unpacked: Path) -> None:
    """What of the firmware that was unpacked radios may load, into the root; links stay links."""
    for top in {(unpacked / name).resolve() for name in ("lib/firmware", "usr/lib/firmware")}:  # /lib may be a link
        for path in sorted(path for pattern in FIRMWARE for path in top.glob(pattern)):
            target = root / "usr/lib/firmware" / path.relative_to(top)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target, follow_symlinks=False)


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
