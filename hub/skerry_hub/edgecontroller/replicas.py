"""Which replicas of the hub there are, and which of them has which device. Decides that, and nothing about devices.

Each replica renews a Lease of its own in kube-system and looks at those of the others. One whose Lease did not change
for REPLICA_DEAD_S on this replica's clock is dead (clocks are never compared), and the devices are shared out among
the living by rendezvous hashing: a replica that comes or goes moves only its own share. A replica that cannot renew
gives its devices up before the others may take them; where it could not even do that, two serve a device for a while,
which costs a few messages: what a device runs is compared by content and never goes back, and an Ack follows only what
the API has stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from skerry.ports import Clock, Entropy
from skerry_hub.edgecontroller.leases import micro_time
from skerry_hub.edgecontroller.work import Log
from skerry_hub.limits import REPLICA_DEAD_S, REPLICA_FORGET_S, REPLICA_RENEW_S, REPLICA_YIELD_S
from skerry_hub.ports import LEASES, Cluster, ClusterAway, ClusterError, Conflict, NotFound, Obj

NAMESPACE = "kube-system"
LABEL = "skerry.dev/hub-replica"
PREFIX = "skerry-hub-"
TOKEN_BYTES = 6


def owner(node: str, replicas: Iterable[str]) -> str:
    """The replica that has this device: the one with the highest hash of both names. There must be one."""
    return max(replicas, key=lambda name: (sha256(f"{name}\0{node}".encode()).digest(), name))


@dataclass(slots=True)
class Seen:
    """Another replica's Lease."""

    said: tuple[str, str]  # holder and time of its renewal, as it says
    at: float  # when that last changed, on our clock
    uid: str


class Replicas:
    """`changed` is called on the loop whenever `mine` may answer otherwise."""

    def __init__(self, cluster: Cluster, clock: Clock, entropy: Entropy, log: Log, name: str) -> None:
        """`name` is this replica's, as no other's (a pod's name)."""
        self._cluster, self._clock, self._entropy, self._log = cluster, clock, entropy, log
        self.name, self._holder = name, f"{name}_{entropy.token(TOKEN_BYTES).hex()}"
        self._others: dict[str, Seen] = {}
        self._renewed_at = -REPLICA_YIELD_S
        self.members: tuple[str, ...] = ()  # the living, this one included; empty: no devices may be served
        self.known = asyncio.Event()  # set once `members` was known
        self.changed: Callable[[], None] = lambda: None

    def mine(self, node: str) -> bool:
        """Whether this replica is to serve the device now."""
        return bool(self.members) and owner(node, self.members) == self.name

    async def run(self) -> None:
        """Never returns."""
        failed = False
        while True:
            began = self._clock.now()
            self._yield(began)
            try:
                await self._within(self._round(), max(REPLICA_RENEW_S, self._renewed_at + REPLICA_YIELD_S - began))
                failed = False
            except ClusterError as why:
                if not failed:
                    self._log(f"replica {self.name}: {why}")
                failed = True
            now = self._clock.now()
            self._yield(now)
            pause = REPLICA_RENEW_S * (0.9 + 0.2 * self._entropy.uniform())
            await self._clock.sleep_until(max(now, began + pause) if not failed else now + pause / 2)

    async def leave(self) -> None:
        """Give everything up; the others need not wait for this replica's death. Raises nothing."""
        self._set(())
        with suppress(ClusterError):
            await self._within(self._cluster.delete(LEASES, NAMESPACE, PREFIX + self.name), REPLICA_RENEW_S)

    # --- private ------------------------------------------------------------------------------------------------------

    async def _within(self, round_: Coroutine[Any, Any, None], seconds: float) -> None:
        """Raises ClusterAway when the API is too slow for this to be worth anything."""
        task = asyncio.ensure_future(round_)
        nap = asyncio.ensure_future(self._clock.sleep_until(self._clock.now() + seconds))
        try:
            await asyncio.wait({task, nap}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise ClusterAway("the API is too slow for this replica's Lease")
            task.result()
        finally:
            for one in (task, nap):
                one.cancel()

    async def _round(self) -> None:
        listing = await self._cluster.list(LEASES, namespace=NAMESPACE, labels=f"{LABEL}=true")
        self._look(listing.items, self._clock.now())
        began = self._clock.now()
        await self._renew()
        now = self._clock.now()
        self._yield(now)  # this renewal came too late for what was had before it
        self._renewed_at = began
        living = [name for name, seen in self._others.items() if now < seen.at + REPLICA_DEAD_S]
        if now < self._renewed_at + REPLICA_YIELD_S:
            self._set(tuple(sorted([*living, self.name])))
        await self._forget(now)

    def _yield(self, now: float) -> None:
        """Give the devices up where others may have taken them: the API was away, or this process stood still. Even if
        they are shared out to this replica again, what it knew of their sessions is old."""
        if self._others and now >= self._renewed_at + REPLICA_YIELD_S:
            self._set(())

    async def _renew(self) -> None:
        spec = {
            "holderIdentity": self._holder,
            "leaseDurationSeconds": int(REPLICA_DEAD_S),
            "renewTime": micro_time(self._clock.wall()),
        }
        name = PREFIX + self.name
        try:
            await self._cluster.patch(LEASES, NAMESPACE, name, {"spec": spec})
        except NotFound:
            meta = {"name": name, "namespace": NAMESPACE, "labels": {LABEL: "true"}}
            lease: Obj = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}
            await self._cluster.create(LEASES, NAMESPACE, lease)

    def _look(self, leases: Iterable[Obj], now: float) -> None:
        found: dict[str, Seen] = {}
        for lease in leases:
            meta, spec = lease["metadata"], lease.get("spec") or {}
            name = str(meta["name"]).removeprefix(PREFIX)
            said = (str(spec.get("holderIdentity")), str(spec.get("renewTime")))
            if name == self.name:
                if self.members and said[0] != self._holder:
                    self._log(f"replica {name}: another process has this name ({said[0]})")
                continue
            before = self._others.get(name)
            found[name] = before if before is not None and before.said == said else Seen(said, now, str(meta["uid"]))
        self._others = found

    async def _forget(self, now: float) -> None:
        """Delete the Leases of replicas that are long dead."""
        for name, seen in list(self._others.items()):
            if now >= seen.at + REPLICA_FORGET_S:
                try:
                    await self._cluster.delete(LEASES, NAMESPACE, PREFIX + name, uid=seen.uid)
                except (Conflict, NotFound):
                    continue

    def _set(self, members: tuple[str, ...]) -> None:
        if members != self.members:
            self.members = members
            self.known.set()
            self._log(f"replica {self.name}: the hub is {', '.join(members) or 'not to be told'}")
            self.changed()
