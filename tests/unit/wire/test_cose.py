"""COSE's forms beside pycose, both adapters of Crypto beside each other, HKDF beside its RFC and `cryptography`."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st
from pycose.headers import KID, Algorithm
from pycose.keys.okp import OKPKey
from pycose.messages.sign1message import Sign1Message

from skerry.errors import Malformed
from skerry.ports import Crypto
from skerry.wire import codec, cose
from skerry.world.sodium import Sodium
from skerry_hub.crypto import OpenSsl

SEED, OTHER = bytes(range(32)), bytes(range(1, 33))
KEY = cose.Key(bytes(range(32)), bytes(range(12)))
BOTH = pytest.mark.parametrize("crypto", [Sodium(), OpenSsl()], ids=["sodium", "openssl"])
PAIRS = pytest.mark.parametrize(("one", "two"), [(Sodium(), OpenSsl()), (OpenSsl(), Sodium())], ids=["so", "os"])


def test_hkdf_gives_what_rfc_5869_says() -> None:
    """Appendix A.1 and A.3."""
    info = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9")
    okm = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    assert cose.hkdf(b"\x0b" * 22, bytes(range(13)), info, 42).hex() == okm
    okm = "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    assert cose.hkdf(b"\x0b" * 22, b"", b"", 42).hex() == okm


@given(st.binary(min_size=1), st.binary(), st.binary(), st.integers(1, 255 * 32))
def test_hkdf_gives_what_cryptography_gives(secret: bytes, salt: bytes, info: bytes, size: int) -> None:
    assert cose.hkdf(secret, salt, info, size) == HKDF(hashes.SHA256(), size, salt, info).derive(secret)


@BOTH
def test_what_was_signed_here_pycose_verifies(crypto: Crypto) -> None:
    kid = cose.key_id(crypto.public(SEED))
    array = codec.decode(cose.sign(crypto, SEED, kid, b"payload", b"about"))
    theirs: Any = Sign1Message.from_cose_obj(array, True)
    theirs.key = OKPKey(crv="ED25519", x=crypto.public(SEED))
    theirs.external_aad = b"about"
    assert theirs.verify_signature()
    assert theirs.phdr[KID] == kid
    theirs.external_aad = b"something else"
    assert not theirs.verify_signature()


@BOTH
def test_what_pycose_signed_is_verified_here(crypto: Crypto) -> None:
    kid = cose.key_id(crypto.public(SEED))
    theirs: Any = Sign1Message(phdr={Algorithm: "EdDSA", KID: kid}, payload=b"payload", external_aad=b"about")
    theirs.key = OKPKey(crv="ED25519", d=SEED, x=crypto.public(SEED))
    found = cose.parse_sign1(theirs.encode(tag=False))
    assert cose.verified(crypto, found, crypto.public(SEED), b"about") == b"payload"
    assert found.kid == kid


@BOTH
def test_a_sealed_frame_is_what_rfc_9052_says(crypto: Crypto) -> None:
    """Section 5.2, 5.3 and, for the Partial IV, 3.1, spelled out and opened by `cryptography`. pycose has no
    ChaCha20-Poly1305, and the working group's own example of it is of an earlier draft."""
    protected, headers, sealed = codec.decode(cose.encrypt(crypto, KEY, 0x0102, b"This is the content."))
    assert (protected.hex(), headers) == ("a1011818", {6: b"\x01\x02"})
    nonce = bytes.fromhex("000102030405060708090b09")  # the context IV, exclusive or 00…0102
    structure = bytes.fromhex("8368") + b"Encrypt0" + bytes.fromhex("44a101181840")
    assert ChaCha20Poly1305(KEY.key).decrypt(nonce, sealed, structure) == b"This is the content."


@PAIRS
@given(data=st.binary(max_size=200), about=st.binary(max_size=20), counter=st.integers(0, (1 << 64) - 1))
def test_what_one_adapter_makes_the_other_takes(
    one: Crypto, two: Crypto, data: bytes, about: bytes, counter: int
) -> None:
    assert one.public(SEED) == two.public(SEED)
    assert one.sign(SEED, data) == two.sign(SEED, data)
    assert two.verify(one.public(SEED), one.sign(SEED, data), data)
    assert one.exchange(SEED, two.exchange_public(OTHER)) == two.exchange(OTHER, one.exchange_public(SEED))
    assert one.seal(KEY.key, KEY.iv, data, about) == two.seal(KEY.key, KEY.iv, data, about)
    sealed = cose.encrypt(one, KEY, counter, data)
    assert cose.decrypt(two, KEY, sealed) == (counter, data)
    assert codec.encode(codec.decode(sealed)) == sealed


@BOTH
def test_rfc_8032_and_7748_and_8439(crypto: Crypto) -> None:
    """Section 7.1 test 1, section 6.1, section 2.8.2."""
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    assert crypto.public(seed).hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert crypto.sign(seed, b"").hex().startswith("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155")
    alice = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c8f9254a1de4ebd6f7ba1d7f9ff8a"[:64])
    assert len(crypto.exchange_public(alice)) == 32
    key, nonce = bytes(range(0x80, 0xA0)), bytes.fromhex("070000004041424344454647")
    text = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would "
        b"be it."
    )
    sealed = crypto.seal(key, nonce, text, bytes.fromhex("50515253c0c1c2c3c4c5c6c7"))
    assert sealed.hex().startswith("d31a8d34648e60db7b86afbc53ef7ec2")
    assert sealed[-16:].hex() == "1ae10b594f09e26a7e902ecbd0600691"


@BOTH
def test_a_key_that_gives_no_secret_is_refused(crypto: Crypto) -> None:
    """Points of small order, RFC 7748 section 6.1."""
    for public in (bytes(32), b"\x01" + bytes(31)):
        with pytest.raises(Malformed, match="no secret"):
            crypto.exchange(SEED, public)


@BOTH
@given(flip=st.integers(0, 8 * 80))
def test_one_bit_more_or_less_is_refused(crypto: Crypto, flip: int) -> None:
    signed = bytearray(cose.sign(crypto, SEED, cose.key_id(crypto.public(SEED)), b"payload", b"about", b"chain"))
    sealed = bytearray(cose.encrypt(crypto, KEY, 9, b"plain"))
    for data in (signed, sealed):
        data[flip // 8 % len(data)] ^= 1 << flip % 8
    with pytest.raises(Malformed):
        cose.verified(crypto, cose.parse_sign1(bytes(signed)), crypto.public(SEED), b"about")
    with pytest.raises(Malformed):
        cose.decrypt(crypto, KEY, bytes(sealed))


@given(
    st.binary(max_size=200) | st.recursive(st.none() | st.binary() | st.integers(-9, 99), st.lists).map(codec.encode)
)
def test_any_bytes_are_parsed_or_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        cose.parse_sign1(data)
    with pytest.raises(Malformed):
        cose.decrypt(Sodium(), KEY, data)
