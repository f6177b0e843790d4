"""The board behind ports.Host: facts from facts.py, volumes from volumes.py, the service manager from notify.py."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from skerry.model.report import NodeFacts
from skerry.ports import ResolvedVolume
from skerry.world.facts import memory_cgroup, node_facts
from skerry.world.notify import Supervisor


class Volumes(Protocol):
    """The half of ports.Host that keeps pods' files."""

    async def mount_volume(self, pod_uid: str, volume: ResolvedVolume) -> str: ...

    async def remove_volumes(self, pod_uid: str) -> None: ...

    def volume_pods(self) -> set[str]: ...


class Host:
    """ports.Host."""

    def __init__(self, volumes: Volumes, *, root: Path = Path("/"), manager: Supervisor | None = None) -> None:
        """`manager` is the one of the environment if not given."""
        self._volumes, self._root = volumes, root
        self._memory_cgroup = memory_cgroup(root)
        self._manager = Supervisor.of_environment() if manager is None else manager

    def facts(self) -> NodeFacts:
        return node_facts(self._root)

    async def mount_volume(self, pod_uid: str, volume: ResolvedVolume) -> str:
        return await self._volumes.mount_volume(pod_uid, volume)

    async def remove_volumes(self, pod_uid: str) -> None:
        await self._volumes.remove_volumes(pod_uid)

    def volume_pods(self) -> set[str]:
        return self._volumes.volume_pods()

    @property
    def memory_cgroup(self) -> bool:
        return self._memory_cgroup

    @property
    def watchdog_s(self) -> float:
        return self._manager.watchdog_s

    def notify(self, state: str) -> None:
        self._manager.notify(state)
