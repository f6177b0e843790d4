"""Deltas between sets: the hub builds one, the device checks it and learns the Change. Pure, and strict on the way in.

A put of a known object is deflated against the body that the device already has, so that a changed field costs some
tens of bytes; the digests say whether the result is right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256

from skerry.errors import LimitExceeded, Malformed
from skerry.limits import DELTA_BYTES_TARGET, FULL_NAME_CHARS_MAX, OBJECT_BYTES_MAX, OBJECTS_MAX, PODS_MAX
from skerry.model.desired import Change, Desired, Key, Kind, Object, difference, keys_of, merged, packed_objects, short
from skerry.wire.codec import decode, encode
from skerry.wire.frame import deflate, inflate
from skerry.wire.message import Delta, Put, RejectCode
from skerry.wire.sealed import is_sealed

# ConfigMaps and Secrets travel before the pods that name them.
ORDER = {Kind.CONFIG_MAP: 0, Kind.SECRET: 0, Kind.POD: 1}
ITEM_BYTES = 32  # what a put or deletion costs beside its uid and data


@dataclass(frozen=True, slots=True)
class Step:
    """What the next Delta holds, and the set it leads to, packed."""

    puts: tuple[Put, ...]
    deletes: tuple[Key, ...]
    after: bytes


def next_step(
    base: bytes,
    target: bytes,
    objects: Mapping[Key, Object],
    bodies: Mapping[Key, bytes],
    additions_only: bool = False,
    sparing: bool = False,
) -> Step | None:
    """The next step from the packed set `base` towards `target`, packed too; None when there is nothing to send.

    `objects` are those of the target, `bodies` those of the base that the hub still knows. A step is closed at
    DELTA_BYTES_TARGET, so a long way takes several. Deletions come first: they free room. With `additions_only` nothing
    is changed or deleted. What is beyond a device's limits is left out, so that the rest arrives; telling the user is
    the edge controller's part. `sparing`, for a device whose journal is full, takes all deletions or else one object
    alone: what it has already (a graceful deletion is such a change) before what is new, the smallest first. So what
    does not fit holds up no other.
    """
    gone, other = difference(base, target)
    if additions_only:
        gone = b""
    if not gone and not other:
        return None
    deletes, held = tuple(keys_of(gone)), set(keys_of(base))
    wanted = [objects[key] for key in keys_of(other) if not (additions_only and key in held)]
    order = sorted(wanted, key=lambda o: (ORDER[o.kind], o.key))
    if sparing:
        order = [] if deletes else sorted(wanted, key=lambda o: (o.key not in held, len(o.body), o.key))
    held.difference_update(deletes)
    pods = sum(kind is Kind.POD for kind, _ in held)
    puts: dict[Key, Put] = {}
    size = sum(len(uid) + ITEM_BYTES for _, uid in deletes)
    for o in order:
        new = o.key not in held
        full = new and (len(held) == OBJECTS_MAX or (o.kind is Kind.POD and pods == PODS_MAX))
        if full or len(o.body) > OBJECT_BYTES_MAX:
            continue
        put = _put(o, None if new else bodies.get(o.key))
        size += len(put.data) + len(put.uid) + ITEM_BYTES
        if (puts or deletes) and (sparing or size > DELTA_BYTES_TARGET):
            break
        pods += new and o.kind is Kind.POD
        puts[o.key] = put
        held.add(o.key)
    if not puts and not deletes:
        return None
    return Step(tuple(puts.values()), deletes, merged(base, gone, packed_objects(objects[key] for key in puts)))


def full_name(body: bytes) -> str:
    """namespace/name of an object; empty when its bytes show none."""
    try:
        meta = decode(body)["metadata"]
        return f"{meta['namespace']}/{meta['name']}"[:FULL_NAME_CHARS_MAX]
    except (Malformed, KeyError, TypeError):
        return ""


def _put(o: Object, known: bytes | None) -> Put:
    if known is not None and not is_sealed(o.body):  # of a sealed one everything is new
        patch = deflate(o.body, known)
        if len(patch) < len(o.body):
            return Put(o.kind, o.uid, short(o.digest), True, patch)
    return Put(o.kind, o.uid, short(o.digest), False, o.body)


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a Delta is not applied."""

    code: RejectCode
    detail: str


