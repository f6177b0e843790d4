"""HPKE (RFC 9180) as far as skerry needs it: base mode, one message for one key, one suite.

    DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305

Whoever has a public key seals to it, and only who has its secret opens. Who sealed is nobody's to see here. The
primitives are behind ports.Crypto; tests/unit/wire/test_hpke.py has the RFC's vectors and `cryptography` beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

from skerry.errors import Malformed
from skerry.limits import AEAD_KEY_BYTES, AEAD_NONCE_BYTES, AEAD_TAG_BYTES, EXCHANGE_KEY_BYTES
from skerry.ports import Crypto
from skerry.wire.cose import expand, extract

_KEM = b"KEM\x00\x20"  # suite_id of section 4.1: DHKEM(X25519, HKDF-SHA256)
_HPKE = b"HPKE\x00\x20\x00\x01\x00\x03"  # suite_id of section 5.1
_VERSION, _BASE_MODE = b"HPKE-v1", b"\x00"
OVERHEAD_BYTES = EXCHANGE_KEY_BYTES + AEAD_TAG_BYTES  # what sealing adds to a message


@dataclass(frozen=True, slots=True)
class Keys:
    """Of one message. Secret."""

    key: bytes
    nonce: bytes

    def __repr__(self) -> str:
        return "Keys()"


def seal(crypto: Crypto, public: bytes, entropy: bytes, info: bytes, plain: bytes) -> bytes:
    """SealBase of section 6.1 with no aad: the ephemeral public key, and the sealed message behind it. Of `entropy`
    (EXCHANGE_KEY_BYTES at least, for nobody else to know) the ephemeral key is derived: equal input gives equal output,
    and the same entropy must never come with another message. `info` is for both ends to know. Raises Malformed for a
    public key that is none."""
    ephemeral = derive_secret(entropy)
    enc = crypto.exchange_public(ephemeral)
    keys = schedule(_shared(crypto.exchange(ephemeral, public), enc, public), info)
    return enc + crypto.seal(keys.key, keys.nonce, plain, b"")


def unseal(crypto: Crypto, secret: bytes, info: bytes, sealed: bytes) -> bytes:
    """OpenBase. Raises Malformed where key, `info` or a bit is another."""
    enc = sealed[:EXCHANGE_KEY_BYTES]
    if len(sealed) < OVERHEAD_BYTES:
        raise Malformed("too short to be sealed")
    keys = schedule(_shared(crypto.exchange(secret, enc), enc, crypto.exchange_public(secret)), info)
    return crypto.open(keys.key, keys.nonce, sealed[EXCHANGE_KEY_BYTES:], b"")


def derive_secret(entropy: bytes) -> bytes:
    """DeriveKeyPair of section 7.1.3: an X25519 secret."""
    assert len(entropy) >= EXCHANGE_KEY_BYTES
    return _expand(_KEM, _extract(_KEM, b"", b"dkp_prk", entropy), b"sk", b"", EXCHANGE_KEY_BYTES)


def schedule(shared: bytes, info: bytes) -> Keys:
    """KeySchedule of section 5.1 in base mode."""
    digests = _extract(_HPKE, b"", b"psk_id_hash", b"") + _extract(_HPKE, b"", b"info_hash", info)
    about = _BASE_MODE + digests
    secret = _extract(_HPKE, shared, b"secret", b"")
    key = _expand(_HPKE, secret, b"key", about, AEAD_KEY_BYTES)
    return Keys(key, _expand(_HPKE, secret, b"base_nonce", about, AEAD_NONCE_BYTES))


def _shared(exchanged: bytes, enc: bytes, public: bytes) -> bytes:
    """ExtractAndExpand of section 4.1: the shared secret of who encapsulates and who decapsulates."""
    extracted = _extract(_KEM, b"", b"eae_prk", exchanged)
    return _expand(_KEM, extracted, b"shared_secret", enc + public, EXCHANGE_KEY_BYTES)


def _extract(suite: bytes, salt: bytes, label: bytes, secret: bytes) -> bytes:
    """LabeledExtract, section 4."""
    return extract(salt, _VERSION + suite + label + secret)


def _expand(suite: bytes, extracted: bytes, label: bytes, info: bytes, size: int) -> bytes:
    """LabeledExpand, section 4."""
    return expand(extracted, size.to_bytes(2, "big") + _VERSION + suite + label + info, size)
