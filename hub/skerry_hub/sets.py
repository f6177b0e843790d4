"""The two sets of a device: what it should have, as the edge controller says, and what it has, as the cloud hub knows.

Values only. Neither side reads the other's code; both read this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from skerry.model.desired import Key, Object, set_digest, short
from skerry.wire.delta import full_name


@dataclass(frozen=True, slots=True)
class Target:
    """What one device should have, as the edge controller derives it from synced informers."""

    store: str
    epoch: str
    resource_version: int
    objects: Mapping[Key, Object]
    adopted: bool = False  # an operator adopted this node into this epoch

    @property
    def digests(self) -> dict[Key, bytes]:
        return {k: short(o.digest) for k, o in self.objects.items()}


@dataclass(slots=True)
class KnownSet:
    """The set that the device has, as far as the hub knows it."""

    digests: dict[Key, bytes] = field(default_factory=dict)
    bodies: dict[Key, bytes] = field(default_factory=dict)
    names: dict[Key, str] = field(default_factory=dict)  # as its Inventory said them, for what has no body here

    @property
    def digest(self) -> bytes:
        return set_digest(self.digests.items())

    def additions(self, target: Mapping[Key, Object]) -> dict[Key, Object]:
        """What of `target` this set has not, neither the object nor another one of its kind and name."""
        read = {key: full_name(body) for key, body in self.bodies.items()}
        taken = {(key[0], read.get(key) or self.names.get(key)) for key in self.digests}
        fresh = {key: o for key, o in target.items() if key not in self.digests}
        return {key: o for key, o in fresh.items() if (o.kind, full_name(o.body)) not in taken}

    def after(self, digests: dict[Key, bytes], target: Target) -> KnownSet:
        """The set that a step leads to. An object that the step leaves alone keeps the body that is known here."""
        bodies: dict[Key, bytes] = {}
        for key, digest in digests.items():
            wanted = target.objects.get(key)
            if wanted is not None and short(wanted.digest) == digest:
                bodies[key] = wanted.body
            elif key in self.bodies:
                bodies[key] = self.bodies[key]
        return KnownSet(digests, bodies, self.names)
