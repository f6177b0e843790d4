"""The block map: what is in use is mapped, zeros too; what is free is not."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from image.bmap import joined, used, xml

DUMP = """
Group 0: (Blocks 0-99) csum 0x1 [ITABLE_ZEROED]
  Primary superblock at 0, Group descriptors at 1-1
  Free blocks: 10-19, 50, 90-99
  Free inodes: 5-9
Group 1: (Blocks 100-199) csum 0x2 [INODE_UNINIT, BLOCK_UNINIT]
  Free blocks: 101-199
  Free inodes: 11-20
Group 2: (Blocks 200-220) csum 0x3
  Free blocks: {none}
  Free inodes:
"""


def test_used_is_what_is_not_free() -> None:
    assert used(DUMP.format(none="")) == [(0, 9), (20, 49), (51, 89), (100, 100), (200, 220)]


def test_ranges_that_touch_are_one() -> None:
    assert joined([(5, 9), (0, 2), (3, 4), (20, 21), (8, 12)]) == [(0, 12), (20, 21)]


def test_the_file_carries_its_own_checksum_and_each_range_its_own(tmp_path: Path) -> None:
    image = tmp_path / "one.img"
    image.write_bytes(b"a" * 4096 + bytes(4096) + b"b" * 4096)
    text = xml(image, [(0, 0), (2, 2)])
    assert f'chksum="{hashlib.sha256(b"b" * 4096).hexdigest()}"> 2-2 <' in text
    assert "<MappedBlocksCount> 2 <" in text
    own = re.search(r"<BmapFileChecksum> (\w{64}) <", text)
    assert own is not None
    assert hashlib.sha256(text.replace(own[1], "0" * 64).encode()).hexdigest() == own[1]
