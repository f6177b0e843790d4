"""A Secret as a device of a protected hub gets it and keeps it: sealed to the device's own key, by wire.hpke.

    {"sealed": [id of the device's key, HPKE's output], "metadata": {name, namespace, uid}}

What is inside is the very body that a hub in clear would send. The metadata outside say which Secret it is to who
cannot open it (the journal, an Inventory); they are bound to what is inside, so that none passes for another. Sealing
is a function of its input, with the hub's key as the entropy: an unchanged Secret gives unchanged bytes, and its digest
is the SHA-256 of them as any other object's. docs/decisions/0015-sealed-secrets.md says why.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from typing import Any

from skerry.errors import Malformed, NotOpened
from skerry.limits import KEY_ID_BYTES
from skerry.model.desired import Object
from skerry.ports import Crypto
from skerry.wire import hpke
from skerry.wire.codec import decode, encode
from skerry.wire.cose import key_id

Unseal = Callable[[bytes], bytes]  # a sealed body → the body in clear; raises NotOpened
ABOUT = b"skerry secret"
_BEGINS = b"\xa2\x66sealed"  # a map of two, "sealed" first: what every sealed body begins with, and no other object's


def is_sealed(body: bytes) -> bool:
    """Whether an object's body is of this form."""
    return body.startswith(_BEGINS)


def seal(crypto: Crypto, public: bytes, key: bytes, o: Object) -> bytes:
    """The sealed body of a Secret for the device whose X25519 key `public` is. `key` is the hub's, the same at all its
    replicas, and secret: by HMAC with it over plaintext, uid and device's key each message gets an ephemeral key that
    no other one has. Raises Malformed for a public key that is none."""
    entropy = hmac.digest(key, encode([public, o.uid, o.body]), "sha256")
    metadata = {"name": "", "namespace": "", **decode(o.body)["metadata"], "uid": o.uid}
    return encode({
        "sealed": [key_id(public), hpke.seal(crypto, public, entropy, _info(metadata), o.body)],
        "metadata": metadata,
    })  # fmt: skip


def unseal(crypto: Crypto, secrets: Mapping[bytes, bytes], body: bytes) -> bytes:
    """The body that was sealed; `secrets` are this device's X25519 secrets by the id of their public half. Raises
    NotOpened, with nothing in it that is secret."""
    try:
        kid, sealed, metadata = _parts(decode(body))
        secret = secrets.get(kid)
        if secret is None:
            raise NotOpened("is sealed to another key than this device has; its hub sends it anew once it is reached")
        return hpke.unseal(crypto, secret, _info(metadata), sealed)
    except Malformed:
        raise NotOpened("is sealed and does not open: it was changed after its hub sealed it") from None


def _parts(value: Any) -> tuple[bytes, bytes, dict[str, Any]]:
    """Raises Malformed."""
    match value:
        case {"sealed": [bytes(kid), bytes(sealed)], "metadata": dict(metadata)} if len(kid) == KEY_ID_BYTES:
            return kid, sealed, metadata
    raise Malformed("no sealed object")


def _info(metadata: Mapping[str, Any]) -> bytes:
    return ABOUT + encode(dict(metadata))
