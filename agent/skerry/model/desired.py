"""What this device was asked to run: objects with their bytes and digests, and the set they form.

Knows nothing of how the bytes came or what they mean; `model.manifest` reads them. A change is merged into the packed
form of a set by `skerry_native.packed`, compiled where a compiler was at hand.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from hashlib import sha256
from types import MappingProxyType

import skerry_native
from skerry.limits import DIGEST_WIRE_BYTES

_native = skerry_native.load("packed")


class Kind(IntEnum):
    """The kinds of object that a device holds; the number is the one on the wire and in the journal."""

    POD = 1
    CONFIG_MAP = 2
    SECRET = 3


KINDS = {int(kind): kind for kind in Kind}
Key = tuple[Kind, str]  # (kind, uid)


@dataclass(frozen=True, slots=True)
class Object:
    """One Kubernetes object as the hub sent it: `body` is deterministic CBOR, kept byte for byte."""

    kind: Kind
    uid: str
    digest: bytes  # SHA-256 of body, 32 bytes
    body: bytes = field(repr=False)  # of a Secret in clear, what nothing may ever print

    @property
    def key(self) -> Key:
        return (self.kind, self.uid)


def object_of(kind: Kind, uid: str, body: bytes) -> Object:
    """Make an Object, computing its digest."""
    return Object(kind, uid, sha256(body).digest(), body)


def packed(digests: Iterable[tuple[Key, bytes]]) -> bytes:
    """A set as it is hashed: kind, length of the uid, uid and digest[:16] of each object, in order, without gaps.

    Only the first 16 bytes of each digest take part, because that is all an Inventory carries.
    """
    entries = []
    for (kind, uid), digest in sorted(digests):
        name = uid.encode()
        entries.append(bytes((kind, len(name))) + name + digest[:DIGEST_WIRE_BYTES])
    return b"".join(entries)


def packed_objects(objects: Iterable[Object]) -> bytes:
    """The same of whole objects."""
    return packed((o.key, o.digest) for o in objects)


def keys_of(whole: bytes) -> list[Key]:
    """The keys of a packed set, in order."""
    keys, at = [], 0
    while at < len(whole):
        end = at + 2 + whole[at + 1]
        keys.append((KINDS[whole[at]], whole[at + 2 : end].decode()))
        at = end + DIGEST_WIRE_BYTES
    return keys


def merged(base: bytes, deletes: bytes, puts: bytes) -> bytes:
    """The packed set `base` without the keys of `deletes` and with `puts`."""
    whole: bytes = _native.merged(base, deletes, puts)
    return whole


def difference(base: bytes, target: bytes) -> tuple[bytes, bytes]:
    """(deletes, puts), packed, that make the packed set `target` of `base`: what is gone, and what is new or other."""
    if base == target:
        return b"", b""
    found: tuple[bytes, bytes] = _native.difference(base, target)
    return found


def set_digest(digests: Iterable[tuple[Key, bytes]]) -> bytes:
    """The digest of a set, whatever the order. Equal on both ends exactly when the sets are equal."""
    return digest_of(packed(digests))


def digest_of(whole: bytes) -> bytes:
    """The digest of a packed set: the first 16 bytes of its SHA-256."""
    return short(sha256(whole).digest())


def short(digest: bytes) -> bytes:
    """A digest as it travels: its first 16 bytes."""
    return digest[:DIGEST_WIRE_BYTES]


Objects = MappingProxyType[Key, Object] | dict[Key, Object]  # whose own copy() is thirty times faster than dict()
EMPTY: Objects = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Desired:
    """The whole set and where it came from.

    `store` is the uid of the namespace kube-system of the API it was read from, `epoch` the id kept in an object
    there; both are empty before the first set. `generation` grows by one with each applied change and never falls.
    """

    store: str = ""
    epoch: str = ""
    resource_version: int = 0
    generation: int = 0
    objects: Objects = field(default_factory=lambda: EMPTY)
    digest: bytes = field(default_factory=lambda: set_digest(()))  # of objects
    _packed: bytes = field(init=False, repr=False, compare=False, default_factory=bytes)  # empty: not made yet

    def changed(self, change: Change) -> Desired:
        """The set after `change`. Raises nothing: whether it may be applied was decided before (wire.session)."""
        objects = self.objects.copy()
        gone = [objects.pop(key) for key in change.deletes if key in objects]
        puts = {o.key: o for o in change.puts}
        objects.update(puts)
        before = self._packed or packed_objects(self.objects.values())
        whole = merged(before, packed_objects(gone), packed_objects(puts.values()))
        after = Desired(
            store=change.store,
            epoch=change.epoch,
            resource_version=change.resource_version,
            generation=change.generation,
            objects=MappingProxyType(objects),
            digest=digest_of(whole),
        )
        object.__setattr__(after, "_packed", whole)
        return after


@dataclass(frozen=True, slots=True)
class Change:
    """One accepted step from a set to the next."""

    store: str
    epoch: str
    resource_version: int
    generation: int
    puts: tuple[Object, ...] = ()
    deletes: frozenset[Key] = frozenset()
