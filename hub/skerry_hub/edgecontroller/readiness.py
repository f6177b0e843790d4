"""A pod's condition Ready where somebody else than its device has taken it: given back while the device is there.

A cluster's node lifecycle controller sets Ready to False on every pod of a node whose Lease it saw run out, as when the
hub could not reach the API for a minute, and leaves it to the node to set it again. Decides when; `status` what.
Source: kube-controller-manager, MarkPodsNotReady (pkg/controller/util/node).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from skerry.ports import Clock, Entropy
from skerry_hub.edgecontroller import status
from skerry_hub.edgecontroller.mirrors import node_of
from skerry_hub.edgecontroller.work import Log, Work
from skerry_hub.limits import NODE_WRITERS_MAX
from skerry_hub.ports import PODS, Cluster, ClusterError, Invalid, NotFound, Obj, PatchForm, Resource


class Readiness:
    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        entropy: Entropy,
        log: Log,
        *,
        pod: Callable[[str], Obj | None],
        pods_of: Callable[[str], Iterable[Obj]],
        era: Callable[[Resource], int],
        learn: Callable[[Resource, Obj, int], None],
    ) -> None:
        """`pod` finds the API's pod by uid, `pods_of` those of a node with its mirrors; `learn` hears what was
        written."""
        self._cluster, self._clock, self._log = cluster, clock, log
        self._pod, self._pods_of, self._era, self._learn = pod, pods_of, era, learn
        self._live: set[str] = set()
        self._work = Work(self._write, NODE_WRITERS_MAX, clock, entropy, log, "readiness of pod")

    async def run(self) -> None:
        """Never returns."""
        await self._work.run()

    def presence(self, node: str, live: bool) -> None:
        """The device's session lives or does not; nobody may say that a pod is ready whose device is away."""
        if not live:
            self._live.discard(node)
        elif node not in self._live:
            self._live.add(node)
            for pod in self._pods_of(node):
                self.look(pod)

    def look(self, pod: Obj) -> None:
        """It has changed at the API."""
        if node_of(pod) in self._live and self._patch(pod) is not None:
            self._work.add(str(pod["metadata"]["uid"]))

    # --- private ------------------------------------------------------------------------------------------------------

    def _patch(self, pod: Obj) -> Obj | None:
        return status.ready_patch(pod.get("status") or {}, self._clock.wall())

    async def _write(self, uid: str) -> None:
        pod = self._pod(uid)
        patch = self._patch(pod) if pod is not None and node_of(pod) in self._live else None
        if pod is None or patch is None:
            return
        meta, era = pod["metadata"], self._era(PODS)
        same = {"uid": uid, "resourceVersion": meta["resourceVersion"]}  # a report may say otherwise meanwhile
        body = {"metadata": same, "status": patch}
        try:
            now = await self._cluster.patch(
                PODS, meta["namespace"], meta["name"], body, form=PatchForm.STRATEGIC, subresource="status"
            )
        except NotFound:
            return
        except Invalid as why:
            self._log(f"pod {meta['namespace']}/{meta['name']} is shown as not ready: {why}")
            return
        self._learn(PODS, now, era)
        if self._patch(now) is not None:
            raise ClusterError("the API does not keep its condition Ready")
