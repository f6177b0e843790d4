"""API objects → the bytes that a device gets: which fields travel, which objects, and what is refused. Pure.

A field of a pod's spec travels unless DROPPED names it, so that a field which this hub does not know is refused by the
device with its path and never ignored in silence. Equal objects give equal bytes: nothing that changes by itself
(resourceVersion, status, managedFields, the last applied configuration) takes part.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from skerry.errors import Malformed
from skerry.limits import CODEC_DEPTH_MAX, OBJECT_BYTES_MAX, OBJECTS_MAX, PODS_MAX
from skerry.model.desired import Key, Kind, Object, object_of
from skerry.wire.codec import encode
from skerry.wire.wellformed import check
from skerry_hub.edgecontroller.projected import CONTAINER_LISTS, dicts, is_made, travelling
from skerry_hub.ports import Obj

# Fields of a pod's spec that only the API or a scheduler needs, each with the reason why it does not travel.
DROPPED: Mapping[str, str] = {
    "nodeName": "the device knows its name, and gets no pod of another",
    "nodeSelector": "the pod was scheduled",
    "affinity": "the pod was scheduled",
    "topologySpreadConstraints": "the pod was scheduled",
    "schedulerName": "the pod was scheduled",
    "schedulingGates": "the pod was scheduled",
    "tolerations": "taints are judged in the cloud; a change of them must never reach a running pod",
    "priority": "nothing is preempted on a device",
    "priorityClassName": "nothing is preempted on a device",
    "preemptionPolicy": "nothing is preempted on a device",
    "serviceAccount": "the hub asks for its tokens",
    "serviceAccountName": "the hub asks for its tokens",
    "automountServiceAccountToken": "the hub asks for its tokens",
    "enableServiceLinks": "the device knows no Services, so there is nothing to link",
}
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


@dataclass(frozen=True, slots=True)
class Refusal:
    """An object that does not fit a device; told as an Event on the pod."""

    problem: str
    kept: Object | None = None  # what travelled before the object outgrew the bounds, and still does


@dataclass(frozen=True, slots=True)
class Reference:
    """A ConfigMap or Secret that a pod names."""

    kind: Kind
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """One pod of the node with everything it names; `parts` are those that exist."""

    pod: Object | Refusal
    uid: str
    created: str  # creationTimestamp: the oldest pods keep their place
    parts: tuple[tuple[str, Object | Refusal], ...] = ()  # (`Secret default/x`, object)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The objects of a set, and the pods (by uid) that do not fit, each with the reason."""

    objects: Mapping[Key, Object]
    refused: Mapping[str, str]


def usable(found: Object | Refusal) -> Object | None:
    """What of an object travels."""
    return found.kept if isinstance(found, Refusal) else found


def pod_object(pod: Obj) -> Object | Refusal:
    """A pod as it travels."""
    meta, spec = pod["metadata"], travelling(pod)
    head = _metadata(meta)
    for name in ("labels", "annotations"):
        said = {k: v for k, v in (meta.get(name) or {}).items() if k != LAST_APPLIED}
        if said:
            head[name] = said
    if meta.get("deletionTimestamp"):
        head["deletionTimestamp"] = meta["deletionTimestamp"]
        if meta.get("deletionGracePeriodSeconds") is not None:
            head["deletionGracePeriodSeconds"] = meta["deletionGracePeriodSeconds"]
    kept = {name: value for name, value in spec.items() if name not in DROPPED}
    return _object(Kind.POD, meta["uid"], {"metadata": head, "spec": kept})


def config_object(kind: Kind, obj: Obj) -> Object | Refusal:
    """A ConfigMap or Secret as it travels: binary values as bytes."""
    body: dict[str, Any] = {"metadata": _metadata(obj["metadata"])}
    secret = kind is Kind.SECRET
    try:
        if obj.get("data"):
            body["data"] = {k: base64.b64decode(v, validate=True) if secret else v for k, v in obj["data"].items()}
        if obj.get("binaryData"):
            body["binaryData"] = {k: base64.b64decode(v, validate=True) for k, v in obj["binaryData"].items()}
    except (binascii.Error, TypeError, ValueError):
        return Refusal("holds data that is not base64")
    for name in ("type", "immutable"):
        if obj.get(name):
            body[name] = obj[name]
    return _object(kind, obj["metadata"]["uid"], body)


