"""What the board and its pods use: CPU and memory from control groups and /proc, as kubelet's /stats/summary says it.

Read when somebody asks and never else. The share of CPU needs two samples: what was read for an earlier question serves
if it is not too old, else two are read STATS_WINDOW_S[0] apart. A file that is missing leaves its figure out. Sources:
kernel cgroup-v1 and cgroup-v2 documentation, proc(5); Kubernetes stats/v1alpha1 types and cAdvisor for what a working
set is, and cri_stats_provider.go for a pod's network: its interfaces without lo, eth0 (CRI's name) ahead of them, and
nothing of a pod that is on the board's own network.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from skerry.limits import STATS_INTERFACES_MAX, STATS_WINDOW_S, STREAM_CHUNK_BYTES
from skerry.model.observed import ContainerSeen, ContainerState, PodSeen
from skerry.model.streams import Channel, CloseCode, Piece

Figures = Mapping[str, int]
Json = dict[str, Any]
LOOPBACK, POD_INTERFACE = "lo", "eth0"


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one control group, or of the board. None: not known."""

    cpu_ns: int | None = None  # since its start
    memory: Figures = field(default_factory=dict)  # kubelet's names to bytes, or to counts


@dataclass(frozen=True, slots=True)
class Sample:
    at: float  # monotonic seconds
    wall: float  # seconds since 1970
    node: Usage
    groups: Mapping[str, Usage]  # by id of the container or sandbox
    network: Json
    networks: Mapping[str, Json] = field(default_factory=dict)  # of pods, by the id of their sandbox


class Stats:
    """`pods`: what runs now. `cgroup_parent`: below which their control groups lie. `root`: of the file system.
    `proc`: where the processes in those groups are found by the numbers that they have here; if not set, below it."""

    def __init__(
        self,
        node: str,
        cgroup_parent: str,
        pods: Callable[[], Mapping[str, PodSeen]],
        root: Path = Path("/"),
        proc: Path | None = None,
    ) -> None:
        self._node, self._parent, self._pods, self._root = node, cgroup_parent.strip("/"), pods, root
        self._proc = proc or root / "proc"
        self._last: Sample | None = None

    async def open(self) -> Document:
        """The summary, once, on STDOUT."""
        shortest, longest = STATS_WINDOW_S
        before, now = self._last, time.monotonic()
        if before is None or now - before.at > longest:
            before = await self._sample()
        if time.monotonic() - before.at < shortest:
            await asyncio.sleep(before.at + shortest - time.monotonic())
        boxes = [box.id for pod in self._pods().values() for box in pod.sandboxes if box.ready]
        after = self._last = await self._sample(boxes)
        said = summary(self._node, boot_time(self._root), self._pods().values(), before, after)
        return Document(json.dumps(said, separators=(",", ":")).encode())

    async def _sample(self, boxes: Collection[str] = ()) -> Sample:
        return await asyncio.to_thread(sample, self._root, self._parent, boxes, self._proc)


