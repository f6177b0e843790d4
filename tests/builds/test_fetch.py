"""Fetch units: what is locked comes, with these bytes, or the error says which lock and which verb mends it.

pip runs for real, offline: this machine's package source is a folder that the test fills.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import pytest

from builds.build_places import NewPlace, Place, blobs, needs_sandbox
from crossbuild.declare import Fetch, Unit
from crossbuild.errors import DeclarationInvalid, FetchFailed
from crossbuild.fetch import _again, _flat, _tags
from crossbuild.limits import FETCH_RETRY_S
from crossbuild.locks import files_of, wanted

pytestmark = needs_sandbox

DECLARED = """
[workspace]
name = "libs"

[unit.wheels]
fetch = "wheels.toml"

[unit.list]
tools = ["debian:coreutils", "debian:dash"]
needs = { wheels = "libs:wheels" }
command = ["sh", "-c", "ls {needs.wheels} > list.txt"]
outputs = ["list.txt"]
"""
LOCK = 'from = "pip"\nwant = ["tide==1.0"]\nplatforms = ["any"]\npython = "3.11"\n'
NAME = "tide-1.0-py3-none-any.whl"


def wheel(content: str) -> bytes:
    with zipfile.ZipFile(made := io.BytesIO(), "w") as archive:
        archive.writestr("tide.py", content)
        archive.writestr("tide-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tide\nVersion: 1.0\n")
        archive.writestr("tide-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("tide-1.0.dist-info/RECORD", "")
    return made.getvalue()


@pytest.fixture
def here(at: NewPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A workspace with a locked wheel, and a package source that has it."""
    here, source = at("here"), tmp_path / "source"
    source.mkdir()
    (source / NAME).write_bytes(wheel("high = 1\n"))
    for name, value in (("PIP_NO_INDEX", "1"), ("PIP_FIND_LINKS", str(source)), ("PIP_CONFIG_FILE", "/dev/null")):
        monkeypatch.setenv(name, value)
    libs = here.root / "libs"
    libs.mkdir()
    (libs / "build.toml").write_text(DECLARED)
    (libs / "wheels.toml").write_text(LOCK)
    locked = here.run("lock", "libs:wheels", "--root", "libs")
    assert locked.code == 0, locked.said
    return here


def test_the_lock_names_the_file_and_its_bytes(here: Place, tmp_path: Path) -> None:
    text = (here.root / "libs/wheels.toml").read_text()
    assert text.startswith(LOCK)
    assert f'name = "{NAME}"' in text
    digest = hashlib.sha256((tmp_path / "source" / NAME).read_bytes()).hexdigest()
    assert f'sha256 = "{digest}"' in text
    again = here.run("lock", "libs:wheels", "--root", "libs")
    assert again.code == 0
    assert (here.root / "libs/wheels.toml").read_text() == text


def test_what_is_locked_comes_and_is_seen_by_name(here: Place) -> None:
    (here.cache / "cas" / blobs(here.cache, "cas").pop()).unlink()
    assert here.build("libs", "libs:list", "--out", "out").built == {"libs:list"}
    assert (here.root / "out/libs/list.txt").read_text() == f"{NAME}\n"


def test_nothing_is_fetched_for_a_key(here: Place, tmp_path: Path) -> None:
    """A filled store needs neither the wheel's bytes nor the source that has them."""
    assert here.build("libs", "libs:list").code == 0
    (tmp_path / "source" / NAME).unlink()
    for blob in (here.cache / "cas").iterdir():
        blob.unlink()
    assert here.build("libs", "libs:list").built == set()


@pytest.mark.parametrize("lost", ["gone", "changed"])
def test_a_version_that_left_the_source_names_the_lock_and_the_verb(here: Place, tmp_path: Path, lost: str) -> None:
    for blob in (here.cache / "cas").iterdir():
        blob.unlink()
    file = tmp_path / "source" / NAME
    file.unlink() if lost == "gone" else file.write_bytes(wheel("high = 2\n"))
    failed = here.build("libs", "libs:list")
    assert failed.code == 1
    assert "libs/wheels.toml" in failed.said
    assert "crossbuild lock libs:wheels" in failed.said
    assert not (here.cache / "ac").exists()


