"""One Lease for each device whose session lives, in kube-node-lease as kubelet's: renewed until the session ends.

Whoever judges nodes by their Lease (a cluster's node lifecycle controller) so learns of a device that is away, and of a
hub that is. One timer for all; one write per renewal. Source: Kubernetes documentation, "Leases", node heartbeats.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from skerry.ports import Clock, Entropy
from skerry_hub.edgecontroller.work import Log, Work
from skerry_hub.limits import LEASE_DURATION_S, LEASE_RENEW_PART, LEASE_WRITERS_MAX
from skerry_hub.ports import LEASES, Cluster, Conflict, NotFound, Obj

NAMESPACE = "kube-node-lease"


class Leases:
    """`uid` gives the uid of a node's object, None when there is none: then nothing is written."""

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        entropy: Entropy,
        log: Log,
        uid: Callable[[str], str | None],
        duration_s: int = LEASE_DURATION_S,
    ) -> None:
        self._cluster, self._clock, self._entropy, self._uid = cluster, clock, entropy, uid
        self._duration_s = duration_s
        self._due: list[tuple[float, str]] = []
        self._next: dict[str, float] = {}  # node → when; only of devices that are there
        self._bell = asyncio.Event()
        self._work = Work(self._renew, LEASE_WRITERS_MAX, clock, entropy, log, "lease of node")
        self.renewals = 0  # counter

    def __len__(self) -> int:
        """Leases that are kept."""
        return len(self._next)

    def live(self, node: str, live: bool) -> None:
        """The device's session lives or does not."""
        if not live:
            self._next.pop(node, None)
        elif node not in self._next:
            self._next[node] = self._clock.now()
            self._work.add(node)

    async def run(self) -> None:
        """Never returns."""
        work = asyncio.ensure_future(self._work.run())
        try:
            while True:
                await self._wait(work)
                now = self._clock.now()
                while self._due and self._due[0][0] <= now:
                    when, node = heapq.heappop(self._due)
                    if self._next.get(node) == when:
                        self._work.add(node)
        finally:
            work.cancel()

    # --- private ------------------------------------------------------------------------------------------------------

    async def _wait(self, work: asyncio.Future[None]) -> None:
        self._bell.clear()
        waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(self._bell.wait())]
        if self._due:
            waits.append(asyncio.ensure_future(self._clock.sleep_until(self._due[0][0])))
        try:
            await asyncio.wait([*waits, work], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if work.done():
            work.result()

    async def _renew(self, node: str) -> None:
        if node not in self._next:
            return
        uid = self._uid(node)
        if uid is not None:
            await self._write(node, uid)
        if node in self._next:  # it may have gone meanwhile
            low, high = LEASE_RENEW_PART
            when = self._clock.now() + self._duration_s * (low + (high - low) * self._entropy.uniform())
            self._next[node] = when
            heapq.heappush(self._due, (when, node))
            self._bell.set()

    async def _write(self, node: str, uid: str) -> None:
        spec = {
            "holderIdentity": node,
            "leaseDurationSeconds": self._duration_s,
            "renewTime": micro_time(self._clock.wall()),
        }
        try:
            await self._cluster.patch(LEASES, NAMESPACE, node, {"spec": spec})
        except NotFound:
            await self._create(node, uid, spec)
        self.renewals += 1

    async def _create(self, node: str, uid: str, spec: Obj) -> None:
        owner = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid}
        meta = {"name": node, "namespace": NAMESPACE, "ownerReferences": [owner]}
        lease: Obj = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}
        try:
            await self._cluster.create(LEASES, NAMESPACE, lease)
        except Conflict:  # another replica was faster: its renewal is as good
            return


def micro_time(wall: float) -> str:
    """RFC 3339 in microseconds, as Kubernetes' MicroTime."""
    return datetime.fromtimestamp(max(0.0, wall), timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
