"""ports.Crypto by libsodium (PyNaCl): what a device protects its frames with. `cryptography` would take 9 MiB more."""

from __future__ import annotations

from typing import Any

from skerry.errors import Malformed, SkerryError
from skerry.limits import EXCHANGE_KEY_BYTES, SIGNATURE_BYTES, SIGNING_KEY_BYTES
from skerry.world.debian import debian_packages


class Sodium:
    """Keeps nothing; what is secret stays with its caller."""

    def __init__(self) -> None:
        """Loads the library, which only a device that is enrolled needs. Raises SkerryError where there is none."""
        self._bindings, self._errors = _library()

    def public(self, seed: bytes) -> bytes:
        return bytes(self._bindings.crypto_sign_seed_keypair(seed)[0])

    def sign(self, seed: bytes, data: bytes) -> bytes:
        secret = self._bindings.crypto_sign_seed_keypair(seed)[1]
        return bytes(self._bindings.crypto_sign(data, secret)[:SIGNATURE_BYTES])

    def verify(self, public: bytes, signature: bytes, data: bytes) -> bool:
        # PyNaCl hands a key over as it is, and libsodium reads 32 bytes however short it is.
        if len(public) != SIGNING_KEY_BYTES or len(signature) != SIGNATURE_BYTES:
            return False
        try:
            self._bindings.crypto_sign_open(signature + data, public)
        except self._errors:
            return False
        return True

    def exchange_public(self, secret: bytes) -> bytes:
        return bytes(self._bindings.crypto_scalarmult_base(secret))

    def exchange(self, secret: bytes, public: bytes) -> bytes:
        if len(public) != EXCHANGE_KEY_BYTES:  # as in `verify`
            raise Malformed("an X25519 key that gives no secret")
        try:
            return bytes(self._bindings.crypto_scalarmult(secret, public))
        except self._errors:
            raise Malformed("an X25519 key that gives no secret") from None

    def seal(self, key: bytes, nonce: bytes, plain: bytes, about: bytes) -> bytes:
        return bytes(self._bindings.crypto_aead_chacha20poly1305_ietf_encrypt(plain, about, nonce, key))

    def open(self, key: bytes, nonce: bytes, sealed: bytes, about: bytes) -> bytes:
        try:
            return bytes(self._bindings.crypto_aead_chacha20poly1305_ietf_decrypt(sealed, about, nonce, key))
        except self._errors:
            raise Malformed("a sealed frame that does not open") from None


def _library() -> tuple[Any, tuple[type[Exception], ...]]:
    """PyNaCl: beside skerry, or the distribution's own, whose updates of libsodium reach the device that way."""
    try:
        with debian_packages():
            from nacl import bindings
            from nacl.exceptions import CryptoError
    except ImportError:
        raise SkerryError("protected frames need the package python3-nacl, which is not installed") from None
    return bindings, (CryptoError, ValueError)
