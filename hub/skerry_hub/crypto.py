"""ports.Crypto by the library `cryptography` (OpenSSL), which the hub has anyway."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from skerry.errors import Malformed


class OpenSsl:
    """Keeps nothing; what is secret stays with its caller."""

    def public(self, seed: bytes) -> bytes:
        return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()

    def sign(self, seed: bytes, data: bytes) -> bytes:
        return Ed25519PrivateKey.from_private_bytes(seed).sign(data)

    def verify(self, public: bytes, signature: bytes, data: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
        except (InvalidSignature, ValueError):
            return False
        return True

    def exchange_public(self, secret: bytes) -> bytes:
        return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()

    def exchange(self, secret: bytes, public: bytes) -> bytes:
        try:
            return X25519PrivateKey.from_private_bytes(secret).exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError:
            raise Malformed("an X25519 key that gives no secret") from None

    def seal(self, key: bytes, nonce: bytes, plain: bytes, about: bytes) -> bytes:
        return ChaCha20Poly1305(key).encrypt(nonce, plain, about)

    def open(self, key: bytes, nonce: bytes, sealed: bytes, about: bytes) -> bytes:
        try:
            return ChaCha20Poly1305(key).decrypt(nonce, sealed, about)
        except (InvalidTag, ValueError):
            raise Malformed("a sealed frame that does not open") from None
