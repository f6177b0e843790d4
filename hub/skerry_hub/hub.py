"""The hub proper: the edge controller and the cloud hub's sessions, wired to each other and to nothing else.

Takes a Cluster, a Broker, a Clock and an Entropy; the same code runs on the real ones and in the simulator.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any, Protocol

from skerry.ports import Clock, Crypto, Entropy
from skerry.wire.guard import About, HubGuard, Signer
from skerry_hub.cloudhub.protect import StreamFrames
from skerry_hub.cloudhub.sessions import Sessions
from skerry_hub.cloudhub.streams import DeviceStreams
from skerry_hub.edgecontroller.controller import EdgeController, OnOwn
from skerry_hub.edgecontroller.nodes import EndpointOf
from skerry_hub.edgecontroller.replicas import Replicas
from skerry_hub.edgecontroller.seals import Seals
from skerry_hub.limits import LEASE_DURATION_S
from skerry_hub.ports import SECRETS, Broker, Cluster, Obj

Secrets = Callable[[], Mapping[tuple[str, str], Obj]]  # all of the API, by namespace and name


class Identities(Protocol):
    """Who the devices are, by their names."""

    def signing_key(self, node: str, statement: bytes) -> bytes:
        """The Ed25519 public key that it was enrolled with, or nothing. `statement`: of its authority, as it shows it,
        or nothing."""

    def sealing_key(self, node: str) -> bytes:
        """The X25519 public key that it was enrolled with, or nothing."""

    def certificate_end(self, node: str) -> float:
        """Until when its certificates are valid, in seconds since 1970; 0 where that is not known, or it is revoked."""

    def node_of(self, name: tuple[str, str]) -> str:
        """The device whose identity the Secret of that namespace and name holds; empty for any other."""


@dataclass(frozen=True, slots=True)
class Protection:
    """What the hub protects frames and Secrets with. `seal_key` is secret and the same at all replicas. `identities`
    tells, of what only a device itself can show, whose keys became known. `trust`: which authorities devices are to
    believe (wire.enrolment.trust_id). `words`: numbers of what is signed outside sessions, of this process as its
    signing key is."""

    crypto: Crypto
    signer: Callable[[], Signer]
    seal_key: bytes = field(repr=False)
    identities: Callable[[Secrets, Callable[[str], None]], Identities]
    trust: bytes = b""
    words: Callable[[], int] = field(default_factory=lambda: count(1).__next__)

    def guard_of(self, identities: Identities, wall: Callable[[], float], node: str) -> HubGuard:
        about = lambda: About(int(wall()), self.trust)  # noqa: E731
        return HubGuard(self.crypto, self.signer, partial(identities.signing_key, node), about, self.words)

    def seals(self, identities: Identities) -> Seals:
        return Seals(self.crypto, self.seal_key, identities.sealing_key, identities.node_of)


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
        identities = protection.identities(self._secrets, self._keys_changed) if protection is not None else None
        self.controller = EdgeController(
            cluster, clock, entropy, log, replicas=self.replicas, endpoint_of=endpoint_of, on_own=on_own,
            lease_s=lease_s, on_secret=self._secret_changed,
            seals=protection.seals(identities) if protection and identities else None,
        )  # fmt: skip
        self._ends: dict[str, float] = {}  # of devices' certificates, seconds since 1970
        self._identities, self._trust = identities, protection.trust if protection is not None else b""
        self.on_identity: Callable[[], None] = lambda: None  # hears that some device's identity may be another
        guard_of = partial(protection.guard_of, identities, clock.wall) if protection and identities else None
        self.sessions = Sessions(broker, self.controller, clock, entropy, log, guard_of)
        self.controller.listen(self.sessions)
        frames_of = partial(frames_for, self.sessions) if protection is not None else None
        self.streams = DeviceStreams(bulk, self.sessions.dial, entropy, log, frames_of)

    def _secret_changed(self, secret: tuple[str, str]) -> None:
        node = self._identities.node_of(secret) if self._identities is not None else ""
        if node and self._identities is not None:
            self._ends[node] = self._identities.certificate_end(node)
            if self.sessions.identity_changed(node):
                self.streams.cut(node)
            self.on_identity()

    def _secrets(self) -> Mapping[tuple[str, str], Obj]:
        return self.controller.informers[SECRETS].objects

    def _keys_changed(self, node: str) -> None:
        self.controller.keys_changed(node)

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
        shown = self.sessions.snapshot()
        for node, device in shown["devices"].items():
            device["certificate_end_s"] = self._ends.get(node) or None
        return {
            **shown,
            "trust": self._trust.hex(),
            "api": informers,
            "reports": self.controller.report_counts(),
            "streams": self.streams.snapshot(),
            "leases": {"kept": len(self.controller.leases), "renewals": self.controller.leases.renewals},
            "replicas": list(self.replicas.members) if self.replicas is not None else [],
        }
