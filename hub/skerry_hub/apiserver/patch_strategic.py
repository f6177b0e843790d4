"""Strategic merge patch: lists are merged by the key that the table names for them. Pure.

Source: k8s.io/apimachinery strategicpatch and "Update API Objects in Place Using kubectl patch"; the order of merged
lists is theirs: patched items in the patch's order, the server's own in theirs, interleaved as the server had them.
"""

from __future__ import annotations

import copy
from typing import Any

from .schema import Field, Message, message

Obj = dict[str, Any]
_ORDER, _DELETE, _RETAIN = "$setElementOrder/", "$deleteFromPrimitiveList/", "$retainKeys"


class BadPatch(ValueError):
    """The patch contradicts itself or the type."""


def apply(kind: str, original: Obj, patch: Obj) -> Obj:
    """`original`, of type `kind`, with `patch` merged in; neither is changed. Raises BadPatch."""
    return _merge_map(copy.deepcopy(original), copy.deepcopy(patch), message(kind))


def _merge_map(original: Obj, patch: Obj, msg: Message | None) -> Obj:
    if "$patch" in patch:
        return _directive(patch)
    _retain_keys(original, patch)
    _ordered_lists(original, patch, msg)
    for key, value in patch.items():
        if key.startswith(_DELETE):
            name = key[len(_DELETE) :]
            if not isinstance(value, list):
                raise BadPatch(f"{key} is no list")
            if isinstance(original.get(name), list):
                original[name] = [item for item in original[name] if item not in value]
            continue
        if value is None:
            original.pop(key, None)
            continue
        field = msg.fields.get(key) if msg else None
        have = original.get(key)
        if isinstance(value, dict) and isinstance(have, dict):
            original[key] = _merge_map(have, value, _inner(field))
        elif isinstance(value, list) and isinstance(have, list) and field is not None and field.merge_key is not None:
            original[key] = _merge_list(have, value, field)
        elif isinstance(value, dict):
            original[key] = _merge_map({}, value, _inner(field))
        elif isinstance(value, list):
            original[key] = [_fresh(item, field) for item in value if not _deleting(item)]
        else:
            original[key] = value
    return original


def _inner(field: Field | None) -> Message | None:
    if field is None:
        return None
    kind = field.type if field.type.shape == "message" else field.type.element
    return message(kind.name) if kind is not None and kind.shape == "message" else None


def _deleting(item: Any) -> bool:
    return isinstance(item, dict) and item.get("$patch") == "delete"


def _fresh(item: Any, field: Field | None) -> Any:
    """A value that nothing is merged with: nulls and directives in it have no effect."""
    return _merge_map({}, item, _inner(field)) if isinstance(item, dict) and "$patch" not in item else item


def _directive(patch: Obj) -> Obj:
    verb = patch["$patch"]
    if verb == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    if verb == "delete":
        return {}
    raise BadPatch(f"unknown patch type: {_go(verb)} in map: {_go(patch)}")


def _retain_keys(original: Obj, patch: Obj) -> None:
    if _RETAIN not in patch:
        return
    keep = patch.pop(_RETAIN)
    if not isinstance(keep, list):
        raise BadPatch(f"{_RETAIN} is no list")
    stray = [key for key in patch if key not in keep and not key.startswith("$")]
    if any(patch[key] is not None for key in stray):
        raise BadPatch(f"{_RETAIN} is missing the keys {stray}")
    for key in [key for key in original if key not in keep]:
        del original[key]


def _ordered_lists(original: Obj, patch: Obj, msg: Message | None) -> None:
    for key in [key for key in patch if key.startswith(_ORDER)]:
        order, name = patch.pop(key), key[len(_ORDER) :]
        field = msg.fields.get(name) if msg else None
        if not isinstance(order, list) or field is None or field.merge_key is None:
            raise BadPatch(f"{key} names no list that merges")
        given, have = patch.pop(name, None), original.get(name)
        gone = patch.pop(_DELETE + name, None)
        if not all(isinstance(part, (list, type(None))) for part in (given, have, gone)):
            raise BadPatch(f"{name} is no list")
        if given is not None:
            _check_order(given, order, field.merge_key, key)
        if given is None and have is None:
            continue
        merged = _merge_list(have or [], given or [], field) if given is not None else list(have or [])
        merged = [item for item in merged if item not in (gone or [])]
        mine, rest = _partition(merged, order, field.merge_key)
        original[name] = _interleave(rest, _sort(mine, order, field.merge_key), have or [], field.merge_key)


