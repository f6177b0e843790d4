"""OpenAPI v3 (JSON) and v2 (gnostic protobuf) from the one table: enough for apply, diff, explain and validation.

Pure; every document is made once. Source: the OpenAPI 3.0 and 2.0 specifications, gnostic's OpenAPIv2.proto numbers.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from typing import Any

from . import kinds
from .resources import Resource
from .schema import Field, Message, Type, message, names

Obj = dict[str, Any]
V2_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_META = frozenset(
    (
        "ObjectMeta",
        "OwnerReference",
        "ManagedFieldsEntry",
        "LabelSelector",
        "LabelSelectorRequirement",
        "DeleteOptions",
        "Preconditions",
    )
)
_SCALAR: dict[str, Obj] = {
    "string": {"type": "string"},
    "int32": {"type": "integer", "format": "int32"},
    "int64": {"type": "integer", "format": "int64"},
    "bool": {"type": "boolean"},
    "bytes": {"type": "string", "format": "byte"},
    "Time": {"type": "string", "format": "date-time"},
    "MicroTime": {"type": "string", "format": "date-time"},
    "Quantity": {"type": "string"},
    "IntOrString": {"type": "string", "format": "int-or-string"},
    "FieldsV1": {"type": "object"},
}


def _name(kind: str) -> str:
    if kind in _META:
        return f"io.k8s.apimachinery.pkg.apis.meta.v1.{kind}"
    if kind.endswith("Metrics"):
        return f"io.k8s.metrics.pkg.apis.metrics.v1beta1.{kind}"
    groups = {"Lease": "coordination", "CertificateSigningRequest": "certificates"}
    package = next((group for stem, group in groups.items() if kind.startswith(stem)), "core")
    return f"io.k8s.api.{package}.v1.{kind}"


def _property(field: Field, prefix: str) -> Obj:
    out = _schema(field.type, prefix)
    if field.merge_key is not None:
        strategy = "merge,retainKeys" if field.retain_keys else "merge"
        out["x-kubernetes-patch-strategy"] = strategy
        if field.merge_key:
            out["x-kubernetes-patch-merge-key"] = field.merge_key
    return out


def _schema(kind: Type, prefix: str) -> Obj:
    if kind.shape == "message":
        return {"$ref": prefix + _name(kind.name)}
    if kind.shape == "scalar":
        return dict(_SCALAR[kind.name])
    assert kind.element is not None
    inner = _schema(kind.element, prefix)
    if kind.shape == "list":
        return {"type": "array", "items": inner}
    return {"type": "object", "additionalProperties": inner}


def _definition(msg: Message, prefix: str) -> Obj:
    out: Obj = {"type": "object", "properties": {}}
    rows = [r for r in kinds.ALL if r.type == msg.name]
    if rows:
        out["properties"] = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}}
        out["x-kubernetes-group-version-kind"] = [
            {"group": r.group, "version": r.version, "kind": r.kind} for r in rows
        ]
    out["properties"].update({name: _property(field, prefix) for name, field in msg.fields.items()})
    return out


def _reachable(roots: list[str]) -> list[str]:
    out: dict[str, None] = {}
    todo = list(roots)
    while todo:
        name = todo.pop(0)
        if name in out:
            continue
        out[name] = None
        for field in message(name).fields.values():
            kind: Type | None = field.type
            while kind is not None and kind.shape in ("list", "map"):
                kind = kind.element
            if kind is not None and kind.shape == "message":
                todo.append(kind.name)
    return list(out)


def _paths(r: Resource, v3: bool) -> Obj:
    root = f"/apis/{r.group}/{r.version}" if r.group else f"/api/{r.version}"
    base = f"{root}/namespaces/{{namespace}}/{r.plural}" if r.namespaced else f"{root}/{r.plural}"
    gvk = {"group": r.group, "version": r.version, "kind": r.kind}
    asked = ("dryRun", "fieldManager", "fieldValidation", "force")
    schema: Obj = {"schema": {"type": "string"}} if v3 else {"type": "string"}
    query = [{"name": name, "in": "query", **schema} for name in asked]

    def operation(action: str) -> Obj:
        return {
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": gvk,
            "parameters": [p for p in query if p["name"] != "force" or action == "patch"],
            "responses": {"200": {"description": "OK"}},
        }

    if "create" not in r.verbs:
        return {base: {"get": operation("list")}, base + "/{name}": {"get": operation("get")}}
    return {
        base: {"post": operation("post"), "get": operation("list")},
        base + "/{name}": {
            "get": operation("get"),
            "put": operation("put"),
            "patch": operation("patch"),
            "delete": operation("delete"),
        },
    }


@cache
def v3_document(group: str, version: str) -> bytes | None:
    """The v3 document of one group and version."""
    rows = [r for r in kinds.ALL if (r.group, r.version) == (group, version)]
    if not rows:
        return None
    prefix = "#/components/schemas/"
    used = _reachable([r.type for r in rows] + ["DeleteOptions"])
    doc = {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.36.2"},
        "paths": {path: item for r in rows for path, item in _paths(r, v3=True).items()},
        "components": {"schemas": {_name(name): _definition(message(name), prefix) for name in used}},
    }
    return json.dumps(doc, separators=(",", ":")).encode()


@cache
def v3_index() -> bytes:
    """Which v3 documents there are, with their hashes."""
    paths = {}
    for group, version in sorted(kinds.GROUPS):
        path = f"apis/{group}/{version}" if group else f"api/{version}"
        digest = hashlib.sha256(v3_document(group, version) or b"").hexdigest()[:32].upper()
        paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest}"}
    return json.dumps({"paths": paths}).encode()


def _pb(number: int, value: bytes | str | int) -> bytes:
    """One protobuf field."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    raw = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(raw)) + raw


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _any(value: Any) -> bytes:
    """gnostic's Any: 2 yaml."""
    return _pb(2, json.dumps(value) + "\n")


