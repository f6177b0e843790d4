"""What every Crypto promises (ports.Crypto). An adapter subclasses CryptoContract and gives `crypto`; `other` is the
adapter of the other end, which is its second opinion."""

from __future__ import annotations

import pytest

from skerry.errors import Malformed
from skerry.limits import SIGNATURE_BYTES, SIGNING_KEY_BYTES
from skerry.ports import Crypto

SEED, OTHER = bytes(range(32)), bytes(range(1, 33))
KEY, NONCE = bytes(range(64, 96)), bytes(range(12))
SIZES = (0, 1, 16, 63, 64, 65, 16_384, 1_179_648)
TAG_BYTES = 16  # RFC 8439 section 2.8


class CryptoContract:
    def test_a_signature_is_the_same_each_time_and_the_other_end_verifies_it(
        self, crypto: Crypto, other: Crypto
    ) -> None:
        for size in SIZES:
            signature = crypto.sign(SEED, bytes(size))
            assert signature == crypto.sign(SEED, bytes(size)) == other.sign(SEED, bytes(size))
            assert len(signature) == SIGNATURE_BYTES
            assert other.verify(crypto.public(SEED), signature, bytes(size))

    def test_a_public_key_is_that_of_its_seed(self, crypto: Crypto, other: Crypto) -> None:
        assert len(crypto.public(SEED)) == SIGNING_KEY_BYTES
        assert crypto.public(SEED) == other.public(SEED) != crypto.public(OTHER)

    def test_another_key_signature_or_text_is_not_verified(self, crypto: Crypto) -> None:
        public, signature = crypto.public(SEED), crypto.sign(SEED, b"text")
        assert crypto.verify(public, signature, b"text")
        assert not crypto.verify(crypto.public(OTHER), signature, b"text")
        assert not crypto.verify(public, signature, b"texts")
        for bit in range(8 * SIGNATURE_BYTES):
            turned = bytearray(signature)
            turned[bit // 8] ^= 1 << bit % 8
            assert not crypto.verify(public, bytes(turned), b"text")

    @pytest.mark.parametrize("wrong", [b"", b"x", bytes(31), bytes(33), bytes(63), bytes(65), bytes(64)])
    def test_what_is_no_key_and_no_signature_is_not_verified(self, crypto: Crypto, wrong: bytes) -> None:
        assert not crypto.verify(wrong, crypto.sign(SEED, b"text"), b"text")
        assert not crypto.verify(crypto.public(SEED), wrong, b"text")

    def test_a_signature_with_more_behind_it_is_none(self, crypto: Crypto) -> None:
        """libsodium's own function takes signature and text as one."""
        signature = crypto.sign(SEED, b"text")
        assert not crypto.verify(crypto.public(SEED), signature + b"te", b"xt")
        assert not crypto.verify(crypto.public(SEED), signature[:-2], signature[-2:] + b"text")

    def test_both_ends_get_the_same_secret(self, crypto: Crypto, other: Crypto) -> None:
        secret = crypto.exchange(SEED, other.exchange_public(OTHER))
        assert secret == other.exchange(OTHER, crypto.exchange_public(SEED))
        assert secret != crypto.exchange(SEED, crypto.exchange_public(SEED))

    @pytest.mark.parametrize("public", [bytes(32), b"\x01" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f"])
    def test_a_key_of_small_order_gives_no_secret(self, crypto: Crypto, public: bytes) -> None:
        with pytest.raises(Malformed):
            crypto.exchange(SEED, public)

    @pytest.mark.parametrize("public", [b"", bytes(31), bytes(33)])
    def test_what_is_no_key_gives_no_secret(self, crypto: Crypto, public: bytes) -> None:
        with pytest.raises(Malformed):
            crypto.exchange(SEED, public)

    def test_what_one_end_seals_the_other_opens(self, crypto: Crypto, other: Crypto) -> None:
        for size in SIZES:
            sealed = crypto.seal(KEY, NONCE, bytes(size), b"about")
            assert len(sealed) == size + TAG_BYTES
            assert sealed == other.seal(KEY, NONCE, bytes(size), b"about")
            assert other.open(KEY, NONCE, sealed, b"about") == bytes(size)

    def test_with_another_key_nonce_purpose_or_bit_nothing_opens(self, crypto: Crypto) -> None:
        sealed = crypto.seal(KEY, NONCE, b"plain", b"about")
        wrong = [(SEED, NONCE, sealed, b"about"), (KEY, bytes(12), sealed, b"about"), (KEY, NONCE, sealed, b"")]
        wrong += [(KEY, NONCE, sealed[:size], b"about") for size in range(len(sealed))]
        for bit in range(8 * len(sealed)):
            turned = bytearray(sealed)
            turned[bit // 8] ^= 1 << bit % 8
            wrong.append((KEY, NONCE, bytes(turned), b"about"))
        for call in wrong:
            with pytest.raises(Malformed):
                crypto.open(*call)
