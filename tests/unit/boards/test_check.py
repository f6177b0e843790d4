"""`make boards` on the real boards, and on copies of them with one thing wrong: file and key are named, 2 is returned,
and nothing is written."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from image import check, read
from image.__main__ import main
from image.read import ROOT, Tree, present
from image.refusal import Refusal

BOARD = "firmware-configs/boards/qemu/virt-arm64"
Change = Callable[[Path], object]


@pytest.fixture
def top(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "firmware-configs", tmp_path / "firmware-configs", symlinks=True)
    return tmp_path


def edit(path: str, old: str, new: str) -> Change:
    def change(top: Path) -> None:
        text = (top / path).read_text()
        assert old in text
        (top / path).write_text(text.replace(old, new))

    return change


def add(path: str, text: str) -> Change:
    def change(top: Path) -> None:
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        with (top / path).open("a") as file:
            file.write(text)

    return change


def listing(top: Path) -> list[Path]:
    return sorted(top.rglob("*"))


def test_every_board_of_the_repository_is_right() -> None:
    lines = check.all_boards(Tree())
    assert {line.partition(":")[0] for line in lines} >= {
        "qemu-virt-arm64", "qemu-virt-armhf", "raspberrypi-zero2w", "raspberrypi-3", "raspberrypi-4", "raspberrypi-5",
        "nvidia-orin-nano",
    }  # fmt: skip


def test_a_maker_s_packages_go_to_its_boards_and_to_no_other() -> None:
    tree = Tree()
    assert "wpasupplicant" in tree.packages(tree.board("raspberrypi-zero2w"))
    assert "wpasupplicant" not in tree.packages(tree.board("qemu-virt-arm64"))


def test_every_manifest_has_about_twelve_lines() -> None:
    lines = {p: p.read_text().count("\n") for p in (ROOT / "firmware-configs" / "boards").glob("*/*/board.toml")}
    assert [p for p, count in lines.items() if not 11 <= count <= 13] == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (add(f"{BOARD}/board.toml", "colour = 1\n"), [f"{BOARD}/board.toml", "colour", "no such key"]),
        (add(f"{BOARD}/board.toml", "= 1\n"), [f"{BOARD}/board.toml", "no TOML"]),
        (
            add(f"{BOARD}/overlay/etc/fstab", "none\n"),
            [f"{BOARD}/overlay/etc/fstab", "base/overlay/etc/fstab", "replaces"],
        ),
        (
            add("firmware-configs/fragments/virt.config", "# CONFIG_VETH is not set\n"),
            ["fragments/virt.config", "CONFIG_VETH", "fragments/containers.config"],
        ),
        (edit(f"{BOARD}/board.toml", "root_mb = 704", "root_mb = 1200"), [f"{BOARD}/board.toml", "medium_mb", "2788"]),
        (edit(f"{BOARD}/board.toml", "memory_mb = 512", "memory_mb = 256"), [f"{BOARD}/board.toml", "memory_mb"]),
        (
            edit(f"{BOARD}/board.toml", '"virt-watchdog"]', '"virt-watchdg"]'),
            [f"{BOARD}/board.toml", "fragments", "virt-watchdg.config"],
        ),
        (
            add("firmware-configs/base/packages", "cowsay\n"),
            ["root/locks/aarch64-bookworm.toml", "cowsay", "make lock-image"],
        ),
        (
            edit("firmware-configs/boards/nvidia/orin-nano/inputs.toml", "sha256", "sha"),
            ["nvidia/orin-nano/inputs.toml", "l4t"],
        ),
        (
            edit("firmware-configs/targets/raspberrypi-5.toml", "trixie", "bookworm"),
            ["targets/raspberrypi-5.toml", "raspberrypi/5/board.toml", 'target = "aarch64-trixie"'],
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_file(
    top: Path, change: Change, said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    change(top)
    before = listing(top)
    assert main(["--configs", str(top / "firmware-configs"), "check"]) == 2
    told = capsys.readouterr().err
    assert [word for word in said if word not in told] == [], told
    assert told.count("\n") == 1
    assert listing(top) == before


def test_a_kernel_without_what_a_board_needs_is_refused(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "kernel_config", lambda pins: "CONFIG_VETH=m\n")
    tree = Tree(top / "firmware-configs")
    with pytest.raises(Refusal) as told:
        check.one(tree, tree.board("qemu-virt-arm64"))
    assert told.value.key == "kernel"
    assert "CONFIG_OVERLAY_FS: firmware-configs/fragments/containers.config wants m, the kernel has n" in told.value.why


def test_an_input_that_cannot_be_had_says_where_to_put_it_and_how_it_is_pinned(
    top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = "firmware-configs/boards/nvidia/orin-nano/inputs.toml"
    monkeypatch.setattr(read, "INPUTS", tmp_path / "inputs")

    def refused() -> Refusal:
        tree = Tree(top / "firmware-configs")
        (declared,) = tree.inputs(tree.board("nvidia-orin-nano"))
        with pytest.raises(Refusal) as told:
            present(declared)
        assert told.value.where == inputs
        return told.value

    assert ".cache/inputs/l4t-root.tar" in refused().cure
    assert "Jetson Linux" in refused().cure
    (tmp_path / "inputs").mkdir()
    (tmp_path / "inputs/l4t-root.tar").write_bytes(b"L4T")
    line = f'sha256 = "{hashlib.sha256(b"L4T").hexdigest()}"'
    unpinned = refused()
    assert unpinned.key == "l4t.sha256"
    assert line in unpinned.cure
    edit(inputs, 'sha256 = ""', line)(top)
    tree = Tree(top / "firmware-configs")
    (declared,) = tree.inputs(tree.board("nvidia-orin-nano"))
    assert present(declared) == tmp_path / "inputs/l4t-root.tar"
    (tmp_path / "inputs/l4t-root.tar").write_bytes(b"another")
    assert "another digest" in refused().why


def test_an_unknown_board_is_told_which_there_are() -> None:
    with pytest.raises(Refusal) as told:
        Tree().board("acme-one")
    assert "qemu-virt-arm64" in told.value.cure
