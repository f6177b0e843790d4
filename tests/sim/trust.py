"""What is enrolled in a life: an authority, the hub's signing keys and a key for each device; real cryptography with
keys of the seed, and a list of what each protected payload says, for the checks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import count
from random import Random

from sim.world import World
from skerry.errors import Malformed
from skerry.loops.protect import Protection
from skerry.model.desired import Kind
from skerry.wire import message, sealed
from skerry.wire.cose import key_id
from skerry.wire.guard import DeviceGuard, HubGuard, Signer, Unknown, Word
from skerry.wire.message import Ack, Delta, Reject, RejectCode
from skerry.world.sodium import Sodium
from skerry_hub.crypto import OpenSsl
from skerry_hub.edgecontroller.seals import Seals

SEED_BYTES = 32
SEAL_KEY = b"of the authority of all lives..."
PROMISE = "13 nobody else is heard"
OWN_PART, FLIPPED_PART, KEPT_MAX = 0.2, 0.3, 400
STAMP = b" certified by the authority of this life"


class Trust:
    """One life's. `plain`: payload → frame."""

    def __init__(self, world: World, nodes: list[str]) -> None:
        self.world = world
        self.plain: dict[bytes, bytes] = {}
        self._made: dict[bytes, str] = {}  # payload → who may open it
        self._opened: set[bytes] = set()
        self._repeats: set[bytes] = set()
        self._seeds = {node: bytes((number + 1,)) * SEED_BYTES for number, node in enumerate(nodes)}

    async def certified(self, chain: bytes) -> bytes:
        """ports.Authority."""
        if not chain.endswith(STAMP):
            raise Malformed("not certified")
        return chain.removesuffix(STAMP)

    def of_device(self, node: str) -> Protection:
        """What a device's process begins with."""
        return Protection(_DeviceGuard(self, node, self._seeds[node]), self)

    def unseal(self, node: str, body: bytes) -> bytes:
        """wire.sealed.Unseal of a device."""
        secret = self._sealing(node)
        return sealed.unseal(Sodium(), {key_id(Sodium().exchange_public(secret)): secret}, body)

    def seals(self) -> Seals:
        """What a process of the hub begins with."""
        return Seals(OpenSsl(), SEAL_KEY, lambda node: OpenSsl().exchange_public(self._sealing(node)), lambda _name: "")

    def of_hub(self, seed: bytes) -> Callable[[str], HubGuard]:
        """What makes a device's guard; `seed`: of the signing key of this process."""
        signer, number = Signer(seed, OpenSsl().public(seed) + STAMP), count(1).__next__
        return lambda node: _HubGuard(self, node, lambda: signer, lambda _statement: self.public(node), number)

    def made(self, payload: bytes, frame: bytes, reader: str, repeats: bool = False) -> None:
        self.plain[payload], self._made[payload] = frame, reader
        if repeats:
            self._repeats.add(payload)

    def opened(self, payload: bytes, reader: str) -> None:
        """Promise 13: what is heard was said, by the other end, and is heard once. Not a word,
        nor a Hello, which another process of the device, or of the hub, may have heard."""
        said = self._made.get(payload)
        self.world.check(said == reader, PROMISE, f"{reader} hears what was made for {said}")
        again = payload in self._opened and payload not in self._repeats
        self.world.check(not again, PROMISE, f"{reader} hears a frame twice")
        self._opened.add(payload)

    def forged(self, random: Random) -> bytes:
        """What a hostile broker may send: old frames, whole or not, and such as need no protection."""
        own: list[message.Message] = [
            Reject(b"", RejectCode.NO_SESSION),
            Ack(bytes(8), 1, bytes(16)),
            Ack(bytes(8), journal_id=bytes(16), seq=99),
            Delta(bytes(8), "store", "epoch", 9, 9, bytes(16), bytes(16), (), ((Kind.POD, "uid"),), adopt=True),
        ]
        if not self.plain or random.random() < OWN_PART:
            return message.encode(random.choice(own))
        kept = list(self.plain)[-KEPT_MAX:]
        payload = bytearray(random.choice(kept))
        if random.random() < FLIPPED_PART:
            payload[random.randrange(len(payload))] ^= 1 << random.randrange(8)
        return bytes(payload)

    def _sealing(self, node: str) -> bytes:
        return hashlib.sha256(b"sealing" + self._seeds[node]).digest()

    def public(self, node: str) -> bytes:
        return OpenSsl().public(self._seeds[node]) if node in self._seeds else b""


class _DeviceGuard(DeviceGuard):
    def __init__(self, trust: Trust, node: str, seed: bytes) -> None:
        super().__init__(Sodium(), seed)
        self._trust, self._node = trust, node

    def greet(self, hello: bytes, ephemeral: bytes) -> bytes:
        payload = super().greet(hello, ephemeral)
        self._trust.made(payload, hello, f"hub of {self._node}", repeats=True)
        return payload

    def seal(self, frame: bytes) -> bytes | None:
        payload = super().seal(frame)
        if payload is not None:
            self._trust.made(payload, frame, f"hub of {self._node}")
        return payload

    def open(self, payload: bytes) -> bytes | Word | Unknown:
        found = super().open(payload)
        if not isinstance(found, Unknown):
            self._trust.opened(payload, self._node)
        return found


class _HubGuard(HubGuard):
    def __init__(
        self,
        trust: Trust,
        node: str,
        signer: Callable[[], Signer],
        public: Callable[[bytes], bytes],
        number: Callable[[], int],
    ) -> None:
        super().__init__(OpenSsl(), signer, public, number=number)
        self._trust, self._node = trust, node

    def close(self, frame: bytes, ephemeral: bytes) -> bytes:
        payload = super().close(frame, ephemeral)
        self._trust.made(payload, frame, self._node)
        return payload

    def word(self, frame: bytes) -> bytes:
        payload = super().word(frame)
        self._trust.made(payload, frame, self._node, repeats=True)
        return payload

    def open(self, payload: bytes) -> bytes:
        found = super().open(payload)
        self._trust.opened(payload, f"hub of {self._node}")
        return found
