"""ports.Host: a simulated board. Volumes of ConfigMaps and Secrets lie in memory, emptyDirs on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sim.world import World
from skerry.errors import VolumeFailed
from skerry.model.pod import EmptyDir
from skerry.model.report import NodeFacts
from skerry.ports import FilesVolume, ResolvedVolume

MOUNT_S = (0.001, 0.02)
WATCHDOG_S = 90.0  # as in skerry.service


class Board:
    """What outlives the agent: disk and memory of one device."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.boots = 1
        self.memory_cgroup = True
        self.failing = 0.0  # part of the mounts that fail
        self.on_disk: dict[str, dict[str, ResolvedVolume]] = {}
        self.in_memory: dict[str, dict[str, ResolvedVolume]] = {}

    @property
    def boot_id(self) -> str:
        return f"{self.name}-boot-{self.boots}"

    def power_cut(self) -> None:
        self.in_memory.clear()
        self.boots += 1


class SimHost:
    """ports.Host."""

    def __init__(self, board: Board, manager: Callable[[str], None] = lambda state: None) -> None:
        self._board, self._manager = board, manager
        self._random = board.world.rng(f"host/{board.name}/{board.world.now}")
        self.notes: list[str] = []

    def facts(self) -> NodeFacts:
        return NodeFacts(
            cpu_millis=4000, memory_bytes=1 << 29, pods_max=250, architecture="arm64", operating_system="linux",
            os_image="simulated", kernel="6.6", boot_id=self._board.boot_id, machine_id=self._board.name, runtime="",
            agent="", addresses=("192.0.2.9",),
        )  # fmt: skip

    async def mount_volume(self, pod_uid: str, volume: ResolvedVolume) -> str:
        await asyncio.sleep(self._random.uniform(*MOUNT_S))
        if self._random.random() < self._board.failing:
            raise VolumeFailed(volume.name, "simulated failure")
        memory = isinstance(volume, FilesVolume) or (isinstance(volume, EmptyDir) and volume.memory)
        where = self._board.in_memory if memory else self._board.on_disk
        where.setdefault(pod_uid, {})[volume.name] = volume
        return f"/volumes/{pod_uid}/{volume.name}"

    async def remove_volumes(self, pod_uid: str) -> None:
        await asyncio.sleep(self._random.uniform(*MOUNT_S))
        if self._random.random() < self._board.failing:
            raise VolumeFailed("", "simulated failure")
        self._board.in_memory.pop(pod_uid, None)
        self._board.on_disk.pop(pod_uid, None)

    def volume_pods(self) -> set[str]:
        return set(self._board.in_memory) | set(self._board.on_disk)

    @property
    def memory_cgroup(self) -> bool:
        return self._board.memory_cgroup

    @property
    def watchdog_s(self) -> float:
        return WATCHDOG_S

    def notify(self, state: str) -> None:
        self.notes.append(state)
        self._manager(state)
