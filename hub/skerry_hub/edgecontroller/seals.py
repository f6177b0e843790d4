"""Which Secret of a device's set travels how: sealed to that device's key, made once and kept while nothing changes.

Decides what becomes of a Secret that cannot be sealed. Refuses to know how a device is enrolled and what is in a seal
(skerry.wire.sealed).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from skerry.errors import Malformed
from skerry.limits import OBJECT_BYTES_MAX
from skerry.model.desired import Object, object_of
from skerry.ports import Crypto
from skerry.wire.sealed import seal
from skerry_hub.edgecontroller.target import Refusal, usable

NO_KEY = "cannot be sealed: the device has no key for it; enrol it with a new token"
_Made = tuple[bytes, Object, Object | Refusal]  # for which key, of what, the outcome


@dataclass(slots=True)
class Seals:
    """`key` is the hub's, the same at all its replicas: equal Secrets are sealed to equal bytes by each of them.
    `key_of`: the X25519 public key of a device, empty if it has none. `node_of`: the device whose keys an object of
    that namespace and name holds, empty for any other object."""

    crypto: Crypto
    key: bytes = field(repr=False)
    key_of: Callable[[str], bytes]
    node_of: Callable[[tuple[str, str]], str]
    _made: dict[str, dict[str, _Made]] = field(default_factory=dict, repr=False)  # node → uid

    def begin(self, node: str) -> Callable[[Object | Refusal], Object | Refusal]:
        """What seals the Secrets of one set of this device. What the last set held and this one does not is forgotten.
        Its objects are the same ones as long as neither the Secret nor the device's key changes."""
        before, now, public = self._made.pop(node, {}), dict[str, _Made](), self.key_of(node)
        self._made[node] = now

        def sealed(part: Object | Refusal) -> Object | Refusal:
            plain = usable(part)
            if plain is None:
                return part
            made = now.get(plain.uid) or before.get(plain.uid)
            if made is None or made[0] != public or made[1] != plain:
                last = usable(made[2]) if made is not None and made[0] == public else None
                made = public, plain, self._sealed(public, plain, last)
            now[plain.uid] = made
            return replace(part, kept=usable(made[2])) if isinstance(part, Refusal) else made[2]

        return sealed

    def forget(self, node: str) -> None:
        """It is another replica's device now."""
        self._made.pop(node, None)

    def _sealed(self, public: bytes, plain: Object, last: Object | None) -> Object | Refusal:
        """`last` travelled before, and goes on to where its next form is too large, as with any object."""
        if not public:
            return Refusal(NO_KEY)
        try:
            body = seal(self.crypto, public, self.key, plain)
        except Malformed as why:
            return Refusal(f"cannot be sealed to the device's key: {why}")
        if len(body) > OBJECT_BYTES_MAX:
            size = f"{len(body)} bytes"
            return Refusal(f"is larger than OBJECT_BYTES_MAX ({OBJECT_BYTES_MAX}) once it is sealed: {size}", last)
        return object_of(plain.kind, plain.uid, body)
