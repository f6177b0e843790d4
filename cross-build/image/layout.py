"""Where everything lies on the medium, and whether it fits; and how much memory the system leaves for pods.

Four primary partitions, since a Pi 3 reads no other table: boot (FAT), root A, root B (empty until the first update),
data (grows at the first boot). Labels, not device names, find them: virtio numbers disks backwards. Opens no file.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from . import limits
from .manifest import Board
from .refusal import Refusal

MIB = 1024 * 1024
SECTOR = 512
BOOT_LABEL, ROOT_LABEL, DATA_LABEL = "BOOT", "rootA", "data"


@dataclass(frozen=True, slots=True)
class Part:
    """A partition: first byte and length, both on whole MiB."""

    name: str
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Layout:
    boot: Part
    root_a: Part
    root_b: Part
    data: Part
    disk_id: int

    @property
    def end(self) -> int:
        return self.data.start + self.data.length

    @property
    def parts(self) -> tuple[Part, ...]:
        return (self.boot, self.root_a, self.root_b, self.data)


def layout(board: Board) -> Layout:
    """The partitions of a board. Raises Refusal when they are larger than its medium."""
    parts, start = [], limits.GAP_MB
    for name, size in (("boot", board.boot_mb), ("rootA", board.root_mb), ("rootB", board.root_mb),
                       ("data", board.data_mb)):  # fmt: skip
        parts.append(Part(name, start * MIB, size * MIB))
        start += size
    if start > board.medium_mb:
        why = f"the partitions take {start} MiB, the medium has {board.medium_mb}"
        raise Refusal(board.where, "medium_mb", why, "make root_mb or data_mb smaller")
    boot, root_a, root_b, data = parts
    return Layout(boot, root_a, root_b, data, disk_id=int(identity(board, "disk")[:8], 16) | 1)


def identity(board: Board, what: str) -> str:
    """A UUID that is always the same for this board and this purpose."""
    digest = hashlib.sha256(f"skerry {board.ident} {what}".encode()).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-8{digest[17:20]}-{digest[20:32]}"


def volume_id(board: Board) -> str:
    """The FAT's serial number, eight digits of base 16."""
    return identity(board, "boot")[:8]


def check_root(board: Board, used_bytes: int) -> None:
    """Whether a root tree of this size fits. Raises Refusal."""
    room = board.root_mb * MIB * (1 - limits.ROOT_FREE_SHARE_MIN)
    if used_bytes > room:
        why = f"the root takes {used_bytes / MIB:.0f} MiB of {board.root_mb}, and 8 % must stay free"
        raise Refusal(board.where, "root_mb", why, "make root_mb larger or the package list shorter")


def check_boot(board: Board, used_bytes: int) -> None:
    """Whether kernel, initrd and firmware fit the boot partition twice, for slot A and B. Raises Refusal."""
    if used_bytes > (board.boot_mb - 2) * MIB:
        why = f"the boot files of two slots take {used_bytes / MIB:.0f} MiB of {board.boot_mb}"
        raise Refusal(board.where, "boot_mb", why, "make boot_mb larger")


def overlay_mb(board: Board) -> int:
    """The memory that the writable layer over the read-only root may take, in MiB."""
    return max(limits.OVERLAY_MB_MIN, min(board.memory_mb // limits.OVERLAY_SHARE, limits.OVERLAY_MB_MAX))


def pods_mb(board: Board) -> int:
    """What is left for pods when everything else has taken all it may. Raises Refusal when that is too little."""
    taken = limits.SYSTEM_MB + limits.CONTAINERD_MB + limits.SKERRY_MB + limits.JOURNALD_MB + overlay_mb(board)
    left = board.memory_mb - taken
    if left < limits.PODS_MB_MIN:
        why = f"{left} MiB of {board.memory_mb} are left for pods, {limits.PODS_MB_MIN} is the least"
        raise Refusal(board.where, "memory_mb", why, "this board is too small for containerd")
    return left


def genimage_config(board: Board, plan: Layout, boot_names: list[str], name: str) -> str:
    """What genimage reads: finished file systems in, one card out."""
    files = "".join(f'    file "{path}" {{ image = "boot/{path}" }}\n' for path in boot_names)
    lines = [
        "image boot.vfat {\n  vfat {\n"
        f'    extraargs = "-F 32 -n {BOOT_LABEL} -i {volume_id(board)} --invariant"\n{files}  }}\n'
        f"  size = {board.boot_mb}M\n}}\n",
        f'image {name} {{\n  hdimage {{\n    partition-table-type = "mbr"\n'
        f"    disk-signature = {plan.disk_id:#x}\n    align = 1M\n  }}\n",
    ]
    images = {"boot": ("boot.vfat", "0xC"), "rootA": ("root.ext4", "0x83"), "data": ("data.ext4", "0x83")}
    for part in plan.parts:
        image, kind = images.get(part.name, ("", "0x83"))
        lines.append(
            f"  partition {part.name} {{\n    partition-type = {kind}\n    offset = {part.start // MIB}M\n"
            f"    size = {part.length // MIB}M\n"
            + (f'    image = "{image}"\n' if image else "")
            + ("    bootable = true\n" if part.name == "boot" else "")
            + "  }\n"
        )
    return "".join([*lines, "}\n"])
