"""The folder on disk: what is read, when a change is told, and YAML as Kubernetes reads it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

import skerry
from skerry.errors import FolderFailed, Malformed
from skerry.limits import LOCAL_FILE_BYTES_MAX, LOCAL_FILES_MAX, LOCAL_SETTLE_S
from skerry.ports import ManifestFile
from skerry.world import manifests
from skerry.world.manifests import ManifestFolder, parse_json, parse_yaml

SOON_S = 20.0


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncIterator[ManifestFolder]:
    made = ManifestFolder(tmp_path / "etc" / "manifests")
    yield made
    made.close()


def here(tmp_path: Path) -> Path:
    path = tmp_path / "etc" / "manifests"
    path.mkdir(parents=True, exist_ok=True)
    return path


async def names(folder: ManifestFolder) -> list[str]:
    return [f.name for f in await folder.read()]


async def test_manifests_are_read_in_order_and_the_rest_is_none(folder: ManifestFolder, tmp_path: Path) -> None:
    for name in ("b.yaml", "a.json", "c.yml", ".hidden.yaml", "x.yaml~", "README", "d.yaml.swp"):
        (here(tmp_path) / name).write_text(name)
    assert [(f.name, f.data) for f in await folder.read()] == [(n, n.encode()) for n in ("a.json", "b.yaml", "c.yml")]


async def test_no_folder_holds_no_manifest(folder: ManifestFolder) -> None:
    assert await folder.read() == ()


async def test_what_cannot_be_read_is_told_and_holds_up_nobody(folder: ManifestFolder, tmp_path: Path) -> None:
    os.mkfifo(here(tmp_path) / "fifo.yaml")
    (here(tmp_path) / "folder.yaml").mkdir()
    (here(tmp_path) / "gone.yaml").symlink_to("nowhere")
    (here(tmp_path) / "large.yaml").write_bytes(b"#" * (LOCAL_FILE_BYTES_MAX + 1))
    (here(tmp_path) / "ok.yaml").write_text("a: 1")
    said = {f.name: f.problem for f in await folder.read()}
    assert said["fifo.yaml"] == said["folder.yaml"] == "is not a regular file"
    assert said["gone.yaml"] == "No such file or directory"
    assert "LOCAL_FILE_BYTES_MAX" in said["large.yaml"]
    assert said["ok.yaml"] == ""


async def test_beyond_the_bound_the_first_by_name_are_read(folder: ManifestFolder, tmp_path: Path) -> None:
    for n in range(LOCAL_FILES_MAX + 3):
        (here(tmp_path) / f"{n:03}.json").write_text("{}")
    files = await folder.read()
    assert len([f for f in files if not f.problem]) == LOCAL_FILES_MAX
    assert ["LOCAL_FILES_MAX" in f.problem for f in files if f.problem] == [True]


async def test_a_folder_that_is_a_file_is_told(folder: ManifestFolder, tmp_path: Path) -> None:
    here(tmp_path).rmdir()
    (tmp_path / "etc" / "manifests").write_text("no folder")
    with pytest.raises(FolderFailed, match="Not a directory"):
        await folder.read()


@pytest.mark.parametrize("there", [True, False])
async def test_a_new_file_a_changed_one_and_a_removed_one_are_told(
    folder: ManifestFolder, tmp_path: Path, there: bool
) -> None:
    """Also where the folder, and the one above it, come only later."""
    if there:
        here(tmp_path)
    assert await folder.read() == ()
    waiting = asyncio.ensure_future(folder.changed())
    await asyncio.sleep(0.05)
    (here(tmp_path) / "a.json").write_text("{}")
    await asyncio.wait_for(waiting, SOON_S)
    while not await names(folder):  # the folder alone was a change, too
        await asyncio.wait_for(folder.changed(), SOON_S)
    for text in ("[]", ""):
        waiting = asyncio.ensure_future(folder.changed())
        await asyncio.sleep(0.05)
        if text:
            (here(tmp_path) / "a.json").write_text(text)
        else:
            (here(tmp_path) / "a.json").unlink()
        await asyncio.wait_for(waiting, SOON_S)
        await folder.read()
    assert await names(folder) == []


async def test_another_folder_in_its_place_is_told(folder: ManifestFolder, tmp_path: Path) -> None:
    here(tmp_path)
    other = tmp_path / "etc" / "next"
    other.mkdir()
    (other / "b.json").write_text("{}")
    assert await names(folder) == []
    waiting = asyncio.ensure_future(folder.changed())
    await asyncio.sleep(0.05)
    here(tmp_path).rename(tmp_path / "etc" / "old")
    other.rename(tmp_path / "etc" / "manifests")
    await asyncio.wait_for(waiting, SOON_S)
    assert await names(folder) == ["b.json"]


async def test_a_file_is_not_told_while_somebody_writes_it(folder: ManifestFolder, tmp_path: Path) -> None:
    here(tmp_path)
    await folder.read()
    waiting = asyncio.ensure_future(folder.changed())
    with (here(tmp_path) / "slow.yaml").open("w") as file:
        file.write("half")
        file.flush()
        await asyncio.sleep(3 * LOCAL_SETTLE_S)
        assert not waiting.done()
        file.write(" and the rest")
    await asyncio.wait_for(waiting, SOON_S)
    assert [f.data for f in await folder.read()] == [b"half and the rest"]


async def test_a_writer_that_never_ends_is_not_waited_for_for_ever(
    folder: ManifestFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "LOCAL_WRITING_S", 1.0)
    here(tmp_path)
    await folder.read()
    with (here(tmp_path) / "held.yaml").open("w") as file:
        file.write("text")
        file.flush()
        await asyncio.wait_for(folder.changed(), SOON_S)


# --- the two languages ------------------------------------------------------------------------------------------------


async def test_a_file_is_parsed_as_its_name_says(folder: ManifestFolder) -> None:
    assert await folder.parse(ManifestFile("a.json", b'{"a": 1.50}')) == ({"a": "1.50"},)
    assert await folder.parse(ManifestFile("a.yml", b"a: 1.50\n---\n# nothing\n---\nb: 2")) == ({"a": "1.50"}, {"b": 2})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 2024-01-31", "2024-01-31"),
        ("a: 22:22", "22:22"),
        ("a: 1e3", "1e3"),
        ("a: .inf", ".inf"),
        ("a: yes", True),
        ("a: off", False),
        ("a: ~", None),
        ("a: 0644", 0o644),
        ("a: 0o644", 0o644),
        ("a: 0x1F", 31),
        ("a: -12", -12),
        ("a: 08", "08"),
        ("a: '1'", "1"),
        ("a: &x {b: 1}", {"b": 1}),
        ("a: |\n  two\n  lines\n", "two\nlines\n"),
    ],
)
def test_yaml_is_read_as_kubernetes_reads_it(text: str, value: object) -> None:
    assert parse_yaml(text.encode()) == ({"a": value},)


def test_a_merge_key_may_be_overridden() -> None:
    assert parse_yaml(b"x: &x {a: 1, b: 2}\ny: {<<: *x, a: 3}") == ({"x": {"a": 1, "b": 2}, "y": {"a": 3, "b": 2}},)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff", b"a: [", b"a: *b", b"a: &a [*a]", b"a: !!python/name:os.system x", b"a: 1\na: 2", b"a: \x07",
        b"? [a]\n: b\n? {c: d}\n: e", b"a: !!int x", b"[" * 5_000, b"%YAML 9.9\n---\na", b"\ta: 1",
    ],
)  # fmt: skip
def test_what_is_no_yaml_is_malformed_on_one_line(data: bytes) -> None:
    with pytest.raises(Malformed) as why:
        parse_yaml(data)
    assert "\n" not in str(why.value)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"\xff", b'{"a": NaN}', b'{"a": 1, "a": 2}', b"[" * 100_000, b'{"a": ' + b"9" * 5_000 + b"}", b"{} {}"],
)
def test_what_is_no_json_is_malformed_on_one_line(data: bytes) -> None:
    with pytest.raises(Malformed) as why:
        parse_json(data)
    assert "\n" not in str(why.value)


def test_the_yaml_parser_is_not_loaded_before_it_is_needed() -> None:
    code = "import skerry.world.manifests, sys; print('yaml' in sys.modules, 'json' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == "False"


@pytest.mark.parametrize("there", [True, False])
def test_where_yaml_is_not_beside_skerry_debians_own_is_taken(tmp_path: Path, there: bool) -> None:
    """As the installed program runs: -I -S, so without any site-packages."""
    if there:
        (tmp_path / "yaml").symlink_to(Path(yaml.__file__).parent)
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "skerry").symlink_to(Path(skerry.__file__).parent)
    code = (
        f"import sys; sys.path.append({str(tmp_path / 'beside')!r}); from skerry.world import debian, manifests; "
        f"debian.PACKAGES = {str(tmp_path)!r}; print(manifests.parse_yaml(b'a: 1'))"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    said = done.stdout if there else done.stderr.splitlines()[-1]
    assert ("({'a': 1},)" if there else "YAML needs the package python3-yaml") in said, done.stderr


def test_json_is_yaml_too() -> None:
    value = {"a": [1, "two", None, True], "b": {"c": "d"}}
    assert parse_yaml(json.dumps(value).encode()) == parse_json(json.dumps(value).encode()) == (value,)
