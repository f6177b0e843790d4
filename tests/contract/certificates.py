"""Certificates for tests: an authority, whoever it signs for, and a device as enrolment leaves it."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from skerry.identity import Enrolled, Keys
from skerry.model.streams import streams_name
from skerry.wire.address import BrokerAddress
from skerry.wire.enrolment import Issued
from skerry.world.clock import SystemClock
from skerry.world.enrolled import Enrolment
from skerry.world.entropy import SystemEntropy
from skerry_hub import pki

TOKEN_NAME = "abcdef"
STATEMENT = "AAAA"  # whatever the hub stated: the device passes it on


def authority(name: str = "skerry") -> pki.Pair:
    return pki.new_authority(name, 365, pki.utc_now())


def pem(pair: pki.Pair) -> str:
    return pair.certificate_pem.decode()


def digest(pair: pki.Pair) -> bytes:
    return hashlib.sha256(pair.certificate.public_bytes(serialization.Encoding.DER)).digest()


def signed(
    by: pki.Pair,
    public_key: ec.EllipticCurvePublicKey,
    name: str,
    begins: datetime | None = None,
    days: int = 90,
    role: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
) -> str:
    """A certificate for somebody's key, a client's if `role` says nothing else, in PEM."""
    begins = begins or pki.utc_now() - pki.CLOCK_SKEW
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(by.certificate.subject)
    builder = builder.public_key(public_key).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(begins).not_valid_after(begins + timedelta(days=days))
    builder = builder.add_extension(x509.ExtendedKeyUsage([role]), critical=False)
    return builder.sign(by.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def enrolled(
    by: pki.Pair, node: str, broker: str = "mqtts://127.0.0.1:8883", begins: datetime | None = None, days: int = 90
) -> Enrolled:
    """What a hub of that authority makes of a device."""
    key = pki.Pair(by.certificate, ec.generate_private_key(ec.SECP256R1()))
    own, streams = (signed(by, key.key.public_key(), name, begins, days) for name in (node, streams_name(node)))
    issued = Issued(node, own, streams, pem(by), broker, "https://127.0.0.1:1", STATEMENT)
    keys = Keys(key.key_pem.decode(), bytes(range(32)).hex(), bytes(range(1, 33)).hex())
    return Enrolled(issued, keys, TOKEN_NAME)


def credentials(folder: Path, node: str, port: int = 0) -> Enrolment:
    """Of the device whose identity is in `folder`; at another port than that says, where there is a proxy."""
    address = BrokerAddress("localhost", port, True) if port else None
    return Enrolment(folder, node, False, address, SystemClock(), SystemEntropy(), print)
