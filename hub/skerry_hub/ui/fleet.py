"""All devices' rows, kept up to date by two watches, and who looks at them. Decides what is told when.

Changes closer than FLEET_COALESCE_S are told together; a viewer that does not read is owed names, never a queue of
events, so it costs no more than the fleet is large. While nobody looks nothing is computed and no hub is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from skerry.errors import SkerryError
from skerry.ports import Clock, Entropy
from skerry_hub.kube.informer import Informer, Name
from skerry_hub.limits import FLEET_COALESCE_S, FLEET_COUNTERS_S, FLEET_VIEWERS_MAX
from skerry_hub.ports import NODES, PODS, Cluster, Obj
from skerry_hub.ui.rows import PodShown, Row, pod_shown, row

Counters = Callable[[], Mapping[str, Any]]  # a hub's snapshot; blocks; raises SkerryError
Log = Callable[[str], None]


class Viewer:
    """One open page: names that it is owed, those first that have waited longest, and a bell."""

    def __init__(self, names: Iterable[str]) -> None:
        self.owed = dict.fromkeys(names)
        self.feed_changed = True
        self.bell = asyncio.Event()


class Fleet:
    """`labels` selects the Nodes that are devices. `counters` is None where no hub's socket is read."""

    def __init__(
        self, cluster: Cluster, clock: Clock, entropy: Entropy, log: Log, *, labels: str, counters: Counters | None
    ) -> None:
        self._clock, self._counters, self._log = clock, counters, log
        self._nodes = Informer(
            cluster, NODES, clock, entropy, log, labels=labels, on_change=self._node, on_synced=self._synced
        )
        self._pods = Informer(
            cluster, PODS, clock, entropy, log, fields="spec.nodeName!=", on_change=self._pod, on_synced=self._synced
        )
        self._of: dict[str, dict[Name, PodShown]] = {}
        self._sessions: Mapping[str, Any] = {}
        self._hub_answers: bool | None = None  # None: none is asked
        self._dirty: set[str] = set()
        self._bell, self._looked_at = asyncio.Event(), asyncio.Event()
        self._viewers: set[Viewer] = set()
        self.rows: dict[str, Row] = {}

    async def run(self) -> None:
        """Never returns."""
        parts = [self._nodes.run(), self._pods.run(), self._tell()]
        parts += [self._ask()] if self._counters is not None else []
        tasks = [asyncio.ensure_future(part) for part in parts]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # --- viewers ------------------------------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        return len(self._viewers) >= FLEET_VIEWERS_MAX

    def look(self) -> Viewer:
        """Somebody looks, and is owed everything."""
        self._compute()
        viewer = Viewer(sorted(self.rows))
        self._viewers.add(viewer)
        self._looked_at.set()
        return viewer

    def leave(self, viewer: Viewer) -> None:
        self._viewers.discard(viewer)
        if not self._viewers:
            self._looked_at.clear()

    def feed(self) -> dict[str, Any]:
        """Whether what is shown follows the API (`api`) and a hub (`hub`: None without one)."""
        return {"api": self._nodes.synced and self._pods.synced, "hub": self._hub_answers}

    # --- what changes -------------------------------------------------------------------------------------------------

    def _node(self, name: Name, _before: Obj | None, _now: Obj | None) -> None:
        self._changed(name[1])

    def _pod(self, name: Name, before: Obj | None, now: Obj | None) -> None:
        for node in {self._node_of(pod) for pod in (before, now)} - {""}:
            mine = self._of.setdefault(node, {})
            if now is not None and self._node_of(now) == node:
                mine[name] = pod_shown(now)
            else:
                mine.pop(name, None)
            if not mine:
                del self._of[node]
            self._changed(node)

    @staticmethod
    def _node_of(pod: Obj | None) -> str:
        return str(((pod or {}).get("spec") or {}).get("nodeName") or "")

    def _changed(self, node: str) -> None:
        self._dirty.add(node)
        self._bell.set()

    def _synced(self) -> None:
        self._feed_changed()

    def _feed_changed(self) -> None:
        for viewer in self._viewers:
            viewer.feed_changed = True
            viewer.bell.set()

    # --- loops --------------------------------------------------------------------------------------------------------

    async def _tell(self) -> None:
        while True:
            await self._looked_at.wait()
            await self._bell.wait()
            await self._clock.sleep_until(self._clock.now() + FLEET_COALESCE_S)
            self._bell.clear()
            changed = self._compute()
            for viewer in self._viewers if changed else ():
                viewer.owed.update(dict.fromkeys(sorted(changed)))
                viewer.bell.set()

    def _compute(self) -> set[str]:
        """Bring `rows` up to date. The names whose row is another one now, or is no more."""
        dirty, self._dirty = self._dirty, set()
        changed = set()
        for name in dirty:
            node = self._nodes.objects.get(("", name))
            now = row(node, self._of.get(name, {}).values(), self._sessions.get(name)) if node is not None else None
            if now != self.rows.get(name):
                changed.add(name)
            if now is not None:
                self.rows[name] = now
            else:
                self.rows.pop(name, None)
        return changed

    async def _ask(self) -> None:
        """A hub's counters have no events: they are read, while somebody looks."""
        assert self._counters is not None
        while True:
            await self._looked_at.wait()
            before, answered = self._sessions, self._hub_answers
            try:
                self._sessions = (await asyncio.to_thread(self._counters)).get("devices") or {}
                self._hub_answers = True
            except SkerryError as why:
                if answered is not False:
                    self._log(f"skerry-hub ui: {why}")
                self._hub_answers = False  # what was read last stays, and the page says so
            if self._hub_answers is not answered:
                self._feed_changed()
            for name in self._sessions.keys() | before.keys():
                if self._sessions.get(name) != before.get(name):
                    self._changed(name)
            await self._clock.sleep_until(self._clock.now() + FLEET_COUNTERS_S)
