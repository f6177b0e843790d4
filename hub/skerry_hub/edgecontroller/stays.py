"""Pods on devices keep the tolerations with which nothing evicts them from a device that is away. Decides when that is
written; which tolerations those are stands in `tolerations`."""

from __future__ import annotations

from collections.abc import Callable

from skerry.ports import Clock, Entropy
from skerry_hub.edgecontroller import tolerations
from skerry_hub.edgecontroller.work import Log, Work
from skerry_hub.limits import TOLERATION_WRITERS_MAX
from skerry_hub.ports import PODS, Cluster, ClusterError, Invalid, NotFound, Obj, Resource


class Stays:
    """`pod` finds a pod by its uid; `era` and `learn` are of the informer of pods."""

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        entropy: Entropy,
        log: Log,
        *,
        pod: Callable[[str], Obj | None],
        era: Callable[[Resource], int],
        learn: Callable[[Resource, Obj, int], None],
    ) -> None:
        self._cluster, self._log, self._pod, self._era, self._learn = cluster, log, pod, era, learn
        self._work = Work(self._write, TOLERATION_WRITERS_MAX, clock, entropy, log, "tolerations of pod")

    async def run(self) -> None:
        """Never returns."""
        await self._work.run()

    def look(self, pod: Obj) -> None:
        """A pod on a device, as it is now."""
        if not pod["metadata"].get("deletionTimestamp") and tolerations.lasting(pod.get("spec") or {}):
            self._work.add(str(pod["metadata"]["uid"]))

    async def _write(self, uid: str) -> None:
        pod = self._pod(uid)
        want = tolerations.lasting(pod.get("spec") or {}) if pod is not None else None
        if pod is None or want is None or pod["metadata"].get("deletionTimestamp"):
            return
        meta = pod["metadata"]
        same = {"uid": uid, "resourceVersion": meta["resourceVersion"]}  # the list is replaced as a whole
        era = self._era(PODS)
        try:
            now = await self._cluster.patch(
                PODS, meta["namespace"], meta["name"], {"metadata": same, "spec": {"tolerations": want}}
            )
        except NotFound:
            return
        except Invalid as why:
            self._log(f"pod {meta['namespace']}/{meta['name']} may be evicted: its tolerations stay: {why}")
            return
        self._learn(PODS, now, era)
        if tolerations.lasting(now.get("spec") or {}):
            raise ClusterError("the API does not keep its tolerations")
