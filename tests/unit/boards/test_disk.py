"""File systems and cards have the same bytes each time, whenever and wherever the tree was copied."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from image import disk
from image.bmap import BLOCK, used
from image.layout import MIB, layout
from image.manifest import Board, board
from image.tool import run

from .test_manifest import GOOD, WHERE

EPOCH = 1_767_225_600
SMALL = {"boot_mb": 48, "root_mb": 256, "data_mb": 128, "medium_mb": 1024}


@pytest.fixture
def small() -> Board:
    return board(WHERE, "acme/one", GOOD | SMALL)


def tree(folder: Path) -> Path:
    (folder / "etc/deep").mkdir(parents=True)
    for number in range(20):
        (folder / "etc/deep" / f"file {number}").write_text(f"{number}\n" * 500)
    (folder / "etc/link").symlink_to("deep/file 1")
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)
    return folder


def test_an_ext4_of_a_copied_tree_is_the_same_to_the_bit_and_sound(tmp_path: Path, small: Board) -> None:
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        source = tree(tmp_path / name / "tree")
        time.sleep(1.1)  # ext4 keeps whole seconds of ctime in the part that is compared; the copies must differ in it
        (source / "etc").chmod(0o755)
        disk.ext4(tmp_path / name / "x.ext4", source, small, "rootA", 16, EPOCH, tmp_path / name)
        made.append((tmp_path / name / "x.ext4").read_bytes())
    assert made[0] == made[1]
    check = subprocess.run(["e2fsck", "-fn", str(tmp_path / "one/x.ext4")], capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout


def test_blocks_that_are_not_mapped_may_hold_anything(tmp_path: Path, small: Board) -> None:
    """What a flasher does not write keeps a used card's old bytes; the file system must not care."""
    image = tmp_path / "x.ext4"
    disk.ext4(image, tree(tmp_path / "tree"), small, "rootA", 16, EPOCH, tmp_path)
    mapped = {n for first, last in used(run(["dumpe2fs", image])) for n in range(first, last + 1)}
    with image.open("r+b") as file:
        for number in set(range(16 * MIB // BLOCK)) - mapped:
            file.seek(number * BLOCK)
            file.write(b"\xa5" * BLOCK)
    check = subprocess.run(["e2fsck", "-fn", str(image)], capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout
    assert run(["debugfs", "-R", 'cat "/etc/deep/file 7"', image]) == "7\n" * 500


@pytest.mark.skipif(shutil.which("genimage") is None, reason="genimage comes with tools/setup image")
def test_a_card_has_its_four_partitions_where_the_layout_says(tmp_path: Path, small: Board) -> None:
    plan, cards = layout(small), []
    for name in ("one", "two"):
        work = tmp_path / name
        (work / "boot/A").mkdir(parents=True)
        (work / "boot/A/vmlinuz").write_bytes(b"kernel" * 1000)
        os.utime(work / "boot/A/vmlinuz", (EPOCH, EPOCH))
        for part, size in (("root", small.root_mb), ("data", small.data_mb)):
            disk.ext4(work / f"{part}.ext4", tree(work / part), small, part, size, EPOCH, work)
        disk.card(work / "card.img", small, plan, work / "boot", work, EPOCH)
        cards.append((work / "card.img").read_bytes())
    assert cards[0] == cards[1]
    assert len(cards[0]) == plan.end
    for place, name in ((plan.root_a, "root"), (plan.data, "data")):
        assert cards[0][place.start : place.start + place.length] == (tmp_path / "one" / f"{name}.ext4").read_bytes()
    entries = [cards[0][446 + 16 * n : 462 + 16 * n] for n in range(4)]
    assert [int.from_bytes(e[8:12], "little") * 512 for e in entries] == [p.start for p in plan.parts]
    assert [e[4] for e in entries] == [0x0C, 0x83, 0x83, 0x83]
    assert entries[0][0] == 0x80, "the firmware boots from the first"
