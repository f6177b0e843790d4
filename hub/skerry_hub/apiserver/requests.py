"""What a request asks for, read from its path and query: pure values, checked once.

Refuses to know what is then done.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from skerry_hub.http import Request

from . import kinds, limits
from .resources import Resource
from .selectors import Selector, parse_fields, parse_labels
from .status import Cause, bad_request, forbidden_value, invalid, invalid_value, no_such_path, unsupported

Obj = dict[str, Any]
_NAME = re.compile(r"[^/%\x00-\x1f]+")


@dataclass(frozen=True)
class Target:
    """A resource path: `name` empty for a collection, `namespace` empty for cluster scope or all namespaces."""

    resource: Resource
    namespace: str
    name: str
    subresource: str
    watch: bool = False  # the old /watch/ path

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.resource.id, self.namespace, self.name)


def target(path: str) -> Target:
    """The resource that `path` names. Raises ApiError 404."""
    parts = [unquote(part) for part in path.strip("/").split("/")]
    if parts[0] == "api" and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        raise no_such_path()
    watch = rest[0] == "watch"
    rest = rest[1:] if watch else rest
    namespace = ""
    if len(rest) >= 3 and rest[0] == "namespaces" and not (len(rest) == 3 and rest[2] in ("status", "finalize")):
        namespace, rest = rest[1], rest[2:]
    if not rest or not all(_NAME.fullmatch(part) for part in (*rest, namespace or "x")) or len(rest) > 3:
        raise no_such_path()
    resource = kinds.find(group, version, rest[0])
    if resource is None or (namespace and not resource.namespaced):
        raise no_such_path()
    name, sub = [*rest[1:], "", ""][:2]
    if resource.namespaced and name and not namespace:
        raise no_such_path()
    if sub and not any(s.name == sub for s in resource.subresources):
        raise no_such_path()
    return Target(resource, namespace, name, sub, watch)


@dataclass(frozen=True)
class ListOptions:
    selector: Selector
    limit: int
    after: tuple[str, str] | None  # the key after which a continued list goes on
    version: int | None  # resourceVersion, None when it was not given
    match: str  # resourceVersionMatch
    watch: bool
    bookmarks: bool
    initial_events: bool | None
    timeout_s: float


def list_options(request: Request, resource: Resource) -> ListOptions:
    """The options of a list or watch. Raises ApiError 400 or 422."""
    labels = parse_labels(request.param("labelSelector"))
    fields = parse_fields(request.param("fieldSelector"), resource.field_paths())
    watch = truth(request, "watch")
    initial = truth(request, "sendInitialEvents") if request.param("sendInitialEvents") else None
    text, match, token = (
        request.param("resourceVersion"),
        request.param("resourceVersionMatch"),
        request.param("continue"),
    )
    causes = _version_causes(text, match, token, watch, initial, request)
    if causes:
        raise invalid("ListOptions", "meta.k8s.io", "", causes)
    version = _number(text, "resourceVersion") if text else None
    after = None
    if token and not watch:
        after, version = _continue(token)
        match = "Exact"
    limit = _number(request.param("limit") or "0", "limit")
    timeout = _number(request.param("timeoutSeconds") or "0", "timeoutSeconds")
    timeout_s = min(float(timeout) or limits.WATCH_TIMEOUT_S, limits.WATCH_TIMEOUT_MAX_S)
    return ListOptions(
        Selector(labels, fields),
        limit,
        after,
        version,
        match,
        watch,
        truth(request, "allowWatchBookmarks"),
        initial,
        timeout_s,
    )


def _version_causes(
    version: str, match: str, token: str, watch: bool, initial: bool | None, request: Request
) -> list[Cause]:
    path = "resourceVersionMatch"
    if initial is not None and not watch:
        return [forbidden_value("sendInitialEvents", "sendInitialEvents is forbidden for list")]
    if watch:
        return _watch_causes(match, initial, request)
    if not match:
        return []
    out = []
    if token:
        out.append(forbidden_value(path, "resourceVersionMatch is forbidden when continue is provided"))
    elif not version:
        out.append(forbidden_value(path, "resourceVersionMatch is forbidden unless resourceVersion is provided"))
    elif match not in ("Exact", "NotOlderThan"):
        out.append(unsupported(path, match, ("Exact", "NotOlderThan", "")))
    elif match == "Exact" and version == "0":
        out.append(forbidden_value(path, 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'))
    return out


def _watch_causes(match: str, initial: bool | None, request: Request) -> list[Cause]:
    path = "resourceVersionMatch"
    if initial is None:
        why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        return [forbidden_value(path, why)] if match else []
    out = []
    if match != "NotOlderThan":
        out.append(forbidden_value(path, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"))
        if match:
            out.append(unsupported(path, match, ("NotOlderThan",)))
    if initial and not out and not truth(request, "allowWatchBookmarks"):
        why = "sendInitialEvents requires setting allowWatchBookmarks to true"
        out.append(forbidden_value("allowWatchBookmarks", why))
    return out


def truth(request: Request, name: str) -> bool:
    """A boolean query parameter: present and not false."""
    return request.param(name).lower() in ("true", "1") or (name in request.query and request.param(name) == "")


def _number(text: str, name: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise bad_request(f"invalid {name}: {text!r} is no number")
    return int(text)


def continue_token(version: int, key: tuple[str, str]) -> str:
    """Where a list of `version` goes on after `key`."""
    doc = json.dumps({"v": "meta.k8s.io/v1", "rv": version, "start": list(key)}, separators=(",", ":"))
    return base64.urlsafe_b64encode(doc.encode()).decode().rstrip("=")


def _continue(token: str) -> tuple[tuple[str, str], int]:
    bad = next((i for i, c in enumerate(token) if not (c.isascii() and (c.isalnum() or c in "-_="))), None)
    if bad is not None:
        raise bad_request(f"invalid continue token: continue key is not valid: illegal base64 data at input byte {bad}")
    try:
        doc = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        start, version = doc["start"], doc["rv"]
        if not (isinstance(version, int) and len(start) == 2 and all(isinstance(part, str) for part in start)):
            raise ValueError
    except (ValueError, KeyError, TypeError, binascii.Error, RecursionError):
        raise bad_request("invalid continue token: continue key is not valid: incorrect encoded start key") from None
    return (start[0], start[1]), version


@dataclass(frozen=True)
class WriteOptions:
    dry_run: bool
    validation: str  # Ignore, Warn or Strict
    user: str = ""  # who asks
    groups: tuple[str, ...] = ()


def write_options(request: Request, verb: str) -> WriteOptions:
    """The options of a create, update or patch; `verb` is the options' name. Raises ApiError 422."""
    causes = []
    dry = request.query.get("dryRun", [])
    if any(value != "All" for value in dry):
        causes.append(unsupported("dryRun", dry, ("All",)))
    validation = request.param("fieldValidation")
    if validation not in ("", "Ignore", "Warn", "Strict"):
        causes.append(unsupported("fieldValidation", validation, ("", "Ignore", "Strict", "Warn")))
    if causes:
        raise invalid(f"{verb}Options", "meta.k8s.io", "", causes)
    return WriteOptions(bool(dry), validation or "Warn")


