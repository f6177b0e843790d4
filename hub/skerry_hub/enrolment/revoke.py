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
from skerry_hub.enrolment.records import IDENTITY_TYPE, NAMESPACE, Identity
from skerry_hub.limits import ENROL_RACES_MAX
from skerry_hub.ports import EVENTS, NODES, SECRETS, Cluster, ClusterBusy, Conflict, NotFound, Obj


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
    Where the API has lost the identity, since it was restored from before, a mark stands in its place, or the device
    would come back by what its authority stated. Raises NotFound where there is no such node either (its tokens are
    deleted), ClusterError."""
    deleted = []
    for record in await tokens.every(cluster):
        if record.node == node:
            with suppress(NotFound):
                await tokens.delete(cluster, record.ident)
            deleted.append(record.ident)
    for _ in range(ENROL_RACES_MAX):
        now = clock.wall()
        try:
            known = await _marked(cluster, node, now)
        except Conflict:  # it has just been renewed, or enrolled
            continue
        serials = tuple(serial for serial, _ in known.earlier) + known.serials
        if known.revoked:
            return Revocation(node, False, serials, tuple(deleted))
        ends = f"certificates end {records.stamp(known.not_after)}" if known.key_digest else "it was not known"
        text = f"key {known.key_digest[:16] or 'unknown'}: no session, no renewal; {ends}"
        with suppress(Conflict):
            await cluster.create(EVENTS, EVENTS_NAMESPACE, node_event(node, f"{int(now):x}", "Revoked", text, now))
        return Revocation(node, True, serials, tuple(deleted))
    raise ClusterBusy(f"the identity of {node} changes all the time")


async def _marked(cluster: Cluster, node: str, now: float) -> Identity:
    """As it was before. Raises Conflict when somebody changes it meanwhile, NotFound, ClusterError."""
    name = records.identity_name(node)
    try:
        found = await cluster.get(SECRETS, NAMESPACE, name)
    except NotFound:
        await _there(cluster, node)
        lost = Identity(node, "", (), 0.0, 0.0, "", "", "")
        await cluster.create(SECRETS, NAMESPACE, records.identity_secret(replace(lost, revoked=now)))
        return lost
    known = records.identity_of(found)
    if not known.revoked:
        try:
            await cluster.patch(SECRETS, NAMESPACE, name, records.identity_patch(found, replace(known, revoked=now)))
        except NotFound as why:
            raise Conflict(str(why)) from None
    return known


async def _there(cluster: Cluster, node: str) -> None:
    """Raises NotFound."""
    try:
        await cluster.get(NODES, "", node)
    except NotFound:
        raise NotFound(f"there is no node {node}, and it has no identity") from None


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
