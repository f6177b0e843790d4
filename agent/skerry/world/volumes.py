"""The volume half of ports.Host: ConfigMaps and Secrets in tmpfs, emptyDirs, and checks of hostPaths.

Decides where a pod's volumes lie and how they change and go; knows nothing of objects or containers. Layout:

    MEMORY/files                  one tmpfs of a bounded size for the ConfigMap and Secret volumes of the whole device
    MEMORY/files/volumes/UID/V    such a volume: V/key -> ..data/key, V/..data -> ..2026_11_24_19_05_00.1f2e3d4c/
    MEMORY/files/next/UID/V       the same while it is written, out of the containers' reach
    MEMORY/files/sets/UID/V       what was written last: folder and digest
    MEMORY/pods/UID/V             an emptyDir with medium Memory, a tmpfs of its own size
    DISK/UID/V                    an emptyDir on disk, which lasts through a reboot

One tmpfs for the device, not for each pod: so its bound is one of the device's memory, and the start of a pod waits for
no mount. The exchange is kubelet's (pkg/volume/util/atomic_writer.go): readers see the old set or the new one, never a
mixture.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path

from skerry.errors import VolumeFailed
from skerry.limits import MOUNT_TIMEOUT_S, VOLUME_FILES_MAX, VOLUME_PATH_CHARS_MAX
from skerry.model.pod import EmptyDir, HostPath
from skerry.ports import FilesVolume, ResolvedVolume

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")  # of a volume or a pod uid, as one part of a path
_ESCAPED = re.compile(r"\\([0-7]{3})")  # proc(5), mountinfo: blanks and backslashes in octal
_DATA = "..data"


class Volumes:
    """Needs root for tmpfs; without it those volumes raise VolumeFailed and the others work.

    `disk` is a folder that lasts, `memory` one that a boot may empty. `files_bytes_max` bounds all ConfigMap and Secret
    volumes together, from the next boot on if they are mounted already; a refresh needs room for old and new.
    """

    def __init__(self, disk: Path, memory: Path, files_bytes_max: int) -> None:
        # mountinfo names real paths
        self._disk = Path(os.path.realpath(disk))
        self._files = Path(os.path.realpath(memory)) / "files"
        self._pods = Path(os.path.realpath(memory)) / "pods"
        self._files_bytes_max = files_bytes_max
        self._mounting = threading.Lock()

    async def mount_volume(self, pod_uid: str, volume: ResolvedVolume) -> str:
        """As ports.Host."""
        return await asyncio.to_thread(self._mount, pod_uid, volume)

    async def remove_volumes(self, pod_uid: str) -> None:
        """As ports.Host."""
        await asyncio.to_thread(self._remove, pod_uid)

    def volume_pods(self) -> set[str]:
        """As ports.Host. A pod that has nothing but hostPaths is not among them."""
        return {uid for folder in (self._files / "volumes", self._pods, self._disk) for uid in _pod_folders(folder)}

    # --- private, on a worker thread ----------------------------------------------------------------------------------

    def _mount(self, pod_uid: str, volume: ResolvedVolume) -> str:
        if not _NAME.fullmatch(pod_uid):
            raise VolumeFailed(volume.name[:80], f"the pod uid {pod_uid[:80]!r} cannot be a folder's name")
        if not _NAME.fullmatch(volume.name):
            raise VolumeFailed(volume.name[:80], "this name cannot be a folder's")
        try:
            match volume:
                case FilesVolume():
                    return str(self._write(pod_uid, volume))
                case EmptyDir():
                    return str(self._empty(pod_uid, volume))
                case HostPath():
                    return str(host_path(volume))
        except OSError as error:
            raise VolumeFailed(volume.name, f"{error.strerror} ({error.filename})") from error

    def _write(self, pod_uid: str, volume: FilesVolume) -> Path:
        payload = checked_payload(volume)
        self._tmpfs(volume.name, self._files, self._files_bytes_max, 0o700, f",nr_inodes={VOLUME_FILES_MAX}")
        try:
            return write_files(self._files, f"{pod_uid}/{volume.name}", payload)
        except OSError as error:
            _delete(self._files / "next" / pod_uid)
            if error.errno != errno.ENOSPC:
                raise
            bound = f"{self._files_bytes_max} bytes and {VOLUME_FILES_MAX} files"
            raise VolumeFailed(volume.name, f"ConfigMaps and Secrets have {bound} here, that is full") from error

    def _empty(self, pod_uid: str, volume: EmptyDir) -> Path:
        folder = (self._pods if volume.memory else self._disk) / pod_uid / volume.name
        _make_folder(folder.parent, 0o700)
        if volume.memory:
            self._tmpfs(volume.name, folder, volume.size_limit_bytes, 0o777)
        else:
            _make_folder(folder)
            folder.chmod(0o777)
        return folder

    def _tmpfs(self, volume: str, folder: Path, size_bytes: int, mode: int, options: str = "") -> None:
        """Mount one unless it is there already; never swapped to a disk where the kernel can promise that (6.4 and
        later, tmpfs(5)). Without a size the kernel's bound holds, half of the memory."""
        with self._mounting:
            _make_folder(folder)
            if os.path.ismount(folder):
                return
            options = f"nosuid,nodev,mode={mode:04o}{options}" + (f",size={size_bytes}" if size_bytes else "")
            problem = ""
            for more in (",noswap", ""):
                problem = _run("mount", "-t", "tmpfs", "-o", options + more, "tmpfs", str(folder))
                if not problem:
                    return
            raise VolumeFailed(volume, f"no tmpfs: {problem}")

    def _remove(self, pod_uid: str) -> None:
        if not _NAME.fullmatch(pod_uid):
            return  # it can have none
        files = [self._files / part / pod_uid for part in ("next", "volumes", "sets")]
        for folder in (*files, self._pods / pod_uid, self._disk / pod_uid):
            _unmount_below(folder, pod_uid)
            try:
                _delete(folder)
            except OSError as error:
                raise VolumeFailed(pod_uid, f"deleting {error.filename}: {error.strerror}") from error


