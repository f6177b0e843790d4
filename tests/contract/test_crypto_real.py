"""The Crypto contract on libsodium, which devices have, and on OpenSSL, which hubs have."""

from __future__ import annotations

import pytest

from contract.crypto import CryptoContract
from skerry.ports import Crypto
from skerry.world.sodium import Sodium
from skerry_hub.crypto import OpenSsl


class TestSodium(CryptoContract):
    @pytest.fixture
    def crypto(self) -> Crypto:
        return Sodium()

    @pytest.fixture
    def other(self) -> Crypto:
        return OpenSsl()


class TestOpenSsl(CryptoContract):
    @pytest.fixture
    def crypto(self) -> Crypto:
        return OpenSsl()

    @pytest.fixture
    def other(self) -> Crypto:
        return Sodium()
