"""ports.Crypto by libsodium (PyNaCl): what a device protects its frames with. `cryptography` would take 9 MiB more."""

from __future__ import annotations

from skerry.errors import Malformed
from skerry.limits import SIGNATURE_BYTES
from skerry.world.debian import debian_packages

with debian_packages():  # on a board it is the distribution's, whose updates of it reach the device
    from nacl import bindings
    from nacl.exceptions import CryptoError


class Sodium:
    """Keeps nothing; what is secret stays with its caller."""

    def public(self, seed: bytes) -> bytes:
        return bindings.crypto_sign_seed_keypair(seed)[0]

    def sign(self, seed: bytes, data: bytes) -> bytes:
        return bindings.crypto_sign(data, bindings.crypto_sign_seed_keypair(seed)[1])[:SIGNATURE_BYTES]

    def verify(self, public: bytes, signature: bytes, data: bytes) -> bool:
        try:
            bindings.crypto_sign_open(signature + data, public)
        except (CryptoError, ValueError):
            return False
        return len(signature) == SIGNATURE_BYTES

    def exchange_public(self, secret: bytes) -> bytes:
        return bindings.crypto_scalarmult_base(secret)

    def exchange(self, secret: bytes, public: bytes) -> bytes:
        try:
            return bindings.crypto_scalarmult(secret, public)
        except (CryptoError, ValueError):
            raise Malformed("an X25519 key that gives no secret") from None

    def seal(self, key: bytes, nonce: bytes, plain: bytes, about: bytes) -> bytes:
        return bindings.crypto_aead_chacha20poly1305_ietf_encrypt(plain, about, nonce, key)

    def open(self, key: bytes, nonce: bytes, sealed: bytes, about: bytes) -> bytes:
        try:
            return bindings.crypto_aead_chacha20poly1305_ietf_decrypt(sealed, about, nonce, key)
        except (CryptoError, ValueError):
            raise Malformed("a sealed frame that does not open") from None
