"""A device is one no more: what an operator does, as calls on a Cluster, and which names a broker should turn away.

The identity stays, with a mark on it, so that its certificates are known until they have ended. Prints nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from skerry.errors import Malformed
from skerry.ports import Clock
from skerry_hub.enrolment import records, tokens
from skerry_hub.enrolment.events import NAMESPACE as EVENTS_NAMESPACE
from skerry_hub.enrolment.events import node_event
from skerry_hub.enrolment.records import IDENTITY_TYPE, NAMESPACE
from skerry_hub.limits import ENROL_RACES_MAX
from skerry_hub.ports import EVENTS, SECRETS, Cluster, ClusterBusy, Conflict, NotFound, Obj


@dataclass(frozen=True, slots=True)
class Revocation:
    """`new`: it was not revoked before. `serials`: of its certificates that have not ended, in hexadecimal digits, for
    a broker's list. `tokens`: names of those that were deleted with it."""

    node: str
    new: bool
    serials: tuple[str, ...]
    tokens: tuple[str, ...]


async def revoke(cluster: Cluster, clock: Clock, node: str) -> Revocation:
    """Take `node`'s identity back, and every token for it: a new one makes a new identity. To do it again is the same.
    Raises NotFound where it has no identity (its tokens are deleted), ClusterError."""
    deleted = []
    for record in await tokens.every(cluster):
        if record.node == node:
            with suppress(NotFound):
                await tokens.delete(cluster, record.ident)
            deleted.append(record.ident)
    for _ in range(ENROL_RACES_MAX):
        try:
            found = await cluster.get(SECRETS, NAMESPACE, records.identity_name(node))
        except NotFound:
            raise NotFound(f"node {node} has no identity, so no certificate of it is renewed") from None
        known = records.identity_of(found)
        serials = tuple(serial for serial, _ in known.earlier) + known.serials
        if known.revoked:
            return Revocation(node, False, serials, tuple(deleted))
        now = clock.wall()
        patch = records.identity_patch(found, replace(known, revoked=now))
        try:
            await cluster.patch(SECRETS, NAMESPACE, records.identity_name(node), patch)
        except (Conflict, NotFound):  # it has just been renewed
            continue
        text = f"key {known.key_digest[:16]}: no session, no renewal; certificates end {records.stamp(known.not_after)}"
        with suppress(Conflict):
            await cluster.create(EVENTS, EVENTS_NAMESPACE, node_event(node, f"{int(now):x}", "Revoked", text, now))
        return Revocation(node, True, serials, tuple(deleted))
    raise ClusterBusy(f"the identity of {node} changes all the time")


def revoked_nodes(secrets: Mapping[tuple[str, str], Obj]) -> set[str]:
    """Those that a broker should hear no more. `secrets`: by namespace and name; an identity that somebody wrote by
    hand is none."""
    revoked = set[str]()
    for (namespace, _), obj in secrets.items():
        if namespace != NAMESPACE or obj.get("type") != IDENTITY_TYPE:
            continue
        try:
            identity = records.identity_of(obj)
        except Malformed:
            continue
        if identity.revoked:
            revoked.add(identity.node)
    return revoked
