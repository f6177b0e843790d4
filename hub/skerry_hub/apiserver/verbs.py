"""Does what a write asks for: reads the newest state, lets `objects.py` decide, commits, and tries again when it lost.

Knows which kinds look at others (a pod its service account, everything its namespace). Refuses to know HTTP.
"""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from . import admission, decode, kinds, limits, objects, patches
from .normalize import WrongType, normalise, print_time
from .requests import DeleteOptions, Target, WriteOptions
from .resources import Resource
from .status import (
    ApiError,
    already_exists,
    bad_request,
    conflict,
    invalid,
    invalid_value,
    method_not_allowed,
    not_found,
    success,
)
from .store import CHAINED, Stale, Store, Stored, Write

Obj = dict[str, Any]
ATTEMPTS_MAX = 20


@dataclass
class Outcome:
    """An answer: its code, the object or Status, and warnings for the client."""

    code: int
    obj: Obj
    warnings: list[str] = field(default_factory=list)


def now() -> datetime:
    return datetime.now(timezone.utc)


def shown(resource: Resource, obj: Obj) -> Obj:
    """A stored object as clients see it."""
    return {"kind": resource.kind, "apiVersion": resource.api_version, **obj}


def _current(store: Store, target: Target) -> Stored:
    found = store.latest(target.key)
    if found is None:
        raise not_found(target.resource.plural, target.resource.group, target.name)
    return found


async def _retry(attempt: Callable[[], Awaitable[Outcome]], target: Target) -> Outcome:
    for _ in range(ATTEMPTS_MAX):
        try:
            return await attempt()
        except Stale:
            continue
    raise conflict(target.resource.plural, target.resource.group, target.name)


def _strictness(resource: Resource, found: list[str], options: WriteOptions) -> list[str]:
    """The warnings for strange fields. Raises ApiError 400 when they are not allowed."""
    if not found or options.validation == "Ignore":
        return []
    if options.validation == "Strict":
        raise bad_request(
            f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: '
            f"strict decoding error: {', '.join(found)}"
        )
    return found


def _strange(unknown: list[str], duplicates: list[str]) -> list[str]:
    return [f'unknown field "{path}"' for path in unknown] + [f'duplicate field "{path}"' for path in duplicates]


def _read(target: Target, body: bytes, content_type: str, options: WriteOptions) -> tuple[Obj, list[str]]:
    resource = target.resource
    decoded = decode.decode_object(body, content_type, resource.kind, resource.type)
    objects.check_kind(resource, decoded.obj)
    obj, unknown = objects.normal(resource, decoded.obj)
    warnings = _strictness(resource, _strange(unknown, decoded.duplicates), options)
    objects.place(resource, obj, target)
    return obj, warnings


async def create(store: Store, target: Target, body: bytes, content_type: str, options: WriteOptions) -> Outcome:
    """POST of a collection."""
    obj, warnings = _read(target, body, content_type, options)
    outcome = await _create(store, target, obj, options)
    outcome.warnings = warnings
    return outcome


async def _create(store: Store, target: Target, obj: Obj, options: WriteOptions) -> Outcome:
    resource = target.resource
    given = copy.deepcopy(obj)

    async def attempt() -> Outcome:
        obj = copy.deepcopy(given)
        admission.namespace_open(store, resource, target.namespace, obj["metadata"].get("name", ""))
        admission.create(store, resource, obj)
        obj = objects.created(resource, obj, now())
        resource.requested_by(obj, options.user, options.groups)
        objects.check(resource, obj, None)
        key = (resource.id, target.namespace, obj["metadata"]["name"])
        found = store.latest(key)
        if found is not None:
            gone = bool(found.obj()["metadata"].get("deletionTimestamp"))
            raise already_exists(resource.plural, resource.group, obj["metadata"]["name"], gone)
        if options.dry_run:
            del obj["metadata"]["resourceVersion"]
        else:
            await store.commit(Write(key, None, obj), *admission.along(store, resource, obj, now()))
        return Outcome(201, shown(resource, obj))

    return await _retry(attempt, target)


async def update(store: Store, target: Target, body: bytes, content_type: str, options: WriteOptions) -> Outcome:
    """PUT of an object, its status or approval."""
    obj, warnings = _read(target, body, content_type, options)
    resource = target.resource
    version, uid = obj["metadata"].get("resourceVersion", ""), obj["metadata"].get("uid", "")

    async def attempt() -> Outcome:
        if store.latest(target.key) is None and resource.create_on_update and not target.subresource and not uid:
            return await _create(store, target, obj, options)
        current = _current(store, target)
        old = current.obj()
        if not version and not resource.unconditional_update:
            cause = invalid_value("metadata.resourceVersion", 0, "must be specified for an update")
            raise invalid(resource.kind, resource.group, target.name, [cause])
        objects.check_version(resource, target.name, version, uid, old)
        return await _replace(store, target, current, old, copy.deepcopy(obj), options)

    outcome = await _retry(attempt, target)
    outcome.warnings = warnings
    return outcome


async def patch(store: Store, target: Target, body: bytes, content_type: str, options: WriteOptions) -> Outcome:
    """PATCH of an object, its status or approval, by any of the three patch types."""
    resource = target.resource
    warnings: list[str] = []

    async def attempt() -> Outcome:
        current = _current(store, target)
        old = current.obj()
        patched = patches.apply(content_type, body, resource.type, shown(resource, old))
        objects.check_kind(resource, patched)
        obj, warnings[:] = _patched(resource, patched, options)
        objects.place(resource, obj, target)
        meta = obj["metadata"]
        objects.check_version(resource, target.name, meta.get("resourceVersion", ""), meta.get("uid", ""), old)
        return await _replace(store, target, current, old, obj, options)

    outcome = await _retry(attempt, target)
    outcome.warnings = warnings
    return outcome


