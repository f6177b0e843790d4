"""The folder of manifests → what the journal should hold of it. Pure: no file is opened here, no hub is known.

A pod's uid follows from node, file and content, as with kubelet's static pods: the same file gives the same pod after
any restart, a changed one gives another pod. Its name gets the node's as a suffix, so that the same folder on a whole
fleet gives pods of different names at the hub. A pod that leaves the folder is deleted gracefully, and one that takes
its name waits for that. A file with a mistake counts as it last was without one.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from uuid import UUID

from skerry.errors import Refused
from skerry.journal.record import LocalObject, names_in
from skerry.limits import (
    CODEC_DEPTH_MAX,
    GRACE_S_DEFAULT,
    LOCAL_BYTES_MAX,
    LOCAL_ITEMS_MAX,
    LOCAL_OBJECTS_MAX,
    LOCAL_PODS_MAX,
    NAME_CHARS_MAX,
)
from skerry.model.desired import Key, Kind, Object, object_of
from skerry.model.manifest import RefusedPod, read_config, read_pod
from skerry.model.pod import Pod
from skerry.model.reader import Field
from skerry.wire.codec import decode, encode

NAMESPACE = "default"
DELETED = "1970-01-01T00:00:00Z"  # when a deletion began is of no use to anybody here; that it did is
KINDS = {"Pod": Kind.POD, "ConfigMap": Kind.CONFIG_MAP, "Secret": Kind.SECRET}
# What the API writes into an object that it shows: it says nothing about what is wanted.
SHOWN = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")

Name = tuple[Kind, str]  # (kind, namespace/name)


@dataclass(frozen=True, slots=True)
class Step:
    """What to change in the journal, and what is wrong with files as a whole: file → problem."""

    puts: tuple[LocalObject, ...] = ()
    deletes: frozenset[Key] = frozenset()
    problems: Mapping[str, str] = field(default_factory=dict)
    waits: frozenset[str] = frozenset()  # files of which something comes once a pod that is being deleted is gone


def objects_in(node: str, file: str, documents: Sequence[object], secret_env: bool) -> tuple[Object, ...]:
    """The objects of one file's documents. Raises Refused with the field's path; then none of the file counts."""
    _count(documents)
    found: list[Object] = []
    names: set[Name] = set()
    for at, document in enumerate(documents):
        where = f"document {at + 1}: " if len(documents) > 1 else ""
        for path, root in _items(document, where):
            obj, name = _object(node, file, path, root, secret_env)
            if name in names:
                raise Refused(f"{path}metadata.name", f"{name[0].name} {name[1]} is in this file twice")
            names.add(name)
            found.append(obj)
    if not found:
        raise Refused("file", "holds no object")
    return tuple(found)


def next_step(known: Mapping[Key, LocalObject], read: Mapping[str, Sequence[Object] | None]) -> Step:
    """From what the journal holds to what the folder shows. `read`: file → its objects; None: as it was before."""
    wanted: list[LocalObject] = []
    for file, objects in sorted(read.items()):
        kept = [o for o in known.values() if o.file == file and not deleting(o.obj)] if objects is None else ()
        wanted += kept or [LocalObject(file, o) for o in objects or ()]
    holders = {name_of(o.obj): o.file for o in known.values() if not deleting(o.obj)}
    wanted.sort(key=lambda o: holders.get(name_of(o.obj)) != o.file)  # who has a name keeps it; else the first file
    chosen, problems = _bounded(wanted)
    leaving = [o for key, o in known.items() if key not in chosen]
    busy = {name_of(o.obj) for o in known.values() if o.obj.kind is Kind.POD and (deleting(o.obj) or o in leaving)}
    puts, waits = [_deleted(o) for o in leaving if o.obj.kind is Kind.POD and not deleting(o.obj)], set[str]()
    for key, o in chosen.items():
        if name_of(o.obj) in busy:
            waits.add(o.file)
        elif known.get(key) != o:
            puts.append(o)
    gone = frozenset(o.obj.key for o in leaving if o.obj.kind is not Kind.POD)
    return Step(tuple(puts), gone, problems, frozenset(waits))


def deleting(obj: Object) -> bool:
    return obj.kind is Kind.POD and "deletionTimestamp" in decode(obj.body)["metadata"]


def name_of(obj: Object) -> Name:
    return obj.kind, "/".join(names_in(obj))


# --- private ----------------------------------------------------------------------------------------------------------


def _bounded(wanted: list[LocalObject]) -> tuple[dict[Key, LocalObject], dict[str, str]]:
    """One of each name, within the bounds."""
    chosen: dict[Key, LocalObject] = {}
    taken: dict[Name, str] = {}
    problems: dict[str, str] = {}
    pods = size = 0
    for o in wanted:
        name, pod = name_of(o.obj), o.obj.kind is Kind.POD
        if name in taken:
            problems[o.file] = f"{name[0].name} {name[1]} is in {taken[name]} already"
        elif len(chosen) >= LOCAL_OBJECTS_MAX or pods + pod > LOCAL_PODS_MAX:
            bounds = f"LOCAL_PODS_MAX is {LOCAL_PODS_MAX}, LOCAL_OBJECTS_MAX {LOCAL_OBJECTS_MAX}"
            problems[o.file] = f"no room for {name[0].name} {name[1]}: {bounds}"
        elif size + len(o.obj.body) > LOCAL_BYTES_MAX:
            problems[o.file] = f"no room for {name[0].name} {name[1]}: LOCAL_BYTES_MAX is {LOCAL_BYTES_MAX}"
        else:
            chosen[o.obj.key], taken[name] = o, o.file
            pods, size = pods + pod, size + len(o.obj.body)
    return chosen, problems


def _deleted(o: LocalObject) -> LocalObject:
    """The same pod with the mark of a graceful deletion."""
    body = decode(o.obj.body)
    grace = (body.get("spec") or {}).get("terminationGracePeriodSeconds")
    mark = {"deletionTimestamp": DELETED, "deletionGracePeriodSeconds": GRACE_S_DEFAULT if grace is None else grace}
    return LocalObject(o.file, object_of(o.obj.kind, o.obj.uid, encode({**body, "metadata": body["metadata"] | mark})))


def _items(document: object, where: str) -> list[tuple[str, Field]]:
    """The objects of a document: itself, or those of a List; each with what its paths begin with."""
    if not isinstance(document, dict):
        Field(document, where.removesuffix(": ") or "document 1").refuse("an object is expected")
    if document.get("kind") != "List":
        return [(where, Field(document, ""))]
    _version(where, document)
    items = list(Field(document, "")["items"].each(LOCAL_OBJECTS_MAX))
    return [(f"{where}{item.path}.", Field(item.value, "")) for item in items]


def _version(path: str, value: Mapping[str, Any]) -> None:
    if value.get("apiVersion") != "v1":
        raise Refused(f"{path}apiVersion", f"v1 is expected, got {str(value.get('apiVersion'))[:40]!r}")


def _object(node: str, file: str, path: str, root: Field, secret_env: bool) -> tuple[Object, Name]:
    try:
        value = root.value
        if not isinstance(value, dict):
            root.refuse("an object is expected")
        _version("", value)
        kind = KINDS.get(str(value.get("kind")))
        if kind is None:
            raise Refused("kind", f"Pod, ConfigMap, Secret or List is expected, got {str(value.get('kind'))[:40]!r}")
        meta = _head(root["metadata"])
        if kind is not Kind.POD:
            return _config(node, kind, root, meta)
        return _pod(node, file, root, meta, secret_env)
    except Refused as why:
        raise Refused(path + why.path, why.problem, why.reason) from None


def _head(meta: Field) -> dict[str, Any]:
    meta.only({"name", "namespace", "labels", "annotations", *SHOWN})
    name, namespace = meta["name"].text(), meta["namespace"].text(NAMESPACE)
    if len(name) > NAME_CHARS_MAX or not _SUBDOMAIN.fullmatch(name):
        meta["name"].refuse("is not a DNS name (RFC 1123)")
    if not _LABEL.fullmatch(namespace):
        meta["namespace"].refuse("is not a DNS label (RFC 1123)")
    head: dict[str, Any] = {"name": name, "namespace": namespace}
    for part in ("labels", "annotations"):
        if said := dict(meta[part].text_map()):
            head[part] = said
    return head


def _pod(node: str, file: str, root: Field, meta: dict[str, Any], secret_env: bool) -> tuple[Object, Name]:
    root.only({"apiVersion", "kind", "metadata", "spec", "status"})
    meta["name"] += f"-{node}"
    if len(meta["name"]) > NAME_CHARS_MAX:
        root["metadata"]["name"].refuse(f"is longer than {NAME_CHARS_MAX} characters with the node's name")
    content = {"metadata": meta, "spec": root["spec"].value}
    uid = _uid(node, file, sha256(encode(content)).hexdigest())
    body = encode({"metadata": {**meta, "uid": uid}, "spec": content["spec"]})
    obj = object_of(Kind.POD, uid, body)
    pod = read_pod(obj, decode(body), secret_env)
    if isinstance(pod, RefusedPod):
        raise pod.refused
    assert isinstance(pod, Pod)
    for i, container in enumerate(pod.containers):  # it becomes part of paths; a hub's API has checked its own
        if not _LABEL.fullmatch(container.name):
            raise Refused(f"spec.containers[{i}].name", "is not a DNS label (RFC 1123)")
    return obj, (Kind.POD, pod.full_name)


def _config(node: str, kind: Kind, root: Field, meta: dict[str, Any]) -> tuple[Object, Name]:
    """A changed ConfigMap or Secret is the same one with other data, so its uid follows from its name alone."""
    secret = kind is Kind.SECRET
    root.only({"apiVersion", "kind", "metadata", "data", "type", "immutable", "stringData" if secret else "binaryData"})
    full_name = f"{meta['namespace']}/{meta['name']}"
    uid = _uid(node, kind.name, full_name)
    body: dict[str, Any] = {"metadata": {**meta, "uid": uid}}
    data = {key: root["data"][key].text() for key in root["data"].names()}
    if secret:
        plain = {key: root["stringData"][key].text() for key in root["stringData"].names()}
        data |= {key: b64encode(said.encode()).decode() for key, said in plain.items()}
    binary = {key: root["binaryData"][key].text() for key in root["binaryData"].names()}
    told = root["type"].text("") if secret else ""
    body |= {name: said for name, said in (("data", data), ("binaryData", binary), ("type", told)) if said}
    obj = object_of(kind, uid, encode(body))
    read_config(obj, body)
    return obj, (kind, full_name)


def _uid(*parts: str) -> str:
    """A UUID (RFC 9562) of a name, hashed with SHA-256 instead of version 5's SHA-1."""
    return str(UUID(bytes=sha256(encode(list(parts))).digest()[:16], version=5))


