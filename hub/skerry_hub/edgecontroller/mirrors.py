"""Mirror pods: what the API shows of the pods that a device runs from its own folder of manifests. As kubelet does.

A mirror is a picture: it is never part of a device's set, and deleting it stops nothing, it is made again. It goes when
the device tells that the pod is gone, and with its Node. What was told is kept in memory only: a hub that starts asks
every device to tell it again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from skerry.errors import Malformed
from skerry.limits import LOCAL_PODS_MAX
from skerry.model.report import LocalPod, LocalPods, PodStatus
from skerry.wire.codec import decode
from skerry_hub.edgecontroller.work import Log
from skerry_hub.ports import PODS, Cluster, ClusterError, Invalid, NotFound, Obj, Resource

# kubelet's own annotations (pkg/kubelet/types): clients and admission know a mirror pod by them
MIRROR, HASH, SOURCE = "kubernetes.io/config.mirror", "kubernetes.io/config.hash", "kubernetes.io/config.source"
STAYS: Obj = {"operator": "Exists", "effect": "NoExecute"}  # kubelet's for static pods: taints evict none of them
# What admission plugins refuse in a mirror: ServiceAccount any Secret or account, Priority what no PriorityClass says.
REFUSED = frozenset(
    {
        "serviceAccount", "serviceAccountName", "imagePullSecrets",
        "priority", "priorityClassName", "preemptionPolicy",
    }
)  # fmt: skip
SECRET_VOLUMES = ("secret", "projected")  # of projected ones a device has none but those for a token

Name = tuple[str, str]  # namespace, name


@dataclass(slots=True)
class Folder:
    """What a device has told of its own pods."""

    pods: dict[Name, LocalPod] | None = None  # None: not told yet
    statuses: dict[str, PodStatus] = field(default_factory=dict)  # by uid; the latest ones


class Mirrors:
    def __init__(
        self,
        cluster: Cluster,
        log: Log,
        *,
        named: Callable[[Name], Obj | None],
        of_node: Callable[[str], Iterator[Obj]],
        node: Callable[[str], Obj | None],
        era: Callable[[Resource], int],
        later: Callable[[str], None],
    ) -> None:
        """`named` and `of_node` look for pods, the latter for mirrors only, as the informer has them. `later(node)` has
        a node's mirrors written once more."""
        self.later = later
        self._cluster, self._log = cluster, log
        self._named, self._of_node, self._node, self._era = named, of_node, node, era
        self._folders: dict[str, Folder] = {}
        self._owners: dict[Name, str] = {}  # name → the node that has a pod of this name
        self._made: dict[Name, tuple[int, Obj]] = {}  # made by us and not shown by the informer yet; in which era

    def told(self, node: str, said: LocalPods) -> None:
        """All that the device has now."""
        self.forget(node, keep=True)
        folder = self._folders.setdefault(node, Folder())
        folder.pods = {(p.namespace, p.name): p for p in said.pods}
        self._owners.update(dict.fromkeys(folder.pods, node))
        uids = {p.uid for p in said.pods}
        folder.statuses = {uid: s for uid, s in folder.statuses.items() if uid in uids}

    def remember(self, node: str, said: PodStatus) -> None:
        """A status of what may be a pod of the device's own; its mirror may come later."""
        statuses = self._folders.setdefault(node, Folder()).statuses
        statuses.pop(said.uid, None)
        statuses[said.uid] = said
        for uid in list(statuses)[: -2 * LOCAL_PODS_MAX]:
            del statuses[uid]

    def forget(self, node: str, keep: bool = False) -> None:
        """The device is another replica's now, or was unregistered. With `keep` its statuses stay."""
        self._owners = {name: owner for name, owner in self._owners.items() if owner != node}
        if not keep:
            self._folders.pop(node, None)

    def pod(self, node: str, uid: str) -> Obj | None:
        """The mirror of a device's pod."""
        folder = self._folders.get(node)
        names = [name for name, p in ((folder.pods if folder else None) or {}).items() if p.uid == uid]
        return self._shown(node, names[0], uid) if names else None

    def knows(self, node: str, uid: str) -> bool:
        """Whether it is a pod of the device's own, whose mirror may not be there yet."""
        folder = self._folders.get(node)
        pods = folder.pods if folder is not None else None
        return any(local.uid == uid for local in (pods or {}).values())

    def told_of(self, node: str) -> list[str]:
        """Uids of the pods that have a mirror, and of which the device has said something."""
        folder = self._folders.get(node, Folder())
        return [uid for uid in folder.statuses if self.pod(node, uid) is not None]

    def status(self, node: str, uid: str) -> PodStatus | None:
        """The latest of a pod of the device's own."""
        return self._folders.get(node, Folder()).statuses.get(uid)

    def concerns(self, name: Name, before: Obj | None, now: Obj | None) -> str:
        """The node whose mirrors need work because of this change; empty where it is as it should be."""
        self._made.pop(name, None)
        node = self._owners.get(name) or next((node_of(o) for o in (now, before) if o and is_mirror(o)), "")
        fresh = now is not None and (before is None or before["metadata"]["uid"] != now["metadata"]["uid"])
        return node if fresh or now is None or now["metadata"].get("deletionTimestamp") else ""

    async def write(self, node: str) -> None:
        """Have exactly the mirrors that the device has pods for. Raises ClusterError where it is worth another try."""
        folder = self._folders.get(node)
        if folder is None or folder.pods is None:
            return
        kept: set[Name] = set()
        for mirror in list(self._of_node(node)):
            meta = mirror["metadata"]
            name = (str(meta["namespace"]), str(meta["name"]))
            local = folder.pods.get(name)
            if local is not None and mirrors(mirror, local.uid) and not meta.get("deletionTimestamp"):
                kept.add(name)
                continue
            try:
                await self._cluster.delete(PODS, *name, uid=str(meta["uid"]), grace_s=0)
            except NotFound:
                continue
        failed: list[ClusterError] = []
        for name, local in folder.pods.items():
            shown = self._named(name)
            taken = shown is not None and not (is_mirror(shown) and node_of(shown) == node)
            if name not in kept and not taken and self._shown(node, name, local.uid) is None:
                try:
                    await self._make(node, name, local)
                except ClusterError as why:  # no such namespace, a name that something else has: the others go on
                    failed.append(why)
        if failed:
            raise failed[0]

    # --- private ------------------------------------------------------------------------------------------------------

    def _shown(self, node: str, name: Name, uid: str) -> Obj | None:
        era, made = self._made.get(name, (-1, None))
        for pod in (self._named(name), made if era == self._era(PODS) else None):
            if pod is not None and mirrors(pod, uid) and node_of(pod) == node:
                return None if pod["metadata"].get("deletionTimestamp") else pod
        return None

    async def _make(self, node: str, name: Name, local: LocalPod) -> None:
        era = self._era(PODS)
        try:
            pod = mirror_of(local, node, self._node(node))
            self._made[name] = era, await self._cluster.create(PODS, name[0], pod)
        except (Invalid, Malformed) as why:  # the pod runs all the same
            self._log(f"{node}: no mirror of {name[0]}/{name[1]} ({local.file}): {why}")


