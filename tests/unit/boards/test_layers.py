"""The merge of base, architecture, vendor and board: nothing is overwritten by accident."""

from __future__ import annotations

import pytest

from image.layers import Entry, Layer, boot_files, merged, root_files
from image.refusal import Refusal


def layer(where: str, *paths: str, replaces: tuple[str, ...] = ()) -> Layer:
    return Layer(where, {path: Entry(f"{where}/{path}", 10) for path in paths}, replaces)


def test_layers_add_up() -> None:
    tree = merged([layer("base", "etc/fstab"), layer("board", "boot/config.txt", "etc/a/b")])
    assert list(tree) == ["boot/config.txt", "etc/a/b", "etc/fstab"]
    assert list(boot_files(tree)) == ["config.txt"]
    assert list(root_files(tree)) == ["etc/a/b", "etc/fstab"]


def test_two_layers_writing_one_file_are_both_named() -> None:
    with pytest.raises(Refusal) as told:
        merged([layer("base", "etc/fstab"), layer("board", "etc/fstab")])
    assert told.value.where == "board/etc/fstab"
    assert "base/etc/fstab" in told.value.why
    assert "replaces" in told.value.cure


def test_a_board_may_replace_what_it_names() -> None:
    tree = merged([layer("base", "etc/fstab"), layer("board", "etc/fstab", replaces=("etc/fstab",))])
    assert tree["etc/fstab"].source == "board/etc/fstab"


@pytest.mark.parametrize("path", ["etc/other", "etc/fstab"])
def test_a_replacement_that_replaces_nothing_is_refused(path: str) -> None:
    with pytest.raises(Refusal) as told:
        merged([layer("base", "etc/motd"), layer("board", "etc/fstab", replaces=(path,))])
    assert told.value.key == f"replaces {path}"


def test_a_file_cannot_be_a_folder_too() -> None:
    with pytest.raises(Refusal) as told:
        merged([layer("base", "etc/a"), layer("board", "etc/a/b")])
    assert (told.value.where, "base/etc/a" in told.value.why) == ("board/etc/a/b", True)


@pytest.mark.parametrize("path", ["../etc/passwd", "etc/a b", "etc//x", "e" * 300])
def test_paths_that_no_image_may_have(path: str) -> None:
    with pytest.raises(Refusal):
        merged([layer("board", path)])


def test_a_file_too_large_for_an_overlay_wants_to_be_an_input() -> None:
    with pytest.raises(Refusal) as told:
        merged([Layer("board", {"boot/firmware.bin": Entry("board/boot/firmware.bin", 2 << 20)})])
    assert "inputs.toml" in told.value.cure


def test_fat_holds_no_links() -> None:
    tree = merged([Layer("board", {"boot/current": Entry("board/boot/current", 0, link="A")})])
    with pytest.raises(Refusal) as told:
        boot_files(tree)
    assert told.value.where == "board/boot/current"
