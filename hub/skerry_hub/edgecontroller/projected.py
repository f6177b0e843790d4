"""Volumes with a service account's token: which pods ask for one, and what becomes of it on the way. Pure.

Such a volume travels as a Secret volume, and what is projected into it as a Secret of its own, which no API object can
be mistaken for: its name has a `:`. So a device needs to know nothing of tokens, keeps them sealed as any Secret, and
changes the mounted files when the hub has a new one. Source: Kubernetes API reference, ProjectedVolumeSource.

Admission adds a volume for a token to nearly every pod, for an API that a device's pod can seldom reach. It counts
where the pod itself says `automountServiceAccountToken: true`; a volume that somebody wrote always does.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from skerry.model.desired import Kind
from skerry_hub.ports import Obj

TOKEN_VOLUME = "kube-api-access-"  # noqa: S105 - the prefix that the ServiceAccount admission gives its volume
CONTAINER_LISTS = ("containers", "initContainers", "ephemeralContainers")
TRAVELS_AS = "skerry-"  # before the name of admission's own volume, which a device leaves out
MODE = 0o644
EXPIRATION_S = 3600  # where a source names none
FIELDS: Mapping[str, str] = {"metadata.name": "name", "metadata.namespace": "namespace", "metadata.uid": "uid"}
KINDS = {"configMap": Kind.CONFIG_MAP, "secret": Kind.SECRET}


@dataclass(frozen=True, slots=True)
class TokenSource:
    """What is asked of the API for one token; an empty audience is the API's own."""

    audience: str
    expiration_s: int


@dataclass(frozen=True, slots=True)
class Projection:
    """A volume of one pod, with every source as the API has it."""

    volume: str
    mode: int
    sources: tuple[tuple[str, Mapping[str, Any]], ...]

    @property
    def tokens(self) -> tuple[TokenSource, ...]:
        return tuple(_token(source) for kind, source in self.sources if kind == "serviceAccountToken")

    @property
    def named(self) -> tuple[tuple[Kind, str], ...]:
        """The ConfigMaps and Secrets that take part in it."""
        return tuple((KINDS[kind], source["name"]) for kind, source in self.sources if kind in KINDS)


class Missing(Exception):
    """Something that a projection is made of is not there; the text says what. `refused`: nor is it on its way."""

    def __init__(self, what: str, refused: bool = False) -> None:
        super().__init__(what)
        self.refused = refused


def projections(pod: Obj) -> tuple[Projection, ...]:
    """Those of a pod that can be made here. One with a source of another kind travels as it is, and the device refuses
    it with its path."""
    spec = pod.get("spec") or {}
    asked = spec.get("automountServiceAccountToken") is True
    made = (_projection(v) for v in dicts(spec.get("volumes")) if asked or not _is_admissions(v))
    return tuple(p for p in made if p is not None)


def travelling(pod: Obj) -> Obj:
    """The pod's spec with these volumes as Secret volumes, and without the one of admission that nobody asked for, nor
    its mounts."""
    spec, made = pod.get("spec") or {}, {p.volume: p for p in projections(pod)}
    volumes = dicts(spec.get("volumes"))
    gone = {v.get("name") for v in volumes if _is_admissions(v)} - made.keys()
    if not (made or gone):
        return spec
    out = {**spec, "volumes": [_as_secret(v, pod, made) for v in volumes if v.get("name") not in gone]}
    if not out["volumes"]:
        del out["volumes"]
    for part in CONTAINER_LISTS:
        if isinstance(spec.get(part), list):
            out[part] = [_mounted(c, made, gone) for c in dicts(spec[part])]
    return out


def secret_name(pod_name: str, volume: str) -> str:
    return f"{pod_name}:{volume}"


def is_made(name: str) -> bool:
    """Whether a Secret of this name is made here, and is none of the API's."""
    return ":" in name


def composed(
    pod: Obj,
    made: Projection,
    token: Callable[[TokenSource], str],
    find: Callable[[Kind, str], Obj | None],
) -> tuple[Obj, str]:
    """The Secret of a projection, as if the API had it, and what is left out of it. `token` raises Missing. Raises
    Missing; but a token that is refused is left out of admission's volume, so that a pod which asks by habit runs."""
    meta, left_out = pod["metadata"], ""
    data: dict[str, str] = {}
    for kind, source in made.sources:
        match kind:
            case "serviceAccountToken":
                try:
                    data[source["path"]] = _text(token(_token(source)))
                except Missing as why:
                    if not (why.refused and made.volume.startswith(TOKEN_VOLUME)):
                        raise
                    left_out = str(why)
            case "downwardAPI":
                for item in dicts(source["items"]):
                    data[item["path"]] = _text(str(meta[FIELDS[item["fieldRef"]["fieldPath"]]]))
            case _:
                data |= _of_object(KINDS[kind], source, find)
    name, uid = secret_name(meta["name"], made.volume), f"{meta['uid']}:{made.volume}"
    return {"metadata": {"name": name, "namespace": meta["namespace"], "uid": uid}, "data": data}, left_out


def dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


# --- private ----------------------------------------------------------------------------------------------------------


def _is_admissions(volume: Mapping[str, Any]) -> bool:
    """Whether it is the volume for a token that admission adds to every pod."""
    sources = dicts((volume.get("projected") or {}).get("sources"))
    return str(volume.get("name")).startswith(TOKEN_VOLUME) and any("serviceAccountToken" in s for s in sources)


def _projection(volume: Mapping[str, Any]) -> Projection | None:
    said = volume.get("projected")
    if not isinstance(said, dict) or not isinstance(volume.get("name"), str):
        return None
    sources = []
    for source in dicts(said.get("sources")):
        kinds = [kind for kind, value in source.items() if value is not None]
        if len(kinds) != 1 or not _fits(kinds[0], source[kinds[0]]):
            return None
        sources.append((kinds[0], source[kinds[0]]))
    if not any(kind == "serviceAccountToken" for kind, _ in sources):
        return None
    mode = said.get("defaultMode")
    return Projection(volume["name"], mode if isinstance(mode, int) else MODE, tuple(sources))


def _fits(kind: str, source: Any) -> bool:
    """Whether this is a source that is known here, in every part."""
    if not isinstance(source, dict):
        return False
    items = dicts(source.get("items"))
    if not all(isinstance(item.get("path"), str) and item.get("mode") is None for item in items):
        return False
    match kind:
        case "serviceAccountToken":
            return isinstance(source.get("path"), str) and isinstance(source.get("audience", ""), str)
        case "configMap" | "secret":
            return isinstance(source.get("name"), str) and all(isinstance(item.get("key"), str) for item in items)
        case "downwardAPI":
            return all((item.get("fieldRef") or {}).get("fieldPath") in FIELDS for item in items)
    return False


def _token(source: Mapping[str, Any]) -> TokenSource:
    expiration = source.get("expirationSeconds")
    return TokenSource(source.get("audience", ""), expiration if isinstance(expiration, int) else EXPIRATION_S)


def _travels_as(volume: str) -> str:
    return TRAVELS_AS + volume if volume.startswith(TOKEN_VOLUME) else volume


def _as_secret(volume: Obj, pod: Obj, made: Mapping[str, Projection]) -> Obj:
    one = made.get(str(volume.get("name")))
    if one is None:
        return volume
    source = {"secretName": secret_name(pod["metadata"]["name"], one.volume), "defaultMode": one.mode}
    return {"name": _travels_as(one.volume), "secret": source}


def _mounted(container: Obj, made: Mapping[str, Projection], gone: Collection[Any]) -> Obj:
    if "volumeMounts" not in container:
        return container
    mounts = [m for m in dicts(container["volumeMounts"]) if m.get("name") not in gone]
    mounts = [{**m, "name": _travels_as(m["name"])} if m.get("name") in made else m for m in mounts]
    rest = {k: v for k, v in container.items() if k != "volumeMounts"}
    return {**rest, "volumeMounts": mounts} if mounts else rest


def _of_object(kind: Kind, source: Mapping[str, Any], find: Callable[[Kind, str], Obj | None]) -> dict[str, str]:
    """path → base64, of a ConfigMap or Secret."""
    what, optional = f"{'Secret' if kind is Kind.SECRET else 'ConfigMap'} {source['name']}", source.get("optional")
    found = find(kind, source["name"])
    if found is None:
        if optional:
            return {}
        raise Missing(f"{what} is not there")
    plain = found.get("data") or {}
    have = {k: v if kind is Kind.SECRET else _text(v) for k, v in plain.items()} | (found.get("binaryData") or {})
    items = dicts(source.get("items"))
    if not items:
        return have
    for item in items:
        if item["key"] not in have and not optional:
            raise Missing(f"{what} has no key {item['key']}")
    return {item["path"]: have[item["key"]] for item in items if item["key"] in have}


def _text(value: str) -> str:
    return base64.b64encode(value.encode()).decode()