@dataclass(frozen=True)
class DeleteOptions:
    dry_run: bool
    grace_s: int | None
    uid: str
    version: str


_POLICIES = ("Foreground", "Background", "Orphan", "nil")


def delete_options(request: Request, body: Obj) -> DeleteOptions:
    """The options of a delete, from its body or, without one, its query. Raises ApiError 422."""
    grace: Any = body.get("gracePeriodSeconds")
    policy, orphan, dry = body.get("propagationPolicy"), body.get("orphanDependents"), body.get("dryRun") or []
    if not body:
        text = request.param("gracePeriodSeconds")
        grace = int(text) if re.fullmatch(r"-?[0-9]{1,10}", text) else None
        policy = request.param("propagationPolicy") or None
        orphan = truth(request, "orphanDependents") if request.param("orphanDependents") else None
        dry = request.query.get("dryRun", [])
    causes = []
    if policy is not None and orphan is not None:
        why = "orphanDependents and deletionPropagation cannot be both set"
        causes.append(invalid_value("propagationPolicy", policy, why))
    elif policy is not None and policy not in _POLICIES[:3]:
        causes.append(unsupported("propagationPolicy", policy, _POLICIES))
    if any(value != "All" for value in dry):
        causes.append(unsupported("dryRun", dry, ("All",)))
    if causes:
        raise invalid("DeleteOptions", "meta.k8s.io", "", causes)
    conditions = body.get("preconditions") or {}
    return DeleteOptions(bool(dry), grace, conditions.get("uid") or "", conditions.get("resourceVersion") or "")
