"""The two sets of a device: what it should have, as the edge controller says, and what it has, as the cloud hub knows.

Values only. Neither side reads the other's code; both read this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from skerry.model.desired import Key, Object, difference, digest_of, keys_of, packed_objects
from skerry.wire.delta import full_name


@dataclass(frozen=True, slots=True)
class Target:
    """What one device should have, as the edge controller derives it from synced informers."""

    store: str
    epoch: str
    resource_version: int
    objects: Mapping[Key, Object]
    adopted: bool = False  # an operator adopted this node into this epoch
    floor: int | None = None  # a device that has seen more without having it from this process has it from another past
    packed: bytes = field(init=False, repr=False)  # the same objects: kinds, uids and digests

    def __post_init__(self) -> None:
        object.__setattr__(self, "packed", packed_objects(self.objects.values()))

    @property
    def bodies(self) -> dict[Key, bytes]:
        return {key: o.body for key, o in self.objects.items()}


@dataclass(slots=True)
class Given:
    """The newest set that this process has sent to one device, whatever became of the session: of which past, and its
    resourceVersion."""

    origin: tuple[str, str] = ("", "")
    version: int = 0


@dataclass(slots=True)
class KnownSet:
    """The set that the device has, as far as the hub knows it."""

    packed: bytes = b""  # kinds, uids and digests
    bodies: dict[Key, bytes] = field(default_factory=dict)
    names: dict[Key, str] = field(default_factory=dict)  # as its Inventory said them, for what has no body here

    @property
    def digest(self) -> bytes:
        return digest_of(self.packed)

    def additions(self, target: Mapping[Key, Object]) -> dict[Key, Object]:
        """What of `target` this set has not, neither the object nor another one of its kind and name."""
        read = {key: full_name(body) for key, body in self.bodies.items()}
        had = set(keys_of(self.packed))
        taken = {(key[0], read.get(key) or self.names.get(key)) for key in had}
        fresh = {key: o for key, o in target.items() if key not in had}
        return {key: o for key, o in fresh.items() if (o.kind, full_name(o.body)) not in taken}

    def after(self, packed: bytes, target: Target) -> KnownSet:
        """The set that a step leads to. An object that the step leaves alone keeps the body that is known here."""
        more, missing = difference(packed, target.packed)
        bodies = target.bodies
        for key in keys_of(missing):
            del bodies[key]
        apart = {*keys_of(more), *keys_of(missing)}
        bodies.update((key, body) for key, body in self.bodies.items() if key in apart)
        return KnownSet(packed if apart else target.packed, bodies, self.names)  # equal sets share their bytes
