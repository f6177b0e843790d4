"""An image, looked at as its board's firmware and boot loader will: table, boot files, file systems, what goes with it.

Each board's image in build/images/ is looked at, if it is there; with SKERRY_SLOW_BUILD=1 all of them are built first.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from image import build, check
from image.layout import Layout, layout
from image.manifest import Board
from image.read import Tree
from image.tool import sha256_of

TREE = Tree()
BOARDS = [board.short for board in TREE.boards() if board.boot != "l4t"]
PI_DTB = {
    "raspberrypi-zero2w": "bcm2837-rpi-zero-2-w.dtb", "raspberrypi-3": "bcm2837-rpi-3-b.dtb",
    "raspberrypi-4": "bcm2711-rpi-4-b.dtb", "raspberrypi-5": "bcm2712-rpi-5-b.dtb",
}  # fmt: skip
# Which of the firmware's files a board's boot ROM takes from the card; a Pi 5 has all of it in its EEPROM.
PI_FIRMWARE = {
    "raspberrypi-zero2w": ("bootcode.bin", "start.elf", "fixup.dat"),
    "raspberrypi-3": ("bootcode.bin", "start.elf", "fixup.dat"),
    "raspberrypi-4": ("start4.elf", "fixup4.dat"), "raspberrypi-5": (),
}  # fmt: skip
# What the driver of a board's radio asks for, by the name of its chip, and the nvram for the board.
RADIO = {
    "raspberrypi-zero2w": ("43430", ""), "raspberrypi-3": ("43430", ".raspberrypi,3-model-b"),
    "raspberrypi-4": ("43455", ".raspberrypi,4-model-b"), "raspberrypi-5": ("43455", ".raspberrypi,5-model-b"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Image:
    path: Path
    board: Board
    plan: Layout

    def boot_files(self) -> set[str]:
        said = subprocess.run(["mdir", "-/", "-b", "-i", self._boot, "::"], capture_output=True, text=True, check=True)
        return {line.removeprefix("::/") for line in said.stdout.splitlines()}

    def boot_file(self, name: str) -> bytes:
        return subprocess.run(["mtype", "-i", self._boot, f"::{name}"], capture_output=True, check=True).stdout

    def root(self, command: str) -> str:
        """What debugfs says of root A."""
        argv = ["debugfs", "-R", command, f"{self.path}?offset={self.plan.root_a.start}"]
        said = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=True)
        assert "File not found" not in said.stderr, command
        return said.stdout

    @property
    def _boot(self) -> str:
        return f"{self.path}@@{self.plan.boot.start}"


@pytest.fixture(params=BOARDS, scope="module")
def image(request: pytest.FixtureRequest) -> Image:
    board = TREE.board(request.param)
    path = build.OUT / f"skerry-{board.short}.img"
    if "SKERRY_SLOW_BUILD" in os.environ:
        build.image(TREE, board)
    if not path.with_suffix(".json").is_file():
        pytest.skip(f"make image-{board.short}")
    return Image(path, board, layout(board))


def test_the_table_has_the_four_partitions_and_fits_the_medium(image: Image) -> None:
    with image.path.open("rb") as file:
        table = file.read(512)
    entries = [table[446 + 16 * n : 462 + 16 * n] for n in range(4)]
    places = [tuple(int.from_bytes(e[at : at + 4], "little") * 512 for at in (8, 12)) for e in entries]
    assert places == [(part.start, part.length) for part in image.plan.parts]
    assert [entry[4] for entry in entries] == [0x0C, 0x83, 0x83, 0x83]
    assert table[510:] == b"\x55\xaa"
    assert image.path.stat().st_size <= image.board.medium_mb << 20


def test_all_that_the_boot_configuration_names_is_on_the_boot_partition(image: Image) -> None:
    files = image.boot_files()
    if image.board.boot == "extlinux":
        text = image.boot_file("extlinux/extlinux.conf").decode()
        named = {
            line.split()[1].lstrip("/") for line in text.splitlines() if line.split()[:1] in (["linux"], ["initrd"])
        }
        line = next(line for line in text.splitlines() if line.split()[:1] == ["append"])
    else:
        config = image.boot_file("config.txt").decode()
        prefix = re.search(r"^os_prefix=(.+)$", config, re.MULTILINE)
        kernel = re.search(r"^kernel=(.+)$", config, re.MULTILINE)
        initrd = re.search(r"^initramfs (\S+) followkernel$", config, re.MULTILINE)
        assert prefix and kernel and initrd, config  # noqa: PT018 - one line of a file each
        named = {prefix[1] + name for name in (kernel[1], initrd[1], "cmdline.txt", PI_DTB[image.board.short])}
        named |= set(PI_FIRMWARE[image.board.short])
        line = image.boot_file(f"{prefix[1]}cmdline.txt").decode()
        assert line.count("\n") == 1, "the firmware reads one line"
        assert "cgroup_enable=memory" in line.split()
    assert named - files == set()
    assert len(named) >= 2
    words = line.split()
    assert {"root=LABEL=rootA", "ro"} <= set(words)
    assert any(word.startswith("panic=") for word in words), "a kernel that cannot go on starts again"


def test_kernel_and_initrd_are_what_their_names_say(image: Image, tmp_path: Path) -> None:
    vmlinuz = image.boot_file("A/vmlinuz")
    if image.board.arch == "armhf":
        assert vmlinuz[36:40] == b"\x18\x28\x6f\x01", "no zImage"
    else:
        assert vmlinuz[56:60] == b"ARM\x64", "no plain arm64 kernel, which is all that the firmware can start"
    packed = tmp_path / "initrd"
    packed.write_bytes(gzip.decompress(image.boot_file("A/initrd.gz")))
    with packed.open("rb") as file:
        said = subprocess.run(["cpio", "-t", "--quiet"], stdin=file, capture_output=True, text=True, check=True).stdout
    names = {Path(line).name for line in said.splitlines()}
    assert {"init", "busybox", "order", "ext4.ko", "overlay.ko"} <= names
    modules = {name.removesuffix(".ko").replace("_", "-") for name in names if name.endswith(".ko")}
    assert {name.replace("_", "-") for name in image.board.initrd} - modules == set()


@pytest.mark.parametrize("which", ["root_a", "data"])
def test_the_file_systems_are_sound(image: Image, which: str) -> None:
    place = f"{image.path}?offset={getattr(image.plan, which).start}"
    done = subprocess.run(["e2fsck", "-fn", place], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_root_has_skerry_its_modules_and_the_layers(image: Image) -> None:
    def text(path: str) -> str:
        return image.root(f"cat {path}")

    assert "LABEL=data" in text("/etc/fstab")
    assert "skerry.cli" in text("/usr/bin/skerry")
    assert "/usr/bin/skerry run" in text("/usr/lib/systemd/system/skerry.service")
    status = text("/var/lib/dpkg/status")
    assert re.search(r"^Package: skerry\nStatus: install ok installed$", status, re.MULTILINE)
    assert "half-" not in status
    assert "unpacked" not in re.findall(r"^Status: .* (\S+)$", status, re.MULTILINE)


def test_a_raspberry_pi_has_all_that_its_radio_asks_for(image: Image) -> None:
    if image.board.short not in RADIO:
        pytest.skip("no radio")
    chip, model = RADIO[image.board.short]
    firmware = "/usr/lib/firmware"
    for name in (f"brcm/brcmfmac{chip}-sdio.bin", f"brcm/brcmfmac{chip}-sdio{model}.txt", "regulatory.db"):
        text = image.root(f"stat {firmware}/{name}")
        link = re.search(r'Fast link dest: "(.+)"', text)
        if link is not None:  # all links here are relative, and point to a file
            text = image.root(f"stat {firmware}/{Path(name).parent}/{link[1]}")
        assert re.search(r"Type: regular", text), name
        size = re.search(r"Size: (\d+)", text)
        assert size is not None
        assert int(size[1]) > 500, name
    assert "Type: regular" in image.root("stat /usr/sbin/wpa_supplicant")
    assert 'Fast link dest: "/dev/null"' in image.root("stat /etc/systemd/system/wpa_supplicant.service")
    modules = image.root(f"ls -p /usr/lib/modules/{kernel_of(image)}/kernel/net/wireless")
    assert re.search(r"/cfg80211\.ko", modules)


def kernel_of(image: Image) -> str:
    """The version of the root's kernel: its one folder of modules."""
    found: set[str] = set(re.findall(r"/([^/]+)/\d*/$", image.root("ls -p /usr/lib/modules"), re.MULTILINE))
    (name,) = found - {".", ".."}
    return name


def test_the_bill_of_materials_has_every_locked_package(image: Image) -> None:
    said = json.loads(image.path.with_suffix(".cdx.json").read_text())
    listed = {(part["name"], part["version"], part["hashes"][0]["content"]) for part in said["components"]}
    pins = check.packages(TREE, image.board)
    assert {(pin.name, pin.version, pin.sha256) for pin in pins} - listed == set()
    assert {name for name, _, _ in listed} - {pin.name for pin in pins} == {"skerry"}
    told = json.loads(image.path.with_suffix(".json").read_text())
    assert told["sha256"] == sha256_of(image.path) == said["metadata"]["component"]["hashes"][0]["content"]


def test_the_block_map_is_of_this_image(image: Image) -> None:
    text = image.path.with_name(image.path.name + ".bmap").read_text()
    ranges = re.findall(r'<Range chksum="(\w{64})"> (\d+)-(\d+) </Range>', text)
    assert len(ranges) > 3
    with image.path.open("rb") as file:
        for digest, first, last in ranges:
            file.seek(int(first) * 4096)
            assert hashlib.sha256(file.read((int(last) - int(first) + 1) * 4096)).hexdigest() == digest