class Document:
    """ports.Duplex of bytes that are all there."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def read(self) -> Piece | None:
        piece, self._data = self._data[:STREAM_CHUNK_BYTES], self._data[STREAM_CHUNK_BYTES:]
        return Piece(Channel.STDOUT, piece) if piece else None

    async def write(self, piece: Piece) -> None:
        """Nothing is asked for."""

    async def close(self, code: CloseCode = CloseCode.DONE, detail: str = "") -> None:
        self._data = b""


# --- the document: pure -----------------------------------------------------------------------------------------------


def summary(node: str, booted: float, pods: Iterable[PodSeen], before: Sample, after: Sample) -> Json:
    """stats/v1alpha1 Summary. Pods and containers that have no control group any more are left out."""
    told = [one for pod in pods if (one := _pod(pod, before, after)) is not None]
    whole = _figures(before.node, after.node, before, after)
    network = {"network": after.network} if after.network else {}
    return {
        "node": {"nodeName": node, "startTime": _time(booted), **whole, **network},
        "pods": told,
    }


def _pod(pod: PodSeen, before: Sample, after: Sample) -> Json | None:
    box = next((one for one in pod.sandboxes if one.ready), None)
    if box is None:
        return None
    running = [c for c in pod.containers if c.state is ContainerState.RUNNING and c.id in after.groups]
    ids = [box.id, *(c.id for c in running)]
    network = {"network": after.networks[box.id]} if box.id in after.networks else {}
    return {
        "podRef": {"name": box.name, "namespace": box.namespace, "uid": pod.uid},
        "startTime": _time(box.created_ns / 1e9),
        "containers": [_container(c, before, after) for c in running],
        **_figures(_sum(before, ids), _sum(after, ids), before, after),
        **network,
    }


def _container(c: ContainerSeen, before: Sample, after: Sample) -> Json:
    of_it = _figures(before.groups.get(c.id, Usage()), after.groups[c.id], before, after)
    return {"name": c.name, "startTime": _time(c.started_ns / 1e9), **of_it}


def _sum(at: Sample, ids: list[str]) -> Usage:
    parts = [at.groups[one] for one in ids if one in at.groups]
    cpu = [part.cpu_ns for part in parts if part.cpu_ns is not None]
    names = {name for part in parts for name in part.memory}
    return Usage(
        sum(cpu) if cpu and len(parts) == len(ids) else None,
        {name: sum(part.memory.get(name, 0) for part in parts) for name in sorted(names)},
    )


def _figures(before: Usage, after: Usage, first: Sample, second: Sample) -> Json:
    """kubelet's `cpu` and `memory`."""
    moment = _time(second.wall)
    out: Json = {}
    if after.cpu_ns is not None:
        cpu: Json = {"time": moment, "usageCoreNanoSeconds": after.cpu_ns}
        if before.cpu_ns is not None and second.at > first.at and after.cpu_ns >= before.cpu_ns:
            cpu["usageNanoCores"] = int((after.cpu_ns - before.cpu_ns) / (second.at - first.at))
        out["cpu"] = cpu
    if after.memory:
        out["memory"] = {"time": moment, **after.memory}
    return out


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


# --- reading ----------------------------------------------------------------------------------------------------------


def sample(root: Path, parent: str, boxes: Collection[str] = (), proc: Path = Path("/proc")) -> Sample:
    """Everything below the parent's control group, by the ids in the names of the groups; the networks of `boxes`."""
    at, wall = time.monotonic(), time.time()
    groups = root / "sys/fs/cgroup"
    unified = (groups / "cgroup.controllers").exists()
    memory, cpu = (groups, groups) if unified else (groups / "memory", groups / "cpuacct")
    found: dict[str, Usage] = {}
    networks: dict[str, Json] = {}
    try:
        entries = sorted(entry.name for entry in (memory / parent).iterdir() if entry.is_dir())
    except OSError:
        entries = []
    for name in entries:
        inside = (cpu / parent / name, memory / parent / name)
        own_id = container_id(name)
        found[own_id] = usage_v2(inside[0]) if unified else usage_v1(*inside)
        if own_id in boxes and (of_pod := pod_network(inside[1], proc)):
            networks[own_id] = {"time": _time(wall), **of_pod}
    return Sample(at, wall, node_usage(root), found, network_usage(root), networks)


def container_id(group: str) -> str:
    """systemd's driver names it cri-containerd-ID.scope, the other one ID."""
    return group.removesuffix(".scope").rpartition("-")[2]


def usage_v2(group: Path) -> Usage:
    cpu, stat = _pairs(group / "cpu.stat"), _pairs(group / "memory.stat")
    used = _number(group / "memory.current")
    return Usage(
        cpu["usage_usec"] * 1000 if "usage_usec" in cpu else None,
        _memory(used, stat.get("inactive_file"), stat.get("anon"), stat.get("pgfault"), stat.get("pgmajfault")),
    )


