"""Every bound of an image and a board, with its unit."""

from __future__ import annotations

from typing import Final

MANIFEST_BYTES_MAX: Final = 16 * 1024
LOCK_BYTES_MAX: Final = 256 * 1024
FILE_BYTES_MAX: Final = 1024 * 1024  # a file of an overlay; larger things are inputs with a digest
PATH_CHARS_MAX: Final = 255

# The medium. A card says 8 GB and has a little less: what is promised to fit must fit the small ones.
MEDIUM_MB_MIN, MEDIUM_MB_MAX = 1024, 1024 * 1024
BOOT_MB_MIN, BOOT_MB_MAX = 48, 1024
ROOT_MB_MIN, ROOT_MB_MAX = 256, 16 * 1024
DATA_MB_MIN, DATA_MB_MAX = 128, 64 * 1024
GAP_MB: Final = 4  # before the first partition: the table, and later the two sectors of the boot state
ROOT_FREE_SHARE_MIN: Final = 0.08  # of the root's file system, so that the next release still fits

# Memory. What the system itself takes on a quiet board (docs/boards.md), before the first pod.
MEMORY_MB_MIN, MEMORY_MB_MAX = 256, 1024 * 1024
SYSTEM_MB: Final = 96  # kernel, systemd, networkd, journald
CONTAINERD_MB: Final = 64
SKERRY_MB: Final = 40
JOURNALD_MB: Final = 16  # RuntimeMaxUse of base/overlay/etc/systemd/journald.conf.d/
PODS_MB_MIN: Final = 96
OVERLAY_SHARE: Final = 8  # the memory of the writable layer over the root: 1/8 of the board's, within
OVERLAY_MB_MIN, OVERLAY_MB_MAX = 48, 256

TOOL_TIMEOUT_S: Final = 1800.0
OUTPUT_CHARS_MAX: Final = 3000

EPOCH: Final = 1_767_225_600  # 2026-01-01: the times in an image, and the clock's floor