def unit(folder: Path, lock: str) -> Unit:
    (folder / "x.toml").write_text(lock)
    return Unit("libs:x", folder / "build.toml", (), {}, (), Fetch(folder / "x.toml"))


@pytest.mark.parametrize(
    ("lock", "said"),
    [
        ("", "from: is missing"),
        ('from = "npm"', "from: is missing"),
        ('from = "pip"\nhost = "x"', "host: unknown key"),
        ('from = "debian"\nsuite = "bookworm"', "architecture: is missing or odd"),
        ('from = "pip"\n[[file]]\nname = "a"', "Run: crossbuild lock libs:x"),
        ('from = "pip"\n[[file]]\nname = "../a"\nwant = "a==1"\nsha256 = "00"', "an odd name or digest"),
    ],
)
def test_a_lock_that_cannot_be_names_file_key_and_cure(tmp_path: Path, lock: str, said: str) -> None:
    with pytest.raises(DeclarationInvalid) as refused:
        files_of(unit(tmp_path, lock))
    assert said in str(refused.value)
    assert str(tmp_path) in str(refused.value)


def test_what_a_requirements_file_wants_is_taken_with_its_digests(tmp_path: Path) -> None:
    one, two = "1" * 64, "2" * 64
    lines = ["# made", "a==1.0 \\", f"    --hash=sha256:{one} \\", f"    --hash=sha256:{two}"]
    lines += ["b==2 ; x < '3' \\", f"    --hash=sha256:{one}", ""]
    (tmp_path / "r.txt").write_text("\n".join(lines))
    x = unit(tmp_path, 'from = "pip"\nwant = "r.txt"')
    assert wanted(x, {"want": "r.txt"}) == {"a==1.0": (one, two), "b==2": (one,)}
    assert wanted(x, {"want": "r.txt", "only": ["b"]}) == {"b==2": (one,)}
    assert wanted(x, {"want": "r.txt", "without": ["b"]}) == {"a==1.0": (one, two)}
    with pytest.raises(DeclarationInvalid, match=r"x\.toml: without: c is not in r\.txt\. Is it spelled as there"):
        wanted(x, {"want": "r.txt", "without": ["c"]})


def test_a_board_takes_wheels_of_every_older_glibc() -> None:
    tags = _tags("manylinux_2_18_armv7l")
    assert (tags[:2], "manylinux2014_armv7l" in tags, len(tags)) == (
        ["manylinux_2_18_armv7l", "manylinux_2_17_armv7l"], True, 17,
    )  # fmt: skip
    assert _tags("any") == ["any"]


def test_what_came_is_found_by_what_was_wanted() -> None:
    assert _flat("uvloop-0.23.0-cp311.whl").startswith(_flat("uvloop==0.23.0") + "-")
    assert _flat("paho_mqtt-2.2.0.tar.gz").startswith(_flat("Paho.MQTT==2.2.0") + "-")
    assert _flat("zlib1g_1%3a1.2.13.dfsg-1_armhf.deb").startswith(_flat("zlib1g=1:1.2.13.dfsg-1") + "-")


def test_a_source_that_fails_is_asked_again_after_growing_jittered_whiles(tmp_path: Path) -> None:
    waited: list[float] = []
    with pytest.raises(FetchFailed, match="crossbuild lock libs:x"):
        _again(unit(tmp_path, 'from = "pip"'), ["false"], tmp_path, 3, waited.append)
    assert len(waited) == 2
    assert 0.5 * FETCH_RETRY_S <= waited[0] <= 1.5 * FETCH_RETRY_S
    assert FETCH_RETRY_S <= waited[1] <= 3 * FETCH_RETRY_S