def usage_v1(cpu: Path, memory: Path) -> Usage:
    stat, used = _pairs(memory / "memory.stat"), _number(memory / "memory.usage_in_bytes")
    names = ("total_inactive_file", "total_rss", "total_pgfault", "total_pgmajfault")
    return Usage(_number(cpu / "cpuacct.usage"), _memory(used, *(stat.get(name) for name in names)))


def node_usage(root: Path) -> Usage:
    """All that is neither idle nor waiting for a disk; memory that is not free, less what could be dropped at once."""
    info = {key.rstrip(":"): value for key, value in _pairs(root / "proc/meminfo").items()}
    words = _text(root / "proc/stat").partition("\n")[0].split()
    ticks = [int(word) for word in words[1:9] if word.isdigit()]
    cpu = None
    if len(ticks) == 8:
        user, nice, system, _idle, _iowait, irq, softirq, steal = ticks
        cpu = (user + nice + system + irq + softirq + steal) * (10**9 // os.sysconf("SC_CLK_TCK"))
    if "MemTotal" not in info or "MemFree" not in info:
        return Usage(cpu)
    kib = 1024
    used = (info["MemTotal"] - info["MemFree"]) * kib
    figures = dict(_memory(used, info.get("Inactive(file)", 0) * kib, info.get("AnonPages", 0) * kib, None, None))
    return Usage(cpu, {"availableBytes": info["MemTotal"] * kib - figures["workingSetBytes"], **figures})


def network_usage(root: Path) -> Json:
    """Of the interface with the default route."""
    rows = [line.split() for line in _text(root / "proc/net/route").splitlines()[1:]]
    name = next((row[0] for row in rows if len(row) > 1 and row[1] == "00000000"), "")
    for of_it in interfaces(_text(root / "proc/net/dev")):
        if of_it["name"] == name:
            return {"time": _time(time.time()), **of_it, "interfaces": [of_it]}
    return {}


def pod_network(group: Path, proc: Path) -> Json:
    """Of the namespace that the first process of a sandbox's control group is in; nothing if that is our own. Whether
    it is, the file itself tells: each namespace has one. /proc/PID/ns would ask for CAP_SYS_PTRACE."""
    pid = _text(group / "cgroup.procs").partition("\n")[0]
    file = proc / pid / "net/dev"
    try:
        if not pid.isdigit() or file.samefile(proc / "self/net/dev"):
            return {}
    except OSError:
        return {}
    found = [of_it for of_it in interfaces(_text(file)) if of_it["name"] != LOOPBACK][:STATS_INTERFACES_MAX]
    first = next((of_it for of_it in found if of_it["name"] == POD_INTERFACE), {"name": ""})
    return {**first, "interfaces": found} if found else {}


def interfaces(text: str) -> list[Json]:
    """proc_net_dev(5), /proc/PID/net/dev; the two lines ahead of them are none."""
    found: list[Json] = []
    for line in text.splitlines():
        name, colon, counts = line.rpartition(":")
        words = counts.split()
        if colon and len(words) >= 11 and all(word.isdigit() for word in words):
            of_it = {"name": name.strip(), "rxBytes": int(words[0]), "rxErrors": int(words[2])}
            found.append(of_it | {"txBytes": int(words[8]), "txErrors": int(words[10])})
    return found


def boot_time(root: Path) -> float:
    """Seconds since 1970; 0 if it is not told."""
    return float(_pairs(root / "proc/stat").get("btime", 0))


def _memory(used: int | None, inactive: int | None, rss: int | None, faults: int | None, major: int | None) -> Figures:
    if used is None:
        return {}
    out = {"usageBytes": used, "workingSetBytes": max(0, used - (inactive or 0))}
    more = {"rssBytes": rss, "pageFaults": faults, "majorPageFaults": major}
    return out | {name: value for name, value in more.items() if value is not None}


def _pairs(path: Path) -> dict[str, int]:
    """`name number …` on each line; other lines are left out."""
    words = (line.split(None, 2) for line in _text(path).splitlines())
    return {row[0]: int(row[1]) for row in words if len(row) > 1 and row[1].isdigit()}


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
