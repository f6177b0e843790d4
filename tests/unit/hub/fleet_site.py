"""A fleet that exists only as Nodes and Pods of a scripted API, and the page's server in front of it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from skerry.errors import SkerryError
from skerry.world.clock import SystemClock
from skerry.world.entropy import SystemEntropy
from skerry_hub import listener
from skerry_hub.edgecontroller.registration import new_node
from skerry_hub.edgecontroller.status import timestamp
from skerry_hub.listener import Listener
from skerry_hub.ports import NODES, PODS, Obj, Resource, WatchType
from skerry_hub.ui.app import FleetPage
from skerry_hub.ui.fleet import Fleet
from unit.hub.fakes import ScriptedCluster

TOKEN = "0123456789abcdef"
LONG_MESSAGE = (
    "container runtime is down: dial unix /run/containerd/containerd.sock: connect: no such file or directory"
)


class Site:
    """`hub` is what the hub's socket would say; None: it does not answer."""

    def __init__(self, with_hub: bool = True) -> None:
        self.cluster, self.clock, self.log = ScriptedCluster(), SystemClock(), []  # type: ignore[var-annotated]
        self.hub: dict[str, Any] | None = {"devices": {}}
        self.fleet = Fleet(
            self.cluster,
            self.clock,
            SystemEntropy(),
            self.log.append,
            labels="",
            counters=self._read if with_hub else None,
        )
        self.page = FleetPage(self.fleet, TOKEN, self.clock)
        self._task: asyncio.Task[None] | None = None
        self._served: Listener | None = None
        self.where = "127.0.0.1:0"

    def _read(self) -> dict[str, Any]:
        if self.hub is None:
            raise SkerryError("hub.sock: no hub answers")
        found: dict[str, Any] = json.loads(json.dumps(self.hub))
        return found

    # --- the fleet ----------------------------------------------------------------------------------------------------

    def node(self, name: str, *conditions: tuple[str, str, str, str], ago_s: int = 0) -> Obj:
        """Conditions: type, status, reason, message."""
        since = timestamp(self.clock.wall() - ago_s)
        node = new_node(name, tainted=False)
        node["metadata"].update(uid=f"uid of {name}", creationTimestamp=since)
        shown = [
            {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since}
            for kind, status, reason, message in conditions
        ]
        node["status"] = {"conditions": shown} if shown else {}
        return self._tell(NODES, node)

    def pod(self, name: str, node: str, *, ready: bool = True, waiting: str = "", leaving: bool = False) -> Obj:
        state: Obj = (
            {"waiting": {"reason": waiting, "message": "back-off 40s restarting"}} if waiting else {"running": {}}
        )
        meta: Obj = {"name": name, "namespace": "default", "uid": f"uid of {name}"}
        if leaving:
            meta["deletionTimestamp"] = timestamp(self.clock.wall())
        status = {
            "phase": "Running" if ready else "Pending",
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [{"name": "a", "state": state}],
        }
        return self._tell(PODS, {"metadata": meta, "spec": {"nodeName": node}, "status": status})

    def gone(self, resource: Resource, name: str) -> None:
        namespace = "default" if resource is PODS else ""
        obj = self.cluster.objects.pop((resource.plural, namespace, name))
        self.cluster.version += 1
        obj["metadata"]["resourceVersion"] = str(self.cluster.version)
        self._say(resource, WatchType.DELETED, obj)

    def session(self, node: str, **more: Any) -> None:
        assert self.hub is not None
        shown = {"note": "", "drift": False, "generation": 3, "bytes_in": 0, "bytes_out": 0, "queue": 0}
        self.hub["devices"][node] = {**shown, **more}

    def many(self, count: int) -> None:
        """A fleet as fleets are: most of it well."""
        for i in range(count):
            name, ago_s = f"site-{i // 20:02d}-pi-{i}", 60 * (i % 4000) + 7
            match i % 50:
                case 7:
                    self.node(name, ("Ready", "Unknown", "Holdover", "not connected"), ago_s=ago_s * 9)
                case 19:
                    self.node(name, ("Ready", "False", "KubeletNotReady", LONG_MESSAGE), ago_s=ago_s)
                case 33 if i % 100 == 33:
                    self.node(
                        name,
                        ("Ready", "True", "SessionLive", ""),
                        ("RestoredHub", "True", "ForeignSet", "another store"),
                    )
                case 44 if i % 200 == 44:
                    self.node(name, ago_s=ago_s)
                case _:
                    self.node(name, ("Ready", "True", "SessionLive", ""), ago_s=ago_s)
            for n in range(i % 4):
                bad = i % 41 == 3 and n == 1
                self.pod(f"app-{n}-{i}", name, ready=not bad, waiting="CrashLoopBackOff" if bad else "")
            self.session(name, bytes_in=i * 7919 % 5_000_000, bytes_out=i * 104_729 % 90_000_000, generation=i % 30)

    # --- its server ---------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        self._task = asyncio.ensure_future(self.fleet.run())
        await self.listen()

    async def listen(self) -> None:
        """Again at the same port after `cut`."""
        self._served = await listener.listen("--listen", self.where, False, self.page)
        self.where = self._served.url.removeprefix("http://")

    async def cut(self) -> None:
        """The server is away, the fleet goes on."""
        assert self._served is not None
        await self._served.close()

    async def stop(self) -> None:
        await self.cut()
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"http://{self.where}/?t={TOKEN}"

    def _tell(self, resource: Resource, obj: Obj) -> Obj:
        meta = obj["metadata"]
        known = (resource.plural, meta.get("namespace", ""), meta["name"]) in self.cluster.objects
        made = self.cluster.put(resource, obj)
        self._say(resource, WatchType.MODIFIED if known else WatchType.ADDED, made)
        return made

    def _say(self, resource: Resource, kind: WatchType, obj: Obj) -> None:
        watch = next((w for w in reversed(self.cluster.watches) if w.resource is resource), None)
        if watch is not None:
            watch.say(kind, json.loads(json.dumps(obj)))
