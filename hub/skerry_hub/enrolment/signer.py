"""The hub's signing key: made in memory, certified by the devices' authority, made anew halfway through that; and the
keys of devices, from their identities in the API.

So no signing key is in any file or backup, and its rotation is what happens anyway: a device that was away meanwhile
verifies the certificate that it does not know yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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

    @property
    def seal_key(self) -> bytes:
        """What Secrets are sealed by: of the authority, so that it is the same at all replicas and on no disk."""
        return self._authority.shared_key(b"skerry sealed secrets")

    def current(self) -> Signer:
        """Of this moment. A session that began with another one goes on with that."""
        now = self._now()
        if self._made is None or stale(self._made[1], now):
            key = Ed25519PrivateKey.generate()
            certificate = self._authority.signer(key.public_key(), self._name, now)
            self._made = Signer(key.private_bytes_raw(), certificate.public_bytes(Encoding.DER)), certificate
        return self._made[0]


@dataclass(slots=True)
class DeviceIdentities:
    """hub.Identities: those of the API. Where it says nothing of a node, because it was restored from before that was
    enrolled, what the authority stated of it counts, as soon as the device has shown it; then `changed` is told."""

    authority: Authority
    secrets: Callable[[], Mapping[tuple[str, str], Obj]]
    changed: Callable[[str], None]
    _stated: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)

    def signing_key(self, node: str, statement: bytes) -> bytes:
        return self._keys(node, statement)[0]

    def sealing_key(self, node: str) -> bytes:
        return self._keys(node, b"")[1]

    def certificate_end(self, node: str) -> float:
        found = self.secrets().get((records.NAMESPACE, records.identity_name(node)))
        try:
            known = records.identity_of(found) if found is not None else None
        except Malformed:
            return 0.0
        return known.not_after if known is not None and not known.revoked else 0.0

    def node_of(self, name: tuple[str, str]) -> str:
        return records.node_of(name[1]) if name[0] == records.NAMESPACE else ""

    def _keys(self, node: str, statement: bytes) -> tuple[bytes, bytes]:
        """Nothing also where it was revoked, or somebody wrote the identity by hand."""
        found = self.secrets().get((records.NAMESPACE, records.identity_name(node)))
        try:
            if found is not None:
                identity = records.identity_of(found)
                if identity.revoked:
                    return b"", b""
                return bytes.fromhex(identity.signing), bytes.fromhex(identity.sealing)
            if statement:
                stated = self.authority.stated(statement, node)
                if self._stated.get(node) != stated:
                    self._stated[node] = stated
                    self.changed(node)
        except (Malformed, ValueError):
            return b"", b""
        return self._stated.get(node, (b"", b""))
