"""Partitions, what fits, and how much memory is left for pods."""

from __future__ import annotations

import dataclasses

import pytest

from image.layout import MIB, check_boot, check_root, genimage_config, identity, layout, overlay_mb, pods_mb
from image.manifest import board
from image.refusal import Refusal

from .test_manifest import GOOD, WHERE

BOARD = board(WHERE, "acme/one", GOOD)


def test_partitions_lie_one_behind_the_other() -> None:
    plan = layout(BOARD)
    assert [(p.name, p.start // MIB, p.length // MIB) for p in plan.parts] == [
        ("boot", 4, 128), ("rootA", 132, 704), ("rootB", 836, 704), ("data", 1540, 256),
    ]  # fmt: skip
    assert plan.end == 1796 * MIB


def test_what_is_larger_than_the_medium_is_refused() -> None:
    with pytest.raises(Refusal) as told:
        layout(dataclasses.replace(BOARD, medium_mb=1795))
    assert (told.value.where, told.value.key) == (WHERE, "medium_mb")


def test_a_root_that_does_not_fit_is_refused_with_both_sizes() -> None:
    check_root(BOARD, 600 * MIB)
    with pytest.raises(Refusal) as told:
        check_root(BOARD, 660 * MIB)
    assert told.value.key == "root_mb"
    assert "660 MiB of 704" in told.value.why


def test_the_boot_partition_holds_two_slots() -> None:
    check_boot(BOARD, 126 * MIB)
    with pytest.raises(Refusal) as told:
        check_boot(BOARD, 127 * MIB)
    assert told.value.key == "boot_mb"


def test_a_board_too_small_for_its_system_is_refused() -> None:
    assert pods_mb(BOARD) == 512 - 96 - 64 - 40 - 16 - overlay_mb(BOARD) == 232
    with pytest.raises(Refusal) as told:
        pods_mb(dataclasses.replace(BOARD, memory_mb=256))
    assert told.value.key == "memory_mb"


def test_identities_are_the_same_each_time_and_differ_by_board_and_use() -> None:
    other = dataclasses.replace(BOARD, ident="acme/two")
    made = {identity(b, what) for b in (BOARD, other) for what in ("rootA", "data")}
    assert len(made) == 4
    assert identity(BOARD, "data") in made


def test_genimage_is_told_fixed_offsets_and_identities() -> None:
    text = genimage_config(BOARD, layout(BOARD), ["A/vmlinuz"], "one.img")
    assert 'file "A/vmlinuz" { image = "boot/A/vmlinuz" }' in text
    assert "offset = 1540M" in text
    assert f"disk-signature = {layout(BOARD).disk_id:#x}" in text
    assert text.count("partition-type") == 4
    assert text.count('image = "') == 4  # one boot file, three file systems; root B is empty
