"""ports.Manifests: a simulated folder, and the person who looks after it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from sim.world import World
from skerry.errors import FolderFailed, Malformed
from skerry.journal.local import objects_in
from skerry.limits import LOCAL_SETTLE_S
from skerry.model.desired import Key, Object
from skerry.ports import ManifestFile

BROKEN = b"{half a manife"
FILES_MAX = 3


class Folder:
    """What outlives the agent: files, and whether the disk lets itself be read."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.failing = False
        self.watchers: list[asyncio.Event] = []

    def write(self, name: str, data: bytes | None) -> None:
        if data is None:
            self.files.pop(name, None)
        else:
            self.files[name] = data
        for event in self.watchers:
            event.set()


class SimManifests:
    def __init__(self, folder: Folder) -> None:
        self._folder, self._changed = folder, asyncio.Event()
        folder.watchers.append(self._changed)

    async def read(self) -> tuple[ManifestFile, ...]:
        self._changed.clear()
        if self._folder.failing:
            raise FolderFailed("simulated failure")
        return tuple(ManifestFile(name, data) for name, data in sorted(self._folder.files.items()))

    async def parse(self, file: ManifestFile) -> tuple[object, ...]:
        try:
            return (json.loads(file.data),)
        except ValueError:
            raise Malformed("is not JSON") from None

    async def changed(self) -> None:
        await self._changed.wait()
        await asyncio.sleep(LOCAL_SETTLE_S)

    def close(self) -> None:
        if self._changed in self._folder.watchers:
            self._folder.watchers.remove(self._changed)


class Keeper:
    """A person at one board: writes, changes, breaks and removes manifests. In most lives there is none."""

    def __init__(self, world: World, node: str, folder: Folder) -> None:
        self.world, self.node, self.folder = world, node, folder
        self.random = world.rng(f"keeper/{node}")
        self.active = self.random.random() < 0.4
        self._good: dict[str, bytes] = {}
        self._left: set[Key] = set()  # what was not wanted at least once since it was

    def begin(self) -> None:
        for name in ("a.json", "b.json")[: self.random.randint(1, 2)] if self.active else ():
            self._write(name)

    def wish(self) -> None:
        """Do one thing at random, or nothing."""
        if not self.active or self.random.random() < 0.5:
            return
        name = self.random.choice(["a.json", "b.json", "c.json"][:FILES_MAX])
        deed = self.random.choice(["write", "write", "touch", "break", "remove", "disk"])
        self.world.tell("wish", f"{self.node}: {deed} manifest {name}")
        if deed == "write":
            self._write(name)
        elif deed == "touch" and name in self._good:
            self._put(name, self._good[name] + b"\n")
        elif deed == "break" and name in self._good:
            self.folder.write(name, BROKEN)
        elif deed == "remove":
            self._leave(name)
            self.folder.write(name, None)
        elif deed == "disk":
            self.folder.failing = not self.folder.failing

    def mend(self) -> None:
        """Before the calm: the disk reads again. A broken file stays so: its last good version counts."""
        self.folder.failing = False
        for event in self.folder.watchers:
            event.set()
        for name, data in self._good.items():
            self.folder.write(name, data)

    def end_restless(self) -> None:
        """Remove what never comes to rest, so that a quiet hour can be one."""
        for name, data in list(self._good.items()):
            spec = json.loads(data)["spec"]
            if spec["containers"][0]["args"][0].startswith("exit:") and spec["restartPolicy"] != "Never":
                self._leave(name)
                self.folder.write(name, None)

    def wanted(self) -> dict[Key, Object]:
        """What the files as they should be ask for."""
        return {key: o for name in self._good for key, o in self._objects(name).items()}

    def always_wanted(self, key: Key) -> bool:
        """From when it was written first until now, whatever else happened to the file."""
        return key in self.wanted() and key not in self._left

    # --- private ------------------------------------------------------------------------------------------------------

    def _write(self, name: str) -> None:
        pod = f"local-{self.random.choice('xyz') if self.random.random() < 0.2 else name[0]}"
        if any(json.loads(d)["metadata"]["name"] == pod for n, d in self._good.items() if n != name):
            pod = f"local-{name[0]}"  # that two files ask for one name has tests of its own
            if any(json.loads(d)["metadata"]["name"] == pod for n, d in self._good.items() if n != name):
                return
        word = self.random.choice(["run", "run", "stubborn", "exit:1:30"])
        policy = "Always" if word != "exit:1:30" else self.random.choice(["Always", "Never"])
        container: dict[str, Any] = {
            "name": "main",
            "image": self.random.choice(["tide:1", "tide:2", "rock:1"]),
            "args": [word],
            "imagePullPolicy": "IfNotPresent",
            "env": [{"name": "N", "value": str(self.random.randrange(3))}],
        }
        spec = {"containers": [container], "restartPolicy": policy, "terminationGracePeriodSeconds": 5}
        value = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod}, "spec": spec}
        self._put(name, json.dumps(value, sort_keys=True).encode())

    def _leave(self, name: str) -> None:
        self._left |= set(self._objects(name))
        self._good.pop(name, None)

    def _objects(self, name: str) -> dict[Key, Object]:
        if name not in self._good:
            return {}
        return {o.key: o for o in objects_in(self.node, name, (json.loads(self._good[name]),), False)}

    def _put(self, name: str, data: bytes) -> None:
        before = self._objects(name)
        self._good[name] = data
        self._left |= set(before) - set(self._objects(name))
        self.folder.write(name, data)
