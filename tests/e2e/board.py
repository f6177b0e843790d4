"""One board of the rig as a contract suite's site: the real adapter on a real containerd."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from rig import Device, images, registry, until
from rig.registry import Registry
from skerry.containerd.adapter import Containerd
from skerry.model.pod import Pod
from skerry.ports import AuthConfig
from skerry.world.first_writes import FirstWrites
from skerry.world.logs import open_log


class Monotonic:
    def now(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    async def sleep_until(self, when: float) -> None:
        await asyncio.sleep(max(0.0, when - time.monotonic()))


class Board:
    """contract.runtime.EffectsSite and contract.images.ImageSite."""

    image = images.HELLO
    missing_image = "127.0.0.1:1/no/such:image"

    def __init__(self, device: Device) -> None:
        self.device = device
        self.moved()
        self.logs = device.disk / "pod-logs"
        self.execs = device.disk / "execs"
        self._runtimes: list[Containerd] = []
        self._folders = itertools.count()

    def moved(self) -> None:
        """The way to the socket from here is another after a boot."""
        self.socket = self.device.outside(self.device.cri_socket)

    def runtime(self) -> Containerd:
        made = Containerd(
            self.socket,
            cgroup_parent="/skerry",
            log_dir=self.logs,
            clock=Monotonic(),
            exec_dir=self.execs,
            open_log=open_log,
            writes=FirstWrites(),
        )
        self._runtimes.append(made)
        return made

    async def close(self) -> None:
        for runtime in self._runtimes:
            await runtime.close()

    async def private(self) -> tuple[str, AuthConfig]:
        if why := registry.missing():
            pytest.skip(why)
        image = images.image(f"{registry.HOST}/private/tide:1", {"etc/word": b"private"}, ["/bin/sleep", "9"])
        auth = AuthConfig("tide", "ebb and flow")
        running = await asyncio.to_thread(Registry, self.device, auth.username, auth.password)
        await asyncio.to_thread(running.push, image)
        return image.name, auth

    async def away(self) -> None:
        await asyncio.to_thread(self.device.kill_containerd)

    async def back(self) -> None:
        await asyncio.to_thread(self.device.start_containerd)

    async def kill(self, container_id: str) -> None:
        if self.device.containerd is None:  # it cannot tell the pid, the control group can
            pids = [int(pid) for file in cgroup_files(container_id, "cgroup.procs") for pid in file.read_text().split()]
        else:
            pids = [c.pid for c in await asyncio.to_thread(self.device.containers) if c.id == container_id]
        assert pids
        for pid in set(pids):
            os.kill(pid, signal.SIGKILL)

    def folder(self) -> str:
        made = self.device.disk / f"mount-{next(self._folders)}"
        made.mkdir()
        return str(made)

    def mount_files(self, pod_uid: str, content: str) -> str:
        """What world.volumes does on the board, where its mounts have to be; returns the volume's path."""
        story = """
import asyncio, sys
from pathlib import Path
from skerry.ports import FilesVolume, VolumeFile
from skerry.world.volumes import Volumes
disk, uid, content = sys.argv[1:]
volume = FilesVolume("settings", (VolumeFile("key", f"{content}\\n".encode(), 0o644),))
print(asyncio.run(Volumes(Path(disk), Path("/run/skerry/volumes"), 1 << 20).mount_volume(uid, volume)))
"""
        argv = [sys.executable, "-c", story, str(self.device.disk / "volumes"), pod_uid, content]
        return self.device.nsenter(argv).stdout.strip()

    def cgroup_value(self, container_id: str, v1: str, v2: str) -> str:
        return next(iter([*cgroup_files(container_id, v1), *cgroup_files(container_id, v2)])).read_text()

    async def get(self, port: int) -> str:
        address = self.device.nsenter(["ip", "-4", "-o", "address", "show", "cni0"]).stdout.split()[3].partition("/")[0]
        argv = ["busybox", "wget", "-qO-", f"http://{address}:{port}/"]

        def page() -> str:
            return str(self.device.nsenter(argv, check=False).stdout)

        return await asyncio.to_thread(until, page, "the pod to serve")

    def log(self, pod: Pod, container: str, attempt: int) -> str:
        return (self.logs / f"{pod.namespace}_{pod.name}_{pod.uid}" / container / f"{attempt}.log").read_text()


def cgroup_files(container_id: str, name: str) -> list[Path]:
    """A v1 hierarchy may be mounted at more than one place."""
    return [file for file in Path("/sys/fs/cgroup").glob(f"**/{container_id}/{name}") if file.exists()]
