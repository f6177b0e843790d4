"""The board behind ports.Host: facts from facts.py, volumes from volumes.py, and the service manager's socket."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import Protocol

from skerry.model.report import NodeFacts
from skerry.ports import ResolvedVolume
from skerry.world.facts import node_facts


class Volumes(Protocol):
    """The half of ports.Host that keeps pods' files."""

    async def mount_volume(self, pod_uid: str, volume: ResolvedVolume) -> str: ...

    async def remove_volumes(self, pod_uid: str) -> None: ...

    def volume_pods(self) -> set[str]: ...


class Host:
    """ports.Host."""

    def __init__(self, volumes: Volumes, *, root: Path = Path("/"), notify_socket: str | None = None) -> None:
        """`notify_socket` is $NOTIFY_SOCKET if not given; empty: no service manager."""
        self._volumes, self._root = volumes, root
        self._notify_socket = os.environ.get("NOTIFY_SOCKET", "") if notify_socket is None else notify_socket

    def facts(self) -> NodeFacts:
        return node_facts(self._root)

    async def mount_volume(self, pod_uid: str, volume: ResolvedVolume) -> str:
        return await self._volumes.mount_volume(pod_uid, volume)

    async def remove_volumes(self, pod_uid: str) -> None:
        await self._volumes.remove_volumes(pod_uid)

    def volume_pods(self) -> set[str]:
        return self._volumes.volume_pods()

    def notify(self, state: str) -> None:
        """sd_notify(3). Never waits: a message that the manager has no room for is lost, and the next one tells it."""
        if not self._notify_socket:
            return
        name = self._notify_socket
        address = "\0" + name[1:] if name.startswith("@") else name  # abstract, unix(7)
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto(state.encode(), address)
