"""HPKE beside RFC 9180's vectors and beside `cryptography`, with both adapters of Crypto."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hpke as theirs
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from skerry.errors import Malformed
from skerry.ports import Crypto
from skerry.wire import hpke
from skerry.world.sodium import Sodium
from skerry_hub.crypto import OpenSsl

BOTH = pytest.mark.parametrize("crypto", [Sodium(), OpenSsl()], ids=["sodium", "openssl"])
SUITE = theirs.Suite(theirs.KEM.X25519, theirs.KDF.HKDF_SHA256, theirs.AEAD.CHACHA20_POLY1305)
SECRET = bytes(range(32))
PUBLIC = OpenSsl().exchange_public(SECRET)
# RFC 9180, appendix A.2.1: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305 in base mode.
INFO = bytes.fromhex("4f6465206f6e2061204772656369616e2055726e")
ENTROPY = bytes.fromhex("909a9b35d3dc4713a5e72a4da274b55d3d3821a37e5d099e74a647db583a904b")
EPHEMERAL = "f4ec9b33b792c372c1d2c2063507b684ef925b8c75a42dbcbf57d63ccd381600"
ENC = "1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a"
RECIPIENT = bytes.fromhex("8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb")
SHARED = "0bbe78490412b4bbea4812666f7916932b828bba79942424abb65244930d69a7"
KEY, NONCE = "ad2744de8e17f4ebba575b3f5f5a8fa1f69c2a07f6e7500bc60ca6e3e3ec1c91", "5c4d98150661b848853b547f"
PLAIN = bytes.fromhex("4265617574792069732074727574682c20747275746820626561757479")
SEALED = "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28"


@BOTH
def test_it_gives_what_rfc_9180_says(crypto: Crypto) -> None:
    assert hpke.derive_secret(ENTROPY).hex() == EPHEMERAL
    sealed = hpke.seal(crypto, crypto.exchange_public(RECIPIENT), ENTROPY, INFO, PLAIN)
    assert sealed[:32].hex() == ENC
    keys = hpke.schedule(bytes.fromhex(SHARED), INFO)
    assert (keys.key.hex(), keys.nonce.hex()) == (KEY, NONCE)
    assert crypto.seal(keys.key, keys.nonce, PLAIN, b"Count-0").hex() == SEALED
    assert sealed[32:] == crypto.seal(keys.key, keys.nonce, PLAIN, b"")
    assert hpke.unseal(crypto, RECIPIENT, INFO, sealed) == PLAIN


@BOTH
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=64), st.binary(max_size=999))
def test_what_is_sealed_here_cryptography_opens(crypto: Crypto, entropy: bytes, info: bytes, plain: bytes) -> None:
    sealed = hpke.seal(crypto, PUBLIC, entropy, info, plain)
    assert SUITE.decrypt(sealed, X25519PrivateKey.from_private_bytes(SECRET), info) == plain
    assert len(sealed) == len(plain) + hpke.OVERHEAD_BYTES


@BOTH
@given(st.binary(max_size=64), st.binary(max_size=999))
def test_what_cryptography_seals_is_opened_here(crypto: Crypto, info: bytes, plain: bytes) -> None:
    sealed = SUITE.encrypt(plain, X25519PublicKey.from_public_bytes(PUBLIC), info)
    assert hpke.unseal(crypto, SECRET, info, sealed) == plain


def test_both_adapters_seal_alike() -> None:
    assert len({hpke.seal(crypto, PUBLIC, ENTROPY, INFO, PLAIN) for crypto in (Sodium(), OpenSsl())}) == 1


@BOTH
def test_nothing_opens_with_a_changed_bit_another_key_or_another_info(crypto: Crypto) -> None:
    sealed = hpke.seal(crypto, PUBLIC, ENTROPY, INFO, PLAIN)
    for bit in range(8 * len(sealed)):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Malformed):
            hpke.unseal(crypto, SECRET, INFO, bytes(changed))
    for secret, info in ((ENTROPY, INFO), (SECRET, INFO + b"x")):
        with pytest.raises(Malformed):
            hpke.unseal(crypto, secret, info, sealed)
    for size in range(hpke.OVERHEAD_BYTES):
        with pytest.raises(Malformed):
            hpke.unseal(crypto, SECRET, INFO, sealed[:size])


@BOTH
def test_a_key_that_gives_no_secret_is_refused(crypto: Crypto) -> None:
    with pytest.raises(Malformed):
        hpke.seal(crypto, bytes(32), ENTROPY, INFO, PLAIN)
    with pytest.raises(Malformed):
        hpke.unseal(crypto, SECRET, INFO, bytes(64))
    assert "Keys()" in repr(hpke.schedule(bytes(32), b""))
