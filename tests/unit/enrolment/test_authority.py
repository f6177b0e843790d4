"""What the devices' authority signs, and that none of it is good for anything else."""

from __future__ import annotations

import re
import shutil
import ssl
import subprocess
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from skerry.errors import ConfigInvalid, Malformed
from skerry.world.tls import verifying
from skerry_hub import pki, tls
from skerry_hub.enrolment import authority
from skerry_hub.enrolment.authority import Authority, DeviceCertificates
from skerry_hub.limits import DEVICE_NAME_CHARS_MAX, OWN_DAYS, OWN_RENEW_PART
from unit.apiserver.serving import running
from unit.enrolment.site import new_key

ROOT = Path(__file__).parents[3]
NOW = datetime(2027, 1, 1, tzinfo=timezone.utc)
DAYS = 90


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return authority.load(*authority.make(tmp_path))


@pytest.fixture
def key() -> ec.EllipticCurvePrivateKey:
    return new_key()


@pytest.fixture
def made(ca: Authority, key: ec.EllipticCurvePrivateKey) -> DeviceCertificates:
    return ca.device(key.public_key(), "pi", DAYS, NOW)


def test_a_device_gets_two_names_for_one_key(made: DeviceCertificates, key: ec.EllipticCurvePrivateKey) -> None:
    both = (made.certificate, made.streams)
    assert [pki.common_name(one) for one in both] == ["pi", "pi.streams"]
    assert all(one.public_key() == key.public_key() for one in both)
    assert len(set(made.serials)) == 2
    assert all(int(serial, 16) > 0 and len(serial) <= 40 for serial in made.serials)  # RFC 5280, 4.1.2.2


def test_they_are_for_tls_clients_and_nothing_else(ca: Authority, made: DeviceCertificates) -> None:
    for one in (made.certificate, made.streams):
        found = one.extensions
        assert list(found.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.CLIENT_AUTH]
        assert found.get_extension_for_class(x509.BasicConstraints).value.ca is False
        usage = found.get_extension_for_class(x509.KeyUsage).value
        assert usage.digital_signature
        forbidden = (usage.key_cert_sign, usage.crl_sign, usage.key_encipherment, usage.key_agreement)
        assert not any(forbidden)
        with pytest.raises(x509.ExtensionNotFound):
            found.get_extension_for_class(x509.SubjectAlternativeName)
        one.verify_directly_issued_by(ca.pair.certificate)


@pytest.mark.parametrize("believes", ["a device", "a hub"])
def test_a_device_that_has_the_hubs_or_brokers_name_is_taken_for_neither(ca: Authority, believes: str) -> None:
    """A neighbour whose node is called as the host is, in between."""
    key, name = pki.new_key(), "hub.example"
    made = ca.device(key.public_key(), name, 90, pki.utc_now())
    client = verifying(ca.certificate_pem.decode())
    if believes == "a hub":
        own = ca.client("skerry-hub:hub", pki.utc_now())
        client = tls.client_context(ca.certificate_pem, own.certificate_pem, own.key_pem)
    server = tls.server_context(made.certificate.public_bytes(Encoding.PEM), pki.private_pem(key))
    with pytest.raises(ssl.SSLCertVerificationError, match="unsuitable certificate purpose"):
        shake_hands(client, server, name)


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> None:
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = client.wrap_bio(down, up, server_hostname=name), server.wrap_bio(up, down, server_side=True)
    for end in ends * 4:
        with suppress(ssl.SSLWantReadError):
            end.do_handshake()


def test_they_name_no_organisation_which_an_api_server_would_take_for_a_group(
    ca: Authority, made: DeviceCertificates
) -> None:
    every = (made.certificate, made.streams, ca.client("skerry-hub:hub", NOW).certificate)
    assert [[a.oid for a in one.subject] for one in every] == [[NameOID.COMMON_NAME]] * 3


def test_they_are_valid_from_just_before_now_and_for_as_long_as_was_said(made: DeviceCertificates) -> None:
    assert made.certificate.not_valid_before_utc == NOW - pki.CLOCK_SKEW
    assert made.certificate.not_valid_after_utc == NOW + timedelta(days=DAYS)
    assert made.not_after == (NOW + timedelta(days=DAYS)).timestamp()


def test_they_are_never_valid_longer_than_the_authority(ca: Authority) -> None:
    end = ca.pair.certificate.not_valid_after_utc
    made = ca.device(new_key().public_key(), "pi", DAYS, end - timedelta(days=1))
    assert made.certificate.not_valid_after_utc == end
    assert not ca.expired(end - timedelta(seconds=1))
    assert ca.expired(end)


def test_the_longest_name_fits_into_both(ca: Authority) -> None:
    node = "n" * DEVICE_NAME_CHARS_MAX
    made = ca.device(new_key().public_key(), node, DAYS, NOW)
    assert len(pki.common_name(made.streams)) == 64


