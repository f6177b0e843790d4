"""Boards as units of the build engine: what an image is made from, and what a change makes anew.

What is declared is checked always. The builds run with SKERRY_SLOW_BUILD=1 and as root: configuring Debian's packages
under emulation takes minutes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from builds.build_places import Place, needs_sandbox
from crossbuild.declare import Command, read_units
from image import build
from image.read import CONFIGS, ROOT, Tree

IMAGE, DEB, ROOTS = "boards:image@qemu-virt-arm64", "agent:deb@aarch64-bookworm", "roots:root@aarch64-bookworm"
LAYERS = "boards:layers@qemu-virt-arm64"
slow = [
    pytest.mark.slow_build,
    needs_sandbox,
    pytest.mark.skipif("SKERRY_SLOW_BUILD" not in os.environ, reason="minutes: SKERRY_SLOW_BUILD=1"),
    pytest.mark.skipif(os.geteuid() != 0, reason="root file systems are made as root"),
]


def below(name: str) -> set[str]:
    """The units with a command that `name` needs, at any depth, and itself."""
    units = read_units(ROOT / CONFIGS)
    found, todo = set(), [name]
    while todo:
        unit = units[todo.pop()]
        found.add(unit.id)
        todo += unit.needs.values()
    return {unit for unit in found if isinstance(units[unit].work, Command)}


def test_every_board_with_an_image_has_a_unit_that_needs_its_own_package_and_root() -> None:
    units = read_units(ROOT / CONFIGS)
    for board in Tree().boards():
        if board.boot != "l4t":
            needs = units[f"boards:image@{board.short}"].needs
            assert needs["skerry"] == f"agent:deb@{board.target}"
            assert needs["root"] == f"roots:root@{board.target}"


def test_the_slow_root_is_made_from_nothing_but_packages() -> None:
    needs = read_units(ROOT / CONFIGS)[ROOTS].needs
    assert set(needs.values()) == {"roots:debs@aarch64-bookworm", "cross-build:image-configure"}


def checkout(where: Path) -> Path:
    """What git would have of this folder, edits and links included."""
    said = subprocess.run(["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True)
    for name in said.stdout.decode().split("\0"):
        source = ROOT / name
        if name and (source.is_symlink() or source.is_file()):
            (where / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, where / name, follow_symlinks=False)
    return where


@pytest.mark.parametrize("_", [pytest.param(None, marks=slow)])
def test_an_image_builds_all_below_it_and_a_change_makes_anew_only_what_it_touches(_: None, tmp_path: Path) -> None:
    build.emulation("arm64")
    first = Place(checkout(tmp_path / "one"), tmp_path / "cache")
    cold = first.build(CONFIGS, IMAGE, "--out", str(tmp_path / "out-one"))
    assert cold.code == 0, cold.said
    assert cold.built == below(IMAGE) >= {IMAGE, LAYERS, ROOTS, DEB, "native:wheel@aarch64-bookworm"}
    assert first.build(CONFIGS, IMAGE).built == set(), "a filled cache runs nothing"

    # The same bytes from another folder, a second cache that knows only the root, and another umask.
    second = Place(checkout(tmp_path / "an/other/place"), tmp_path / "cache-two", umask=0o077)
    (tmp_path / "cache-two").mkdir()
    shutil.copytree(tmp_path / "cache/cas", tmp_path / "cache-two/cas")
    shutil.copytree(tmp_path / "cache/ac", tmp_path / "cache-two/ac")
    (tmp_path / "cache-two/ac" / cold.keys[IMAGE]).unlink()
    again = second.build(CONFIGS, IMAGE, "--out", str(tmp_path / "out-two"))
    assert again.code == 0, again.said
    assert again.built == {IMAGE}
    one, two = (
        {p.name: p.read_bytes() for p in (tmp_path / out / "boards").iterdir()} for out in ("out-one", "out-two")
    )
    assert one.keys() == two.keys()
    assert [name for name in one if one[name] != two[name]] == []

    for path, rebuilt in {
        f"{CONFIGS}/boards/qemu/overlay/etc/systemd/system.conf.d/20-emulated.conf": {LAYERS, IMAGE},
        f"{CONFIGS}/boards/raspberrypi/overlay/boot/config.txt": {LAYERS},  # another board's: cut off there
        "agent/skerry/limits.py": {DEB, IMAGE},
    }.items():
        with (first.root / path).open("a") as file:
            file.write("\n# changed\n" if path.endswith(".py") else "# changed\n")
        changed = first.build(CONFIGS, IMAGE)
        assert changed.code == 0, changed.said
        assert changed.built == rebuilt, path
