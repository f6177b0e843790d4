"""Volumes on the real file system, with real tmpfs where the test is root."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry.errors import VolumeFailed
from skerry.limits import MIB
from skerry.model.pod import EmptyDir, HostPath
from skerry.ports import FilesVolume, VolumeFile
from skerry.world import volumes as world_volumes
from skerry.world.volumes import Volumes

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mount(2) needs root")
POD = "6f0c9a4e-0000-4000-8000-000000000001"


FILES_BYTES_MAX = 4 * MIB


def volumes_in(folder: Path) -> Volumes:
    return Volumes(folder / "disk", folder / "memory", FILES_BYTES_MAX)


def mounts(folder: Path) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line.split()[4].replace("\\040", " ").replace("\\134", "\\") for line in lines if str(folder) in line]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "pods"
    for mount in sorted(mounts(tmp_path), reverse=True):
        subprocess.run(["umount", "-l", mount], check=True)


def files(name: str = "settings", **content: str) -> FilesVolume:
    """Keys are paths with __ for / and _ for the dot."""
    named = {key.replace("__", "/").replace("_", "."): text for key, text in content.items()}
    return FilesVolume(name, tuple(VolumeFile(path, text.encode(), 0o640) for path, text in named.items()))


def path_of(path: str) -> FilesVolume:
    return FilesVolume("settings", (VolumeFile(path, b"x", 0o644),))


def content(volume: str) -> dict[str, str]:
    """What a container that reads everything below the mount would see, through the links."""
    found: dict[str, str] = {}
    for top in Path(volume).iterdir():
        if not top.name.startswith(".."):
            inside = [top] if top.is_file() else [p for p in top.rglob("*") if p.is_file()]
            found |= {str(p.relative_to(volume)): p.read_text() for p in inside}
    return found


def current(volume: str) -> str:
    return str((Path(volume) / "..data").readlink())


# --- ConfigMaps and Secrets -------------------------------------------------------------------------------------------


@needs_root
async def test_files_lie_in_a_tmpfs_with_their_modes(folder: Path) -> None:
    volumes = volumes_in(folder)
    path = await volumes.mount_volume(POD, files(a_conf="one", deep__b="two"))
    assert content(path) == {"a.conf": "one", "deep/b": "two"}
    assert (Path(path) / "a.conf").stat().st_mode & 0o7777 == 0o640
    assert mounts(folder) == [f"{folder}/memory/files"]
    assert volumes.volume_pods() == {POD}
    assert (folder / "memory/files").stat().st_mode & 0o777 == 0o700  # a Secret is nobody's but its pod's


@needs_root
async def test_they_are_never_swapped_where_the_kernel_can_promise_that(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tmpfs(5), since Linux 6.4; an older kernel refuses the option, and gets a tmpfs without it."""
    release = tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2])
    asked: list[str] = []

    def run(*argv: str) -> str:
        asked.append(argv[4] if "-o" in argv else "")
        return "bad option" if "noswap" in asked[-1] and old else real(*argv)

    real, old = world_volumes._run, False
    monkeypatch.setattr(world_volumes, "_run", run)
    await volumes_in(folder).mount_volume(POD, files(a="1"))
    said = next(line for line in Path("/proc/mounts").read_text().splitlines() if f"{folder}/memory/files" in line)
    assert ("noswap" in said) == (release >= (6, 4))
    old = True
    await volumes_in(folder / "older").mount_volume(POD, files(a="1"))
    assert "noswap" in asked[-2]
    assert "noswap" not in asked[-1]


@needs_root
async def test_the_volumes_of_all_pods_share_the_tmpfs(folder: Path) -> None:
    volumes = volumes_in(folder)
    one, two = await asyncio.gather(
        volumes.mount_volume(POD, files("one", a="1")), volumes.mount_volume("another", files("two", a="2"))
    )
    assert (content(one), content(two)) == ({"a": "1"}, {"a": "2"})
    assert len(mounts(folder)) == 1


