"""A container's processes: finding one, what it has started, and ending all of it. Reads /proc.

Only processes in the container's control group are ever looked at, so that no other process of the board can be meant,
whatever number the runtime names. Each process of an exec is the leader of a session of its own (crun and runc both
call setsid), so what it started is told from the container's other processes even when its parent is gone. A daemon
that made itself a session and was left by its parent is not found, and is meant to stay.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    """`started`: clock ticks since the boot; with it a pid is never taken for a later one."""

    pid: int
    parent: int
    session: int
    started: int


def read_process(pid: int, proc: Path = PROC) -> Process | None:
    """proc(5), /proc/PID/stat. None for one that is gone or a zombie."""
    try:
        said = (proc / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    fields = said[said.rindex(b")") + 2 :].split()
    if fields[0] in (b"Z", b"X"):
        return None
    return Process(pid, int(fields[1]), int(fields[3]), int(fields[19]))


def locate(container_id: str, pid: int, proc: Path = PROC) -> Process | None:
    """The container's process that the runtime calls `pid`. The runtime may live in a pid namespace below this one."""
    if _holds(container_id, pid, proc):
        return read_process(pid, proc)
    found: list[tuple[int, int]] = []
    for own in _pids(proc):
        if _holds(container_id, own, proc):
            numbers = _numbers(own, proc)[:-1]  # the last is the container's own count
            found += [(numbers.index(pid), own)] if pid in numbers else []
    return read_process(min(found)[1], proc) if found else None


def family(container_id: str, leader: Process, proc: Path = PROC) -> list[Process]:
    """The leader's session and everything that descends from it, as far as they live."""
    inside = (read_process(pid, proc) for pid in _pids(proc) if _holds(container_id, pid, proc))
    alive = [one for one in inside if one is not None]
    found = {one.pid: one for one in alive if one == leader or one.session == leader.pid}
    grown = True
    while grown:
        new = {one.pid: one for one in alive if one.parent in found and one.pid not in found}
        found.update(new)
        grown = bool(new)
    return list(found.values())


def send(processes: Iterable[Process], signal: int) -> None:
    """To those that are still who they were."""
    for one in processes:
        now = read_process(one.pid)
        if now is not None and now.started == one.started:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(one.pid, signal)


# --- private ----------------------------------------------------------------------------------------------------------


def _pids(proc: Path) -> list[int]:
    return [int(entry.name) for entry in proc.iterdir() if entry.name.isdigit()]


def _holds(container_id: str, pid: int, proc: Path) -> bool:
    """cgroups(7): a container's control group is named by its id, whichever version or driver."""
    try:
        return container_id in (proc / str(pid) / "cgroup").read_text()
    except OSError:
        return False


def _numbers(pid: int, proc: Path) -> list[int]:
    """A process's number in each pid namespace that it is in, ours first."""
    try:
        said = (proc / str(pid) / "status").read_text()
    except OSError:
        return []
    line = next((one for one in said.splitlines() if one.startswith("NSpid:")), "NSpid:")
    return [int(word) for word in line.split()[1:]]
