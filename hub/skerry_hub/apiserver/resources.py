"""What a kind of object is to the server: one row of the table, and the hooks in which kinds differ.

The rows themselves stand in `kinds.py`. Refuses to know storage and HTTP.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .status import Cause

Obj = dict[str, Any]
VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


def _nothing(obj: Obj) -> None:
    """A hook that does nothing."""


def _valid(obj: Obj) -> list[Cause]:
    return []


def _valid_update(new: Obj, old: Obj) -> list[Cause]:
    return []


def _anybody(obj: Obj, user: str, groups: tuple[str, ...]) -> None:
    """A hook that does nothing."""


def _any_path(subresource: str, new: Obj, old: Obj, now: datetime) -> list[Cause]:
    return []


def _keep(new: Obj, old: Obj) -> None:
    """A hook that does nothing."""


@dataclass(frozen=True)
class Column:
    """A column of a Table; `priority` 1 shows with -o wide only."""

    name: str
    type: str = "string"
    format: str = ""
    priority: int = 0


@dataclass(frozen=True)
class Subresource:
    """A row of discovery below its resource; `group`, `version` only where its kind lives elsewhere."""

    name: str
    kind: str
    verbs: tuple[str, ...]
    group: str = ""
    version: str = ""


@dataclass(frozen=True)
class Resource:
    """One kind. `type` names its fields in the table of schema_types.py."""

    group: str
    version: str
    plural: str
    singular: str
    kind: str
    namespaced: bool
    columns: tuple[Column, ...]
    cells: Callable[[Obj], list[Any]]
    row_conditions: Callable[[Obj], list[Obj]] = lambda obj: []
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = VERBS
    subresources: tuple[Subresource, ...] = ()
    selectable: dict[str, str] = field(default_factory=dict)  # path -> what stands for "missing"
    generation: bool = False  # metadata.generation counts changes of spec
    graceful: bool = False  # a deletion may wait for a node
    create_on_update: bool = False
    unconditional_update: bool = True
    defaults: Callable[[Obj], None] = _nothing  # after decoding, before everything else
    prepare_create: Callable[[Obj], None] = _nothing  # what a client may not set is reset
    requested_by: Callable[[Obj, str, tuple[str, ...]], None] = _anybody  # a new object, its user, their groups
    prepare_update: Callable[[Obj, Obj], None] = _keep
    validate: Callable[[Obj], list[Cause]] = _valid
    validate_update: Callable[[Obj, Obj], list[Cause]] = _valid_update
    validate_path: Callable[[str, Obj, Obj, datetime], list[Cause]] = _any_path  # what each subresource may change
    validate_name: Callable[[str], list[str]] | None = None  # None: a DNS subdomain

    @property
    def type(self) -> str:
        return self.kind

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def id(self) -> str:
        """The name under which the store keeps it: `pods`, `leases.coordination.k8s.io`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def has_status(self) -> bool:
        return any(sub.name == "status" for sub in self.subresources)

    def field_paths(self) -> frozenset[str]:
        base = {"metadata.name", "metadata.namespace"} if self.namespaced else {"metadata.name"}
        return frozenset(base | set(self.selectable))


def field_value(obj: Obj, path: str, missing: str) -> str:
    """The value at a dotted path as a field selector sees it."""
    node: Any = obj
    for part in path.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    if node is None:
        return missing
    if isinstance(node, bool):
        return "true" if node else "false"
    return str(node)


def index(resource: Resource, obj: Obj) -> tuple[dict[str, str], dict[str, str]]:
    """The labels and the selectable fields of an object."""
    meta = obj.get("metadata") or {}
    fields = {path: field_value(obj, path, missing) for path, missing in resource.selectable.items()}
    fields["metadata.name"] = meta.get("name", "")
    if resource.namespaced:
        fields["metadata.namespace"] = meta.get("namespace", "")
    return dict(meta.get("labels") or {}), fields