def statement(delta: Delta, device: bytes) -> bytes:
    """What a hub signs of a Delta: the set that it leads to, on what base, of which history, and for whom. `device` is
    the id of the device's key; the nonce is the session's."""
    whole = [delta.nonce, delta.store, delta.epoch, delta.resource_version, delta.generation]
    return encode([device, *whole, delta.base, delta.digest, delta.adopt])


def completed(delta: Delta, own: Desired) -> Delta:
    """With the store and epoch that it leaves out, because they are those of the device's set."""
    return delta if delta.store or delta.epoch else replace(delta, store=own.store, epoch=own.epoch)


def judge(delta: Delta, own: Desired) -> Change | Fault | None:
    """The Change that `delta` asks for, a Fault, or None for a repeat of what is applied already.

    Never raises: a hostile Delta is a Fault. The nonce was compared before.
    """
    if delta.generation == own.generation and delta.digest == own.digest:
        return None
    if delta.generation != own.generation + 1:
        return Fault(RejectCode.STALE, f"generation {delta.generation} after {own.generation}")
    if delta.base != own.digest:
        return Fault(RejectCode.BASE, "the base is not the set I have")
    if not delta.store or not delta.epoch:
        return Fault(RejectCode.FOREIGN, "names no store or no epoch")
    foreign = _foreign(delta, own)
    if isinstance(foreign, Fault):
        return foreign
    puts = _opened(delta, own)
    if isinstance(puts, Fault):
        return puts
    deletes = frozenset(delta.deletes)
    named = [*delta.deletes, *((p.kind, p.uid) for p in delta.puts)]
    if len(set(named)) < len(named):
        return Fault(RejectCode.MALFORMED, "names an object twice")
    if not deletes <= own.objects.keys():
        return Fault(RejectCode.BASE, "deletes what I do not have")
    same = foreign and not delta.adopt
    change = Change(
        store=own.store if same else delta.store,
        epoch=own.epoch if same else delta.epoch,
        resource_version=own.resource_version if same else delta.resource_version,
        generation=delta.generation,
        puts=puts,
        deletes=deletes,
    )
    return _checked(change, own, delta.digest)


def _foreign(delta: Delta, own: Desired) -> bool | Fault:
    """Whether the Delta comes from another store or epoch than the set's; a Fault if that forbids it."""
    if not own.store or (delta.store, delta.epoch) == (own.store, own.epoch):
        if own.store and delta.resource_version < own.resource_version:
            return Fault(RejectCode.STALE, f"resourceVersion {delta.resource_version} after {own.resource_version}")
        return False
    if not delta.adopt:
        if delta.deletes:
            return Fault(RejectCode.FOREIGN, "another store or epoch deletes without being adopted")
        if any((p.kind, p.uid) in own.objects for p in delta.puts):
            return Fault(RejectCode.FOREIGN, "another store or epoch changes objects without being adopted")
    return True


def _opened(delta: Delta, own: Desired) -> tuple[Object, ...] | Fault:
    """The objects of a Delta, each checked against its digest."""
    puts: dict[Key, Object] = {}
    for put in delta.puts:
        key = (put.kind, put.uid)
        body = put.data
        if put.patched:
            known = own.objects.get(key)
            if known is None:
                return Fault(RejectCode.BASE, f"{put.kind.name} {put.uid} patches what I do not have")
            try:
                body = inflate(body, known.body, OBJECT_BYTES_MAX, "OBJECT_BYTES_MAX")
            except (Malformed, LimitExceeded) as why:
                return Fault(RejectCode.MALFORMED, f"{put.kind.name} {put.uid}: {why}")
        if len(body) > OBJECT_BYTES_MAX:
            return Fault(RejectCode.MALFORMED, f"{put.kind.name} {put.uid} is over OBJECT_BYTES_MAX")
        digest = sha256(body).digest()
        if short(digest) != put.digest:
            return Fault(RejectCode.DIGEST, f"{put.kind.name} {put.uid} does not give its digest")
        puts[key] = Object(put.kind, put.uid, digest, body)
    return tuple(puts.values())


def _checked(change: Change, own: Desired, digest: bytes) -> Change | Fault:
    after = own.changed(change)
    objects = after.objects
    if len(objects) > OBJECTS_MAX or (len(objects) > PODS_MAX and sum(k[0] is Kind.POD for k in objects) > PODS_MAX):
        return Fault(RejectCode.MALFORMED, f"more than {OBJECTS_MAX} objects or {PODS_MAX} pods")
    if after.digest != digest:
        return Fault(RejectCode.DIGEST, "the set does not give the announced digest")
    return change
