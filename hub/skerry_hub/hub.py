"""The hub proper: the edge controller and the cloud hub's sessions, wired to each other and to nothing else.

Takes a Cluster, a Broker, a Clock and an Entropy; the same code runs on the real ones and in the simulator.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from skerry.ports import Clock, Crypto, Entropy
from skerry.wire.guard import HubGuard, Signer
from skerry_hub.cloudhub.protect import StreamFrames
from skerry_hub.cloudhub.sessions import Sessions
from skerry_hub.cloudhub.streams import DeviceStreams
from skerry_hub.edgecontroller.controller import EdgeController, OnOwn
from skerry_hub.edgecontroller.nodes import EndpointOf
from skerry_hub.edgecontroller.replicas import Replicas
from skerry_hub.limits import LEASE_DURATION_S
from skerry_hub.ports import SECRETS, Broker, Cluster, Obj


@dataclass(frozen=True, slots=True)
class Protection:
    """What the hub protects frames with. `key_in`: the Ed25519 key that a device was enrolled with, among all Secrets
    by namespace and name; or nothing. `node_of`: whose identity a Secret holds, or nothing."""

    crypto: Crypto
    signer: Callable[[], Signer]
    key_in: Callable[[Mapping[tuple[str, str], Obj], str], bytes]
    node_of: Callable[[tuple[str, str]], str] = lambda _secret: ""

    def guard_of(self, secrets: Callable[[], Mapping[tuple[str, str], Obj]], node: str) -> HubGuard:
        return HubGuard(self.crypto, self.signer, lambda: self.key_in(secrets(), node))


def frames_for(sessions: Sessions, node: str, epoch: bytes) -> StreamFrames:
    """What protects an epoch of a device's streams: keys of the session that it was asked for in."""
    return StreamFrames(epoch, partial(sessions.secrets, node, epoch))


class Hub:
    """`replica` is this process's name among several that share the devices; empty: it serves them all. `endpoint_of`
    says where logs and exec of a node are served, `on_own` hears which devices are this replica's, whenever that
    changes. `bulk` is the connection for streams, opened with the first of them."""

    def __init__(
        self,
        cluster: Cluster,
        broker: Broker,
        bulk: Broker,
        clock: Clock,
        entropy: Entropy,
        log: Callable[[str], None],
        *,
        replica: str = "",
        lease_s: int = LEASE_DURATION_S,
        endpoint_of: EndpointOf = lambda _node: None,
        on_own: OnOwn = lambda _nodes: None,
        protection: Protection | None = None,
    ) -> None:
        self.replicas = Replicas(cluster, clock, entropy, log, replica) if replica else None
        self.controller = EdgeController(
            cluster, clock, entropy, log, replicas=self.replicas, endpoint_of=endpoint_of, on_own=on_own,
            lease_s=lease_s, on_secret=self._secret_changed,
        )  # fmt: skip
        self._node_of = protection.node_of if protection is not None else lambda _secret: ""
        self.on_identity: Callable[[], None] = lambda: None  # hears that some device's identity may be another
        secrets = lambda: self.controller.informers[SECRETS].objects  # noqa: E731
        guard_of = partial(protection.guard_of, secrets) if protection is not None else None
        self.sessions = Sessions(broker, self.controller, clock, entropy, log, guard_of)
        self.controller.listen(self.sessions)
        frames_of = partial(frames_for, self.sessions) if protection is not None else None
        self.streams = DeviceStreams(bulk, self.sessions.dial, entropy, log, frames_of)

    def _secret_changed(self, secret: tuple[str, str]) -> None:
        node = self._node_of(secret)
        if node:
            if self.sessions.identity_changed(node):
                self.streams.cut(node)
            self.on_identity()

    async def run(self) -> None:
        """Never returns; only a bug ends it. Holds no state that the API does not have, so it may be killed."""
        tasks = [asyncio.ensure_future(self.controller.run()), asyncio.ensure_future(self.sessions.run())]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.streams.close()

    async def leave(self) -> None:
        """Before this process ends: let the other replicas have its devices at once. Raises nothing."""
        if self.replicas is not None:
            await self.replicas.leave()

    async def ready(self) -> None:
        """Return once the API is followed, the replicas are known and the broker is connected."""
        await self.controller.ready.wait()
        if self.replicas is not None:
            await self.replicas.known.wait()
        await self.sessions.connected.wait()

    def snapshot(self) -> dict[str, Any]:
        """Counters and queues of this moment, fit for JSON; docs/operating.md explains them."""
        informers = {
            resource.plural: {
                "synced": i.synced,
                "objects": len(i.objects),
                "resourceVersion": i.resource_version,
                "lists": i.lists,
                "watches": i.watches,
                "failures": i.failures,
                "silent_s": i.silent_s,
            }
            for resource, i in self.controller.informers.items()
        }
        return {
            **self.sessions.snapshot(),
            "api": informers,
            "reports": self.controller.report_counts(),
            "streams": self.streams.snapshot(),
            "leases": {"kept": len(self.controller.leases), "renewals": self.controller.leases.renewals},
            "replicas": list(self.replicas.members) if self.replicas is not None else [],
        }
