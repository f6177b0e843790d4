"""The Orin's overlay over a tree that stands in for NVIDIA's: what theirs is stays theirs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from image import l4t
from image.read import CONFIGS, ROOT, Tree
from image.refusal import Refusal

# As L4T 36 has it.
EXTLINUX = """TIMEOUT 30
DEFAULT primary

MENU TITLE L4T boot options

LABEL primary
      MENU LABEL primary kernel
      LINUX /boot/Image
      INITRD /boot/initrd
      APPEND ${cbootargs} root=/dev/mmcblk0p1 rw rootwait panic=3 console=ttyTCU0,115200

# LABEL backup
#    MENU LABEL backup kernel
#    APPEND ${cbootargs}
"""
ORIN = "nvidia/orin-nano"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "rootfs"
    for path, text in {
        l4t.EXTLINUX: EXTLINUX, "boot/Image": "kernel", "etc/nv_tegra_release": "# R36\n", "etc/fstab": "theirs\n",
        "usr/bin/true": "x",
    }.items():  # fmt: skip
        (made / path).parent.mkdir(parents=True, exist_ok=True)
        (made / path).write_text(text)
    (made / "lib").symlink_to("usr/lib")
    return made


@pytest.fixture
def deb(tmp_path: Path) -> Path:
    made = tmp_path / "skerry_0.1.0+jammy_arm64.deb"
    made.write_bytes(b"package")
    return made


def listing(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file() and not p.is_symlink()}


def test_skerry_lies_over_the_makers_tree_and_nothing_of_theirs_is_changed(
    root: Path, deb: Path, tmp_path: Path
) -> None:
    before = listing(root)
    tree = Tree()
    l4t.compose(tree, tree.board(ORIN), root, deb, tmp_path)
    after = listing(root)
    assert {path for path in before if before[path] != after.get(path)} == {l4t.EXTLINUX}
    assert after[l4t.PACKAGE] == b"package"
    unit = after["usr/lib/systemd/system/skerry-install.service"].decode()
    assert f"/{l4t.PACKAGE}" in unit, "the package is installed from where it lies"
    wanted = root / "etc/systemd/system/multi-user.target.wants/skerry-install.service"
    assert str(wanted.readlink()) == "/usr/lib/systemd/system/skerry-install.service"
    assert "etc/systemd/system.conf.d/10-watchdog.conf" not in after, "the system around stays as JetPack has it"


def test_the_gpu_has_a_cdi_specification_that_containerd_reads(root: Path, deb: Path, tmp_path: Path) -> None:
    tree = Tree()
    l4t.compose(tree, tree.board(ORIN), root, deb, tmp_path)
    spec = json.loads((root / "etc/cdi/nvidia-orin.json").read_text())
    assert (spec["kind"], [device["name"] for device in spec["devices"]]) == ("nvidia.com/gpu", ["0"])
    nodes = [node["path"] for node in spec["devices"][0]["containerEdits"]["deviceNodes"]]
    assert "/dev/nvmap" in nodes
    assert all(node.startswith("/dev/") for node in nodes)
    assert "/etc/cdi" in (root / "etc/containerd/config.toml").read_text()


def test_their_boot_entry_is_kept_and_gets_our_words() -> None:
    lines = l4t.appended(EXTLINUX, ["quiet", "panic=10"]).splitlines()
    theirs = EXTLINUX.splitlines()
    (changed,) = (n for n, line in enumerate(theirs) if line != lines[n])
    assert len(lines) == len(theirs)
    assert lines[changed] == (
        "      APPEND ${cbootargs} root=/dev/mmcblk0p1 rw rootwait console=ttyTCU0,115200 quiet panic=10"
    )


@pytest.mark.parametrize(
    "text", ["", "DEFAULT other\nLABEL primary\n  APPEND x\n", "LABEL primary\n  LINUX /boot/Image\n"]
)
def test_an_extlinux_without_a_default_entry_is_refused(text: str) -> None:
    with pytest.raises(Refusal) as told:
        l4t.appended(text, ["quiet"])
    assert told.value.where == l4t.EXTLINUX


def test_a_file_of_theirs_in_the_way_is_refused_before_anything_is_written(
    root: Path, deb: Path, tmp_path: Path
) -> None:
    (root / "etc/containerd").mkdir()
    (root / "etc/containerd/config.toml").write_text("theirs\n")
    before = listing(root)
    tree = Tree()
    with pytest.raises(Refusal) as told:
        l4t.compose(tree, tree.board(ORIN), root, deb, tmp_path)
    assert told.value.where == "firmware-configs/boards/nvidia/orin-nano/overlay/etc/containerd/config.toml"
    assert "L4T/etc/containerd/config.toml" in told.value.why
    assert "replaces" in told.value.cure
    assert listing(root) == before


def test_a_board_that_names_it_may_replace_it(root: Path, deb: Path, tmp_path: Path) -> None:
    (root / "etc/containerd").mkdir()
    (root / "etc/containerd/config.toml").write_text("theirs\n")
    shutil.copytree(ROOT / CONFIGS, tmp_path / CONFIGS, symlinks=True)
    with (tmp_path / CONFIGS / "boards" / ORIN / "board.toml").open("a") as file:
        file.write('replaces = ["etc/containerd/config.toml"]\n')
    tree = Tree(tmp_path / CONFIGS)
    l4t.compose(tree, tree.board(ORIN), root, deb, tmp_path / "work")
    assert "enable_cdi" in (root / "etc/containerd/config.toml").read_text()


def test_a_root_that_is_not_theirs_is_refused(root: Path, deb: Path, tmp_path: Path) -> None:
    (root / l4t.EXTLINUX).unlink()
    tree = Tree()
    with pytest.raises(Refusal) as told:
        l4t.compose(tree, tree.board(ORIN), root, deb, tmp_path)
    assert "apply_binaries.sh" in told.value.cure