# --- ConfigMaps and Secrets -------------------------------------------------------------------------------------------


def checked_payload(volume: FilesVolume) -> dict[str, tuple[bytes, int]]:
    """{path: (data, mode)}. Raises VolumeFailed for a path that leaves the volume, is reserved, or meets another."""
    payload: dict[str, tuple[bytes, int]] = {}
    for file in volume.files:
        parts = file.path.split("/")
        bad = "" in parts or "." in parts or ".." in parts or "\0" in file.path
        if bad or parts[0].startswith("..") or len(file.path) > VOLUME_PATH_CHARS_MAX:
            raise VolumeFailed(volume.name, f"the path {file.path[:80]!r} is not one inside the volume")
        if file.path in payload:
            raise VolumeFailed(volume.name, f"the path {file.path!r} is named twice")
        payload[file.path] = (file.data, file.mode)
    for path in payload:
        for end in (i for i, char in enumerate(path) if char == "/"):
            if path[:end] in payload:
                raise VolumeFailed(volume.name, f"{path[:end]!r} is a file and a folder")
    return payload


def write_files(files: Path, name: str, payload: Mapping[str, tuple[bytes, int]]) -> Path:
    """Exchange a volume's content at one blow; nothing is touched when it is the same. `name` is UID/V. Returns the
    volume's folder.

    A container may write into it, if it is mounted so: no path here goes through a link that it could have made.
    """
    volume, written = files / "volumes" / name, files / "sets" / name
    digest = _digest(payload)
    current = written.read_text().split() if written.exists() else []
    if current[1:] == [digest] and (volume / current[0]).is_dir() and _link(volume / _DATA) == current[0]:
        return volume
    _make_folder(volume.parent, 0o700)
    _make_folder(volume)
    following = files / "next" / name
    _delete(following)
    _write_tree(following, payload)
    stamp = time.strftime("..%Y_%m_%d_%H_%M_%S.", time.gmtime()) + secrets.token_hex(4)
    following.rename(volume / stamp)
    _point(volume, _DATA, stamp)
    tops = {path.partition("/")[0] for path in payload}
    for top in sorted(tops):
        if _link(volume / top) != f"{_DATA}/{top}":
            _point(volume, top, f"{_DATA}/{top}")
    with os.scandir(volume) as entries:
        for entry in list(entries):
            old_set = entry.name.startswith("..") and entry.name not in (_DATA, stamp)
            old_key = entry.is_symlink() and entry.name not in tops and not entry.name.startswith("..")
            if old_set or old_key:
                _delete(Path(entry.path))
    _make_folder(written.parent)
    written.write_text(f"{stamp} {digest}")
    return volume