def test_what_it_made_is_read_back(ca: Authority, made: DeviceCertificates, key: ec.EllipticCurvePrivateKey) -> None:
    assert ca.accepts(made.pem, key.public_key(), "pi", NOW) == made
    bad = [
        (made.pem, new_key().public_key(), "pi", NOW),
        (made.pem, key.public_key(), "pi2", NOW),
        (made.pem, key.public_key(), "pi", NOW + timedelta(days=DAYS)),
        (made.pem[: len(made.pem) // 2], key.public_key(), "pi", NOW),
        (made.texts[0].encode(), key.public_key(), "pi", NOW),
        (b"", key.public_key(), "pi", NOW),
    ]
    for one in bad:
        with pytest.raises(Malformed):
            ca.accepts(*one)


def test_what_another_authority_made_is_not(tmp_path: Path, ca: Authority, key: ec.EllipticCurvePrivateKey) -> None:
    (tmp_path / "other").mkdir()
    other = authority.load(*authority.make(tmp_path / "other"))
    with pytest.raises(Malformed, match="authority"):
        ca.accepts(other.device(key.public_key(), "pi", DAYS, NOW).pem, key.public_key(), "pi", NOW)


def test_what_is_derived_of_it_is_the_same_at_all_replicas_and_another_for_each_purpose(tmp_path: Path) -> None:
    one, two = (authority.load(*authority.make(tmp_path)) for _ in range(2))
    (tmp_path / "other").mkdir()
    other = authority.load(*authority.make(tmp_path / "other"))
    assert one.shared_key(b"a") == two.shared_key(b"a")
    assert len({one.shared_key(b"a"), one.shared_key(b"b"), other.shared_key(b"a")}) == 3
    assert len(one.shared_key(b"a")) == 32


def test_a_folder_keeps_its_authority(tmp_path: Path) -> None:
    first, again = authority.load(*authority.make(tmp_path)), authority.load(*authority.make(tmp_path))
    assert first.digest == again.digest
    assert (tmp_path / "device-ca.key").stat().st_mode & 0o777 == 0o600


def test_an_authority_that_is_being_replaced_is_believed_as_well(tmp_path: Path) -> None:
    certificate, key = authority.make(tmp_path)
    old = pki.new_authority("old", 1, pki.utc_now())
    new = certificate.read_bytes()
    certificate.write_bytes(new + old.certificate_pem)
    found = authority.load(certificate, key)
    assert found.certificate_pem == new
    assert found.believed_pem == new + old.certificate_pem
    assert found.digest == authority.digest_of(x509.load_pem_x509_certificate(new))


def test_files_that_are_no_authority_are_refused_by_their_option(tmp_path: Path, ca: Authority) -> None:
    certificate, key = authority.make(tmp_path)
    client = ca.client("pi", NOW)
    pki.save(client, tmp_path / "client.crt", tmp_path / "client.key")
    (tmp_path / "empty").write_text("")
    cases = [
        (None, key, "--device-ca-cert"),
        (certificate, None, "--device-ca-key"),
        (tmp_path / "none", key, "--device-ca-cert"),
        (certificate, tmp_path / "none", "--device-ca-key"),
        (tmp_path / "empty", key, "--device-ca-cert"),
        (certificate, tmp_path / "client.key", "--device-ca-key"),
        (tmp_path / "client.crt", tmp_path / "client.key", "--device-ca-cert"),
    ]
    for one, other, option in cases:
        with pytest.raises(ConfigInvalid) as why:
            authority.load(one, other)
        assert why.value.field == option


def test_the_hubs_own_certificates_are_made_anew_in_time_and_by_a_clock_that_was_wrong(ca: Authority) -> None:
    own = ca.client("skerry-hub:hub", NOW).certificate
    late = timedelta(days=OWN_DAYS * OWN_RENEW_PART + 1)
    assert not authority.stale(own, NOW)
    assert authority.stale(own, NOW + late)
    assert authority.stale(own, NOW - timedelta(days=1))


def test_no_certificate_of_a_device_is_good_for_the_api_server(tmp_path: Path) -> None:
    """Not for the embedded one: another authority. And by name, none would be anybody in a cluster."""
    (tmp_path / "ca").mkdir()
    ca, key = authority.load(*authority.make(tmp_path / "ca")), new_key()
    made = ca.device(key.public_key(), "pi", DAYS, pki.utc_now())
    with running(tmp_path / "api") as api:
        for one in (made.certificate, made.streams):
            pki.save(pki.Pair(one, key), tmp_path / "c.crt", tmp_path / "c.key")
            context = ssl.create_default_context(cafile=str(tmp_path / "api" / "ca.crt"))
            context.load_cert_chain(tmp_path / "c.crt", tmp_path / "c.key")
            api.tls = context
            with pytest.raises((ssl.SSLError, ConnectionError)):
                api.call("GET", "/api/v1/nodes", headers={"Authorization": ""})


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_one_that_was_made_as_the_manual_says_is_good(tmp_path: Path) -> None:
    manual = (ROOT / "docs" / "operating.md").read_text()
    lines = re.search(r"^openssl ecparam.*?(?=^kubectl)", manual, re.MULTILINE | re.DOTALL)
    assert lines is not None
    subprocess.run(["bash", "-euc", lines[0]], cwd=tmp_path, check=True, capture_output=True)
    ca, key = authority.load(tmp_path / "device-ca.crt", tmp_path / "device-ca.key"), new_key()
    made = ca.device(key.public_key(), "pi", DAYS, pki.utc_now())
    assert ca.accepts(made.pem, key.public_key(), "pi", pki.utc_now()) == made