def _count(documents: Sequence[object]) -> None:
    """Only what JSON can say, and no more than LOCAL_ITEMS_MAX of it, each alias of YAML counted where it stands."""
    left, rest = LOCAL_ITEMS_MAX, [(d, f"document {at + 1}", 0) for at, d in enumerate(documents)]
    while rest:
        value, path, depth = rest.pop()
        left -= 1
        if left < 0 or depth > CODEC_DEPTH_MAX:
            raise Refused("file", f"holds over {LOCAL_ITEMS_MAX} values, or is nested over {CODEC_DEPTH_MAX} deep")
        if isinstance(value, dict):
            for key, item in value.items():
                if not isinstance(key, str):
                    raise Refused(path, f"the key {str(key)[:40]!r} is not text; put it in quotes")
                rest.append((item, f"{path}.{key}", depth + 1))
        elif isinstance(value, list):
            rest += [(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(value)]
        elif isinstance(value, float) and not -1e18 < value < 1e18:
            raise Refused(path, "is not a number that JSON has")
        elif type(value) is int and abs(value) >= 1 << 63:
            raise Refused(path, "is an integer of more than 64 bits")
        elif value is not None and not isinstance(value, (str, bool, int, float)):
            raise Refused(path, f"a {type(value).__name__} is nothing that JSON has; put it in quotes")
