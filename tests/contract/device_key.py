"""What every DeviceKeys promises (ports.DeviceKeys). An adapter subclasses DeviceKeysContract and gives `keys`."""

from __future__ import annotations

import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from contract.certificates import authority, pem, signed
from skerry.errors import KeyFailed
from skerry.limits import COMMON_NAME_CHARS_MAX
from skerry.ports import DeviceKey, DeviceKeys
from skerry.world import tls

CA = authority()


def public(key: DeviceKey, name: str = "edge-1") -> ec.EllipticCurvePublicKey:
    """The key that a request is for, which is shown to be signed with it."""
    request = x509.load_pem_x509_csr(key.csr(name).encode())
    assert request.is_signature_valid
    found = request.public_key()
    assert isinstance(found, ec.EllipticCurvePublicKey)
    assert isinstance(found.curve, ec.SECP256R1)
    return found


def numbers(key: DeviceKey) -> bytes:
    form = serialization.PublicFormat.UncompressedPoint
    return public(key).public_bytes(serialization.Encoding.X962, form)


class DeviceKeysContract:
    @pytest.mark.parametrize("name", ["edge-1", "edge-1.streams", "a.b-c.9", "n" * COMMON_NAME_CHARS_MAX])
    def test_a_request_names_who_asks_and_is_signed(self, keys: DeviceKeys, name: str) -> None:
        key = keys.new()
        request = x509.load_pem_x509_csr(key.csr(name).encode())
        assert request.is_signature_valid
        assert [(a.oid, a.value) for a in request.subject] == [(NameOID.COMMON_NAME, name)]

    @pytest.mark.parametrize("name", ["", "n" * (COMMON_NAME_CHARS_MAX + 1), "a/CN=b", "a\nb", "$ENV::HOME", "Ä"])
    def test_a_name_that_no_node_has_is_refused(self, keys: DeviceKeys, name: str) -> None:
        with pytest.raises(KeyFailed, match="no certificate can have the name"):
            keys.new().csr(name)

    def test_each_new_key_is_another(self, keys: DeviceKeys) -> None:
        assert numbers(keys.new()) != numbers(keys.new())

    def test_what_was_kept_is_the_same_key_again(self, keys: DeviceKeys) -> None:
        key = keys.new()
        assert isinstance(key.kept, str)
        assert numbers(keys.again(key.kept)) == numbers(key)

    def test_it_proves_who_the_device_is(self, keys: DeviceKeys) -> None:
        key = keys.new()
        tls.prove(keys.again(key.kept), signed(CA, public(key), "edge-1"), pem(CA))

    def test_a_certificate_for_another_key_is_refused(self, keys: DeviceKeys) -> None:
        key, other = keys.new(), keys.new()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        with pytest.raises(KeyFailed, match="do not go together"):
            key.load_into(context, signed(CA, public(other), "edge-1"))
        with pytest.raises(KeyFailed, match="do not go together"):
            key.load_into(context, "no certificate")

    def test_what_was_never_kept_fails_when_it_is_used(self, keys: DeviceKeys) -> None:
        whole = keys.new().kept
        for kept in ("", "anything", whole[: len(whole) // 2]):
            key = keys.again(kept)
            with pytest.raises(KeyFailed):
                key.csr("edge-1")

    def test_it_shows_nothing_of_itself(self, keys: DeviceKeys) -> None:
        key = keys.new()
        assert not any(line in f"{key!r} {key!s}" for line in key.kept.splitlines())