def _check_order(given: list[Any], order: list[Any], key: str, directive: str) -> None:
    wanted = [_ident(item, key) for item in given if not (isinstance(item, dict) and "$patch" in item)]
    at = 0
    places = [_ident(item, key) for item in order]
    for ident in wanted:
        while at < len(places) and places[at] != ident:
            at += 1
        if at == len(places):
            raise BadPatch(
                f"The order in patch list:\n{_go(given)}\n doesn't match $setElementOrder list:\n{_go(order)}\n"
            )
        at += 1


def _ident(item: Any, key: str) -> Any:
    """What a list item is recognised by."""
    if not key:
        return item
    if not isinstance(item, dict):
        raise BadPatch("list of maps expected")
    if key not in item:
        raise BadPatch(f"map: {_go(item)} does not contain declared merge key: {key}")
    return item[key]


def _merge_list(have: list[Any], given: list[Any], field: Field) -> list[Any]:
    key = field.merge_key
    assert key is not None
    if not key:
        union = list(dict.fromkeys([item for item in have + given if isinstance(item, (str, int))]))
        mine, rest = _partition(union, given, key)
        return _interleave(_sort(rest, have, key), _sort(mine, given, key), have, key)
    if any(isinstance(item, dict) and item.get("$patch") == "replace" for item in given):
        return [item for item in given if not (isinstance(item, dict) and "$patch" in item)]
    for item in [item for item in given if isinstance(item, dict) and "$patch" in item]:
        if item["$patch"] not in ("delete", "merge"):
            raise BadPatch(f"unknown patch type: {_go(item['$patch'])} in map: {_go(item)}")
        if item["$patch"] == "delete":
            ident = _ident(item, key)
            have = [other for other in have if _ident(other, key) != ident]
    given = [item for item in given if not _deleting(item)]
    merged: list[Any] = list(have)
    for item in given:
        ident = _ident(item, key)
        at = next((i for i, other in enumerate(merged) if _ident(other, key) == ident), None)
        if at is None:
            merged.append(_merge_map({}, item, _inner(field)))
        else:
            merged[at] = _merge_map(merged[at], item, _inner(field))
    mine, rest = _partition(merged, given, key)
    return _interleave(_sort(rest, have, key), _sort(mine, given, key), have, key)


def _partition(items: list[Any], order: list[Any], key: str) -> tuple[list[Any], list[Any]]:
    """The items that `order` names, and the others."""
    idents = [_ident(item, key) for item in order]
    mine = [item for item in items if _ident(item, key) in idents]
    return mine, [item for item in items if _ident(item, key) not in idents]


def _sort(items: list[Any], order: list[Any], key: str) -> list[Any]:
    idents = [_ident(item, key) for item in order]
    return sorted(items, key=lambda item: idents.index(_ident(item, key)) if _ident(item, key) in idents else -1)


def _interleave(server: list[Any], patched: list[Any], order: list[Any], key: str) -> list[Any]:
    """Both lists keep their order; where the server had both items, its order decides, else the patched one leads."""
    idents = [_ident(item, key) for item in order]

    def place(item: Any) -> int:
        ident = _ident(item, key)
        return idents.index(ident) if ident in idents else -1

    out = []
    i = j = 0
    while i < len(server) or j < len(patched):
        if i >= len(server):
            take_server = False
        elif j >= len(patched):
            take_server = True
        else:
            left, right = place(server[i]), place(patched[j])
            take_server = 0 <= left < right
        if take_server:
            out.append(server[i])
            i += 1
        else:
            out.append(patched[j])
            j += 1
    return out


def _go(value: Any) -> str:
    """A value as Go's %v prints it."""
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{_go(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(_go(item) for item in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "<nil>" if value is None else str(value)
