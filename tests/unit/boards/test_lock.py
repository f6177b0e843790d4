"""The lock file and the bill of materials."""

from __future__ import annotations

import json

import pytest

from image.lock import Pinned, chosen, parsed, written
from image.manifest import board
from image.refusal import Refusal
from image.sbom import Own, bill

from .test_manifest import GOOD, WHERE

PINS = (
    Pinned("install", "crun", "1.8.1-1+deb12u1", "arm64", "a" * 64, 100),
    Pinned("unpack", "linux-image-6.1.0-1-arm64", "2:6.1.1-2~bpo1", "arm64", "b" * 64, 200),
)


def test_what_is_written_is_read_back() -> None:
    assert parsed("x.lock", written(reversed(PINS), "a remark")) == PINS


def test_the_archive_names_a_file_without_its_epoch() -> None:
    assert PINS[1].file_name == "linux-image-6.1.0-1-arm64_6.1.1-2~bpo1_arm64.deb"


@pytest.mark.parametrize("line", ["install crun 1 arm64 abc 5", "use crun 1 arm64 " + "a" * 64 + " 5", "install crun"])
def test_a_line_that_pins_nothing_is_named(line: str) -> None:
    with pytest.raises(Refusal) as told:
        parsed("x.lock", f"# head\n{line}\n")
    assert (told.value.where, told.value.key) == ("x.lock", "line 2")


def test_a_package_that_is_not_locked_is_named() -> None:
    assert chosen("x.lock", PINS, "install", ["crun"]) == PINS[:1]
    with pytest.raises(Refusal) as told:
        chosen("x.lock", PINS, "unpack", ["crun"])
    assert (told.value.where, told.value.key) == ("x.lock", "crun")


def test_the_bill_lists_every_package_and_our_own_with_digests() -> None:
    made = board(WHERE, "acme/one", GOOD)
    text = bill(made, PINS, [Own("skerry", "0.1.0", "c" * 64)], "d" * 64, 1_767_225_600)
    said = json.loads(text)
    assert [c["name"] for c in said["components"]] == ["crun", "linux-image-6.1.0-1-arm64", "skerry"]
    assert [c["hashes"][0]["content"] for c in said["components"]] == ["a" * 64, "b" * 64, "c" * 64]
    assert said["components"][0]["purl"] == "pkg:deb/debian/crun@1.8.1-1%2Bdeb12u1?arch=arm64&distro=bookworm"
    assert said["metadata"]["timestamp"] == "2026-01-01T00:00:00Z"
    assert text == bill(made, PINS[::-1], [Own("skerry", "0.1.0", "c" * 64)], "d" * 64, 1_767_225_600)
