"""Certificates as a device reads them, beside `cryptography`; and what is none."""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta, timezone

import pytest
from cryptography import x509 as reference
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from contract.certificates import authority, enrolled
from skerry.errors import Malformed
from skerry.wire.x509 import CODE_SIGNING, Certificate, pem_blocks, purposes, read

KEY = ec.generate_private_key(ec.SECP256R1())
GOOD = enrolled(authority(), "edge-1").issued.certificate
TIMES = st.datetimes(datetime(1950, 1, 1), datetime(9998, 12, 31))


def made(name: reference.Name, begins: datetime, ends: datetime) -> bytes:
    builder = reference.CertificateBuilder().subject_name(name).issuer_name(name).public_key(KEY.public_key())
    builder = builder.serial_number(1).not_valid_before(begins).not_valid_after(ends)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def named(*parts: tuple[reference.ObjectIdentifier, str]) -> reference.Name:
    return reference.Name([reference.NameAttribute(kind, value) for kind, value in parts])


@given(TIMES, st.timedeltas(timedelta(0), timedelta(days=300_000)), st.text("aå-.9", min_size=1, max_size=60))
def test_name_and_times_are_those_that_cryptography_wrote(begins: datetime, span: timedelta, name: str) -> None:
    begins = begins.replace(microsecond=0)
    ends = (begins + min(span, datetime(9999, 12, 31) - begins)).replace(microsecond=0)
    der = made(named((NameOID.ORGANIZATION_NAME, "x"), (NameOID.COMMON_NAME, name)), begins, ends)
    seconds = [int(time.replace(tzinfo=timezone.utc).timestamp()) for time in (begins, ends)]
    assert read(der) == Certificate(name, *seconds)


def test_a_certificate_without_a_common_name_has_an_empty_one() -> None:
    day = datetime(2026, 1, 1)
    assert read(made(named((NameOID.ORGANIZATION_NAME, "x")), day, day)).common_name == ""


USAGES = (ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH)


@given(st.sets(st.sampled_from(USAGES)), st.booleans(), st.booleans())
def test_what_it_is_for_is_what_cryptography_wrote(
    usages: set[reference.ObjectIdentifier], critical: bool, more: bool
) -> None:
    day, name = datetime(2026, 1, 1), named((NameOID.COMMON_NAME, "x"))
    builder = reference.CertificateBuilder().subject_name(name).issuer_name(name).public_key(KEY.public_key())
    builder = builder.serial_number(1).not_valid_before(day).not_valid_after(day)
    if more:
        builder = builder.add_extension(reference.BasicConstraints(ca=False, path_length=None), critical=True)
    if usages:
        builder = builder.add_extension(reference.ExtendedKeyUsage(sorted(usages, key=str)), critical=critical)
    der = builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    found = purposes(der)
    assert len(found) == len(usages)
    assert (CODE_SIGNING in found) == (ExtendedKeyUsageOID.CODE_SIGNING in usages)


@given(st.integers(0, len(pem_blocks(GOOD)[0]) - 1), st.integers(0, 255))
def test_what_a_changed_one_is_for_is_read_or_malformed(at: int, value: int) -> None:
    der = bytearray(pem_blocks(GOOD)[0])
    der[at] = value
    with contextlib.suppress(Malformed):
        assert CODE_SIGNING not in purposes(bytes(der))


def test_pem_may_hold_several_and_words_between_them() -> None:
    (one,) = pem_blocks(GOOD)
    assert pem_blocks(f"a comment\n{GOOD}\nanother\n{GOOD.replace(chr(10), chr(13) + chr(10))}") == [one, one]
    assert pem_blocks("nothing") == []


@pytest.mark.parametrize("text", [GOOD[:200], "-----BEGIN CERTIFICATE-----å-----END CERTIFICATE-----"])
def test_pem_that_is_none_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        pem_blocks(text)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        read(data)


@given(st.integers(0, len(pem_blocks(GOOD)[0]) - 1), st.integers(0, 255))
def test_a_changed_byte_is_read_or_malformed(at: int, value: int) -> None:
    der = bytearray(pem_blocks(GOOD)[0])
    der[at] = value
    with contextlib.suppress(Malformed):
        assert isinstance(read(bytes(der)), Certificate)


def test_a_certificate_cut_anywhere_is_malformed() -> None:
    der = pem_blocks(GOOD)[0]
    for size in range(len(der)):
        with pytest.raises(Malformed):
            read(der[:size])
