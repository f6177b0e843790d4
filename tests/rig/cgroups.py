"""Where a board's control groups live: one subtree for each board, made and removed here, on cgroup v1, hybrid and v2.

Decides the folder in each mounted hierarchy and what a private view of them looks like. Knows nothing of boards,
containers or what runs in a group.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

REMOVE_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Hierarchy:
    """One mounted hierarchy: `options` selects it in a private mount, new subtrees are made in `home`."""

    options: str
    mountpoint: Path
    home: Path
    v2: bool = False


def hierarchies() -> list[Hierarchy]:
    """The hierarchies of this machine (cgroups(7)); in hybrid mode only those of v1.

    A v1 subtree is made below this process's own group, so that whoever owns this process still sees all of it. On
    v2 that is forbidden (a group with processes cannot hand controllers down), so it is made at the top. RIG_CGROUP=v2
    takes v2 on a hybrid machine too (with the few controllers that are left there), to try that path.
    """
    mounts = _mounts()
    own = _own_paths()
    v2 = [Hierarchy("", point, point, v2=True) for kind, _, point, _ in mounts if kind == "cgroup2"][:1]
    if os.environ.get("RIG_CGROUP") == "v2":
        return v2
    v1 = [
        Hierarchy(options, point, point / _below(own.get(_key(options), "/"), root))
        for kind, options, point, root in mounts
        if kind == "cgroup"
    ]
    return v1 or v2


def make(path: str) -> list[Path]:
    """Make the group `path` (relative) in every hierarchy and hand its controllers down; return the folders."""
    folders = []
    for tree in hierarchies():
        folder = tree.home
        for part in Path(path).parts:
            if tree.v2:
                _hand_down(folder)
            folder /= part
            folder.mkdir(exist_ok=True)
            _copy_cpuset(folder)
        folders.append(folder)
    return folders


def hand_down(path: str) -> None:
    """On v2: let the groups below `path` use its controllers. `path` itself must hold no process."""
    for tree in hierarchies():
        if tree.v2:
            _hand_down(tree.home / path)


def enter(pid: int, path: str) -> None:
    """Move a process into the group `path` of every hierarchy."""
    for file in procs_files(path):
        file.write_text(str(pid))


def procs_files(path: str) -> list[Path]:
    return [tree.home / path / "cgroup.procs" for tree in hierarchies()]


def processes(path: str) -> set[int]:
    """The processes in the group `path` and below it, in any hierarchy."""
    pids: set[int] = set()
    for tree in hierarchies():
        for folder, _, _ in os.walk(tree.home / path):
            try:
                pids.update(int(line) for line in (Path(folder) / "cgroup.procs").read_text().split())
            except (FileNotFoundError, OSError):
                continue  # a group that ended while we walked
    return pids


def folders(path: str) -> list[Path]:
    """The folders of the group `path` that exist."""
    return [folder for tree in hierarchies() if (folder := tree.home / path).is_dir()]


def remove(path: str) -> list[Path]:
    """Remove the group `path` and all below it; the kernel may need a moment. Return what could not be removed."""
    deadline = time.monotonic() + REMOVE_TIMEOUT_S
    while True:
        for top in folders(path):
            for folder, _, _ in os.walk(top, topdown=False):
                try:
                    os.rmdir(folder)  # noqa: PTH106 - cgroupfs has no files to unlink, only folders
                except OSError:
                    continue
        left = folders(path)
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.01)


def mount_script() -> str:
    """Shell lines that give a new mount and cgroup namespace its own view of /sys/fs/cgroup.

    The unified hierarchy of hybrid mode is left out: crun refuses to run when a controller is left there.
    """
    trees = hierarchies()
    if trees and trees[0].v2:
        return "mount -t cgroup2 cgroup2 /sys/fs/cgroup\n"
    lines = ["mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup"]
    for tree in trees:
        point = f"/sys/fs/cgroup/{tree.mountpoint.name}"
        options = f"none,{tree.options}" if tree.options.startswith("name=") else tree.options
        lines.append(f"mkdir {point} && mount -t cgroup -o {options} cgroup {point}")
    return "\n".join(lines) + "\n"


def _mounts() -> list[tuple[str, str, Path, str]]:
    """(filesystem type, hierarchy options, mount point, root within the hierarchy), the first mount of each."""
    found: dict[str, tuple[str, str, Path, str]] = {}
    generic = {"rw", "ro", "xattr", "clone_children", "noprefix", "nsdelegate", "memory_recursiveprot"}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = line.split(" - ")
        kind, _, super_options = right.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            root, point = left.split(" ")[3:5]
            keys = [o for o in super_options.split(",") if o not in generic and not o.startswith("release_agent")]
            options = ",".join(keys) if kind == "cgroup" else ""
            found.setdefault(f"{kind}:{options}", (kind, options, Path(point), root))
    return list(found.values())


def _own_paths() -> dict[str, str]:
    """/proc/self/cgroup as {hierarchy key: path}."""
    lines = (line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines())
    return {_key(controllers): path for _, controllers, path in lines}


def _key(controllers: str) -> str:
    return ",".join(sorted(controllers.split(",")))


def _below(path: str, root: str) -> str:
    """`path` relative to `root`, the part of the hierarchy that is mounted; the mount itself when it is not below."""
    path, root = path.strip("/"), root.strip("/")
    if root and path != root and not path.startswith(root + "/"):
        return ""
    return path[len(root) :].strip("/")


def _hand_down(folder: Path) -> None:
    # Below the true root (which has no cgroup.type) a group with processes could hand down some controllers only, and
    # its children would be threaded: no process of its own could enter them (EOPNOTSUPP).
    if (folder / "cgroup.type").exists() and (folder / "cgroup.procs").read_text():
        return
    control = folder / "cgroup.subtree_control"
    have = set(control.read_text().split())
    for controller in (folder / "cgroup.controllers").read_text().split():
        if controller not in have:
            try:
                control.write_text(f"+{controller}")
            except OSError:
                continue  # a controller that cannot be had below a threaded or busy group: do without it


def _copy_cpuset(folder: Path) -> None:
    """A new v1 cpuset is empty and takes no process until it has cpus and mems."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        file = folder / name
        if file.exists() and not (folder / "cgroup.controllers").exists() and not file.read_text().strip():
            file.write_text((folder.parent / name).read_text())