@needs_root
async def test_the_same_content_touches_nothing(folder: Path) -> None:
    volumes = volumes_in(folder)
    path = await volumes.mount_volume(POD, files(a="1"))
    before = (current(path), Path(path).stat().st_mtime_ns)
    assert await volumes.mount_volume(POD, files(a="1")) == path
    assert await volumes_in(folder).mount_volume(POD, files(a="1")) == path  # after a restart of the agent
    assert (current(path), Path(path).stat().st_mtime_ns) == before


@needs_root
async def test_a_refresh_exchanges_all_keys_at_once(folder: Path) -> None:
    volumes = volumes_in(folder)
    path = await volumes.mount_volume(POD, files(a="1", b="1", old="1"))
    opened = (Path(path) / "a").open()
    torn = 0
    refreshing = asyncio.ensure_future(_refresh_often(volumes))
    while not refreshing.done():
        held = os.open(f"{path}/..data", os.O_RDONLY | os.O_DIRECTORY)
        try:
            torn += _read_at(held, "a") != _read_at(held, "b")
        except FileNotFoundError:  # the old set was deleted under us: kubelet's promise is no better
            pass
        finally:
            os.close(held)
        await asyncio.sleep(0)
    await refreshing
    assert torn == 0
    assert content(path) == {"a": "29", "b": "29", "new": "29"}
    assert opened.read() == "1"
    opened.close()
    sets = [p.name for p in Path(path).iterdir() if p.name.startswith("..") and p.name != "..data"]
    assert sets == [current(path)]


async def _refresh_often(volumes: Volumes) -> None:
    for n in range(30):
        await volumes.mount_volume(POD, files(a=f"{n}", b=f"{n}", new=f"{n}"))


def _read_at(folder: int, name: str) -> bytes:
    file = os.open(name, os.O_RDONLY, dir_fd=folder)
    try:
        return os.read(file, 100)
    finally:
        os.close(file)


@needs_root
@pytest.mark.parametrize(
    "path", ["", ".", "..", "../a", "a/../../b", "/etc/x", "a//b", "a/", "..data", "..2026/x", "a\0b"]
)
async def test_a_path_that_leaves_the_volume_is_refused(folder: Path, path: str) -> None:
    with pytest.raises(VolumeFailed):
        await volumes_in(folder).mount_volume(POD, path_of(path))
    assert mounts(folder) == []


@needs_root
async def test_paths_that_meet_are_refused(folder: Path) -> None:
    twice = FilesVolume("v", (VolumeFile("a", b"1", 0o644), VolumeFile("a", b"2", 0o644)))
    nested = FilesVolume("v", (VolumeFile("a", b"1", 0o644), VolumeFile("a/b", b"2", 0o644)))
    for volume in (twice, nested):
        with pytest.raises(VolumeFailed):
            await volumes_in(folder).mount_volume(POD, volume)


@needs_root
@pytest.mark.parametrize("uid", ["", ".", "..", "../x", "/x", "a/b", "-x"])
async def test_a_uid_or_name_that_is_a_path_is_refused(folder: Path, uid: str) -> None:
    volumes = volumes_in(folder)
    with pytest.raises(VolumeFailed):
        await volumes.mount_volume(uid, EmptyDir("v"))
    with pytest.raises(VolumeFailed):
        await volumes.mount_volume(POD, EmptyDir(uid))
    await volumes.remove_volumes(uid)


@needs_root
async def test_what_does_not_fit_is_refused_and_the_old_stays(folder: Path) -> None:
    volumes = volumes_in(folder)
    path = await volumes.mount_volume(POD, files(a="1"))
    large = FilesVolume("settings", (VolumeFile("a", b"x" * (FILES_BYTES_MAX + 1), 0o644),))
    with pytest.raises(VolumeFailed, match="settings"):
        await volumes.mount_volume(POD, large)
    assert content(path) == {"a": "1"}
    await volumes.mount_volume(POD, files(a="2"))  # the failed one has left no trace that takes room
    assert content(path) == {"a": "2"}


