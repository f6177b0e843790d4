"""What really runs on a board and what it leaves behind, told by containerd and /proc and by no code of skerry.

Decides what counts as a leftover: a process, a namespace, a mount, a control group, a loop device or a bridge port
that outlives the power. Changes nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import cgroups
from .process import pids, start_time

if TYPE_CHECKING:
    from .device import Device

NAMESPACES = ("pid", "mnt", "net", "uts", "ipc", "cgroup")


@dataclass(frozen=True)
class Container:
    """A running container; `pid` is on this machine, and with `started` (clock ticks) names one process for ever."""

    id: str
    name: str
    pod: str
    namespace: str
    pod_uid: str
    pid: int
    started: int
    sandbox: bool
    image: str

    @property
    def identity(self) -> tuple[str, int, int]:
        """Equal before and after means: the same container, never restarted."""
        return (self.id, self.pid, self.started)


@dataclass(frozen=True)
class Remains:
    """What a board had when its power was cut: the inodes of its namespaces, those of its containers included."""

    namespaces: frozenset[str] = field(default_factory=frozenset)


def containers(device: Device) -> list[Container]:
    """The running containers of containerd's namespace k8s.io, sandboxes included, by pod and name."""
    if not device.on:
        return []
    inner_to_outer = _inner_pids(device.cgroup)
    found = []
    for line in device.ctr("tasks", "list").splitlines()[1:]:
        container_id, inner, status = line.split()[:3]
        pid = inner_to_outer.get(int(inner), 0)
        started = start_time(pid) if pid else None
        info = _info(device, container_id)
        if status != "RUNNING" or started is None or info is None:
            continue  # ended while we looked
        labels: dict[str, str] = info.get("Labels") or {}
        found.append(
            Container(
                id=container_id,
                name=labels.get("io.kubernetes.container.name", ""),
                pod=labels.get("io.kubernetes.pod.name", ""),
                namespace=labels.get("io.kubernetes.pod.namespace", ""),
                pod_uid=labels.get("io.kubernetes.pod.uid", ""),
                pid=pid,
                started=started,
                sandbox=labels.get("io.cri-containerd.kind") == "sandbox",
                image=info.get("Image", ""),
            )
        )
    return sorted(found, key=lambda c: (c.namespace, c.pod, c.name, c.id))


def before_power_off(device: Device) -> Remains:
    found = {_namespace(pid, kind) for pid in _members(device.cgroup) for kind in NAMESPACES}
    outer = {_namespace(os.getpid(), kind) for kind in NAMESPACES}
    return Remains(frozenset(name for name in found if name) - frozenset(name for name in outer if name))


def leftovers(device: Device, remains: Remains) -> list[str]:
    """One line for each thing that is still there of a board that is off."""
    left = [f"control group {folder}" for folder in cgroups.folders(device.cgroup)]
    seen: set[str] = set()
    folder = str(device.folder)
    for pid in pids():
        for kind in NAMESPACES:
            name = _namespace(pid, kind)
            if name in remains.namespaces:
                left.append(f"process {pid} {_command(pid)!r} in {name}")
            if name and kind == "mnt" and name not in seen:
                seen.add(name)
                lines = _mounts(pid)
                left += [f"mount {m}" for m in lines if folder in m or _nsfs(m) in remains.namespaces]
    for file in Path("/sys/block").glob("loop*/loop/backing_file"):
        backing = _read(file).strip()
        if backing.startswith(folder):
            left.append(f"loop device {file.parent.parent.name} on {backing}")
    if device.site.ns.running and f" {device.port}@" in device.site.ns.run_ip("-o", "link"):
        left.append(f"bridge port {device.port}")
    return left


def _inner_pids(cgroup: str) -> dict[int, int]:
    """{pid as the board sees it: pid here} of all processes of the board."""
    found = {}
    for pid in _members(cgroup):
        for line in _read(Path(f"/proc/{pid}/status")).splitlines():
            if line.startswith("NSpid:"):
                numbers = [int(n) for n in line.split()[1:]]
                if len(numbers) > 1:
                    found[numbers[1]] = pid
    return found


def _members(cgroup: str) -> Iterator[int]:
    for pid in pids():
        text = _read(Path(f"/proc/{pid}/cgroup"))
        if any(line.endswith(f"/{cgroup}") or f"/{cgroup}/" in line for line in text.splitlines()):
            yield pid


def _info(device: Device, container_id: str) -> dict[str, Any] | None:
    text = device.ctr("containers", "info", container_id, check=False)
    return json.loads(text) if text else None


def _namespace(pid: int, kind: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")  # noqa: PTH115 - not a path
    except OSError:
        return ""


def _mounts(pid: int) -> list[str]:
    return _read(Path(f"/proc/{pid}/mountinfo")).splitlines()


def _nsfs(mount: str) -> str:
    """The namespace that a mount of type nsfs keeps alive, as readlink names it."""
    return mount.split(" ")[3] if " - nsfs " in mount else ""


def _command(pid: int) -> str:
    return _read(Path(f"/proc/{pid}/cmdline")).replace("\0", " ").strip()


def _read(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""
