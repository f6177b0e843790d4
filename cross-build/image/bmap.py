"""The block map of an image (bmap format 2.0): which blocks a flasher must write, with their digests.

What is mapped follows from what is on the card, never from holes in a file, so that it is the same on every machine:
the partition table, the whole boot partition, and the blocks that the ext4 file systems have in use. Blocks of zeros
that a file system uses are mapped as well: a card that was used before holds something else there.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from .layout import Layout, Part
from .tool import run

BLOCK = 4096
_GROUP = re.compile(r"^Group \d+: \(Blocks (\d+)-(\d+)\)", re.MULTILINE)
_FREE = re.compile(r"^  Free blocks: ([0-9, -]*)$", re.MULTILINE)

Range = tuple[int, int]  # first and last block


def write(image: Path, plan: Layout, root_ext4: Path, data_ext4: Path) -> int:
    """Write IMAGE.bmap beside the image; returns the bytes that are mapped."""
    ranges = [(0, plan.boot.start // BLOCK - 1), _whole(plan.boot)]
    ranges += _shifted(used(_dumped(root_ext4)), plan.root_a.start)
    # Root B is empty: its first blocks are cleared, so that nobody takes what was there before for a file system.
    ranges += [(plan.root_b.start // BLOCK, plan.root_b.start // BLOCK + 255)]
    ranges += _shifted(used(_dumped(data_ext4)), plan.data.start)
    target = image.with_name(image.name + ".bmap")
    whole = joined(ranges)
    target.write_text(xml(image, whole))
    return sum(last - first + 1 for first, last in whole) * BLOCK


def used(dump: str) -> list[Range]:
    """The blocks in use, from what dumpe2fs prints: each group's blocks without its free ones."""
    groups = [(int(first), int(last)) for first, last in _GROUP.findall(dump)]
    free = _FREE.findall(dump)
    assert len(groups) == len(free), (len(groups), len(free))
    found: list[Range] = []
    for (first, last), line in zip(groups, free, strict=True):
        start = first
        for low, high in _ranges(line):
            if low > start:
                found.append((start, low - 1))
            start = high + 1
        if start <= last:
            found.append((start, last))
    return found


def joined(ranges: Iterable[Range]) -> list[Range]:
    """Sorted, and one where two touch."""
    out: list[Range] = []
    for first, last in sorted(ranges):
        if out and first <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(out[-1][1], last))
        else:
            out.append((first, last))
    return out


def xml(image: Path, ranges: Sequence[Range]) -> str:
    size = image.stat().st_size
    count = sum(last - first + 1 for first, last in ranges)
    body = "".join(
        f'        <Range chksum="{_digest(image, first, last)}"> {first}-{last} </Range>\n' for first, last in ranges
    )
    text = f"""<?xml version="1.0" ?>
<!-- {escape(image.name)}: bmaptool copy writes only these blocks -->
<bmap version="2.0">
    <ImageSize> {size} </ImageSize>
    <BlockSize> {BLOCK} </BlockSize>
    <BlocksCount> {(size + BLOCK - 1) // BLOCK} </BlocksCount>
    <MappedBlocksCount> {count} </MappedBlocksCount>
    <ChecksumType> sha256 </ChecksumType>
    <BmapFileChecksum> {"0" * 64} </BmapFileChecksum>
    <BlockMap>
{body}    </BlockMap>
</bmap>
"""
    return text.replace("0" * 64, hashlib.sha256(text.encode()).hexdigest(), 1)


def _digest(image: Path, first: int, last: int) -> str:
    digest = hashlib.sha256()
    with image.open("rb") as file:
        file.seek(first * BLOCK)
        left = (last - first + 1) * BLOCK
        while left > 0 and (data := file.read(min(left, 1 << 20))):
            digest.update(data)
            left -= len(data)
    return digest.hexdigest()


def _dumped(ext4: Path) -> str:
    return run(["dumpe2fs", ext4])


def _ranges(line: str) -> list[Range]:
    out = []
    for word in line.split(","):
        first, _, last = word.strip().partition("-")
        if first:
            out.append((int(first), int(last or first)))
    return out


def _whole(part: Part) -> Range:
    return part.start // BLOCK, (part.start + part.length) // BLOCK - 1


def _shifted(ranges: Iterable[Range], start: int) -> list[Range]:
    return [(first + start // BLOCK, last + start // BLOCK) for first, last in ranges]
