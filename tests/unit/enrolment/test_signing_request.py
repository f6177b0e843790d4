"""Certificate requests: what is read from one, and that no bytes whatever are anything but read or Malformed."""

from __future__ import annotations

import base64

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.errors import Malformed
from skerry_hub import pki
from unit.enrolment.site import csr, csr_for, new_key

CN, O = NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME  # noqa: E741 as X.509 names it
KEY = new_key()
GOOD = csr_for("pi", KEY)
DER = x509.load_pem_x509_csr(GOOD.encode()).public_bytes(serialization.Encoding.DER)


def armoured(der: bytes) -> str:
    body = base64.encodebytes(der).decode()
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{body}-----END CERTIFICATE REQUEST-----\n"


def test_a_request_is_a_name_and_a_key() -> None:
    found = pki.read_request(GOOD)
    assert found.common_name == "pi"
    assert found.key == KEY.public_key()
    assert found.key_digest == pki.key_digest(KEY.public_key())
    assert found.pem == GOOD.encode()


def test_what_stands_beside_it_is_not_kept() -> None:
    assert pki.read_request(GOOD + "more\n" * 10).pem == GOOD.encode()


@pytest.mark.parametrize(
    "text",
    [
        csr(rsa.generate_private_key(65537, 2048), (CN, "pi")),
        csr(ec.generate_private_key(ec.SECP384R1()), (CN, "pi")),
        csr(ec.generate_private_key(ec.SECP256K1()), (CN, "pi")),
        armoured(
            x509.CertificateSigningRequestBuilder()
            .subject_name(x509.Name([x509.NameAttribute(CN, "pi")]))
            .sign(ed25519.Ed25519PrivateKey.generate(), None)
            .public_bytes(serialization.Encoding.DER)
        ),
        csr(KEY, (CN, "pi"), algorithm=hashes.SHA224()),
    ],
    ids=["RSA", "P-384", "secp256k1", "Ed25519", "SHA-224"],
)
def test_other_keys_and_weak_digests_are_refused(text: str) -> None:
    with pytest.raises(Malformed, match=r"P-256|SHA-256"):
        pki.read_request(text)


@pytest.mark.parametrize(
    "names", [[], [(CN, "pi"), (O, "system:nodes")], [(O, "system:masters")], [(CN, "a"), (CN, "b")]]
)
def test_the_subject_is_one_common_name(names: list[tuple[x509.ObjectIdentifier, str]]) -> None:
    with pytest.raises(Malformed, match="common name"):
        pki.read_request(csr(KEY, *names))


def test_who_has_not_the_key_has_no_request() -> None:
    """Proof of possession: the signature of another's request does not fit."""
    other = x509.load_pem_x509_csr(csr_for("pi", new_key()).encode())
    forged = DER.replace(x509.load_pem_x509_csr(GOOD.encode()).signature, other.signature)
    if len(forged) == len(DER):  # signatures have one of a few lengths
        with pytest.raises(Malformed):
            pki.read_request(armoured(forged))
    renamed = DER.replace(b"pi", b"po")
    with pytest.raises(Malformed, match="not signed"):
        pki.read_request(armoured(renamed))


@settings(max_examples=400)
@given(st.integers(0, len(DER) - 1), st.integers(0, 255), st.integers(0, 3))
def test_any_changed_byte_is_malformed(at: int, value: int, extra: int) -> None:
    changed = DER[:at] + bytes([value]) + DER[at + 1 :] + bytes(extra)
    if changed != DER:
        with pytest.raises(Malformed):
            pki.read_request(armoured(changed))


@settings(max_examples=300)
@given(st.one_of(st.text(max_size=300), st.binary(max_size=300).map(armoured)))
def test_any_text_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        pki.read_request(text)


@given(st.integers(1, len(DER) - 1))
def test_a_request_that_was_cut_short_is_malformed(size: int) -> None:
    with pytest.raises(Malformed):
        pki.read_request(armoured(DER[:size]))
