"""Keys and certificates of the hub: an authority, what it signs, and what others ask it to sign. Made with
`cryptography`, ECDSA P-256.

Decides what a certificate of skerry holds. Refuses to know where and for whom it is used.
"""

from __future__ import annotations

import ipaddress
import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from skerry.errors import Malformed, SkerryError

CODE_SIGNING = ExtendedKeyUsageOID.CODE_SIGNING
CLOCK_SKEW = timedelta(hours=1)  # a certificate is valid from this long before it was made


class PkiError(SkerryError):
    """A key or certificate cannot be read, written or parsed."""


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, in memory."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return private_pem(self.key)


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """PKCS #8, not encrypted."""
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption())


def new_authority(name: str, days: int, now: datetime, key: ec.EllipticCurvePrivateKey | None = None) -> Pair:
    """A self-signed authority called `name`, valid for `days`; with a new key, if it has none."""
    key = key or new_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    builder = _builder(subject, subject, key.public_key(), now, now + timedelta(days=days))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(usage, critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return Pair(builder.sign(key, hashes.SHA256()), key)


def issue(
    authority: Pair, common_name: str, organizations: tuple[str, ...], names: tuple[str, ...], days: int, now: datetime
) -> Pair:
    """A certificate signed by `authority`: for a server when `names` (hosts and addresses) are given, else a client."""
    key = new_key()
    until = now + timedelta(days=days)
    return Pair(certify(authority, key.public_key(), common_name, organizations, names, now, until), key)


def certify(
    authority: Pair,
    key: ec.EllipticCurvePublicKey | Ed25519PublicKey,
    common_name: str,
    organizations: tuple[str, ...],
    names: tuple[str, ...],
    now: datetime,
    until: datetime,
    role: x509.ObjectIdentifier | None = None,
) -> x509.Certificate:
    """As `issue`, for a key that somebody else keeps; valid from CLOCK_SKEW before `now` until `until`; for `role`, one
    of RFC 5280 section 4.2.1.12, where it is for neither end of TLS."""
    subject = _subject(common_name, organizations)
    role = role or (ExtendedKeyUsageOID.SERVER_AUTH if names else ExtendedKeyUsageOID.CLIENT_AUTH)
    builder = _builder(subject, authority.certificate.subject, key, now, until)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    builder = builder.add_extension(usage, critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([role]), critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = builder.add_extension(issuer, critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([_name(n) for n in names]), critical=False)
    return builder.sign(authority.key, hashes.SHA256())


@dataclass(frozen=True)
class SigningRequest:
    """What is taken from a certificate request: who asks, and the key that is theirs. `pem` is the request alone."""

    common_name: str
    key: ec.EllipticCurvePublicKey
    pem: bytes

    @property
    def key_digest(self) -> str:
        return key_digest(self.key)


def read_request(text: str) -> SigningRequest:
    """A PKCS #10 request in PEM (RFC 2986), signed by its own key, which is ECDSA P-256; its subject is one common name
    and nothing else. What extensions it asks for is of no account. Raises Malformed."""
    try:
        found = x509.load_pem_x509_csr(text.encode())
        key = found.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise Malformed("csr: its key is not ECDSA P-256")
        signed = isinstance(found.signature_hash_algorithm, _HASHES) and found.is_signature_valid
        name = _sole_common_name(found.subject)
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise Malformed("csr: is no certificate request (PKCS #10) with an ECDSA P-256 key") from None
    if not signed:
        raise Malformed("csr: is not signed by its own key with SHA-256 or better")
    return SigningRequest(name, key, found.public_bytes(serialization.Encoding.PEM))


_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)


def _sole_common_name(subject: x509.Name) -> str:
    attributes = list(subject)
    name = attributes[0].value if len(attributes) == 1 and attributes[0].oid == NameOID.COMMON_NAME else ""
    if not isinstance(name, str) or not name or not name.isprintable():
        raise Malformed("csr: its subject must be one common name and nothing else")
    return name


def key_digest(key: ec.EllipticCurvePublicKey) -> str:
    """SHA-256 of the key's SubjectPublicKeyInfo (RFC 5280, 4.1.2.7) in DER, in hexadecimal digits."""
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return sha256(key.public_bytes(encoding, form)).hexdigest()


def common_name(certificate: x509.Certificate) -> str:
    """Empty when it has none, or several."""
    found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if len(found) == 1 else ""


def signing_request(
    key: ec.EllipticCurvePrivateKey, common_name: str, organizations: tuple[str, ...], names: tuple[str, ...]
) -> bytes:
    """A PKCS #10 request (RFC 2986), PEM: the subject and the hosts and addresses in `names`, for another's authority.
    Usages are not in it: who signs decides them."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(_subject(common_name, organizations))
    builder = builder.add_extension(x509.SubjectAlternativeName([_name(n) for n in names]), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def validity(certificate: str) -> tuple[float, float]:
    """From when to when the first certificate of a PEM text is valid, in seconds since 1970. Raises PkiError."""
    try:
        found = x509.load_pem_x509_certificate(certificate.encode())
    except ValueError as why:
        raise PkiError(f"not a usable certificate: {why}") from None
    return found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp()


def _subject(common_name: str, organizations: tuple[str, ...]) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, value) for value in organizations]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey | Ed25519PublicKey,
    now: datetime,
    until: datetime,
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - CLOCK_SKEW).not_valid_after(until)


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def names_of(certificate: x509.Certificate) -> set[str]:
    """The hosts and addresses that a server certificate is good for."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {str(name.value) for name in found}


def good_for(pair: Pair, authority: Pair, names: tuple[str, ...], days_left: int, now: datetime) -> bool:
    """Whether `pair` was signed by `authority`, covers `names` and is valid, for another `days_left` at least."""
    try:
        pair.certificate.verify_directly_issued_by(authority.certificate)
    except Exception:
        return False
    begin, end = pair.certificate.not_valid_before_utc, pair.certificate.not_valid_after_utc
    return set(names) <= names_of(pair.certificate) and begin <= now and end > now + timedelta(days=days_left)


def load(certificate: Path, key: Path) -> Pair | None:
    """The pair in two PEM files; None when neither exists. Raises PkiError, also when only one is there."""
    try:
        raw = [path.read_bytes() if path.exists() else None for path in (certificate, key)]
    except OSError as why:
        raise PkiError(f"{why.filename}: {why.strerror}") from None
    if raw[0] is None and raw[1] is None:
        return None
    if raw[0] is None or raw[1] is None:
        raise PkiError(f"{certificate} and {key} belong together, but one is missing")
    try:
        private = serialization.load_pem_private_key(raw[1], None)
        public = x509.load_pem_x509_certificate(raw[0])
    except (ValueError, TypeError) as why:
        raise PkiError(f"{certificate}: not a usable certificate and key: {why}") from None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or private.public_key() != public.public_key():
        raise PkiError(f"{certificate}: does not belong to {key}")
    return Pair(public, private)


def load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Raises PkiError."""
    try:
        found = serialization.load_pem_private_key(path.read_bytes(), None)
    except OSError as why:
        raise PkiError(f"{path}: {why.strerror}") from None
    except (ValueError, TypeError) as why:
        raise PkiError(f"{path}: not a usable key: {why}") from None
    if not isinstance(found, ec.EllipticCurvePrivateKey):
        raise PkiError(f"{path}: not a usable key: it is not one of an elliptic curve")
    return found


def save(pair: Pair, certificate: Path, key: Path) -> None:
    """Writes both files, the key (0600) first. Raises PkiError."""
    write_private(key, pair.key_pem)
    write_private(certificate, pair.certificate_pem, 0o644)


def write_private(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replaces `path` by `data` in one step that a power cut cannot halve, and follows no link. Raises PkiError."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.unlink(missing_ok=True)  # what a power cut left
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode), "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as why:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise PkiError(f"{path}: cannot be written: {why.strerror}") from None


def utc_now() -> datetime:
    return datetime.now(timezone.utc)
