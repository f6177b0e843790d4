"""What this device was asked to run: objects with their bytes and digests, and the set they form.

Knows nothing of how the bytes came or what they mean; `model.manifest` reads them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from hashlib import sha256
from types import MappingProxyType

from skerry.limits import DIGEST_WIRE_BYTES


class Kind(IntEnum):
    """The kinds of object that a device holds; the number is the one on the wire and in the journal."""

    POD = 1
    CONFIG_MAP = 2
    SECRET = 3


Key = tuple[Kind, str]  # (kind, uid)


@dataclass(frozen=True, slots=True)
class Object:
    """One Kubernetes object as the hub sent it: `body` is deterministic CBOR, kept byte for byte."""

    kind: Kind
    uid: str
    digest: bytes  # SHA-256 of body, 32 bytes
    body: bytes
    entry: bytes = field(init=False, repr=False, compare=False)  # its part of the set's digest, made once

    def __post_init__(self) -> None:
        object.__setattr__(self, "entry", _entry(self.kind, self.uid, self.digest))

    @property
    def key(self) -> Key:
        return (self.kind, self.uid)


def object_of(kind: Kind, uid: str, body: bytes) -> Object:
    """Make an Object, computing its digest."""
    return Object(kind, uid, sha256(body).digest(), body)


def set_digest(digests: Iterable[tuple[Key, bytes]]) -> bytes:
    """First 16 bytes of the SHA-256 over the sorted (kind, uid, digest[:16]) of a set.

    Equal on both ends exactly when the sets are equal. Only the first 16 bytes of each object's digest take part,
    because that is all an Inventory carries.
    """
    entries = [_entry(kind, uid, digest) for (kind, uid), digest in sorted(digests)]
    return short(sha256(b"".join(entries)).digest())


def objects_digest(objects: Mapping[Key, Object]) -> bytes:
    """The same of whole objects, whose entries are there already; fastest when `objects` is in order."""
    return short(sha256(b"".join([objects[key].entry for key in sorted(objects)])).digest())


def _entry(kind: Kind, uid: str, digest: bytes) -> bytes:
    name = uid.encode()
    return bytes((kind, len(name))) + name + digest[:DIGEST_WIRE_BYTES]


def short(digest: bytes) -> bytes:
    """A digest as it travels: its first 16 bytes."""
    return digest[:DIGEST_WIRE_BYTES]


EMPTY: Mapping[Key, Object] = MappingProxyType({})


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
    objects: Mapping[Key, Object] = field(default_factory=lambda: EMPTY)
    digest: bytes = field(default_factory=lambda: set_digest(()))  # of objects

    def changed(self, change: Change) -> Desired:
        """The set after `change`. Raises nothing: whether it may be applied was decided before (wire.session)."""
        objects = dict(self.objects)
        for key in change.deletes:
            objects.pop(key, None)
        objects.update((o.key, o) for o in change.puts)
        if len(objects) > len(self.objects) - len(change.deletes):
            objects = {key: objects[key] for key in sorted(objects)}  # new ones came at the end
        return Desired(
            store=change.store,
            epoch=change.epoch,
            resource_version=change.resource_version,
            generation=change.generation,
            objects=MappingProxyType(objects),
            digest=objects_digest(objects),
        )


@dataclass(frozen=True, slots=True)
class Change:
    """One accepted step from a set to the next."""

    store: str
    epoch: str
    resource_version: int
    generation: int
    puts: tuple[Object, ...] = ()
    deletes: frozenset[Key] = frozenset()
