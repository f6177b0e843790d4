"""The store hands out nothing that it did not verify: poisoned entries are refused, named and built again."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest

from builds.build_places import NewPlace, Place, blobs, edit, needs_sandbox
from crossbuild.errors import EntryRefused
from crossbuild.gc import Kept, collect, survivors
from crossbuild.trees import pack, unpack

pytestmark = needs_sandbox


def filled(at: NewPlace, where: str = "here") -> Place:
    here = at(where)
    assert here.build("consumer", "consumer:list").code == 0
    shutil.rmtree(here.cache / "trees")  # what was unpacked already would not be read again
    return here


def blob_of(here: Place, key: str) -> Path:
    entry = json.loads((here.cache / "ac" / key).read_text())
    return here.cache / "cas" / str(entry["outputs"][0]["sha256"])


def test_poisoned_bytes_are_refused_named_and_built_again(at: NewPlace) -> None:
    here = filled(at)
    key = here.build("consumer", "agent:bundle").keys["native:hot@fast"]
    blob = blob_of(here, key)
    good = blob.read_bytes()
    blob.write_bytes(good.replace(b"hot.c", b"bad.c"))
    (here.root / "toy/agent/main.txt").write_text("another\n")  # so that the bundle needs the bytes
    done = here.build("consumer", "agent:bundle", "--out", "out")
    assert done.code == 0, done.said
    assert f"refused: {blob}: its bytes have another digest" in done.said
    assert done.built == {"native:hot@fast", "agent:bundle"}
    assert blob.read_bytes() == good
    assert (here.root / "out/agent/bundle/hot-fast.so").read_bytes() == good


@pytest.mark.parametrize("poison", ["outputs", "made_from", "text", "swapped"])
def test_a_poisoned_entry_is_refused_named_and_built_again(at: NewPlace, poison: str) -> None:
    here = filled(at)
    keys = here.build("consumer", "consumer:list").keys
    entry, other = (here.cache / "ac" / keys[unit] for unit in ("native:hot@fast", "native:hot@small"))
    said = json.loads(entry.read_text())
    if poison == "outputs":  # points at bytes that are there, of another unit
        said["outputs"][0]["sha256"] = blob_of(here, keys["native:hot@small"]).name
    elif poison == "made_from":
        said["made_from"]["argv"].append("-DPOISON")
    entry.write_text(other.read_text() if poison == "swapped" else "{" if poison == "text" else json.dumps(said))
    done = here.build("consumer", "consumer:list")
    assert done.code == 0, done.said
    assert f"refused: {entry}:" in done.said
    assert done.built == {"native:hot@fast"}
    assert here.build("consumer", "consumer:list").said.count("refused") == 0


def test_an_entry_without_the_secret_of_the_seal_is_refused(at: NewPlace, tmp_path: Path) -> None:
    """Damage needs no secret to be seen; a planted entry that is whole does: it is what --seal is for."""
    planted, here = filled(at), at("careful")
    secret = tmp_path / "secret"
    secret.write_bytes(b"of this team")
    words = ("agent:bundle", "--remote", str(planted.cache), "--seal", str(secret))
    done = here.build("consumer", *words)
    assert done.said.count("its seal is broken, or of another secret") == 3
    assert done.built == {"native:header", "native:hot@fast", "agent:bundle"}
    assert here.build("consumer", *words).built == set()


def test_bytes_that_were_evicted_are_made_again_and_must_be_the_same(at: NewPlace) -> None:
    here = filled(at)
    shutil.rmtree(here.cache / "cas")
    assert here.build("consumer", "consumer:list").built == set()  # keys alone need no bytes
    done = here.build("consumer", "agent:bundle", "--out", "out")
    assert done.code == 0, done.said
    assert (here.root / "out/agent/bundle/main.txt").read_text() == "A bundle.\n"


def test_a_command_that_does_not_repeat_is_named_when_its_bytes_are_made_again(at: NewPlace) -> None:
    here = at("here")
    edit(here.root / "toy/native/table.py", "n * n", "hash(object())")
    assert here.build("toy/native", "native:header").code == 0
    shutil.rmtree(here.cache / "cas")
    failed = here.build("toy/native", "native:header", "--out", "out")
    assert failed.code == 1
    assert "unit.header: does not repeat to the bit" in failed.said
    assert "crossbuild reproduce native:header" in failed.said


def test_an_interrupted_write_leaves_nothing_that_counts(at: NewPlace) -> None:
    here = filled(at)
    for kind in ("ac", "cas"):
        assert {len(name) for name in blobs(here.cache, kind)} == {64}
    assert list((here.cache / "tmp").iterdir()) == []


def test_gc_keeps_the_youngest_that_fit() -> None:
    def entry(key: str, used_at: float, *names: str) -> Kept:
        return Kept(key, used_at, frozenset(names))

    entries = [entry("old", 10.0, "a"), entry("mid", 50.0, "b", "shared"), entry("new", 90.0, "c", "shared")]
    sizes = {"a": 100, "b": 100, "c": 100, "shared": 100}
    assert survivors(entries, sizes, 100.0, 1000.0, 10_000) == {"old", "mid", "new"}
    assert survivors(entries, sizes, 100.0, 60.0, 10_000) == {"mid", "new"}
    assert survivors(entries, sizes, 100.0, 1000.0, 300) == {"mid", "new"}
    assert survivors(entries, sizes, 100.0, 1000.0, 200) == {"new"}


def test_gc_removes_entries_and_then_their_bytes(at: NewPlace) -> None:
    here = filled(at)
    (here.cache / "tools").unlink()  # shared with other tests
    later = 10_000_000_000.0
    assert collect(here.cache, later, later, 10**12) == (0, 0)
    files, size = collect(here.cache, later, 60.0, 10**12)
    assert files == 10
    assert size > 0
    assert blobs(here.cache, "ac") == blobs(here.cache, "cas") == set()


def test_a_tree_from_elsewhere_cannot_leave_its_folder(tmp_path: Path) -> None:
    def tar(*entries: tuple[str, str, bytes]) -> Path:
        with tarfile.open(tmp_path / "x.tar", "w") as made:
            for name, link, data in entries:
                info = tarfile.TarInfo(name)
                info.type, info.linkname, info.size = (tarfile.SYMTYPE if link else tarfile.REGTYPE), link, len(data)
                made.addfile(info, io.BytesIO(data))
        return tmp_path / "x.tar"

    for n, entries in enumerate(
        [
            [("../out", "", b"x")],
            [("/out", "", b"x")],
            [("link", str(tmp_path), b""), ("link/out", "", b"x")],
            [("a", "", b"x"), ("a", "", b"y")],
        ]
    ):
        with pytest.raises(EntryRefused):
            unpack(tar(*entries), tmp_path / f"into{n}")
    assert not (tmp_path / "out").exists()


def test_a_tree_is_the_same_bytes_whatever_made_it(tmp_path: Path) -> None:
    for name in ("one", "two"):
        folder = tmp_path / name
        (folder / "empty").mkdir(parents=True)
        for file in ("b", "a") if name == "one" else ("a", "b"):
            (folder / file).write_text(file)
            (folder / file).chmod(0o755 if file == "a" else 0o664 if name == "one" else 0o600)
        (folder / "link").symlink_to("/absolute/a")
        pack(folder, tmp_path / f"{name}.tar")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    unpack(tmp_path / "one.tar", tmp_path / "again")
    pack(tmp_path / "again", tmp_path / "again.tar")
    assert (tmp_path / "again.tar").read_bytes() == (tmp_path / "one.tar").read_bytes()
