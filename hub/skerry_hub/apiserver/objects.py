"""Decides what a create, an update and a delete make of an object. Pure but for the uid and the clock handed in.

Refuses to know storage, HTTP and other objects: what depends on those stands in `verbs.py`.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from . import validate
from .normalize import WrongType, normalise, parse_time, print_time
from .requests import DeleteOptions, Target
from .resources import Resource
from .status import Cause, bad_request, conflict, invalid

Obj = dict[str, Any]
_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
_SUFFIX_LENGTH = 5
_GENERATED_MAX = 63 - _SUFFIX_LENGTH
_SERVER_SET = ("selfLink", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "managedFields")
_FINISHED = ("Succeeded", "Failed")


def check_kind(resource: Resource, obj: Obj) -> None:
    """Whether a body says it is what its path says. Raises ApiError 400."""
    kind, version = obj.get("kind") or resource.kind, obj.get("apiVersion") or resource.api_version
    if version != resource.api_version or kind != resource.kind:
        short = version.rpartition("/")[2]
        if kind == resource.kind:
            raise bad_request(
                f'{kind} in version "{short}" cannot be handled as a {resource.kind}: no kind "{kind}" is registered '
                f'for version "{version}" in scheme "pkg/runtime/scheme.go:111"'
            )
        raise bad_request(
            f'{kind} in version "{short}" cannot be handled as a {resource.kind}: converting ({version}.{kind}) to '
            f"({resource.api_version}.{resource.kind}): unknown conversion"
        )


def normal(resource: Resource, obj: Obj) -> tuple[Obj, list[str]]:
    """The stored form of a client's object with defaults, and its unknown fields. Raises ApiError 400."""
    try:
        return stored_form(resource, obj)
    except WrongType as why:
        lead = f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}'
        raise bad_request(f"{lead}: {why}") from None


def stored_form(resource: Resource, obj: Obj) -> tuple[Obj, list[str]]:
    """As `normal`, but raises WrongType."""
    out, unknown = normalise(resource.type, obj)
    out.pop("kind", None)
    out.pop("apiVersion", None)
    out["metadata"].pop("managedFields", None)
    resource.defaults(out)
    return out, unknown


def place(resource: Resource, obj: Obj, target: Target) -> None:
    """Puts the namespace and name of the path into the object. Raises ApiError 400 when it says otherwise."""
    meta = obj["metadata"]
    given = meta.get("namespace", "")
    if given and given != target.namespace:
        if resource.namespaced:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        meta.pop("namespace")
    if target.name and meta.get("name", target.name) != target.name:
        raise bad_request(f"the name of the object ({meta['name']}) does not match the name on the URL ({target.name})")
    if target.name:
        meta["name"] = target.name
    if resource.namespaced:
        meta["namespace"] = target.namespace
    obj["metadata"] = ordered(meta)


_META_ORDER = (
    "name", "generateName", "namespace", "selfLink", "uid", "resourceVersion", "generation", "creationTimestamp",
    "deletionTimestamp", "deletionGracePeriodSeconds", "labels", "annotations", "ownerReferences", "finalizers",
)  # fmt: skip


def ordered(meta: Obj) -> Obj:
    """Metadata in the order in which the API prints it."""
    return {key: meta[key] for key in _META_ORDER if key in meta}


def created(resource: Resource, obj: Obj, now: datetime) -> Obj:
    """A new object as it will be stored: server-set metadata, first status. `obj` is changed."""
    meta = obj["metadata"]
    for key in (*_SERVER_SET, "deletionGracePeriodSeconds"):
        meta.pop(key, None)
    if not meta.get("name") and meta.get("generateName"):
        meta["name"] = generated(meta["generateName"])
        resource.defaults(obj)
    meta["uid"] = str(uuid.uuid4())
    meta["resourceVersion"] = ""  # its place; the store fills it in
    meta["creationTimestamp"] = print_time(now)
    if resource.generation:
        meta["generation"] = 1
    obj["metadata"] = ordered(obj["metadata"])
    resource.prepare_create(obj)
    return obj


def generated(stem: str) -> str:
    """A name that begins with `stem`."""
    return stem[:_GENERATED_MAX] + "".join(random.choices(_SUFFIX, k=_SUFFIX_LENGTH))  # noqa: S311 no secret


def check(resource: Resource, obj: Obj, old: Obj | None, more: Sequence[Cause] = ()) -> None:
    """Raises ApiError 422 with every cause, `more` among them."""
    causes: list[Cause] = validate.metadata(obj, resource.validate_name or validate.subdomain)
    causes += resource.validate(obj)
    if old is not None:
        causes += validate.metadata_update(obj, old)
        causes += resource.validate_update(obj, old)
    causes += more
    if causes:
        raise invalid(resource.kind, resource.group, obj["metadata"].get("name", ""), causes)


