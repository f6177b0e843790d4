"""What the Kubernetes API keeps: objects, one version counter, the log that watches read, backups.

The version grows by itself ten times a second, as other writers' leases make it, so that a restored backup needs about
as long as it is old to reach the versions that devices have seen.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sim.world import World
from skerry_hub.ports import NAMESPACES, NODES, PODS, Conflict, NotFound, Obj, Resource

RATE_PER_S = 10
Name = tuple[str, str]


def copy(obj: Obj) -> Obj:
    """A deep copy of JSON."""
    made: Obj = marshal.loads(marshal.dumps(obj))
    return made


@dataclass(frozen=True, slots=True)
class Change:
    version: int
    plural: str
    type: str  # ADDED, MODIFIED, DELETED
    obj: Obj


@dataclass(frozen=True, slots=True)
class Backup:
    at: float
    version: int
    objects: dict[str, dict[Name, Obj]]


@dataclass(slots=True)
class Etcd:
    world: World
    name: str = "a"
    objects: dict[str, dict[Name, Obj]] = field(default_factory=dict)
    log: list[Change] = field(default_factory=list)
    compacted: int = 0  # versions up to here cannot be watched from
    listeners: dict[str, list[Callable[[], None]]] = field(default_factory=dict)  # by plural
    read: dict[object, int] = field(default_factory=dict)  # up to which version each watch has got the changes
    written: list[Callable[[Change], None]] = field(default_factory=list)  # checks see every write
    lives: int = 0  # grows with each restore: streams of an earlier one end
    _base: float = 0.0
    _version: int = 1
    _uids: int = 0

    def __post_init__(self) -> None:
        self._base = self.world.now
        for namespace in ("kube-system", "default"):
            self.create(NAMESPACES, "", {"metadata": {"name": namespace}})

    @property
    def version(self) -> int:
        """Where the API is now."""
        return max(self._version, int((self.world.now - self._base) * RATE_PER_S))

    def all(self, resource: Resource) -> dict[Name, Obj]:
        return self.objects.setdefault(resource.plural, {})

    def find(self, resource: Resource, namespace: str, name: str) -> Obj | None:
        return self.all(resource).get((namespace, name))

    def since(self, version: int) -> list[Change]:
        """The log after a version."""
        at = len(self.log)
        while at and self.log[at - 1].version > version:
            at -= 1
        return self.log[at:]

    # --- writes; what they give back is the caller's ------------------------------------------------------------------

    def create(self, resource: Resource, namespace: str, obj: Obj) -> Obj:
        made = copy(obj)
        meta = made.setdefault("metadata", {})
        if resource.namespaced:
            meta["namespace"] = namespace
        key = (namespace, meta["name"])
        if key in self.all(resource):
            raise Conflict(f"{resource.plural} {namespace}/{meta['name']} exists")
        self._uids += 1
        meta["uid"] = f"{resource.plural}-{self.name}{self.lives}-{self._uids}"
        meta["creationTimestamp"] = f"2027-01-01T{int(self.world.now) // 3600 % 24:02d}:00:00Z"
        return self._write("ADDED", resource, key, made)

    def change(self, resource: Resource, namespace: str, name: str, edit: Callable[[Obj], None]) -> Obj:
        """`edit` changes it in place; an edit that changes nothing is no write."""
        old = self.find(resource, namespace, name)
        if old is None:
            raise NotFound(f"{resource.plural} {namespace}/{name}")
        new = copy(old)
        edit(new)
        if new == old:
            return new
        return self._write("MODIFIED", resource, (namespace, name), new)

    def delete(self, resource: Resource, namespace: str, name: str, grace_s: int | None = None) -> None:
        """Pods on a node are deleted gracefully unless `grace_s` is 0 or they have ended."""
        old = self.find(resource, namespace, name)
        if old is None:
            raise NotFound(f"{resource.plural} {namespace}/{name}")
        if resource is PODS and grace_s != 0 and (old.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
            said = old["spec"].get("terminationGracePeriodSeconds", 30) if grace_s is None else grace_s

            def mark(pod: Obj) -> None:
                pod["metadata"].setdefault("deletionTimestamp", "2027-01-01T00:00:00Z")
                pod["metadata"]["deletionGracePeriodSeconds"] = said

            self.change(resource, namespace, name, mark)
            return
        self._write("DELETED", resource, (namespace, name), copy(old))

    # --- disasters ----------------------------------------------------------------------------------------------------

    def backup(self) -> Backup:
        return Backup(self.world.now, self.version, copy_all(self.objects))

    def restore(self, backup: Backup) -> None:
        self.objects = copy_all(backup.objects)
        self._version, self._base = backup.version, self.world.now - backup.version / RATE_PER_S
        self._cut(backup.version)

    def empty(self) -> None:
        """Another cluster in its place, with the same nodes registered."""
        nodes = [copy(node) for node in self.all(NODES).values()]
        self.objects, self.name = {}, self.name + "x"
        self._version, self._base = 1, self.world.now
        self._cut(0)
        for namespace in ("kube-system", "default"):
            self.create(NAMESPACES, "", {"metadata": {"name": namespace}})
        for node in nodes:
            meta = {"name": node["metadata"]["name"], "labels": node["metadata"]["labels"]}
            self.create(NODES, "", {"metadata": meta, "spec": {}, "status": {}})

    def compact(self) -> None:
        """A watch that has begun still gets what it has not read, as from an API server's own cache."""
        self.compacted = self.version
        low = min(self.read.values(), default=self.version)
        self.log = [change for change in self.log if change.version > low]

    # --- private ------------------------------------------------------------------------------------------------------

    def _cut(self, version: int) -> None:
        self.log.clear()
        self.compacted = version
        self.lives += 1
        self.ring_all()

    def _write(self, kind: str, resource: Resource, key: Name, obj: Obj) -> Obj:
        self._version = self.version + 1
        obj["metadata"]["resourceVersion"] = str(self._version)
        if kind == "DELETED":
            del self.all(resource)[key]
        else:
            self.all(resource)[key] = obj
        change = Change(self._version, resource.plural, kind, obj)
        self.log.append(change)
        for watcher in self.written:
            watcher(change)
        self._ring(resource.plural)
        return copy(obj)

    def ring_all(self) -> None:
        for plural in list(self.listeners):
            self._ring(plural)

    def _ring(self, plural: str) -> None:
        for listener in list(self.listeners.get(plural, ())):
            listener()


def copy_all(objects: Mapping[str, Mapping[Name, Obj]]) -> dict[str, dict[Name, Obj]]:
    """Objects are never changed in place, so the maps alone are copied."""
    return {plural: dict(kind) for plural, kind in objects.items()}
