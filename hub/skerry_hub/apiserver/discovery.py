"""What the server has, as clients ask for it: /api, /apis, their groups and versions, plain and aggregated. Pure."""

from __future__ import annotations

from typing import Any

from . import kinds
from .resources import Resource

Obj = dict[str, Any]
CORE_ONLY = [("bindings", "Binding", ("create",))]  # resources of v1 that are only posted to


def api_versions() -> Obj:
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": ""}],
    }


def _groups() -> list[tuple[str, str]]:
    return sorted(pair for pair in kinds.GROUPS if pair[0])


def api_group(group: str) -> Obj | None:
    """The document of one named group, None when there is none."""
    versions = [version for name, version in _groups() if name == group]
    if not versions:
        return None
    rows = [{"groupVersion": f"{group}/{version}", "version": version} for version in versions]
    return {"kind": "APIGroup", "apiVersion": "v1", "name": group, "versions": rows, "preferredVersion": rows[0]}


def api_groups() -> Obj:
    groups = []
    for name in dict.fromkeys(group for group, _ in _groups()):
        found = api_group(name)
        assert found is not None
        groups.append({key: value for key, value in found.items() if key not in ("kind", "apiVersion")})
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def _of(group: str, version: str) -> list[Resource]:
    found = [r for r in kinds.ALL if (r.group, r.version) == (group, version)]
    return sorted(found, key=lambda r: r.plural)


def resources(group: str, version: str) -> Obj | None:
    """The resources of one version, None when there is no such version."""
    if (group, version) not in kinds.GROUPS:
        return None
    rows: list[Obj] = []
    for r in _of(group, version):
        row: Obj = {"name": r.plural, "singularName": r.singular, "namespaced": r.namespaced, "kind": r.kind}
        row["verbs"] = list(r.verbs)
        if r.short_names:
            row["shortNames"] = list(r.short_names)
        if r.categories:
            row["categories"] = list(r.categories)
        rows.append(row)
        for sub in r.subresources:
            below: Obj = {"name": f"{r.plural}/{sub.name}", "singularName": "", "namespaced": r.namespaced}
            if sub.group:
                below.update(group=sub.group, version=sub.version)
            rows.append({**below, "kind": sub.kind, "verbs": list(sub.verbs)})
    out: Obj = {
        "kind": "APIResourceList",
        "groupVersion": f"{group}/{version}" if group else version,
        "resources": rows,
    }
    return out if not group else {"kind": "APIResourceList", "apiVersion": "v1", **out}


def aggregated(core: bool) -> Obj:
    """All groups (or the core one) in one document, APIGroupDiscoveryList v2."""
    names = [("", "v1")] if core else _groups()
    items = []
    for group in dict.fromkeys(name for name, _ in names):
        meta: Obj = {"name": group, "creationTimestamp": None} if group else {"creationTimestamp": None}
        versions = [
            {"version": version, "resources": [_aggregate(r) for r in _of(group, version)], "freshness": "Current"}
            for name, version in names
            if name == group
        ]
        items.append({"metadata": meta, "versions": versions})
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def _aggregate(r: Resource) -> Obj:
    def kind(group: str, version: str, name: str) -> Obj:
        return {"group": group, "version": version, "kind": name}

    inside = r.version if r.group else ""
    out: Obj = {"resource": r.plural, "responseKind": kind(r.group, inside, r.kind)}
    out["scope"] = "Namespaced" if r.namespaced else "Cluster"
    out["singularResource"] = r.singular
    out["verbs"] = list(r.verbs)
    if r.short_names:
        out["shortNames"] = list(r.short_names)
    if r.categories:
        out["categories"] = list(r.categories)
    if r.subresources:
        out["subresources"] = [
            {
                "subresource": sub.name,
                "responseKind": kind(sub.group or r.group, sub.version or inside, sub.kind),
                "verbs": list(sub.verbs),
            }
            for sub in r.subresources
        ]
    return out


def version() -> Obj:
    """What /version says; the minor version is that of the server whose behaviour was recorded."""
    return {
        "major": "1",
        "minor": "36",
        "emulationMajor": "1",
        "emulationMinor": "36",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35",
        "gitVersion": "v1.36.2+skerry",
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "",
        "platform": "linux/python",
    }