def updated(resource: Resource, new: Obj, old: Obj, status: bool) -> Obj:
    """`new` over `old` as an update stores it: only the part that the path may change. `new` is changed."""
    meta, was = new["metadata"], old["metadata"]
    for key in (*_SERVER_SET, "deletionGracePeriodSeconds", "generation"):
        meta.pop(key, None)
        if key in was:
            meta[key] = was[key]
    if resource.has_status:
        if status:
            for key in [key for key in {**new, **old} if key not in ("metadata", "status")]:
                new.pop(key, None)
                if key in old:
                    new[key] = old[key]
            resource.prepare_update(new, old)
        else:
            new["status"] = old.get("status", {})
            resource.prepare_update(new, old)
    else:
        resource.prepare_update(new, old)
    if resource.generation and new.get("spec") != old.get("spec"):
        meta["generation"] = was.get("generation", 0) + 1
    new["metadata"] = ordered(meta)
    order = {key: i for i, key in enumerate(old)}
    return dict(sorted(new.items(), key=lambda item: order.get(item[0], len(order))))


def check_version(resource: Resource, name: str, given: str, uid: str, old: Obj) -> None:
    """Raises ApiError 409 when an update was made from another version or for another object."""
    meta = old["metadata"]
    if uid and uid != meta["uid"]:
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {meta['uid']}"
        raise conflict(resource.plural, resource.group, name, why)
    if given and given != meta["resourceVersion"]:
        raise conflict(resource.plural, resource.group, name)


def check_preconditions(resource: Resource, name: str, options: DeleteOptions, old: Obj) -> None:
    """Raises ApiError 409 when a delete was meant for another object or version."""
    meta = old["metadata"]
    if options.uid and options.uid != meta["uid"]:
        why = (
            f"the UID in the precondition ({options.uid}) does not match the UID in record ({meta['uid']}). "
            "The object might have been deleted and then recreated"
        )
        raise conflict(resource.kind, resource.group, name, why)
    if options.version and options.version != meta["resourceVersion"]:
        why = (
            f"the ResourceVersion in the precondition ({options.version}) does not match the ResourceVersion in record "
            f"({meta['resourceVersion']}). The object might have been modified"
        )
        raise conflict(resource.kind, resource.group, name, why)


def deleting(resource: Resource, obj: Obj, options: DeleteOptions, now: datetime) -> tuple[Obj | None, bool]:
    """What a delete makes of `obj` (None: it stays as it is), and whether it is then gone at once. `obj` is changed."""
    meta = obj["metadata"]
    finalizers = bool(meta.get("finalizers"))
    grace = _grace(obj, options) if resource.graceful else 0
    if meta.get("deletionTimestamp"):
        if not resource.graceful:
            return None, not finalizers
        left = meta.get("deletionGracePeriodSeconds", 0)
        if options.grace_s is None or grace >= left:
            return None, left == 0 and not finalizers
        begun = parse_time(meta["deletionTimestamp"]) - timedelta(seconds=left)
        meta["deletionTimestamp"] = print_time(max(begun, now - timedelta(seconds=left)) + timedelta(seconds=grace))
    elif resource.graceful or finalizers:
        meta["deletionTimestamp"] = print_time(now + timedelta(seconds=grace))
        if meta.get("generation"):
            meta["generation"] += 1
    else:
        return None, True
    meta["deletionGracePeriodSeconds"] = grace
    obj["metadata"] = ordered(meta)
    return obj, grace == 0 and not finalizers


def _grace(obj: Obj, options: DeleteOptions) -> int:
    spec = obj["spec"]
    if not spec.get("nodeName") or obj["status"].get("phase") in _FINISHED:
        return 0
    grace = options.grace_s if options.grace_s is not None else spec.get("terminationGracePeriodSeconds", 30)
    return 1 if grace < 0 else int(grace)


def finished(obj: Obj) -> bool:
    """Whether an update leaves an object that only waited for its finalizers."""
    meta = obj["metadata"]
    return (
        bool(meta.get("deletionTimestamp"))
        and not meta.get("finalizers")
        and not meta.get("deletionGracePeriodSeconds")
    )


def bound(obj: Obj, node: str, annotations: Obj, now: datetime) -> Obj:
    """A pod after its binding to `node`. `obj` is changed."""
    obj["spec"]["nodeName"] = node
    meta = obj["metadata"]
    if annotations:
        meta["annotations"] = {**meta.get("annotations", {}), **annotations}
        obj["metadata"] = ordered(meta)
    conditions = [c for c in obj["status"].get("conditions", []) if c["type"] != "PodScheduled"]
    scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": print_time(now)}
    obj["status"]["conditions"] = [*conditions, scheduled]
    return obj
