"""COSE (RFC 9052) as far as skerry needs it: COSE_Sign1 with Ed25519, COSE_Encrypt0 with ChaCha20-Poly1305, untagged.

Structures are built here, deterministic CBOR as everything on the wire; the cryptography is behind ports.Crypto. Why no
library: docs/decisions/0013-protected-frames.md. tests/unit/wire/test_cose.py compares every form with pycose.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from skerry.errors import Malformed
from skerry.limits import AEAD_KEY_BYTES, AEAD_NONCE_BYTES, KEY_ID_BYTES, SIGNATURE_BYTES
from skerry.ports import Crypto
from skerry.wire import codec

ALG, KID, PARTIAL_IV, X5CHAIN = 1, 4, 6, 33  # header parameters: RFC 9052 section 3.1, RFC 9360 section 2
EDDSA, CHACHA20_POLY1305 = -8, 24  # algorithms: RFC 9053 sections 2.2 and 4.3
_SEALED = codec.encode({ALG: CHACHA20_POLY1305})
_ENCRYPT0_AAD = codec.encode(["Encrypt0", _SEALED, b""])  # Enc_structure, RFC 9052 section 5.3
# The form of one up to its counter. It is put together and taken apart by its byte strings alone: through values, a
# stream's frame of 16 KiB costs twice as much as its encryption.
_ENCRYPT0 = codec.encode([_SEALED, {PARTIAL_IV: b""}, b""])[:-2]
_COUNTER_BYTES = 8
_HASH_BYTES = 32


@dataclass(frozen=True, slots=True)
class Sign1:
    """A COSE_Sign1 that was taken apart and not yet verified. `protected` are its headers as they were signed: `kid`
    and `chain`, a certificate in DER or nothing. `payload` is None where it travels elsewhere."""

    protected: bytes
    kid: bytes
    chain: bytes
    payload: bytes | None
    signature: bytes


def key_id(public: bytes) -> bytes:
    """What a public key is called in a header: the first KEY_ID_BYTES of its SHA-256."""
    return hashlib.sha256(public).digest()[:KEY_ID_BYTES]


def sign(crypto: Crypto, seed: bytes, kid: bytes, payload: bytes, about: bytes, chain: bytes = b"") -> bytes:
    """COSE_Sign1 over `payload`. `about` is the external_aad: what this signature is for, so that it is good for
    nothing else."""
    protected = _protected(kid, chain)
    return codec.encode([protected, {}, payload, crypto.sign(seed, _to_sign(protected, payload, about))])


def sign_detached(crypto: Crypto, seed: bytes, kid: bytes, payload: bytes, about: bytes) -> bytes:
    """The same without the payload, which the other end knows (RFC 9052 section 4.1)."""
    protected = _protected(kid, b"")
    return codec.encode([protected, {}, None, crypto.sign(seed, _to_sign(protected, payload, about))])


def parse_sign1(data: bytes) -> Sign1:
    """Raises Malformed, also for another algorithm and for any other spelling of the same: what is signed has one."""
    match codec.decode(data):
        case [bytes(protected), dict(unprotected), bytes() | None as payload, bytes(signature)]:
            headers = codec.decode(protected)
        case _:
            raise Malformed("no COSE_Sign1")
    if not isinstance(headers, dict) or headers.get(ALG) != EDDSA or len(signature) != SIGNATURE_BYTES:
        raise Malformed("a COSE_Sign1 that is not Ed25519")
    kid, chain = headers.get(KID), headers.get(X5CHAIN, b"")
    if not isinstance(kid, bytes) or not isinstance(chain, bytes):
        raise Malformed("a COSE_Sign1 without the id of its key")
    if unprotected or _protected(kid, chain) != protected or codec.encode([protected, {}, payload, signature]) != data:
        raise Malformed("a COSE_Sign1 in another spelling")
    return Sign1(protected, kid, chain, payload, signature)


def verified(crypto: Crypto, found: Sign1, public: bytes, about: bytes, payload: bytes | None = None) -> bytes:
    """The signed payload; `payload` where it was detached. Raises Malformed."""
    signed = found.payload if payload is None else payload
    if signed is None or (payload is not None and found.payload is not None):
        raise Malformed("a COSE_Sign1 without its payload" if signed is None else "a COSE_Sign1 with two payloads")
    good = found.kid == key_id(public)
    if not good or not crypto.verify(public, found.signature, _to_sign(found.protected, signed, about)):
        raise Malformed("the signature is not good")
    return signed


@dataclass(frozen=True, slots=True)
class Key:
    """Of one direction: the AEAD's key and its context IV (RFC 9052 section 3.1, Partial IV)."""

    key: bytes
    iv: bytes


