"""In which form a client wants objects (plain, Table, metadata): chosen by Accept, made from stored objects. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from .resources import Resource
from .status import bad_request, not_acceptable

Obj = dict[str, Any]
JSON_TYPE = "application/json"
DISCOVERY_KIND = "APIGroupDiscoveryList"
_OFFERED = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")


@dataclass(frozen=True)
class Accepted:
    """One acceptable form: `kind` is the `as` parameter, empty for the plain object."""

    kind: str = ""
    version: str = ""
    group: str = ""


def acceptable(header: str) -> list[Accepted]:
    """The JSON forms of an Accept header, best first; never empty. Raises ApiError 406."""
    out = []
    for part in header.split(","):
        media, *params = [piece.strip() for piece in part.split(";")]
        if media.lower() not in (JSON_TYPE, "*/*", "application/*", ""):
            continue
        values = {key.strip().lower(): value.strip() for key, _, value in (p.partition("=") for p in params)}
        if values.get("as"):
            out.append(Accepted(values["as"], values.get("v", ""), values.get("g", "")))
        else:
            out.append(Accepted())
    if not out:
        raise not_acceptable(_OFFERED)
    return out


@dataclass(frozen=True)
class View:
    """How objects of one request are shown. `form` is plain, table or partial."""

    form: str = "plain"
    version: str = "v1"
    include: str = ""


def choose(header: str, include: str) -> View:
    """The view for an object request. Raises ApiError 400 and 406."""
    if header == JSON_TYPE:
        return View()
    for one in acceptable(header):
        if not one.kind:
            return View()
        if one.group not in ("meta.k8s.io", ""):
            continue
        if one.kind == "Table" and one.version in ("v1", "v1beta1"):
            if include not in ("", "None", "Metadata", "Object"):
                why = f"Invalid value: {json.dumps(include)}: must be 'Metadata', 'Object', 'None', or empty"
                raise bad_request(f"Unable to convert to Table as requested: includeObject: {why}")
            return View("table", one.version, include)
        if one.kind in ("PartialObjectMetadata", "PartialObjectMetadataList") and one.version in ("v1", "v1beta1"):
            return View("partial", one.version)
    raise not_acceptable(_OFFERED)


def one(view: View, resource: Resource, obj: Obj) -> Obj:
    """A single object (without kind and apiVersion) in the view."""
    if view.form == "table":
        return table(view, resource, [obj], {"resourceVersion": obj["metadata"].get("resourceVersion", "")})
    if view.form == "partial":
        return partial(view, obj)
    return {"kind": resource.kind, "apiVersion": resource.api_version, **obj}


def partial(view: View, obj: Obj) -> Obj:
    """An object reduced to its metadata."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": f"meta.k8s.io/{view.version}",
        "metadata": obj["metadata"],
    }


def table(view: View, resource: Resource, items: list[Obj], meta: Obj, columns: bool = True) -> Obj:
    """Objects as rows; later events of a watch leave the columns out."""
    definitions = [
        {"name": c.name, "type": c.type, "format": c.format, "description": "", "priority": c.priority}
        for c in resource.columns
    ]
    return {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{view.version}",
        "metadata": meta,
        "columnDefinitions": definitions if columns else None,
        "rows": [_row(view, resource, item) for item in items],
    }


def _row(view: View, resource: Resource, obj: Obj) -> Obj:
    row: Obj = {"cells": resource.cells(obj)}
    conditions = resource.row_conditions(obj)
    if conditions:
        row["conditions"] = conditions
    if view.include == "None":
        row["object"] = None
    elif view.include == "Object":
        row["object"] = {"kind": resource.kind, "apiVersion": resource.api_version, **obj}
    else:
        row["object"] = partial(view, obj)
    return row


def dumps(value: Any) -> bytes:
    """Compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def list_body(view: View, resource: Resource, raws: list[bytes], meta: Obj) -> bytes:
    """A list of stored objects in the view; the plain form is put together from bytes as they are stored."""
    if view.form == "plain":
        head = dumps({"kind": resource.kind + "List", "apiVersion": resource.api_version, "metadata": meta})
        return head[:-1] + b',"items":[' + b",".join(raws) + b"]}"
    items = [json.loads(raw) for raw in raws]
    if view.form == "table":
        return dumps(table(view, resource, items, meta))
    kind, version = "PartialObjectMetadataList", f"meta.k8s.io/{view.version}"
    return dumps({"kind": kind, "apiVersion": version, "metadata": meta, "items": [partial(view, o) for o in items]})


def object_body(view: View, resource: Resource, raw: bytes) -> bytes:
    """One stored object in the view."""
    if view.form == "plain":
        head = dumps({"kind": resource.kind, "apiVersion": resource.api_version})
        return head[:-1] + b"," + raw[1:]
    return dumps(one(view, resource, json.loads(raw)))