def references(pod: Obj) -> tuple[Reference, ...]:
    """Every ConfigMap and Secret that the pod names, for its containers' environment, its volumes and its images."""
    spec, namespace = travelling(pod), pod["metadata"]["namespace"]
    found: set[tuple[Kind, str]] = set()
    for container in (c for part in CONTAINER_LISTS for c in dicts(spec.get(part))):
        for source in dicts(container.get("envFrom")):
            _name_of(found, source, ("configMapRef", "secretRef"), "name")
        for variable in dicts(container.get("env")):
            _name_of(found, variable.get("valueFrom"), ("configMapKeyRef", "secretKeyRef"), "name")
    for volume in dicts(spec.get("volumes")):
        _name_of(found, volume, ("configMap", "secret"), "name")
        _name_of(found, volume, ("", "secret"), "secretName")
        for source in dicts((volume.get("projected") or {}).get("sources")):
            _name_of(found, source, ("configMap", "secret"), "name")
    for key in dicts(spec.get("imagePullSecrets")):
        _name_of(found, {"secret": key}, ("", "secret"), "name")
    return tuple(Reference(kind, namespace, name) for kind, name in sorted(found) if not is_made(name))


def choose(wanted: Iterable[Wanted]) -> Chosen:
    """The set of one device: the oldest pods first, each only with all that it names, within the limits."""
    objects: dict[Key, Object] = {}
    refused: dict[str, str] = {}
    pods = 0
    for one in sorted(wanted, key=lambda w: (w.created, w.uid)):
        problem = _problem(one)
        if problem:
            refused[one.uid] = problem
        pod = usable(one.pod)
        if pod is None:
            continue
        parts = {part.key: part for _, found in one.parts if (part := usable(found)) is not None}
        new = {key for key in parts if key not in objects}
        if pods >= PODS_MAX:
            refused[one.uid] = f"the device runs PODS_MAX ({PODS_MAX}) pods already"
        elif len(objects) + len(new) + 1 > OBJECTS_MAX:
            refused[one.uid] = f"the device's set would hold more than OBJECTS_MAX ({OBJECTS_MAX}) objects"
        else:
            pods += 1
            objects.update(parts)
            objects[pod.key] = pod
    return Chosen(objects, refused)


# --- private ----------------------------------------------------------------------------------------------------------


def _problem(one: Wanted) -> str:
    if isinstance(one.pod, Refusal):
        return one.pod.problem
    return "; ".join(f"{name} {part.problem}" for name, part in one.parts if isinstance(part, Refusal))


def _metadata(meta: Mapping[str, Any]) -> dict[str, Any]:
    return {name: meta[name] for name in ("name", "namespace", "uid")}


def _object(kind: Kind, uid: str, body: Any) -> Object | Refusal:
    try:
        data = encode(body)
        if len(data) > OBJECT_BYTES_MAX:
            return Refusal(f"is larger than OBJECT_BYTES_MAX ({OBJECT_BYTES_MAX}): {len(data)} bytes")
        check(data)
    except UnicodeEncodeError:
        return Refusal("holds text that is not Unicode")
    except (Malformed, RecursionError) as why:
        depth = isinstance(why, RecursionError)
        return Refusal(f"cannot be told to a device: {f'nested deeper than {CODEC_DEPTH_MAX}' if depth else why}")
    return object_of(kind, uid, data)


def _name_of(found: set[tuple[Kind, str]], source: Any, fields: tuple[str, str], key: str) -> None:
    for field, kind in zip(fields, (Kind.CONFIG_MAP, Kind.SECRET), strict=True):
        said = source.get(field) if field and isinstance(source, dict) else None
        name = said.get(key) if isinstance(said, dict) else None
        if isinstance(name, str) and name:
            found.add((kind, name))
