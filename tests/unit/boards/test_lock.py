"""The lock file and the bill of materials."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crossbuild.declare import read_units
from crossbuild.locks import files_of, read_lock
from image.lock import Pinned, chosen, parsed, written
from image.manifest import board
from image.read import read_toml
from image.refusal import Refusal
from image.sbom import bill

from .test_manifest import GOOD, WHERE

PINS = (
    Pinned("crun", "1.8.1-1+deb12u1", "arm64", "a" * 64),
    Pinned("linux-image-6.1.0-1-arm64", "2:6.1.1-2~bpo1", "arm64", "b" * 64),
)
GOOD_FILE = {"name": PINS[0].file_name, "want": "crun=1.8.1-1+deb12u1", "sha256": "a" * 64}


def test_what_is_written_is_read_back_by_us_and_by_the_build_engine(tmp_path: Path) -> None:
    (tmp_path / "build.toml").write_text('[workspace]\nname = "x"\n[unit.debs]\nfetch = "debs.toml"\n')
    path = tmp_path / "debs.toml"
    path.write_text(written("arm64", "bookworm", reversed(PINS), ["backports"]))
    assert parsed("debs.toml", read_toml("debs.toml", path)) == PINS
    unit = read_units(tmp_path)["x:debs"]
    assert read_lock(unit)["pockets"] == ["backports"]
    assert [(f.name, f.want, f.sha256) for f in files_of(unit)] == [
        (pin.file_name, f"{pin.name}={pin.version}", pin.sha256) for pin in PINS
    ]


def test_apt_names_a_file_with_its_epoch() -> None:
    assert PINS[1].file_name == "linux-image-6.1.0-1-arm64_2%3a6.1.1-2~bpo1_arm64.deb"


@pytest.mark.parametrize("change", [{"sha256": "abc"}, {"name": "crun.deb"}, {"name": "../crun_1_arm64.deb"}])
def test_an_entry_that_pins_nothing_is_named(change: dict[str, str]) -> None:
    with pytest.raises(Refusal) as told:
        parsed("x.toml", {"file": [GOOD_FILE, GOOD_FILE | change]})
    assert (told.value.where, told.value.key) == ("x.toml", "file 1")


def test_a_package_that_is_not_locked_is_named() -> None:
    assert chosen("x.lock", PINS, ["crun"]) == PINS[:1]
    with pytest.raises(Refusal) as told:
        chosen("x.lock", PINS, ["cowsay"])
    assert (told.value.where, told.value.key) == ("x.lock", "cowsay")


def test_the_bill_lists_every_package_and_our_own_with_digests() -> None:
    made = board(WHERE, "acme/one", GOOD)
    debian = [
        {"Package": pin.name, "Version": pin.version, "Architecture": pin.arch, "SHA256": pin.sha256} for pin in PINS
    ]
    own = [{"Package": "skerry", "Version": "0.1.0", "Architecture": "arm64", "SHA256": "c" * 64}]
    text = bill(made, debian, own, "d" * 64, 1_767_225_600)
    said = json.loads(text)
    assert [c["name"] for c in said["components"]] == ["crun", "linux-image-6.1.0-1-arm64", "skerry"]
    assert [c["hashes"][0]["content"] for c in said["components"]] == ["a" * 64, "b" * 64, "c" * 64]
    assert said["components"][0]["purl"] == "pkg:deb/debian/crun@1.8.1-1%2Bdeb12u1?arch=arm64&distro=bookworm"
    assert said["metadata"]["timestamp"] == "2026-01-01T00:00:00Z"
    assert text == bill(made, debian[::-1], own, "d" * 64, 1_767_225_600)