@needs_root
async def test_a_container_that_writes_into_its_volume_cannot_lead_a_refresh_out_of_it(folder: Path) -> None:
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "keep").write_text("host")
    volumes = volumes_in(folder)
    path = Path(await volumes.mount_volume(POD, files(a="1", deep__b="1")))
    data = path / "..data"
    data.unlink()
    data.symlink_to(outside)
    (path / "..old").symlink_to(outside)
    (path / "a").unlink()
    (path / "a").symlink_to(outside / "keep")
    await volumes.mount_volume(POD, files(a="2", deep__b="2"))
    assert content(str(path)) == {"a": "2", "deep/b": "2"}
    data.unlink()
    data.mkdir()
    await volumes.mount_volume(POD, files(a="3"))
    assert content(str(path)) == {"a": "3"}
    assert {p.name: p.read_text() for p in outside.iterdir()} == {"keep": "host"}


def test_without_the_right_to_mount_it_says_so() -> None:
    """In a process of its own, which gives up root once it has imported what may lie where only root can read."""
    story = """
import asyncio, os, subprocess, sys, concurrent.futures.thread
from pathlib import Path
from skerry.world.volumes import Volumes, FilesVolume, EmptyDir, VolumeFailed
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
volumes = Volumes(Path(sys.argv[1]) / "disk", Path(sys.argv[1]) / "memory", 1 << 20)
try:
    asyncio.run(volumes.mount_volume("uid", FilesVolume("settings", ())))
except VolumeFailed as error:
    print(error.volume, "|", error)
print(asyncio.run(volumes.mount_volume("uid", EmptyDir("scratch"))))
asyncio.run(volumes.remove_volumes("uid"))
print(volumes.volume_pods())
"""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        argv = [sys.executable, "-c", story, f"{folder}/pods"]
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
        said, scratch, pods = done.stdout.splitlines()
        assert said.startswith("settings | volume settings: no tmpfs: ")
        assert scratch == f"{folder}/pods/disk/uid/scratch"
        assert pods == "set()"


# --- emptyDir ---------------------------------------------------------------------------------------------------------


async def test_an_empty_dir_on_disk_keeps_its_content(folder: Path) -> None:
    path = Path(await volumes_in(folder).mount_volume(POD, EmptyDir("scratch")))
    assert path.stat().st_mode & 0o7777 == 0o777
    (path / "x").write_text("1")
    assert await volumes_in(folder).mount_volume(POD, EmptyDir("scratch")) == str(path)
    assert (path / "x").read_text() == "1"


@needs_root
async def test_an_empty_dir_in_memory_has_its_size(folder: Path) -> None:
    volumes = volumes_in(folder)
    path = Path(await volumes.mount_volume(POD, EmptyDir("scratch", memory=True, size_limit_bytes=1 * MIB)))
    assert await volumes.mount_volume(POD, EmptyDir("scratch", memory=True, size_limit_bytes=1 * MIB)) == str(path)
    assert mounts(folder) == [str(path)]
    with pytest.raises(OSError, match="No space"):
        (path / "x").write_bytes(b"x" * (1 * MIB + 1))


# --- hostPath ---------------------------------------------------------------------------------------------------------


async def test_host_paths_are_checked_by_type(tmp_path: Path) -> None:
    volumes = volumes_in(tmp_path / "pods")
    file = tmp_path / "file"
    file.touch()
    (tmp_path / "link").symlink_to(file)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "sock"))
    right = {
        "": [str(tmp_path), f"{tmp_path}/not-there"],
        "Directory": [str(tmp_path)],
        "File": [str(file), f"{tmp_path}/link"],
        "Socket": [f"{tmp_path}/sock"],
        "CharDevice": ["/dev/null"],
        "DirectoryOrCreate": [str(tmp_path), f"{tmp_path}/new/deep"],
        "FileOrCreate": [str(file), f"{tmp_path}/new/file"],
    }
    for kind, paths in right.items():
        for path in paths:
            assert await volumes.mount_volume(POD, HostPath("h", path, kind)) == path
    assert (tmp_path / "new/deep").is_dir()
    assert (tmp_path / "new/file").read_bytes() == b""
    assert not (tmp_path / "not-there").exists()
    wrong = {
        "Directory": [str(file), f"{tmp_path}/not-there"],
        "DirectoryOrCreate": [str(file)],
        "File": [str(tmp_path), "/dev/null", f"{tmp_path}/not-there"],
        "FileOrCreate": [str(tmp_path), f"{tmp_path}/no/parent"],
        "Socket": [str(file)],
        "CharDevice": [str(file)],
        "BlockDevice": ["/dev/null"],
        "Nonsense": [str(file)],
        "": ["relative", "/a/../b", ""],
    }
    for kind, paths in wrong.items():
        for path in paths:
            with pytest.raises(VolumeFailed):
                await volumes.mount_volume(POD, HostPath("h", path, kind))
    assert volumes.volume_pods() == set()