def encrypt(crypto: Crypto, key: Key, counter: int, plain: bytes) -> bytes:
    """COSE_Encrypt0; a counter is used once with a key."""
    sealed = crypto.seal(key.key, _nonce(key, counter), plain, _ENCRYPT0_AAD)
    partial = _minimal(counter)
    return b"".join(
        (_ENCRYPT0, codec.head(codec.BYTES, len(partial)), partial, codec.head(codec.BYTES, len(sealed)), sealed)
    )


def decrypt(crypto: Crypto, key: Key, data: bytes) -> tuple[int, bytes]:
    """Its counter and what was in it. Raises Malformed, also for any other spelling of the same."""
    if not data.startswith(_ENCRYPT0):
        raise Malformed("no COSE_Encrypt0 that is ChaCha20-Poly1305 with a counter")
    partial, at = codec.bytes_at(data, len(_ENCRYPT0))
    sealed, end = codec.bytes_at(data, at)
    counter = int.from_bytes(partial, "big")
    if end != len(data) or len(partial) > _COUNTER_BYTES or partial != _minimal(counter):
        raise Malformed("a COSE_Encrypt0 in another spelling")
    return counter, crypto.open(key.key, _nonce(key, counter), sealed, _ENCRYPT0_AAD)


def derive(secret: bytes, salt: bytes, label: str) -> Key:
    """A direction's key by HKDF-SHA-256 (RFC 5869), `label` its info."""
    both = hkdf(secret, salt, label.encode(), AEAD_KEY_BYTES + AEAD_NONCE_BYTES)
    return Key(both[:AEAD_KEY_BYTES], both[AEAD_KEY_BYTES:])


def hkdf(secret: bytes, salt: bytes, info: bytes, size: int) -> bytes:
    """RFC 5869 with SHA-256; neither the standard library nor PyNaCl has it. `size` is at most 255 hashes."""
    return expand(extract(salt, secret), info, size)


def extract(salt: bytes, secret: bytes) -> bytes:
    """HKDF-Extract of RFC 5869 section 2.2."""
    return hmac.digest(salt, secret, "sha256")


def expand(extracted: bytes, info: bytes, size: int) -> bytes:
    """HKDF-Expand of RFC 5869 section 2.3."""
    assert 0 < size <= 255 * _HASH_BYTES
    out = block = b""
    for number in range(1, -(-size // _HASH_BYTES) + 1):
        block = hmac.digest(extracted, block + info + bytes((number,)), "sha256")
        out += block
    return out[:size]


def _protected(kid: bytes, chain: bytes) -> bytes:
    return codec.encode({ALG: EDDSA, KID: kid, X5CHAIN: chain} if chain else {ALG: EDDSA, KID: kid})


def _to_sign(protected: bytes, payload: bytes, about: bytes) -> bytes:
    """Sig_structure, RFC 9052 section 4.4."""
    return codec.encode(["Signature1", protected, about, payload])


def _minimal(counter: int) -> bytes:
    return counter.to_bytes(max(1, (counter.bit_length() + 7) // 8), "big")


def _nonce(key: Key, counter: int) -> bytes:
    return (int.from_bytes(key.iv, "big") ^ counter).to_bytes(AEAD_NONCE_BYTES, "big")
