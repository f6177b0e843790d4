"""Applies a patch of any kind to an object: JSON Patch, merge patch, strategic merge patch. Pure.

Server-side apply is refused as a media type that is not served: it would be a lie to treat it as a merge.
"""

from __future__ import annotations

import copy
import json
from typing import Any

import jsonpatch
import jsonpointer

from skerry_hub.limits import HTTP_BODY_BYTES_MAX

from . import limits, patch_strategic
from .decode import depth_over, media_type, patch_json
from .status import ApiError, bad_request, unsupported_media

Obj = dict[str, Any]
JSON_PATCH = "application/json-patch+json"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
SERVED = (JSON_PATCH, MERGE, STRATEGIC)
OPERATIONS_MAX = 10_000
COPIES_MAX = 50
_NO_MAP = "json: cannot unmarshal array into Go value of type map[string]interface {}"


def apply(content_type: str, body: bytes, kind: str, original: Obj) -> Obj:
    """`original` of type `kind` with the patch in `body`; it is not changed itself. Raises ApiError 400, 415, 422."""
    media = media_type(content_type)
    if media not in SERVED:
        error = unsupported_media(SERVED)
        if media != APPLY:
            error.message = "415: Unsupported Media Type"
            error.details = {}
        raise error
    out = _apply(media, patch_json(body), kind, original)
    if depth_over(out, limits.JSON_DEPTH_MAX):
        raise bad_request("the patched object is nested too deep")
    return out


def _apply(media: str, patch: Any, kind: str, original: Obj) -> Obj:
    if media == JSON_PATCH:
        return _json_patch(original, patch)
    if not isinstance(patch, dict):
        raise bad_request(f"error decoding patch: {_NO_MAP}")
    if media == MERGE:
        out = merge(original, patch)
        assert isinstance(out, dict)
        return out
    try:
        return patch_strategic.apply(kind, original, patch)
    except patch_strategic.BadPatch as why:
        raise bad_request(str(why)) from None


def merge(original: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    out = dict(original) if isinstance(original, dict) else {}
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = merge(out.get(key), value)
    return out


def _json_patch(original: Obj, patch: Any) -> Obj:
    if not isinstance(patch, list) or len(patch) > OPERATIONS_MAX:
        raise bad_request("error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    rejected = ApiError(422, "Invalid", "the server rejected our request due to an error in our request", {})
    try:
        out = copy.deepcopy(original)
        for part in _between_copies(patch):
            out = jsonpatch.JsonPatch(part).apply(out, in_place=True)
            if len(part) == 1 and part[0].get("op") == "copy" and len(json.dumps(out)) > HTTP_BODY_BYTES_MAX:
                raise rejected  # copies of copies grow without bound
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException) as why:
        raise rejected from why
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as why:
        raise rejected from why
    if not isinstance(out, dict):
        raise rejected
    return out


def _between_copies(patch: list[Any]) -> list[list[Any]]:
    """The operations in order, each copy alone. Raises ValueError for too many copies and too deep a path."""
    out: list[list[Any]] = [[]]
    copies = 0
    for operation in patch:
        if isinstance(operation, dict) and str(operation.get("path")).count("/") > limits.JSON_DEPTH_MAX:
            raise ValueError("too deep")
        if isinstance(operation, dict) and operation.get("op") == "copy":
            copies += 1
            out += [[operation], []]
        else:
            out[-1].append(operation)
    if copies > COPIES_MAX:
        raise ValueError("too many copies")
    return [part for part in out if part]
