"""What `kubectl top` reads: metrics.k8s.io/v1beta1, nodes and pods, out of the nodes' own stats summaries.

Nothing is polled: a node is asked when somebody asks for it, and what it said serves everybody for TOP_AGE_S. A node
that is not Ready, does not answer in time or tells no figures is left out, as metrics-server does. Refuses to know how
a node is asked. Source: k8s.io/metrics v1beta1; stats/v1alpha1 Summary.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from skerry.limits import STATS_WINDOW_S
from skerry_hub.http import Reply, Request
from skerry_hub.limits import TOP_AGE_S, TOP_FETCH_S, TOP_FETCHES_MAX, TOP_TOTAL_S

from . import kinds, views
from .normalize import print_time
from .requests import Target, list_options
from .status import ApiError, method_not_allowed, not_found
from .store import Store
from .watch import selects

Obj = dict[str, Any]
Fetch = Callable[[Obj], Awaitable[Obj]]  # a Node → its Summary; raises ApiError
GROUP = kinds.NODE_METRICS.group


@dataclass(frozen=True, slots=True)
class Told:
    """A node's summary, and when it came. `window_s`: what its shares of CPU are counted over, as far as is known."""

    at: float
    summary: Obj
    window_s: int


class Top:
    """Serves the group's two resources."""

    def __init__(self, store: Store, fetch: Fetch, now: Callable[[], float] = time.monotonic) -> None:
        self._store, self._fetch, self._now = store, fetch, now
        self._told: dict[str, Told] = {}  # only of nodes that are there
        self._asked: dict[str, asyncio.Task[Told | None]] = {}  # those who want the same node wait for one answer
        self._room = asyncio.Semaphore(TOP_FETCHES_MAX)
        self.fetches = self.failures = 0

    async def serve(self, request: Request, reply: Reply, where: Target) -> None:
        """Raises ApiError."""
        if request.method not in ("GET", "HEAD") or where.watch or where.subresource:
            raise method_not_allowed()
        options = list_options(request, where.resource)
        if options.watch:
            raise method_not_allowed()
        pods = where.resource is kinds.POD_METRICS
        source = "pods" if pods else "nodes"
        found = [
            json.loads(stored.raw)
            for key, stored in self._store.all(source, where.namespace)
            if selects(options.selector, where.namespace, where.name, key, stored)
        ]
        items = await (self._pods(found) if pods else self._nodes(found))
        head = {"kind": where.resource.kind, "apiVersion": where.resource.api_version}
        if not where.name:
            whole: Obj = {**head, "kind": f"{where.resource.kind}List", "metadata": {}, "items": items}
        elif items:
            whole = {**head, **items[0]}
        else:
            raise not_found(where.resource.plural, GROUP, "/".join(filter(None, (where.namespace, where.name))))
        reply.send(200, [("content-type", "application/json")], views.dumps(whole))

    async def _nodes(self, nodes: list[Obj]) -> list[Obj]:
        told = await self._ask(nodes)
        out = [_node_item(node, told.get(node["metadata"]["name"])) for node in nodes]
        return [item for item in out if item is not None]

    async def _pods(self, pods: list[Obj]) -> list[Obj]:
        names = {(pod.get("spec") or {}).get("nodeName") for pod in pods}
        stored = (self._store.get(("nodes", "", name)) for name in sorted(filter(None, names)))
        told = await self._ask([json.loads(one.raw) for one in stored if one is not None])
        said = {name: _pods_of(answer.summary) for name, answer in told.items()}
        out = []
        for pod in pods:
            node, name = (pod.get("spec") or {}).get("nodeName"), _name(pod["metadata"])
            item = _pod_item(pod, told[node], said[node][name]) if node in told and name in said[node] else None
            out += [item] if item is not None else []
        return out

    # --- asking -------------------------------------------------------------------------------------------------------

    async def _ask(self, nodes: Iterable[Obj]) -> dict[str, Told]:
        """What each of these nodes says, or has just said; those that say nothing in time are missing."""
        self._forget()
        known: dict[str, Told] = {}
        waits: dict[str, asyncio.Task[Told | None]] = {}
        for node in nodes:
            name = node["metadata"]["name"]
            told = self._told.get(name)
            if told is not None and self._now() - told.at < TOP_AGE_S:
                known[name] = told
            elif _ready(node):
                waits[name] = self._asked.get(name) or self._begin(name, node)
        if waits:
            await asyncio.wait(waits.values(), timeout=TOP_TOTAL_S)
        for name, task in waits.items():
            answer = task.result() if task.done() and not task.cancelled() else None
            if answer is not None:
                known[name] = answer
        return known

    def _begin(self, name: str, node: Obj) -> asyncio.Task[Told | None]:
        task = self._asked[name] = asyncio.ensure_future(self._answer(name, node))
        task.add_done_callback(lambda _task: self._asked.pop(name, None))
        return task

    async def _answer(self, name: str, node: Obj) -> Told | None:
        async with self._room:
            self.fetches += 1
            try:
                summary = await asyncio.wait_for(self._fetch(node), TOP_FETCH_S)
            except (ApiError, asyncio.TimeoutError, OSError):
                self.failures += 1
                return None
        before, at = self._told.get(name), self._now()
        shortest, longest = STATS_WINDOW_S
        since = at - before.at if before is not None else longest
        told = self._told[name] = Told(at, summary, round(since if since < longest else shortest))
        return told

    def _forget(self) -> None:
        """What is too old to say even since when a share of CPU is counted."""
        oldest = self._now() - STATS_WINDOW_S[1]
        for name in [name for name, told in self._told.items() if told.at < oldest]:
            del self._told[name]