def _patched(resource: Resource, patched: Obj, options: WriteOptions) -> tuple[Obj, list[str]]:
    """A patched object in stored form, and warnings for fields that the patch brought and nobody knows.

    Raises ApiError 422 for such fields when strict, and for wrong types; both quote the patched object.
    """

    def refused(why: str) -> ApiError:
        return invalid("", "", "", [invalid_value("patch", decode.canonical(patched), why)])

    try:
        obj, unknown = objects.stored_form(resource, patched)
    except WrongType as wrong:
        raise refused(str(wrong)) from None
    found = _strange(unknown, [])
    if found and options.validation == "Strict":
        raise refused(f"strict decoding error: {', '.join(found)}")
    return obj, [] if options.validation == "Ignore" else found


async def _replace(store: Store, target: Target, current: Stored, old: Obj, new: Obj, options: WriteOptions) -> Outcome:
    resource = target.resource
    if target.subresource == "finalize":
        finalizers = new["spec"].get("finalizers", [])
        new = objects.updated(resource, new, copy.deepcopy(old), status=False)
        new["spec"]["finalizers"] = finalizers
    else:
        new = objects.updated(resource, new, copy.deepcopy(old), status=target.subresource in ("status", "approval"))
    causes = resource.validate_path(target.subresource, new, old, now())
    objects.check(resource, new, old, causes)
    if new == old:
        return Outcome(200, shown(resource, old))
    if options.dry_run:
        return Outcome(200, shown(resource, new))
    if objects.finished(new) and admission.may_go(new):
        await store.commit(Write(target.key, current, None))
    else:
        await store.commit(Write(target.key, current, new))
    return Outcome(200, shown(resource, new))


async def delete(store: Store, target: Target, options: DeleteOptions) -> Outcome:
    """DELETE of one object."""
    resource = target.resource

    async def attempt() -> Outcome:
        current = _current(store, target)
        old = current.obj()
        objects.check_preconditions(resource, target.name, options, old)
        if resource is kinds.NAMESPACES:
            return await _delete_namespace(store, target, current, old, options)
        new, gone = objects.deleting(resource, copy.deepcopy(old), options, now())
        if not options.dry_run:
            writes = [Write(target.key, current, copy.deepcopy(new))] if new is not None else []
            if gone:
                writes.append(Write(target.key, CHAINED if writes else current, None))
            if writes:
                stored = await store.commit(*writes)
                if new is not None and stored[0] is not None:
                    new = stored[0].obj()
        if gone and not resource.graceful:
            details = {"name": target.name, "group": resource.group, "kind": resource.plural}
            details["uid"] = old["metadata"]["uid"]
            return Outcome(200, success(details={key: value for key, value in details.items() if value}))
        return Outcome(200, shown(resource, new if new is not None else old))

    return await _retry(attempt, target)


async def _delete_namespace(store: Store, target: Target, current: Stored, old: Obj, options: DeleteOptions) -> Outcome:
    admission.namespace_may_go(target.name)
    resource = target.resource
    if old["metadata"].get("deletionTimestamp"):
        return Outcome(200, shown(resource, old))
    new = copy.deepcopy(old)
    new["metadata"]["deletionTimestamp"] = print_time(now())
    new["metadata"] = objects.ordered(new["metadata"])
    new["status"]["phase"] = "Terminating"
    if not options.dry_run:
        await store.commit(Write(target.key, current, new))
    return Outcome(200, shown(resource, new))


async def bind(store: Store, target: Target, body: bytes, content_type: str, options: WriteOptions) -> Outcome:
    """POST of a pod's binding: the pod goes to a node, once."""
    binding = decode.decode_object(body, content_type, "Binding", "Binding").obj
    try:
        binding, _ = normalise("Binding", binding)
    except WrongType as wrong:
        raise bad_request(f'Binding in version "v1" cannot be handled as a Binding: {wrong}') from None
    node = binding["target"].get("name", "")
    if not node:
        raise invalid("Binding", "", target.name, [invalid_value("target.name", "", "must not be empty")])

    async def attempt() -> Outcome:
        current = _current(store, target)
        old = current.obj()
        if old["metadata"].get("deletionTimestamp"):
            why = f"pod {target.name} is being deleted, cannot be assigned to a host"
            raise conflict("pods/binding", "", target.name, why)
        if old["spec"].get("nodeName"):
            why = f'pod {target.name} is already assigned to node "{old["spec"]["nodeName"]}"'
            raise conflict("pods/binding", "", target.name, why)
        new = objects.bound(old, node, binding["metadata"].get("annotations", {}), now())
        if not options.dry_run:
            await store.commit(Write(target.key, current, new))
        return Outcome(201, success(201))

    return await _retry(attempt, target)


async def delete_collection(
    store: Store, target: Target, found: list[tuple[tuple[str, str], Stored]], options: DeleteOptions
) -> list[Obj]:
    """Deletes every object of a list; one that is already gone is fine. Answers what was deleted."""
    if target.resource is kinds.NAMESPACES:
        raise method_not_allowed()
    out = []
    for (ns, name), stored in found[: limits.COLLECTION_DELETE_MAX]:
        one = Target(target.resource, ns, name, "")
        out.append(stored.obj())
        try:
            await delete(store, one, options)
        except ApiError as why:
            if why.code != 404:
                raise
    return out
