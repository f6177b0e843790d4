"""The Node object of each device of this replica: what its session says, and what makes it a node like others.

Decides when to write; what to write is decided in `status` and `registration`. A write is made only where the API shows
something else. Knows no session.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from skerry.ports import Clock, Entropy
from skerry_hub.edgecontroller import registration, status
from skerry_hub.edgecontroller.registration import Endpoint
from skerry_hub.edgecontroller.work import Log, Work
from skerry_hub.limits import NODE_WRITERS_MAX
from skerry_hub.ports import NODES, Cluster, ClusterError, NotFound, Obj, PatchForm, Resource

# Raised, so that it is asked again after a back-off and not for ever as fast as the API answers.
KEEPS_NOT = "the API does not keep the node's "
EndpointOf = Callable[[str], "Endpoint | None"]  # where logs and exec of a node are served; None: nowhere yet


class Known(Protocol):
    """The informers, as far as writers need them."""

    def node(self, name: str) -> Obj | None:
        """The node as it is known, if it is a device of this replica."""

    def era(self, resource: Resource) -> int: ...

    def learn(self, resource: Resource, obj: Obj, era: int) -> None: ...


@dataclass(slots=True)
class Wish:
    """What the API should show of one node's session."""

    live: bool | None = None
    held: bool | None = None
    why: str = ""
    full: str | None = None  # why the device's journal has no room; empty when it has


class Nodes:
    def __init__(
        self, cluster: Cluster, clock: Clock, entropy: Entropy, log: Log, known: Known, endpoint_of: EndpointOf
    ) -> None:
        self._cluster, self._clock, self._known, self._endpoint_of = cluster, clock, known, endpoint_of
        self._wishes: dict[str, Wish] = {}
        self._work = Work(self._write, NODE_WRITERS_MAX, clock, entropy, log, "node")

    async def run(self) -> None:
        """Never returns."""
        await self._work.run()

    def look(self, node: str) -> None:
        """The node has changed, or its endpoint."""
        self._work.add(node)

    def forget(self, node: str) -> None:
        """It is gone, or another replica's."""
        self._wishes.pop(node, None)

    def presence(self, node: str, live: bool) -> None:
        """The Ready condition should say so."""
        self._wish(node).live = live

    def held(self, node: str, held: bool, why: str) -> None:
        """The RestoredHub condition should say so."""
        wish = self._wish(node)
        wish.held, wish.why = held, why

    def full(self, node: str, why: str) -> None:
        """The DiskPressure condition should say so."""
        self._wish(node).full = why

    # --- private ------------------------------------------------------------------------------------------------------

    def _wish(self, node: str) -> Wish:
        self._work.add(node)
        return self._wishes.setdefault(node, Wish())

    async def _write(self, node: str) -> None:
        """The labels and the status of one node, as far as they differ."""
        shown = self._known.node(node)
        labels = registration.label_patch(shown) if shown is not None else None
        try:
            if labels is not None:
                era = self._known.era(NODES)
                now = await self._cluster.patch(NODES, "", node, labels)
                self._known.learn(NODES, now, era)
                if registration.label_patch(now) is not None:
                    raise ClusterError(KEEPS_NOT + "labels")
            await self._write_status(node)
        except NotFound:
            return

    async def _write_status(self, node: str) -> None:
        shown = self._known.node(node)
        if shown is None:
            return
        have, endpoint = shown.get("status") or {}, self._endpoint_of(node)
        patch = registration.endpoint_patch(endpoint, have) if endpoint is not None else {}
        conditions = self._conditions(node, have)
        if conditions:
            patch["conditions"] = conditions
        if not patch:
            return
        era = self._known.era(NODES)
        now = await self._cluster.patch(
            NODES, "", node, {"status": patch}, form=PatchForm.STRATEGIC, subresource="status"
        )
        self._known.learn(NODES, now, era)
        kept = [_told(c) for c in (now.get("status") or {}).get("conditions") or ()]
        missing = [c["type"] for c in conditions if _told(c) not in kept]
        if missing:
            raise ClusterError(f"{KEEPS_NOT}condition {missing[0]}")

    def _conditions(self, node: str, have: Obj) -> list[dict[str, Any]]:
        """Those that are wished for and not shown, each once."""
        wish, wall = self._wishes.get(node), self._clock.wall()
        if wish is None:
            return []
        patches: list[dict[str, Any] | None] = []
        if wish.live is not None:
            patches.append(status.presence_patch(wish.live, have, wall))
        if wish.live:
            patches.append(status.calm_patch(have, wall))
        if wish.held is not None:
            patches.append(status.held_patch(wish.held, wish.why, have, wall))
        if wish.full is not None:
            patches.append(status.full_patch(wish.full, have, wall))
        said = {c["type"]: c for patch in patches if patch is not None for c in patch["conditions"]}
        return list(said.values())


def _told(condition: Obj) -> tuple[Any, ...]:
    return (condition.get("type"), condition.get("status"), condition.get("reason"), condition.get("message"))
