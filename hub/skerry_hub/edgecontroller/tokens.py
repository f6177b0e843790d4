"""Tokens of service accounts for the pods of this replica's devices: asked of the API, and asked anew in time.

Decides when a token is due and what is told while there is none. Keeps them in memory only: who serves a device next
asks for its own. Source: Kubernetes API reference, TokenRequest; kubelet's pkg/kubelet/token.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from skerry.ports import Clock, Entropy
from skerry_hub.edgecontroller.projected import Missing, TokenSource
from skerry_hub.edgecontroller.work import Log, Work
from skerry_hub.limits import TOKEN_AGE_S_MAX, TOKEN_LIFE_PART, TOKEN_LOOK_S, TOKEN_WAIT_S, TOKEN_WRITERS_MAX
from skerry_hub.ports import SERVICE_ACCOUNTS, Cluster, ClusterAway, ClusterBusy, ClusterError, Forbidden, Obj

FORBIDDEN = "the hub may not ask for it; a cluster's administrator allows that with hub/deploy/tokens"
NOT_YET = "the API has not given it yet"


@dataclass(slots=True)
class _Kept:
    """One pod's."""

    node: str
    sources: frozenset[TokenSource]
    since: float  # when they were first asked for
    tokens: dict[TokenSource, str] = field(default_factory=dict, repr=False)
    due: dict[TokenSource, float] = field(default_factory=dict)
    problem: str = ""


class Tokens:
    """`changed(node)` is called when what `token` says of one of its pods is another thing now; `pod` finds a pod by
    its uid."""

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        entropy: Entropy,
        log: Log,
        *,
        pod: Callable[[str], Obj | None],
        changed: Callable[[str], None],
    ) -> None:
        self._cluster, self._clock, self._entropy, self._pod, self._changed = cluster, clock, entropy, pod, changed
        self._kept: dict[str, _Kept] = {}  # by the pod's uid
        self._of_node: dict[str, set[str]] = {}  # the same uids
        self._work = Work(self._write, TOKEN_WRITERS_MAX, clock, entropy, log, "tokens of pod")

    async def run(self) -> None:
        """Never returns."""
        await asyncio.gather(self._work.run(), self._renew())

    def want(self, node: str, uid: str, sources: Iterable[TokenSource]) -> None:
        """A pod of a device of this replica, with what it asks for."""
        wanted = frozenset(sources)
        kept = self._kept.get(uid)
        if kept is not None and (kept.sources != wanted or kept.node != node):
            self._drop(uid)
        if wanted and uid not in self._kept:
            self._kept[uid] = _Kept(node, wanted, self._clock.now())
            self._of_node.setdefault(node, set()).add(uid)
            self._work.add(uid)

    def gone(self, uid: str) -> None:
        """There is no such pod any more."""
        if uid in self._kept:
            self._drop(uid)

    def forget(self, node: str) -> None:
        """It is another replica's device now, or none."""
        for uid in list(self._of_node.get(node, ())):
            self._drop(uid)

    def token(self, uid: str, source: TokenSource) -> str:
        """Raises Missing with the reason."""
        kept = self._kept.get(uid)
        found = kept.tokens.get(source) if kept is not None else None
        if found is None:
            problem = (kept.problem if kept is not None else "") or NOT_YET
            raise Missing(f"token of its service account: {problem}", refused=problem != NOT_YET)
        return found

    def pending(self, node: str) -> bool:
        """Whether a token of the device is still on its way: its set waits for it a moment, because a hub that has just
        begun would otherwise take from devices what they have."""
        kept = (self._kept[uid] for uid in self._of_node.get(node, ()))
        return any(not k.problem and k.sources - k.tokens.keys() for k in kept)

    # --- private ------------------------------------------------------------------------------------------------------

    def _drop(self, uid: str) -> None:
        node = self._kept.pop(uid).node
        self._of_node[node].discard(uid)
        if not self._of_node[node]:
            del self._of_node[node]

    async def _renew(self) -> None:
        while True:
            now = self._clock.now()
            for uid, kept in list(self._kept.items()):
                late = not kept.problem and kept.sources - kept.tokens.keys() and now - kept.since > TOKEN_WAIT_S
                if late:
                    self._told(kept, NOT_YET)
                if any(due <= now for due in kept.due.values()):
                    self._work.add(uid)
            await self._clock.sleep_until(now + TOKEN_LOOK_S)

    async def _write(self, uid: str) -> None:
        pod, kept = self._pod(uid), self._kept.get(uid)
        if kept is None:
            return
        if pod is None:
            self._drop(uid)
            return
        now = self._clock.now()
        for source in sorted(kept.sources, key=lambda s: (s.audience, s.expiration_s)):
            if kept.due.get(source, now) > now:
                continue
            try:
                kept.tokens[source], life_s = await self._asked(pod, source)
            except (ClusterAway, ClusterBusy):
                raise
            except ClusterError as why:
                self._told(kept, FORBIDDEN if isinstance(why, Forbidden) else str(why))
                raise
            part = TOKEN_LIFE_PART[0] + (TOKEN_LIFE_PART[1] - TOKEN_LIFE_PART[0]) * self._entropy.uniform()
            kept.due[source] = now + min(part * life_s, TOKEN_AGE_S_MAX)
            kept.problem = ""
            self._changed(kept.node)

    def _told(self, kept: _Kept, problem: str) -> None:
        if kept.problem != problem:
            kept.problem = problem
            self._changed(kept.node)

    async def _asked(self, pod: Obj, source: TokenSource) -> tuple[str, float]:
        """A token and the seconds that it lives. Raises ClusterError."""
        meta, spec = pod["metadata"], pod.get("spec") or {}
        bound = {"kind": "Pod", "apiVersion": "v1", "name": meta["name"], "uid": meta["uid"]}
        wanted = {"expirationSeconds": source.expiration_s, "boundObjectRef": bound}
        wanted["audiences"] = [source.audience] if source.audience else []
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": wanted}
        account = str(spec.get("serviceAccountName") or "default")
        answer = await self._cluster.create(
            SERVICE_ACCOUNTS, meta["namespace"], request, name=account, subresource="token"
        )
        try:
            return str(answer["status"]["token"]), float(answer["spec"]["expirationSeconds"])
        except (KeyError, TypeError, ValueError):
            raise ClusterError("the API's answer to a TokenRequest holds no token") from None
