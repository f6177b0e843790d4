"""The Authority contract on the openssl command, with certificates as a hub has them made."""

from __future__ import annotations

import shutil
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding

from contract.authority import AuthorityContract
from contract.certificates import authority, pem
from skerry.ports import Authority
from skerry.world.authority import SIGNER, OpensslAuthority
from skerry.world.clock import known_time
from skerry_hub import pki


class Site:
    def __init__(self) -> None:
        self._own, self._strange = authority(), authority()  # of one name

    def authority(self) -> Authority:
        return OpensslAuthority(pem(self._own), known_time)

    def certified(self, public: bytes) -> bytes:
        return self._made(self._own, public)

    def strange(self, public: bytes) -> bytes:
        return self._made(self._strange, public)

    @staticmethod
    def _made(by: pki.Pair, public: bytes) -> bytes:
        now, key = pki.utc_now(), Ed25519PublicKey.from_public_bytes(public)
        name = "hub".join(SIGNER)
        made = pki.certify(by, key, name, (), (), now, now + timedelta(days=2), pki.CODE_SIGNING)
        return made.public_bytes(Encoding.DER)


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
class TestOpensslAuthority(AuthorityContract):
    pass
