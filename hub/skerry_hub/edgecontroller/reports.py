"""Reports of one device → the API, in order, until they are stored. Decides what a failure means: wait, or drop and
count.

The latest status of a pod stands for the earlier ones of the same batch. A report for a pod that the API does not have
on this node (gone, another uid, another node) is dropped: nobody could be shown it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from skerry.errors import Malformed
from skerry.model.report import Event, LocalPods, NodeFacts, OutboxItem, PodStatus
from skerry.ports import Clock, Entropy
from skerry.wire.report import Reported, decode_report
from skerry_hub.edgecontroller import status
from skerry_hub.edgecontroller.mirrors import Mirrors, is_mirror
from skerry_hub.edgecontroller.work import delay_after
from skerry_hub.limits import API_WRITES_MAX, DEVICE_WRITES_MAX
from skerry_hub.ports import (
    EVENTS,
    NODES,
    PODS,
    Cluster,
    ClusterBusy,
    ClusterError,
    Conflict,
    Invalid,
    NotFound,
    Obj,
    PatchForm,
    Resource,
)

Log = Callable[[str], None]


@dataclass(slots=True)
class ReportCounts:
    """What became of reports since the process started."""

    stored: int = 0  # reports told to the API, or equal to what it shows
    patches: int = 0  # writes of a status
    events: int = 0
    deletions: int = 0  # deletions finished
    superseded: int = 0  # statuses that a later one of the same batch replaced
    without_pod: int = 0  # dropped: the API has no such pod on this node
    malformed: int = 0  # dropped: the body does not parse
    refused: int = 0  # dropped: the API will never take it
    retried: int = 0


class Reports:
    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        entropy: Entropy,
        log: Log,
        *,
        pod: Callable[[str], Obj | None],
        node: Callable[[str], Obj | None],
        era: Callable[[Resource], int],
        learn: Callable[[Resource, Obj, int], None],
        mirrors: Mirrors,
    ) -> None:
        """`pod` finds the API's pod by uid, `node` a node by name; both as the informers have them. `learn` tells the
        informers what a write has answered that began in that `era`, so that no comparison takes an older state for
        the present one."""
        self._cluster, self._clock, self._entropy, self._log = cluster, clock, entropy, log
        self._pod, self._node, self._era, self._learn = pod, node, era, learn
        self._mirrors = mirrors
        self._room = asyncio.Semaphore(API_WRITES_MAX)
        self.counts = ReportCounts()

    async def store(self, node: str, items: Sequence[OutboxItem]) -> None:
        """Return once all of it is at the API. Waits as long as the API is away; raises nothing."""
        own = asyncio.Semaphore(DEVICE_WRITES_MAX)
        latest = self._latest(items)
        for said in latest:
            if isinstance(said, LocalPods):  # first: the others may be about one of these
                await self._tell_mirrors(node, said)
        rest = [said for said in latest if not isinstance(said, LocalPods)]
        tasks = [asyncio.ensure_future(self._until_stored(node, said, own)) for said in rest]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def write_mirrors(self, node: str) -> None:
        """Have the device's mirror pods at the API, with what it said of them last. Raises ClusterError."""
        await self._mirrors.write(node)
        for uid in self._mirrors.told_of(node):
            with suppress(NotFound):  # the mirror is gone already: its end brings this about again
                await self._show_latest(node, uid)

    # --- private ------------------------------------------------------------------------------------------------------

    def _latest(self, items: Sequence[OutboxItem]) -> list[Reported]:
        """What is to be written; subjects in their order, each with its latest word."""
        said: dict[object, Reported] = {}
        for item in items:
            try:
                value = decode_report(item.kind, item.body)
            except Malformed:
                self.counts.malformed += 1
                continue
            match value:
                case PodStatus():
                    subject: object = ("pod", value.uid)
                case NodeFacts():
                    subject = "node"
                case LocalPods():
                    subject = "local pods"
                case Event():
                    subject = ("event", item.seq)
            if said.pop(subject, None) is not None:
                self.counts.superseded += 1
            said[subject] = value
        return list(said.values())

    async def _until_stored(self, node: str, said: Reported, own: asyncio.Semaphore) -> None:
        failures = 0
        while True:
            try:
                async with own, self._room:
                    await self._write(node, said)
                self.counts.stored += 1
                return
            except Invalid as why:
                self.counts.refused += 1
                self._log(f"{node}: a report is dropped, the API refuses it: {why}")
                return
            except NotFound:
                self.counts.without_pod += 1
                return
            except ClusterError as why:  # a Conflict too: the informers will tell whether the pod is another one now
                self.counts.retried += 1
                failures += 1
                delay = delay_after(why, failures, self._entropy.uniform())
            await self._clock.sleep_until(self._clock.now() + delay)

    def _write(self, node: str, said: Reported) -> Coroutine[Any, Any, None]:
        match said:
            case PodStatus():
                return self._write_pod(node, said)
            case NodeFacts():
                return self._write_node(node, said)
            case LocalPods():
                return self._tell_mirrors(node, said)
            case Event():
                return self._write_event(node, said)

    async def _show_latest(self, node: str, uid: str) -> None:
        """What a device said last of a pod of its own. A later word may be stored meanwhile and this one reach the API
        after it: then that is written once more."""
        said = self._mirrors.status(node, uid)
        while said is not None:
            pod = self._mirrors.pod(node, uid)
            if pod is None:
                return
            await self._show(node, pod, said)
            before, said = said, self._mirrors.status(node, uid)
            if said is before:
                return

    async def _write_pod(self, node: str, said: PodStatus) -> None:
        pod = await self._found(node, said.uid, said.namespace, said.name)
        if pod is None or pod["metadata"]["uid"] != said.uid:
            self._mirrors.remember(node, said)
        if pod is None:
            self.counts.without_pod += 1
            return
        await self._show(node, pod, said)

    async def _show(self, node: str, pod: Obj, said: PodStatus) -> None:
        meta = pod["metadata"]
        namespace, name = meta["namespace"], meta["name"]
        said = status.awaiting(said, meta)
        patch = status.pod_patch(said, pod["spec"], pod.get("status") or {}, self._host_ip(node), self._clock.wall())
        if patch is not None:
            body = {"metadata": {"uid": meta["uid"]}, "status": patch}
            era = self._era(PODS)
            now = await self._cluster.patch(PODS, namespace, name, body, form=PatchForm.STRATEGIC, subresource="status")
            self._learn(PODS, now, era)
            self.counts.patches += 1
        if said.gone and meta.get("deletionTimestamp") and meta["uid"] == said.uid:
            await self._cluster.delete(PODS, namespace, name, uid=said.uid, grace_s=0)
            self.counts.deletions += 1

    async def _tell_mirrors(self, node: str, said: LocalPods) -> None:
        """What cannot be made now is made later: a mirror holds up no report, and a hub that starts is told again."""
        self._mirrors.told(node, said)
        try:
            await self.write_mirrors(node)
            self.counts.stored += 1
        except ClusterError:
            self._mirrors.later(node)

    async def _write_node(self, node: str, said: NodeFacts) -> None:
        shown = self._node(node)
        if shown is None:
            raise NotFound(node)
        patch = status.node_patch(said, shown.get("status") or {}, self._clock.wall())
        if patch is not None:
            era = self._era(NODES)
            now = await self._cluster.patch(
                NODES, "", node, {"status": patch}, form=PatchForm.STRATEGIC, subresource="status"
            )
            self._learn(NODES, now, era)
            self.counts.patches += 1

    async def _write_event(self, node: str, said: Event) -> None:
        if said.pod_uid:
            pod = await self._found(node, said.pod_uid, said.namespace, said.name)
            if pod is None or pod["metadata"]["namespace"] != said.namespace or pod["metadata"]["name"] != said.name:
                self.counts.without_pod += 1
                return
            said = replace(said, pod_uid=pod["metadata"]["uid"])
        if await tell(self._cluster, status.event_object(said, node, self._clock.wall())):
            self.counts.events += 1

    async def _found(self, node: str, uid: str, namespace: str, name: str) -> Obj | None:
        """As `_mine`; what the informers do not show is asked of the API, since they may be behind what another replica
        has sent to the device, and a report about no pod is acknowledged and gone."""
        pod = self._mine(node, uid)
        if pod is not None or not namespace or not name or self._mirrors.knows(node, uid):
            return pod
        shown = await self._cluster.list(PODS, namespace=namespace, fields=f"metadata.name={name}")
        same = (p for p in shown.items if p["metadata"]["uid"] == uid and p["spec"].get("nodeName") == node)
        return next((p for p in same if not is_mirror(p)), None)

    def _mine(self, node: str, uid: str) -> Obj | None:
        """The pod, if it is this device's to speak of; of its own pods the mirror, which has another uid."""
        pod = self._pod(uid)
        if pod is not None and pod["spec"].get("nodeName") == node and not is_mirror(pod):
            return pod
        return self._mirrors.pod(node, uid)

    def _host_ip(self, node: str) -> str:
        shown = self._node(node)
        addresses = ((shown or {}).get("status") or {}).get("addresses") or ()
        return next((str(a["address"]) for a in addresses if a.get("type") == "ExternalIP"), "")


async def tell(cluster: Cluster, event: Obj) -> bool:
    """Have this Event at the API; False if it was there. Raises ClusterError."""
    namespace, name = event["metadata"]["namespace"], event["metadata"]["name"]
    try:
        await cluster.create(EVENTS, namespace, event)
        return True
    except Conflict as why:  # it exists, or an admission plugin was in another's way (quota): only the API can tell
        try:
            await cluster.get(EVENTS, namespace, name)
        except NotFound:
            raise ClusterBusy(str(why)) from None
        return False
