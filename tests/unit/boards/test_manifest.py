"""board.toml: twelve lines, and each wrong one told with file and key."""

from __future__ import annotations

from typing import Any

import pytest

from image.manifest import board
from image.refusal import Refusal

WHERE = "firmware-configs/boards/acme/one/board.toml"
GOOD: dict[str, Any] = {
    "name": "Acme One", "target": "aarch64-bookworm", "kernel": "linux-image-6.1.0-1-arm64",
    "boot": "extlinux", "memory_mb": 512, "medium_mb": 4096, "boot_mb": 128, "root_mb": 704, "data_mb": 256,
    "initrd": ["virtio_blk"], "fragments": ["containers"],
}  # fmt: skip


def test_twelve_lines_make_a_board() -> None:
    made = board(WHERE, "acme/one", GOOD)
    assert (made.short, made.kernel_package, made.initrd) == (
        "acme-one", "linux-image-6.1.0-1-arm64", ("virtio_blk",),
    )  # fmt: skip
    assert (made.arch, made.suite) == ("arm64", "bookworm")
    assert made.packages == made.unpacked == made.replaces == ()


def test_a_kernel_may_be_a_declared_input() -> None:
    assert board(WHERE, "acme/one", GOOD | {"kernel": "input:l4t"}).kernel_package is None


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"memry_mb": 1}, "memry_mb"), ({"target": "riscv64-sid"}, "target"), ({"memory_mb": 64}, "memory_mb"),
        ({"memory_mb": "512"}, "memory_mb"), ({"memory_mb": True}, "memory_mb"), ({"boot": "grub"}, "boot"),
        ({"initrd": ["a b"]}, "initrd"), ({"initrd": ["a", "a"]}, "initrd"), ({"fragments": "containers"}, "fragments"),
        ({"kernel": "../vmlinuz"}, "kernel"), ({"name": ""}, "name"),
        ({"data_mb": 1}, "data_mb"),
    ],
)  # fmt: skip
def test_a_wrong_key_is_named_with_its_file(change: dict[str, Any], key: str) -> None:
    with pytest.raises(Refusal) as told:
        board(WHERE, "acme/one", GOOD | change)
    assert (told.value.where, told.value.key) == (WHERE, key)
    assert told.value.cure


@pytest.mark.parametrize("key", sorted(GOOD))
def test_every_line_is_needed(key: str) -> None:
    with pytest.raises(Refusal) as told:
        board(WHERE, "acme/one", {k: v for k, v in GOOD.items() if k != key})
    assert told.value.key == key