# --- the documents: pure ----------------------------------------------------------------------------------------------


def _ready(node: Obj) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or ()
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def _node_item(node: Obj, told: Told | None) -> Obj | None:
    if told is None:
        return None
    said = _dict(told.summary.get("node"))
    usage = _usage(said)
    if usage is None:
        return None
    return {"metadata": _meta(node), **_when(said, told), "usage": usage}


def _pod_item(pod: Obj, told: Told, said: Obj) -> Obj | None:
    """None unless every container that the node tells of has both figures: a sum of some would mislead."""
    containers = []
    for one in _list(said.get("containers")):
        usage = _usage(one)
        if usage is None or not isinstance(one.get("name"), str):
            return None
        containers.append({"name": one["name"], "usage": usage})
    if not containers:
        return None
    return {"metadata": _meta(pod), **_when(_list(said["containers"])[0], told), "containers": containers}


def _pods_of(summary: Obj) -> dict[tuple[str, str], Obj]:
    """By name, not uid: the API has another uid for a pod of the device's own folder."""
    return {_name(_dict(pod.get("podRef"))): pod for pod in _list(summary.get("pods"))}


def _name(meta: Obj) -> tuple[str, str]:
    return str(meta.get("namespace")), str(meta.get("name"))


def _usage(said: Obj) -> Obj | None:
    """cpu in nanocores and memory in Ki, as metrics-server writes them; None without both."""
    cores, memory = _dict(said.get("cpu")).get("usageNanoCores"), _dict(said.get("memory")).get("workingSetBytes")
    if not (type(cores) is int and type(memory) is int and cores >= 0 and memory >= 0):
        return None
    return {"cpu": f"{cores}n" if cores else "0", "memory": f"{memory // 1024}Ki"}


def _when(said: Obj, told: Told) -> Obj:
    moment = _dict(said.get("cpu")).get("time")
    now = print_time(datetime.now(timezone.utc))
    return {"timestamp": moment if isinstance(moment, str) else now, "window": f"{told.window_s}s"}


def _meta(obj: Obj) -> Obj:
    meta = obj["metadata"]
    now = print_time(datetime.now(timezone.utc))
    shown = {"name": meta["name"], "namespace": meta.get("namespace"), "creationTimestamp": now}
    return {key: value for key, value in {**shown, "labels": meta.get("labels")}.items() if value}


def _dict(value: Any) -> Obj:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Obj]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
