"""The tiny initrd: busybox, the few modules that reach the root, and one script; the same bytes each time.

Debian's kernel has ext4 and virtio as modules, and its own initrd is 20 times as large. The script finds the root by
label, puts a writable layer in memory over it, and says INITRD-FAILED on the console when it cannot: no shell waits
there, the kernel's panic= decides what follows.
"""

from __future__ import annotations

import lzma
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from .tool import run

ALWAYS = ("ext4", "overlay")
ONCE = "crc32c_generic"  # ext4 asks for it by name; later kernels have it built in
SCRIPT = """#!/busybox sh
# Root by label, read-only, with a layer of memory over it; the read-only side is kept at /run/root/ro.
b=/busybox
fail() { $b echo "INITRD-FAILED: $*"; $b sleep 2; exit 1; }
$b mount -t proc p /proc
$b mount -t sysfs s /sys
$b mount -t devtmpfs d /dev
for m in $($b cat /m/order); do $b insmod /m/$m || $b echo "initrd: module $m is not loaded"; done
R=
for a in $($b cat /proc/cmdline); do case $a in root=*) R=${a#root=};; esac; done
for i in $($b seq 400); do
    case $R in LABEL=* | UUID=*) d=$($b findfs "$R" 2>/dev/null) ;; *) d=$R ;; esac
    [ -b "$d" ] && break
    $b sleep 0.05
done
[ -b "$d" ] || fail "no root $R"
$b mount -t tmpfs -o mode=755,nosuid,nodev,size=20%% run /run
$b mkdir -p /run/root/ro /run/root/memory
$b mount -t ext4 -o ro,noatime "$d" /run/root/ro || fail "root $d is no ext4"
$b mount -t tmpfs -o mode=755,size=%(overlay_mb)dm root /run/root/memory
$b mkdir /run/root/memory/rw /run/root/memory/work
$b mount -t overlay -o lowerdir=/run/root/ro,upperdir=/run/root/memory/rw,workdir=/run/root/memory/work root /n \\
    || fail "no overlay"
$b mount --move /run /n/run && $b mount --move /dev /n/dev && $b umount /sys /proc
exec $b switch_root /n /sbin/init
"""


def write(
    target: Path, work: Path, modules: Path, version: str, busybox: Path, names: Sequence[str], overlay_mb: int,
    epoch: int,
) -> None:  # fmt: skip
    """Write the initrd for kernel `version`, whose modules lie below `modules`/lib/modules. Raises ToolFailed."""
    tree = work / "initrd"
    shutil.rmtree(tree, ignore_errors=True)
    for name in ("dev", "proc", "sys", "run", "m", "n"):
        (tree / name).mkdir(parents=True)
    shutil.copyfile(busybox, tree / "busybox")
    (tree / "init").write_text(SCRIPT % {"overlay_mb": overlay_mb})
    order = []
    for path in needed(modules, version, [*names, *([ONCE] if _is_module(modules, version, ONCE) else []), *ALWAYS]):
        # Debian 13 compresses modules; busybox hands them to the kernel as they are.
        content = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
        order.append(path.name.removesuffix(".xz"))
        (tree / "m" / order[-1]).write_bytes(content)
    (tree / "m" / "order").write_text("".join(f"{name}\n" for name in order))
    for path in sorted([tree, *tree.rglob("*")]):
        path.chmod(0o755 if path.is_dir() or path.name in ("init", "busybox") else 0o644)
        os.utime(path, (epoch, epoch))
    pack = 'find . | LC_ALL=C sort | cpio -oH newc -R 0:0 --reproducible --quiet | gzip -9n >"$1"'
    run(["bash", "-c", f"set -o pipefail; {pack}", "bash", target.absolute()], cwd=tree)


def needed(modules: Path, version: str, names: Sequence[str]) -> list[Path]:
    """The module files in the order in which they are to be loaded; those built into the kernel are no files."""
    found: dict[Path, None] = {}
    for name in names:
        said = run(["modprobe", "-d", modules, "-S", version, "--show-depends", name])
        for line in said.splitlines():
            if line.startswith("insmod "):
                found[Path(line.split()[1])] = None
    return list(found)


def _is_module(modules: Path, version: str, name: str) -> bool:
    return any((modules / "lib/modules" / version).rglob(f"{name}.ko*"))