def is_mirror(pod: Obj) -> bool:
    return MIRROR in (pod["metadata"].get("annotations") or {})


def mirrors(pod: Obj, uid: str) -> bool:
    """Whether it is the picture of the device's pod of this uid."""
    return bool((pod["metadata"].get("annotations") or {}).get(MIRROR) == uid)


def node_of(pod: Obj) -> str:
    return str((pod.get("spec") or {}).get("nodeName") or "")


def mirror_of(local: LocalPod, node: str, shown: Obj | None) -> Obj:
    """The pod to create. `shown`: the Node, which owns it. Raises Malformed where the device told what is no pod."""
    try:
        body = json.loads(json.dumps(decode(local.body), allow_nan=False))
        meta, spec = body["metadata"], dict(body["spec"])
        annotations = {**(meta.get("annotations") or {}), MIRROR: local.uid, HASH: local.uid, SOURCE: "file"}
        head = {"namespace": local.namespace, "name": local.name, "annotations": annotations}
        if meta.get("labels"):
            head["labels"] = meta["labels"]
        if shown is not None:
            owner = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": shown["metadata"]["uid"]}
            head["ownerReferences"] = [{**owner, "controller": True}]
        spec = _admitted(spec)
    except (AttributeError, KeyError, TypeError, ValueError) as why:
        raise Malformed(f"what the device tells is no pod: {why!r}") from None
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": head,
        "spec": {**spec, "nodeName": node, "tolerations": [STAYS]},
    }


def _admitted(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The picture is without what the API server's admission takes of no mirror pod, none of which it needs."""
    out = {k: v for k, v in spec.items() if k not in REFUSED}
    if out.get("volumes"):
        out["volumes"] = [
            {"name": v["name"], "emptyDir": {}} if any(kind in v for kind in SECRET_VOLUMES) else v
            for v in out["volumes"]
        ]
    for container in (c for part in ("initContainers", "containers") for c in out.get(part) or ()):
        for name, ref in (("env", "secretKeyRef"), ("envFrom", "secretRef")):
            said = container.get(name)
            if said:
                kept = [e for e in said if ref not in e and ref not in (e.get("valueFrom") or {})]
                container[name] = kept
    return out
