"""The edge controller: four informers, the sets they give, and what goes back to the API. Wires, and decides when.

No set is given before every informer has synced and the store's identity is known, and a new listing of one collection
is a new listing of all: versions of different pasts must never stand in one set. Knows no broker and no session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Protocol

from skerry.model.desired import Key, Kind, Object
from skerry.model.report import OutboxItem
from skerry.ports import Clock, Entropy
from skerry_hub.edgecontroller import identity, status
from skerry_hub.edgecontroller.identity import ADOPT, Identity
from skerry_hub.edgecontroller.index import Index
from skerry_hub.edgecontroller.leases import Leases
from skerry_hub.edgecontroller.mirrors import Mirrors, is_mirror
from skerry_hub.edgecontroller.nodes import EndpointOf, Nodes
from skerry_hub.edgecontroller.readiness import Readiness
from skerry_hub.edgecontroller.registration import DEVICE_LABEL
from skerry_hub.edgecontroller.replicas import Replicas
from skerry_hub.edgecontroller.reports import Reports, tell
from skerry_hub.edgecontroller.seals import Seals
from skerry_hub.edgecontroller.stays import Stays
from skerry_hub.edgecontroller.target import Reference
from skerry_hub.edgecontroller.tokens import Tokens
from skerry_hub.edgecontroller.work import Log, Work
from skerry_hub.kube.informer import Informer, Name
from skerry_hub.limits import LEASE_DURATION_S, NODE_WRITERS_MAX
from skerry_hub.ports import (
    CONFIG_MAPS,
    NODES,
    PODS,
    SECRETS,
    Cluster,
    Invalid,
    NotFound,
    Obj,
    Resource,
)
from skerry_hub.sets import Target

IDENTITY = "identity"
OnOwn = Callable[[frozenset[str]], None]  # the devices of this replica; must neither block nor raise
OnSecret = Callable[[Name], None]  # hears of each Secret that comes, changes or goes
FOLLOWED: Mapping[Resource, Mapping[str, str]] = {  # with the selectors of what is followed
    PODS: {"fields": "spec.nodeName!="},
    CONFIG_MAPS: {},
    SECRETS: {},
    NODES: {"labels": f"{DEVICE_LABEL}=true"},
}
KINDS = {Kind.CONFIG_MAP: CONFIG_MAPS, Kind.SECRET: SECRETS}


class Audience(Protocol):
    """Who wants to know; called on the loop, must neither block nor raise."""

    def nodes(self, names: frozenset[str]) -> None:
        """All devices there are, whenever that changes."""

    def changed(self, node: str) -> None:
        """`target(node)` may be another one now."""


class EdgeController:
    """Serves the devices that `replicas` says are its own, or all without one. With `seals` no Secret of a set is in
    clear."""

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        entropy: Entropy,
        log: Log,
        *,
        replicas: Replicas | None = None,
        endpoint_of: EndpointOf = lambda _node: None,
        on_own: OnOwn = lambda _nodes: None,
        lease_s: int = LEASE_DURATION_S,
        on_secret: OnSecret = lambda _name: None,
        seals: Seals | None = None,
    ) -> None:
        self._cluster, self._clock, self._entropy, self._log = cluster, clock, entropy, log
        self._audience: Audience | None = None
        self._identity: Identity | None = None
        self._epoch_due = ""  # the epoch that is to be replaced
        self._reached: tuple[str, int] = ("", 0)  # the highest version seen of a store
        self._floor: tuple[str, int] = ("", 0)  # an epoch, and the version at which this process began to follow it
        self._doubt: tuple[str, int] = ("", 0)  # an epoch, and the version of it that a device has seen and we have not
        self._count = 0  # informers that are synced
        self.ready = asyncio.Event()  # set while every informer follows the API
        self.informers: Mapping[Resource, Informer] = {
            resource: Informer(
                cluster, resource, clock, entropy, log, **which,
                on_change=self._handler(resource), on_synced=self._synced,
            )
            for resource, which in FOLLOWED.items()
        }  # fmt: skip
        self._seals = seals
        self._tokens = Tokens(
            cluster, clock, entropy, log, pod=lambda uid: self._index.pod(uid), changed=self._set_changed
        )  # fmt: skip
        self._index = Index(self._set_changed, self._config, seals, self._tokens.token)
        self._chosen: dict[str, Mapping[Key, Object]] = {}
        self._own: frozenset[str] = frozenset()  # the devices that the audience knows of
        self._on_own, self._on_secret = on_own, on_secret
        self._replicas = replicas
        if replicas is not None:
            replicas.changed = self._shared_out
        self._nodes = Nodes(cluster, clock, entropy, log, self, endpoint_of)
        self.leases = Leases(cluster, clock, entropy, log, self._node_uid, lease_s)
        self._stays = Stays(cluster, clock, entropy, log, pod=self._index.pod, era=self.era, learn=self.learn)
        self._refusals = Work(self._write_refusals, NODE_WRITERS_MAX, clock, entropy, log, "events of node")
        self._store = Work(self._write_identity, 1, clock, entropy, log, "store")
        self._told: dict[str, Mapping[str, str]] = {}  # node → refusals (pod uid → problem) that are told
        self._pictures = Work(self._write_mirrors, NODE_WRITERS_MAX, clock, entropy, log, "mirror pods of node")
        self._mirrors = Mirrors(
            cluster, log, named=self._index.named, of_node=self._index.mirrors_of, node=self.node, era=self.era,
            later=self._pictures.add,
        )  # fmt: skip
        self.reports = Reports(
            cluster, clock, entropy, log, pod=self._index.pod, node=self.node, era=self.era, learn=self.learn,
            mirrors=self._mirrors,
        )  # fmt: skip
        self._readiness = Readiness(
            cluster, clock, entropy, log, pod=self._index.pod, pods_of=self._index.all_of, era=self.era,
            learn=self.learn,
        )  # fmt: skip

    def listen(self, audience: Audience) -> None:
        self._audience = audience

    async def run(self) -> None:
        """Never returns; only a bug ends it."""
        loops = [i.run() for i in self.informers.values()]
        loops += [w.run() for w in (self._nodes, self.leases, self._stays, self._refusals, self._store, self._pictures)]
        loops += [self._readiness.run(), self._tokens.run()]
        loops += [self._replicas.run()] if self._replicas is not None else []
        tasks = [asyncio.ensure_future(loop) for loop in loops]
        self._store.add(IDENTITY)
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    # --- cloudhub's Controller ----------------------------------------------------------------------------------------

    def target(self, node: str) -> Target | None:
        """The device's set as of now; None while it cannot be known."""
        if not self.ready.is_set() or self._tokens.pending(node):
            return None
        assert self._identity is not None
        version = self._version()
        self._reached = (self._identity.store, max(version, self._reached[1]))
        shown = self.node(node)
        adopted = (((shown or {}).get("metadata") or {}).get("annotations") or {}).get(ADOPT)
        return Target(
            store=self._identity.store,
            epoch=self._identity.epoch,
            resource_version=version,
            objects=self._objects(node),
            adopted=adopted == self._identity.epoch,
            floor=self._floor[1],
        )

    async def store_reports(self, node: str, items: Sequence[OutboxItem]) -> None:
        """Return once all of it is at the API, however long that takes. Raises nothing."""
        await self.ready.wait()
        await self.reports.store(node, items)

    def open_epoch(self, node: str, version: int) -> None:
        """A device has seen more of this store than it can have from here. Either another replica told it, or the API
        was restored: a new listing shows which (`_went_back`)."""
        if self._identity is not None:
            self._log(f"{node} has seen version {version}, and {self._version()} is known: listing the API anew")
            self._doubt = (self._identity.epoch, max(version, self._doubt[1]))
            self._relist()

    def presence(self, node: str, live: bool) -> None:
        """The node's Ready condition should say so, and its Lease."""
        self._nodes.presence(node, live)
        self.leases.live(node, live)
        self._readiness.presence(node, live)

    def held(self, node: str, held: bool, why: str) -> None:
        """The node's RestoredHub condition should say so."""
        self._nodes.held(node, held, why)

    def full(self, node: str, why: str) -> None:
        """The node's DiskPressure condition should say so."""
        self._nodes.full(node, why)

    def endpoint_changed(self, node: str) -> None:
        """`endpoint_of(node)` may answer otherwise now."""
        self._nodes.look(node)

    def report_counts(self) -> dict[str, int]:
        return asdict(self.reports.counts)

    # --- informers' changes -------------------------------------------------------------------------------------------

    def _handler(self, resource: Resource) -> Callable[[Name, Obj | None, Obj | None], None]:
        def pod(name: Name, before: Obj | None, now: Obj | None) -> None:
            self._index.pod_changed(name, now)
            self._want_tokens(name, before)
            if (node := self._mirrors.concerns(name, before, now)) in self._own:
                self._pictures.add(node)
            if now is not None:
                self._readiness.look(now)
                self._keep(now)

        def config_map(name: Name, _before: Obj | None, now: Obj | None) -> None:
            self._index.config_changed(Kind.CONFIG_MAP, name)
            if name == (identity.NAMESPACE, identity.NAME):
                self._identity_changed(now)

        def secret(name: Name, _before: Obj | None, _now: Obj | None) -> None:
            self._index.config_changed(Kind.SECRET, name)
            self._on_secret(name)
            if self._seals is not None and (node := self._seals.node_of(name)):
                self._set_changed(node)

        handlers = {PODS: pod, CONFIG_MAPS: config_map, SECRETS: secret, NODES: self._node_changed}
        return handlers[resource]

    def _want_tokens(self, name: Name, before: Obj | None) -> None:
        found = self._index.tokens(name)
        if before is not None and (found is None or found[1] != before["metadata"]["uid"]):
            self._tokens.gone(str(before["metadata"]["uid"]))
        if found is not None and found[0] in self._own:
            self._tokens.want(*found)

    def _keep(self, pod: Obj) -> None:
        """A pod on a device is not evicted from it."""
        if (pod.get("spec") or {}).get("nodeName") in self._own and not is_mirror(pod):
            self._stays.look(pod)

    def keys_changed(self, node: str) -> None:
        """The keys that the device's Secrets are sealed to may be others now."""
        self._set_changed(node)

    def _node_changed(self, name: Name, before: Obj | None, now: Obj | None) -> None:
        node = name[1]
        self._nodes.look(node)
        if not self.ready.is_set():
            return
        if (before is None) != (now is None):
            self._tell_nodes()
        annotations = [((o or {}).get("metadata") or {}).get("annotations") or {} for o in (before, now)]
        if self._audience is not None and node in self._own and annotations[0].get(ADOPT) != annotations[1].get(ADOPT):
            self._audience.changed(node)

    def _set_changed(self, node: str) -> None:
        self._chosen.pop(node, None)
        if self._audience is not None and self.ready.is_set() and node in self._own:
            self._audience.changed(node)

    def _identity_changed(self, now: Obj | None) -> None:
        """The epoch's ConfigMap is another one: by another replica, by us, or by a person's hand."""
        epoch = identity.epoch_of(now) if now is not None else ""
        if self._identity is not None and epoch != self._identity.epoch:
            self._identity = Identity(self._identity.store, epoch) if epoch else None
            if not epoch:
                self._store.add(IDENTITY)
            self._synced(anew=True)

    def _synced(self, anew: bool = False) -> None:
        """An informer has synced or lost its place, or the identity came."""
        count = sum(i.synced for i in self.informers.values())
        lost, self._count = count < self._count, count
        if lost:
            self._remember()
            self._identity = None  # whoever answers next may be another store
            self._store.add(IDENTITY)
            self._relist()
        ready = count == len(self.informers) and self._identity is not None and not self._went_back()
        if not ready:
            self.ready.clear()
        elif anew or not self.ready.is_set():
            self._follow()
            self.ready.set()
            self._tell_nodes()
            for node in sorted(self._own):
                self._take_over(node)
                if self._audience is not None:
                    self._audience.changed(node)

    def _follow(self) -> None:
        """Where this process stands when its devices are told again. Alone, it stands where it began: whatever a device
        has beyond that, it has from here. Beside other replicas each new listing counts, for those tell devices too."""
        assert self._identity is not None
        if self._replicas is not None or self._floor[0] != self._identity.epoch:
            self._floor = self._identity.epoch, self._version()

    def _remember(self) -> None:
        """How far this store got, before its listings are made anew."""
        if self._identity is not None:
            store, reached = self._reached
            seen = self._version()
            self._reached = (self._identity.store, max(seen, reached if store == self._identity.store else 0))

    def _went_back(self) -> bool:
        """Whether the API shows less than it did, here or to a device: it was restored, so a new epoch begins. The
        epoch that the backup holds is none to go on with: devices may have seen more of it than there is now."""
        assert self._identity is not None
        version = self._version()
        (store, reached), self._reached = self._reached, (self._identity.store, version)
        (epoch, doubted), self._doubt = self._doubt, ("", 0)
        doubted = doubted if epoch == self._identity.epoch else 0
        reached = max(reached, doubted)
        alone = self._replicas is None and self._floor[0] == epoch and doubted > self._floor[1]
        # Both are seen even if the versions have caught up meanwhile.
        older = alone or any(i.went_back for i in self.informers.values())
        for informer in self.informers.values():
            informer.went_back = False
        if store != self._identity.store or (version >= reached and not older):
            return False
        self._log(f"the API went back from version {reached} to {version}: it was restored, a new epoch begins")
        self._epoch_due, self._identity = self._identity.epoch, None
        self._store.add(IDENTITY)
        return True

    # --- whose devices ------------------------------------------------------------------------------------------------

    def _mine(self, node: str) -> bool:
        return self._replicas is None or self._replicas.mine(node)

    def _tell_nodes(self) -> None:
        """Sessions, wishes and Leases of a device come and go together."""
        before = self._own
        self._own = frozenset(name for _, name in self.informers[NODES].objects if self._mine(name))
        for node in before - self._own:
            self._nodes.forget(node)
            self.leases.live(node, False)
            self._readiness.presence(node, False)
            self._told.pop(node, None)
            self._mirrors.forget(node)
            self._chosen.pop(node, None)
            self._tokens.forget(node)
            if self._seals is not None:
                self._seals.forget(node)
        for node in self._own - before:
            for pod in self._index.pods_of(node):
                self._want_tokens((pod["metadata"]["namespace"], pod["metadata"]["name"]), None)
        self._on_own(self._own)
        if self._audience is not None:
            self._audience.nodes(self._own)

    def _shared_out(self) -> None:
        """The replicas have changed. Devices that another one had may have seen more of the API than was told here, so
        it is listed anew; their sessions begin at once."""
        before = self._own
        self._tell_nodes()
        if self._own - before and self.ready.is_set():
            self._relist()

    def _relist(self) -> None:
        for informer in self.informers.values():
            informer.relist()

    def _take_over(self, node: str) -> None:
        """What may have been left undone for a device."""
        self._nodes.look(node)
        self._pictures.add(node)
        for pod in self._index.pods_of(node):
            self._keep(pod)

    def _version(self) -> int:
        return max(i.resource_version for i in self.informers.values())

    # --- look-ups -----------------------------------------------------------------------------------------------------

    def node(self, name: str) -> Obj | None:
        """The node as the informer has it, if it is a device of this replica."""
        return self.informers[NODES].objects.get(("", name)) if self._mine(name) else None

    def _node_uid(self, name: str) -> str | None:
        shown = self.node(name)
        return str(shown["metadata"]["uid"]) if shown is not None else None

    def era(self, resource: Resource) -> int:
        """Which listing the informer's contents follow."""
        return self.informers[resource].era

    def learn(self, resource: Resource, obj: Obj, era: int) -> None:
        """What a write has answered that began in `era`."""
        self.informers[resource].learn(obj, era)

    def _config(self, ref: Reference) -> Obj | None:
        return self.informers[KINDS[ref.kind]].objects.get((ref.namespace, ref.name))

    def _objects(self, node: str) -> Mapping[Key, Object]:
        known = self._chosen.get(node)
        if known is None:
            chosen = self._index.chosen(node)
            known = self._chosen[node] = chosen.objects
            if chosen.refused != self._told.get(node, {}):
                self._told[node] = chosen.refused
                self._refusals.add(node)
        return known

    # --- writes -------------------------------------------------------------------------------------------------------

    async def _write_mirrors(self, node: str) -> None:
        if self.ready.is_set():  # else when it is: see _take_over
            await self.reports.write_mirrors(node)

    async def _write_refusals(self, node: str) -> None:
        """Events on the pods that do not fit."""
        for uid, problem in self._told.get(node, {}).items():
            pod = self._index.pod(uid)
            if pod is None:
                continue
            with suppress(NotFound, Invalid):  # the namespace is going, and the pod with it
                await tell(self._cluster, status.refusal_event(pod, problem, node, self._clock.wall()))

    async def _write_identity(self, _key: str) -> None:
        """Learn or make the store's identity, or open a new epoch."""
        due, self._epoch_due = self._epoch_due, ""
        try:
            if due:
                await identity.open_epoch(self._cluster, self._entropy, due)
            found = await identity.establish(self._cluster, self._entropy)
        except BaseException:
            self._epoch_due = self._epoch_due or due
            raise
        changed = found != self._identity
        self._identity = found
        if changed:
            self._synced(anew=True)
