"""Answers reads from the store's mirror: one object, lists of any version that is still known. Refuses to know HTTP."""

from __future__ import annotations

import bisect
from typing import Any

from . import limits, views
from .requests import ListOptions, Target, continue_token
from .status import ApiError, expired, not_found
from .store import Store, Stored, TooOld
from .watch import selects

Obj = dict[str, Any]
Found = list[tuple[tuple[str, str], Stored]]


def get(store: Store, target: Target, view: views.View) -> bytes:
    """One object. Raises ApiError 404."""
    stored = store.get(target.key)
    if stored is None:
        raise not_found(target.resource.plural, target.resource.group, target.name)
    return views.object_body(view, target.resource, stored.raw)


def select(store: Store, target: Target, options: ListOptions) -> tuple[Found, int]:
    """The objects that a list means, all pages of it from `after` on, and the version they are of."""
    resource = target.resource.id
    if options.version is not None and options.version > store.rv:
        text = f"Too large resource version: {options.version}, current: {store.rv}"
        causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
        details = {"causes": causes, "retryAfterSeconds": 1}
        raise ApiError(504, "Timeout", f"Timeout: {text}", details)
    if options.match == "Exact" and options.version:
        version = options.version
        try:
            found: Found = store.as_of(resource, version)
        except TooOld:
            raise expired(
                "The provided continue parameter is too old to display a consistent list result. You can start a new "
                "list without the continue parameter."
                if options.after
                else f"The resourceVersion for the provided list is too old: {version}"
            ) from None
    else:
        version, found = store.rv, list(store.all(resource, target.namespace))
    if options.after is not None:
        keys = [key for key, _ in found]
        found = found[bisect.bisect_right(keys, options.after) :]
    ns, name, selector = target.namespace, target.name, options.selector
    if ns or name or selector:
        found = [(key, stored) for key, stored in found if selects(selector, ns, name, key, stored)]
    return found, version


def collection(store: Store, target: Target, options: ListOptions, view: views.View) -> bytes:
    """A list, in pages when the client asks for them."""
    found, version = select(store, target, options)
    meta: Obj = {"resourceVersion": str(version)}
    limit = options.limit or limits.LIST_ITEMS_MAX
    if len(found) > limit:
        meta["continue"] = continue_token(version, found[limit - 1][0])
        if not options.selector:
            meta["remainingItemCount"] = len(found) - limit
        found = found[:limit]
    return views.list_body(view, target.resource, [stored.raw for _, stored in found], meta)