# --- removal ----------------------------------------------------------------------------------------------------------


@needs_root
async def test_removal_leaves_nothing_and_touches_nothing_outside(folder: Path) -> None:
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "keep").write_text("host")
    volumes = volumes_in(folder)
    await volumes.mount_volume(POD, HostPath("h", str(outside), "Directory"))
    await volumes.mount_volume(POD, files(a="secret"))
    await volumes.mount_volume(POD, EmptyDir("memory", memory=True, size_limit_bytes=1 * MIB))
    scratch = Path(await volumes.mount_volume(POD, EmptyDir("scratch")))
    (scratch / "way-out").symlink_to(outside)
    (scratch / "sub").mkdir()
    subprocess.run(["mount", "--bind", str(outside), str(scratch / "sub")], check=True)  # as a hostPath inside one
    await volumes.mount_volume("another", files(a="1"))
    await volumes.remove_volumes(POD)
    assert mounts(folder) == [f"{folder}/memory/files"]
    assert volumes.volume_pods() == {"another"}
    assert (outside / "keep").read_text() == "host"
    await volumes.remove_volumes(POD)
    await volumes.remove_volumes("never-there")


@needs_root
async def test_a_removal_does_not_wait_for_who_still_uses_it(folder: Path) -> None:
    volumes = volumes_in(folder)
    path = await volumes.mount_volume(POD, files(a="1"))
    scratch = await volumes.mount_volume(POD, EmptyDir("memory", memory=True, size_limit_bytes=1 * MIB))
    users = [subprocess.Popen(["sleep", "100"], cwd=used) for used in (path, scratch)]
    await volumes.remove_volumes(POD)
    for user in users:
        user.kill()
        user.wait()
    assert mounts(folder) == [f"{folder}/memory/files"]
    assert volumes.volume_pods() == set()


@needs_root
async def test_after_a_reboot_the_tmpfs_is_made_again_and_the_disk_is_as_it_was(folder: Path) -> None:
    volumes = volumes_in(folder)
    path = await volumes.mount_volume(POD, files(a="1"))
    scratch = Path(await volumes.mount_volume(POD, EmptyDir("scratch")))
    (scratch / "x").write_text("1")
    for mount in mounts(folder):
        subprocess.run(["umount", mount], check=True)
    assert not Path(path).exists()
    after = volumes_in(folder)
    assert after.volume_pods() == {POD}
    assert await after.mount_volume(POD, files(a="1")) == path
    assert content(path) == {"a": "1"}
    assert (scratch / "x").read_text() == "1"


@needs_root
@pytest.mark.usefixtures("folder")
async def test_a_folder_whose_name_has_blanks_and_links(tmp_path: Path) -> None:
    real = tmp_path / "a b\\c"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    volumes = volumes_in(tmp_path / "link")
    await volumes.mount_volume(POD, files(a="1"))
    await volumes.remove_volumes(POD)
    await volumes.mount_volume(POD, EmptyDir("memory", memory=True, size_limit_bytes=1 * MIB))
    assert len(mounts(tmp_path)) == 2
    await volumes.remove_volumes(POD)
    assert volumes.volume_pods() == set()
    assert len(mounts(tmp_path)) == 1
    assert list((real / "memory/pods").iterdir()) == []