def _v2_schema(schema: Obj) -> bytes:
    """gnostic's Schema: 1 $ref, 2 format, 19 additional_properties, 22 type, 23 items, 25 properties, 31 extensions."""
    out = b""
    if "$ref" in schema:
        out += _pb(1, schema["$ref"])
    if "format" in schema:
        out += _pb(2, schema["format"])
    if "additionalProperties" in schema:
        out += _pb(21, _pb(1, _v2_schema(schema["additionalProperties"])))
    if "type" in schema:
        out += _pb(22, _pb(1, schema["type"]))
    if "items" in schema:
        out += _pb(23, _pb(1, _v2_schema(schema["items"])))
    if "properties" in schema:
        body = b"".join(_pb(1, _pb(1, key) + _pb(2, _v2_schema(value))) for key, value in schema["properties"].items())
        out += _pb(25, body)
    for key, value in schema.items():
        if key.startswith("x-"):
            out += _pb(31, _pb(1, key) + _pb(2, _any(value)))
    return out


def _v2_operation(operation: Obj) -> bytes:
    """gnostic's Operation: 7 parameters, 9 responses, 13 extensions."""
    out = b""
    for parameter in operation["parameters"]:
        # ParametersItem 1 Parameter, 2 NonBodyParameter, 3 Query: 2 in, 4 name, 6 type
        query = _pb(2, "query") + _pb(4, parameter["name"]) + _pb(6, "string")
        out += _pb(8, _pb(1, _pb(2, _pb(3, query))))
    out += _pb(9, _pb(1, _pb(1, "200") + _pb(2, _pb(1, _pb(1, "OK")))))
    for key in ("x-kubernetes-action", "x-kubernetes-group-version-kind"):
        out += _pb(13, _pb(1, key) + _pb(2, _any(operation[key])))
    return out


_METHODS = {"get": 2, "put": 3, "post": 4, "delete": 5, "patch": 8}


@cache
def v2_document() -> bytes:
    """gnostic's Document: 1 swagger, 2 info, 8 paths, 9 definitions."""
    paths = b""
    for r in kinds.ALL:
        for path, item in _paths(r, v3=False).items():
            body = b"".join(_pb(_METHODS[verb], _v2_operation(operation)) for verb, operation in item.items())
            paths += _pb(2, _pb(1, path) + _pb(2, body))
    definitions = b"".join(
        _pb(1, _pb(1, _name(name)) + _pb(2, _v2_schema(_definition(message(name), "#/definitions/"))))
        for name in names()
    )
    info = _pb(1, "Kubernetes") + _pb(2, "v1.36.2")
    return _pb(1, "2.0") + _pb(2, info) + _pb(8, paths) + _pb(9, definitions)
