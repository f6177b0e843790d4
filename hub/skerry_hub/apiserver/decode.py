"""Turns a request body into an object: JSON, YAML or protobuf by its content type, and what was strange about it.

Any bytes give an object or an ApiError. Refuses to know whether the object is valid.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import yaml

from . import protobuf
from .limits import JSON_DEPTH_MAX, YAML_BYTES_MAX
from .status import ApiError, bad_request, unsupported_media

Obj = dict[str, Any]
JSON, YAML, PROTOBUF = "application/json", "application/yaml", "application/vnd.kubernetes.protobuf"
ACCEPTED = (JSON, YAML, PROTOBUF)


@dataclass
class Decoded:
    """`duplicates` are the paths of JSON keys that came twice; the last value counted."""

    obj: Obj
    duplicates: list[str] = field(default_factory=list)


def media_type(header: str) -> str:
    """The bare media type of a Content-Type header; empty means JSON."""
    return header.partition(";")[0].strip().lower() or JSON


def decode_object(body: bytes, content_type: str, kind: str, type_name: str) -> Decoded:
    """The object in `body`; `kind` is what the path asks for. Raises ApiError 400 or 415."""
    media = media_type(content_type)
    if media == PROTOBUF:
        return _protobuf(body, kind, type_name)
    if media == YAML:
        return Decoded(_need_map(_yaml(body), kind))
    if media != JSON:
        raise unsupported_media(ACCEPTED)
    twice: list[tuple[int, str]] = []
    try:
        value = loads(body, twice)
    except ValueError as why:
        shown = body.decode(errors="replace")[:1024]
        raise bad_request(
            f"the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; "
            f"json parse error: {why} ({shown})"
        ) from None
    obj = _need_map(value, kind)
    return Decoded(obj, _paths(obj, twice) if twice else [])


def loads(body: bytes, twice: list[tuple[int, str]] | None = None) -> Any:
    """Strict JSON of bounded depth. `twice` collects (id of the map, key). Raises ValueError in the API's words."""

    def pairs(items: list[tuple[str, Any]]) -> Obj:
        out = dict(items)
        if len(out) != len(items) and twice is not None:
            seen: set[str] = set()
            for key, _ in items:
                if key in seen:
                    twice.append((id(out), key))
                seen.add(key)
        return out

    try:
        value = json.loads(body, object_pairs_hook=pairs, parse_constant=_no_constant)
    except json.JSONDecodeError as why:
        raise ValueError(_go_message(why)) from None
    except (RecursionError, UnicodeDecodeError):
        raise ValueError("exceeded max depth" if len(body) > 2 else "invalid character") from None
    if depth_over(value, JSON_DEPTH_MAX):
        raise ValueError("exceeded max depth")
    return value


def depth_over(value: Any, bound: int) -> bool:
    """Whether maps and lists are nested deeper than `bound`."""
    level = [value]
    for _ in range(bound + 1):
        level = [
            inner
            for node in level
            if isinstance(node, (dict, list))
            for inner in (node.values() if isinstance(node, dict) else node)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return False
    return True


def _no_constant(text: str) -> Any:
    raise ValueError(f"invalid character {text[0]!r} looking for beginning of value")


def _go_message(why: json.JSONDecodeError) -> str:
    text = why.doc[why.pos :].strip()
    if not text or why.msg.startswith("Unterminated"):
        return "unexpected end of JSON input"
    if why.msg == "Extra data":
        return f"invalid character {text[0]!r} after top-level value"
    return f"invalid character {text[0]!r} looking for beginning of value"


def _need_map(value: Any, kind: str) -> Obj:
    if not isinstance(value, dict):
        raise bad_request(f"the object provided is unrecognized (must be of type {kind}): it is not a map")
    return value


def _paths(obj: Any, twice: list[tuple[int, str]], path: str = "") -> list[str]:
    out = []
    if isinstance(obj, dict):
        out += [f"{path}.{key}" if path else key for ident, key in twice if ident == id(obj)]
        for key, inner in obj.items():
            out += _paths(inner, twice, f"{path}.{key}" if path else key)
    elif isinstance(obj, list):
        for i, inner in enumerate(obj):
            out += _paths(inner, twice, f"{path}[{i}]")
    return out


class _JsonLike(yaml.CSafeLoader):
    """YAML as JSON would hold it: times stay strings."""

    yaml_implicit_resolvers = {
        first: [(tag, exp) for tag, exp in found if tag != "tag:yaml.org,2002:timestamp"]
        for first, found in yaml.CSafeLoader.yaml_implicit_resolvers.items()
    }


def _yaml(body: bytes) -> Any:
    if len(body) > YAML_BYTES_MAX:
        raise bad_request(f"YAML of more than {YAML_BYTES_MAX} bytes; send JSON")
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(body, Loader=yaml.CSafeLoader)):
            raise bad_request("YAML with aliases is not accepted")
        value = yaml.load(body, Loader=_JsonLike)  # noqa: S506 a safe loader
        return json.loads(json.dumps(value, allow_nan=False))
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as why:
        raise bad_request(f"error converting YAML to JSON: {str(why).splitlines()[0]}") from None


def _protobuf(body: bytes, kind: str, type_name: str) -> Decoded:
    try:
        version, sent, raw = protobuf.envelope(body)
        if sent and sent != kind:
            return Decoded({"apiVersion": version, "kind": sent})
        obj = protobuf.decode(type_name, raw)
    except protobuf.BadProtobuf as why:
        shown = body[:512].hex()
        raise bad_request(f"the object provided is unrecognized (must be of type {kind}): {why} ({shown})") from None
    return Decoded({"apiVersion": version, "kind": sent, **obj})


def canonical(obj: Obj) -> str:
    """An object as compact JSON, top-level keys sorted: how messages quote a patched object."""
    return json.dumps({key: obj[key] for key in sorted(obj)}, ensure_ascii=False, separators=(",", ":"))


def patch_json(body: bytes) -> Any:
    """The JSON of a patch. Raises ApiError 400."""
    try:
        return loads(body)
    except ValueError as why:
        raise bad_request(f"error decoding patch: {why}") from None


__all__ = ["ACCEPTED", "ApiError", "Decoded", "canonical", "decode_object", "loads", "media_type", "patch_json"]
