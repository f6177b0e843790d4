"""Which device needs which objects: pods by node, and ConfigMaps and Secrets by the pods that name them.

Built from the informers' changes, one at a time; answers with model objects whose bytes stay the same while the object
does. Touches nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from skerry.model.desired import Kind, Object
from skerry_hub.edgecontroller.mirrors import is_mirror
from skerry_hub.edgecontroller.projected import (
    Missing,
    Projection,
    TokenSource,
    composed,
    projections,
)
from skerry_hub.edgecontroller.seals import Seals
from skerry_hub.edgecontroller.target import (
    Chosen,
    Reference,
    Refusal,
    Wanted,
    choose,
    config_object,
    pod_object,
    references,
    usable,
)
from skerry_hub.ports import Obj

Name = tuple[str, str]
Seal = Callable[[Object | Refusal], Object | Refusal]
TokenOf = Callable[[str, TokenSource], str]  # of a pod's uid; raises Missing
KIND_NAMES = {Kind.CONFIG_MAP: "ConfigMap", Kind.SECRET: "Secret"}


@dataclass(slots=True)
class PodEntry:
    obj: Obj
    node: str
    wanted: Object | Refusal
    refs: tuple[Reference, ...]  # they travel
    made: tuple[Projection, ...] = ()  # of what else it names a Secret is made, which travels
    last: dict[str, Object] = field(default_factory=dict, repr=False)  # by volume: that Secret as it was made last

    @property
    def uses(self) -> set[Reference]:
        """All ConfigMaps and Secrets that take part in what travels."""
        namespace = self.obj["metadata"]["namespace"]
        return {*self.refs, *(Reference(kind, namespace, name) for one in self.made for kind, name in one.named)}

    @property
    def tokens(self) -> tuple[TokenSource, ...]:
        return tuple(token for one in self.made for token in one.tokens)


def _no_token(_uid: str, _source: TokenSource) -> str:
    raise Missing("tokens of service accounts are not asked for here")


class Index:
    """`changed(node)` is called for every node whose set may be another one now."""

    def __init__(
        self,
        changed: Callable[[str], None],
        configs: Callable[[Reference], Obj | None],
        seals: Seals | None = None,
        token_of: TokenOf = _no_token,
    ) -> None:
        """`configs` looks up a ConfigMap or Secret in the informers; without `seals` Secrets travel in clear."""
        self._changed, self._configs, self._seals, self._token_of = changed, configs, seals, token_of
        self._pods: dict[Name, PodEntry] = {}
        self._uids: dict[str, Name] = {}
        self._nodes: dict[str, set[Name]] = {}  # the pods that the node should run
        self._mirrors: dict[str, set[Name]] = {}  # those that only show what it runs by itself
        self._users: dict[Reference, set[Name]] = {}
        self._parts: dict[Reference, Object | Refusal] = {}  # only of objects that a pod names

    def pod(self, uid: str) -> Obj | None:
        """The API's pod of this uid, on any node."""
        name = self._uids.get(uid)
        return self._pods[name].obj if name is not None else None

    def named(self, name: Name) -> Obj | None:
        """The API's pod of this name, on any node."""
        entry = self._pods.get(name)
        return entry.obj if entry is not None else None

    def tokens(self, name: Name) -> tuple[str, str, tuple[TokenSource, ...]] | None:
        """The node and the uid of the pod of this name, and the tokens that it asks for; None where there is none."""
        entry = self._pods.get(name)
        return (entry.node, str(entry.obj["metadata"]["uid"]), entry.tokens) if entry is not None else None

    def mirrors_of(self, node: str) -> Iterator[Obj]:
        for name in sorted(self._mirrors.get(node, ())):
            yield self._pods[name].obj

    def pods_of(self, node: str) -> Iterator[Obj]:
        for name in sorted(self._nodes.get(node, ())):
            yield self._pods[name].obj

    def all_of(self, node: str) -> Iterator[Obj]:
        """Those and the mirrors."""
        yield from self.pods_of(node)
        yield from self.mirrors_of(node)

    def chosen(self, node: str) -> Chosen:
        """The set of a device."""
        seal = self._seals.begin(node) if self._seals is not None else None
        return choose(self._wanted(self._pods[name], seal) for name in self._nodes.get(node, ()))

    def pod_changed(self, name: Name, obj: Obj | None) -> None:
        """A pod as the informer has it now."""
        before = self._pods.get(name)
        if obj is not None and before is not None and before.obj["metadata"]["uid"] != obj["metadata"]["uid"]:
            self._remove(name, before)
            before = None
        if obj is None or not (obj.get("spec") or {}).get("nodeName"):
            if before is not None:
                self._remove(name, before)
            return
        if before is not None and is_mirror(before.obj) != is_mirror(obj):
            self._remove(name, before)
            before = None
        if is_mirror(obj):
            self._pods[name] = PodEntry(obj, str(obj["spec"]["nodeName"]), Refusal("is a mirror"), ())
            self._uids[obj["metadata"]["uid"]] = name
            self._mirrors.setdefault(str(obj["spec"]["nodeName"]), set()).add(name)
            return
        wanted, refs, made = _read_pod(obj)
        node = str(obj["spec"]["nodeName"])
        if before is not None:
            wanted = _same(before.wanted, wanted)
        last = before.last if before is not None else {}
        entry = self._pods[name] = PodEntry(obj, node, wanted, refs, made, last)
        self._uids[obj["metadata"]["uid"]] = name
        self._nodes.setdefault(node, set()).add(name)
        for ref in entry.uses:
            self._users.setdefault(ref, set()).add(name)
        for ref in before.uses - entry.uses if before is not None else ():
            self._unuse(ref, name)
        if before is None or before.wanted is not entry.wanted or before.refs != refs:
            self._changed(node)

    def config_changed(self, kind: Kind, name: Name) -> None:
        """A ConfigMap or Secret has changed, come or gone."""
        ref = Reference(kind, *name)
        before = self._parts.pop(ref, None)
        users = self._users.get(ref)
        if not users:
            return
        now = self._part(ref)
        if before is not None and now is not None:
            now = self._parts[ref] = _same(before, now)
        if now is not before:
            for node in sorted({self._pods[user].node for user in users}):
                self._changed(node)

    # --- private ------------------------------------------------------------------------------------------------------

    def _wanted(self, entry: PodEntry, seal: Seal | None) -> Wanted:
        there = []
        for ref in entry.refs:
            part = self._part(ref)
            if part is not None:
                part = seal(part) if seal is not None and ref.kind is Kind.SECRET else part
                there.append((f"{KIND_NAMES[ref.kind]} {ref.namespace}/{ref.name}", part))
        for one in entry.made:
            part = self._made(entry, one)
            there.append((f"volume {one.volume}:", seal(part) if seal is not None else part))
        meta = entry.obj["metadata"]
        return Wanted(entry.wanted, meta["uid"], str(meta.get("creationTimestamp") or ""), tuple(there))

    def _made(self, entry: PodEntry, one: Projection) -> Object | Refusal:
        """The Secret of a volume. What is missing now takes nothing from a device that has it."""
        uid, namespace = str(entry.obj["metadata"]["uid"]), entry.obj["metadata"]["namespace"]

        def find(kind: Kind, name: str) -> Obj | None:
            return self._configs(Reference(kind, namespace, name))

        try:
            whole, left_out = composed(entry.obj, one, lambda source: self._token_of(uid, source), find)
            made = config_object(Kind.SECRET, whole)
            if left_out and not isinstance(made, Refusal):
                return Refusal(left_out, made)
        except Missing as why:
            made = Refusal(str(why))
        except (AttributeError, KeyError, TypeError, ValueError) as why:
            made = Refusal(f"is no volume: {why!r}")
        if isinstance(made, Refusal):
            return replace(made, kept=entry.last.get(one.volume))
        entry.last[one.volume] = made
        return made

    def _part(self, ref: Reference) -> Object | Refusal | None:
        known = self._parts.get(ref)
        if known is None:
            obj = self._configs(ref)
            if obj is None:
                return None
            known = self._parts[ref] = _read_config(ref, obj)
        return known

    def _remove(self, name: Name, entry: PodEntry) -> None:
        del self._pods[name]
        self._uids.pop(entry.obj["metadata"]["uid"], None)
        for place in (self._nodes, self._mirrors):
            names = place.get(entry.node, set())
            names.discard(name)
            if not names:
                place.pop(entry.node, None)
        for ref in entry.uses:
            self._unuse(ref, name)
        self._changed(entry.node)

    def _unuse(self, ref: Reference, name: Name) -> None:
        users = self._users.get(ref, set())
        users.discard(name)
        if not users:
            self._users.pop(ref, None)
            self._parts.pop(ref, None)


def _read_pod(obj: Obj) -> tuple[Object | Refusal, tuple[Reference, ...], tuple[Projection, ...]]:
    """What no API should hold costs that pod its place, not every device its hub."""
    try:
        return pod_object(obj), references(obj), projections(obj)
    except (AttributeError, KeyError, TypeError, ValueError) as why:
        return Refusal(f"is no pod: {why!r}"), (), ()


def _read_config(ref: Reference, obj: Obj) -> Object | Refusal:
    try:
        return config_object(ref.kind, obj)
    except (AttributeError, KeyError, TypeError, ValueError) as why:
        return Refusal(f"is no {KIND_NAMES[ref.kind]}: {why!r}")


def _same(before: Object | Refusal, now: Object | Refusal) -> Object | Refusal:
    """`before` where nothing has changed. An object that grew beyond the bounds goes on as it was before, because an
    annotation must not shorten the set that a device runs."""
    if isinstance(now, Refusal):
        now = replace(now, kept=usable(before))
    return before if before == now else now