def _digest(payload: Mapping[str, tuple[bytes, int]]) -> str:
    whole = sha256()
    for path, (data, mode) in sorted(payload.items()):
        whole.update(repr((path, mode, len(data))).encode())
        whole.update(data)
    return whole.hexdigest()


def _write_tree(folder: Path, payload: Mapping[str, tuple[bytes, int]]) -> None:
    _make_folder(folder)
    folder.chmod(0o755)
    for path, (data, mode) in payload.items():
        target = folder / path
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with target.open("xb") as file:
            os.fchmod(file.fileno(), mode & 0o777)
            file.write(data)


def _point(folder: Path, name: str, target: str) -> None:
    """Make `name` a link to `target`, in place of whatever it was."""
    new = folder / f"..{secrets.token_hex(8)}_tmp"
    new.symlink_to(target)
    if not stat.S_ISLNK(_mode(folder / name)):
        _delete(folder / name)
    new.replace(folder / name)


def _link(path: Path) -> str:
    """Where a link points, empty if it is none."""
    try:
        return str(path.readlink())
    except OSError:
        return ""


# --- hostPath ---------------------------------------------------------------------------------------------------------

_CHECKS: Mapping[str, Callable[[int], bool]] = {
    "Directory": stat.S_ISDIR,
    "DirectoryOrCreate": stat.S_ISDIR,
    "File": stat.S_ISREG,
    "FileOrCreate": stat.S_ISREG,
    "Socket": stat.S_ISSOCK,
    "CharDevice": stat.S_ISCHR,
    "BlockDevice": stat.S_ISBLK,
}


def host_path(volume: HostPath) -> Path:
    """Check it, or make it where the type says so (Kubernetes API reference, HostPathVolumeSource)."""
    path = Path(volume.path)
    if not path.is_absolute() or ".." in path.parts or "\0" in volume.path:
        raise VolumeFailed(volume.name, f"{volume.path[:80]!r} must be absolute and without ..")
    if not volume.type:
        return path
    check = _CHECKS.get(volume.type)
    if check is None:
        raise VolumeFailed(volume.name, f"the type {volume.type[:80]!r} is unknown")
    if not path.exists():
        if volume.type == "DirectoryOrCreate":
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
        elif volume.type == "FileOrCreate":
            path.touch(mode=0o644)
        else:
            raise VolumeFailed(volume.name, f"{path} does not exist")
    if not check(path.stat().st_mode):
        raise VolumeFailed(volume.name, f"{path} is not a {volume.type.removesuffix('OrCreate')}")
    return path


# --- the file system --------------------------------------------------------------------------------------------------


def _make_folder(folder: Path, mode: int = 0o755) -> None:
    folder.mkdir(mode=mode, parents=True, exist_ok=True)


def _pod_folders(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [e.name for e in entries if _NAME.fullmatch(e.name) and e.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def _delete(path: Path) -> None:
    """Delete what is there, a link as a link. rmtree works on descriptors and follows none."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISDIR(path.lstat().st_mode):
            shutil.rmtree(path)
        else:
            path.unlink()


def _mode(path: Path) -> int:
    try:
        return path.lstat().st_mode
    except FileNotFoundError:
        return 0


def _unmount_below(folder: Path, pod_uid: str) -> None:
    """Whatever is mounted there, the innermost first; nothing may be deleted through a mount that stays."""
    for mount in sorted(_mounts_below(folder), reverse=True):
        problem = _run("umount", "-l", mount)
        if problem and mount in _mounts_below(folder):
            raise VolumeFailed(Path(mount).name, f"unmounting failed: {problem}")
    left = _mounts_below(folder)
    if left:
        raise VolumeFailed(pod_uid, f"still mounted: {left[0]}")


def _mounts_below(folder: Path) -> list[str]:
    """Mount points at or below a folder, as often as they are mounted."""
    prefix = os.fsencode(folder) + b"/"
    found = []
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        point = _ESCAPED.sub(lambda m: chr(int(m[1], 8)), line.split(b" ")[4].decode("latin-1")).encode("latin-1")
        if (point + b"/").startswith(prefix):
            found.append(os.fsdecode(point))
    return found


def _run(*argv: str) -> str:
    """What is wrong, in one line; empty when all went well."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=MOUNT_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return " ".join(str(error).split())
    if done.returncode == 0:
        return ""
    return " ".join(done.stderr.split()) or f"{argv[0]} ended with {done.returncode}"
