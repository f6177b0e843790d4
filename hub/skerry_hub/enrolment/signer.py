"""The hub's signing key: made in memory, certified by the devices' authority, made anew halfway through that; and the
keys by which devices sign, from their identities in the API.

So no signing key is in any file or backup, and its rotation is what happens anyway: a device that was away meanwhile
verifies the certificate that it does not know yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from skerry.errors import Malformed
from skerry.wire.guard import Signer
from skerry_hub import pki
from skerry_hub.enrolment import records
from skerry_hub.enrolment.authority import Authority, stale
from skerry_hub.ports import Obj

SUFFIX = ".signing"  # of its certificate's common name, by which devices know what it is for


class SigningKeys:
    def __init__(self, authority: Authority, hub: str, now: Callable[[], datetime] = pki.utc_now) -> None:
        """`hub`: the common name of the hub's certificate for the broker."""
        self._authority, self._name, self._now = authority, hub + SUFFIX, now
        self._made: tuple[Signer, x509.Certificate] | None = None

    def current(self) -> Signer:
        """Of this moment. A session that began with another one goes on with that."""
        now = self._now()
        if self._made is None or stale(self._made[1], now):
            key = Ed25519PrivateKey.generate()
            certificate = self._authority.signer(key.public_key(), self._name, now)
            self._made = Signer(key.private_bytes_raw(), certificate.public_bytes(Encoding.DER)), certificate
        return self._made[0]


def signing_key(secrets: Mapping[tuple[str, str], Obj], node: str) -> bytes:
    """The Ed25519 public key that `node` was enrolled with; nothing where it was not, or was revoked, or where somebody
    wrote its identity by hand. `secrets`: by namespace and name."""
    found = secrets.get((records.NAMESPACE, records.identity_name(node)))
    try:
        known = records.identity_of(found) if found is not None else None
        return bytes.fromhex(known.signing) if known is not None and not known.revoked else b""
    except (Malformed, ValueError):
        return b""


def node_of(secret: tuple[str, str]) -> str:
    """The node whose identity the Secret of this namespace and name holds; empty for any other."""
    namespace, name = secret
    known = namespace == records.NAMESPACE and name.startswith(records.IDENTITY_PREFIX)
    return name.removeprefix(records.IDENTITY_PREFIX) if known else ""
