"""Empties a namespace that is being deleted, then removes it; and makes the namespaces that a cluster has.

One task, woken by the store's changes; what it does is idempotent, so that a crash in between costs nothing.
Bound pods are deleted gracefully: the namespace waits until their node has let them go.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from . import admission, kinds, objects, verbs
from .requests import DeleteOptions, Target
from .status import ApiError
from .store import Change, Stale, Store, Write

Obj = dict[str, Any]
BOOTSTRAP = ("default", "kube-system", "kube-public", "kube-node-lease", "skerry")  # the last: tokens, identities
RETRY_S = 1.0
log = logging.getLogger("skerry_hub.apiserver")


async def bootstrap(store: Store) -> None:
    """Makes the namespaces of every cluster, and their service accounts, where they are missing."""
    for name in BOOTSTRAP:
        key = (kinds.NAMESPACES.id, "", name)
        obj, _ = objects.normal(kinds.NAMESPACES, {"metadata": {"name": name}})
        obj = objects.created(kinds.NAMESPACES, obj, verbs.now())
        if store.latest(key) is None:
            await store.commit(Write(key, None, obj), *admission.along(store, kinds.NAMESPACES, obj, verbs.now()))
        elif store.latest((kinds.SERVICE_ACCOUNTS.id, name, "default")) is None:
            await store.commit(*admission.along(store, kinds.NAMESPACES, obj, verbs.now()))


class NamespaceDrain:
    """Looks at terminating namespaces whenever one of their objects changes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._wake = asyncio.Event()
        self._terminating = {
            name
            for (_, name), found in store.all(kinds.NAMESPACES.id)
            if found.fields.get("status.phase") == "Terminating"
        }
        if self._terminating:
            self._wake.set()
        store.listeners.append(self._seen)

    def _seen(self, change: Change) -> None:
        if change.key[0] == kinds.NAMESPACES.id:
            name = change.key[2]
            if change.new is not None and change.new.fields.get("status.phase") == "Terminating":
                self._terminating.add(name)
                self._wake.set()
            elif change.new is None:
                self._terminating.discard(name)
        elif change.key[1] in self._terminating and change.new is None:
            self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            for name in sorted(self._terminating):
                try:
                    await self._drain(name)
                except (ApiError, Stale) as why:
                    log.warning("namespace %s: %s", name, why)
                    asyncio.get_running_loop().call_later(RETRY_S, self._wake.set)

    async def _drain(self, name: str) -> None:
        left = False
        for resource in kinds.STORED:
            if not resource.namespaced:
                continue
            for (ns, item), stored in list(self._store.all(resource.id, name)):
                if stored.obj()["metadata"].get("deletionTimestamp"):
                    left = True
                    continue
                try:
                    outcome = await verbs.delete(
                        self._store, Target(resource, ns, item, ""), DeleteOptions(False, None, "", "")
                    )
                except ApiError as why:
                    if why.code != 404:
                        raise
                    continue
                left = left or (
                    bool((outcome.obj.get("metadata") or {}).get("deletionTimestamp"))
                    and (self._store.latest((resource.id, ns, item)) is not None)
                )
        if not left:
            await self._remove(name)

    async def _remove(self, name: str) -> None:
        key = (kinds.NAMESPACES.id, "", name)
        current = self._store.latest(key)
        if current is None:
            return
        obj = current.obj()
        obj["spec"]["finalizers"] = [f for f in obj["spec"].get("finalizers", []) if f != "kubernetes"]
        if obj["spec"]["finalizers"] or obj["metadata"].get("finalizers"):
            if obj != current.obj():
                await self._store.commit(Write(key, current, obj))
            return
        await self._store.commit(Write(key, current, None))
