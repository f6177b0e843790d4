"""The authority of the devices: what it signs for a device, for the enrolment server and for the hub itself.

It is no authority of any Kubernetes API, and nothing that it signs names an organisation, which is what an API server
takes for a group: a stolen device is nobody there. Refuses to know tokens, requests over HTTP and the broker.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding

from skerry.errors import ConfigInvalid, Malformed
from skerry.limits import AEAD_KEY_BYTES, EXCHANGE_KEY_BYTES, SIGNING_KEY_BYTES
from skerry.model.streams import streams_name
from skerry.wire import codec
from skerry.wire.cose import hkdf
from skerry.wire.enrolment import trust_id
from skerry_hub import pki, pki_files
from skerry_hub.limits import COMMON_NAME_CHARS_MAX, DEVICE_NAME_CHARS_MAX, OWN_DAYS, OWN_RENEW_PART

NAME = "skerry device authority"
_STATING = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)  # RFC 6979: asked again, answered the same
ABOUT_IDENTITY = b"skerry identity\0"  # before what is signed: no certificate begins so
STEM = "device-ca"  # of the files in a folder of skerry-hub up
CERTIFICATE_OPTION, KEY_OPTION = "--device-ca-cert", "--device-ca-key"


@dataclass(frozen=True)
class DeviceCertificates:
    """The two of one device, for one key: as itself, and for its streams."""

    certificate: x509.Certificate
    streams: x509.Certificate

    @property
    def pem(self) -> bytes:
        """Both, in this order."""
        return _pem(self.certificate) + _pem(self.streams)

    @property
    def texts(self) -> tuple[str, str]:
        return _pem(self.certificate).decode(), _pem(self.streams).decode()

    @property
    def serials(self) -> tuple[str, str]:
        """Hexadecimal digits, as a revocation names them."""
        return f"{self.certificate.serial_number:x}", f"{self.streams.serial_number:x}"

    @property
    def not_after(self) -> float:
        """Seconds since 1970."""
        return self.certificate.not_valid_after_utc.timestamp()


@dataclass(frozen=True)
class Authority:
    """`believed` is what devices verify hub and broker by: the authority's certificate, then those that were beside it
    in its file (of an authority that is being replaced)."""

    pair: pki.Pair
    believed: tuple[x509.Certificate, ...]

    @property
    def digest(self) -> bytes:
        """SHA-256 of the certificate in DER, as a token names it."""
        return digest_of(self.pair.certificate)

    @property
    def certificate_pem(self) -> bytes:
        return self.pair.certificate_pem

    @property
    def believed_pem(self) -> bytes:
        return b"".join(_pem(one) for one in self.believed)

    @property
    def trust(self) -> bytes:
        """What the set of those that devices believe is called (wire.enrolment.trust_id)."""
        return trust_id(one.public_bytes(Encoding.DER) for one in self.believed)

    def expired(self, now: datetime) -> bool:
        """Whether it may sign no more."""
        return now >= self.pair.certificate.not_valid_after_utc

    def shared_key(self, purpose: bytes) -> bytes:
        """A secret of 32 bytes that whoever has the authority's key can derive, for one purpose (HKDF-SHA-256)."""
        private = self.pair.key.private_numbers().private_value
        return hkdf(private.to_bytes((self.pair.key.key_size + 7) // 8, "big"), b"", purpose, AEAD_KEY_BYTES)

    def device(self, key: ec.EllipticCurvePublicKey, node: str, days: int, now: datetime) -> DeviceCertificates:
        """Both certificates of `node` for its own `key`: for TLS clients only, and never longer than the authority is
        valid. Not for an authority that has expired."""
        assert 0 < len(node) <= DEVICE_NAME_CHARS_MAX, node
        until = min(now + timedelta(days=days), self.pair.certificate.not_valid_after_utc)
        made = (pki.certify(self.pair, key, name, (), (), now, until) for name in (node, streams_name(node)))
        return DeviceCertificates(*made)

    def server(self, names: tuple[str, ...], now: datetime) -> pki.Pair:
        """For a TLS server with these hosts and addresses, with a new key."""
        return pki.issue(
            self.pair, names[0] if len(names[0]) <= COMMON_NAME_CHARS_MAX else NAME, (), names, OWN_DAYS, now
        )

    def client(self, name: str, now: datetime) -> pki.Pair:
        """For a TLS client called `name`, with a new key."""
        return pki.issue(self.pair, name, (), (), OWN_DAYS, now)

    def signer(self, key: Ed25519PublicKey, name: str, now: datetime) -> x509.Certificate:
        """Of a hub's signing key, which is for no TLS."""
        return pki.certify(self.pair, key, name, (), (), now, now + timedelta(days=OWN_DAYS), pki.CODE_SIGNING)

    def statement(self, node: str, signing: bytes, sealing: bytes) -> bytes:
        """That these are the Ed25519 and X25519 keys of `node`: CBOR of all three, and the authority's signature over
        it (ECDSA with SHA-256). The device shows it to a hub that has lost its records."""
        said = codec.encode([node, signing, sealing])
        return codec.encode([said, self.pair.key.sign(ABOUT_IDENTITY + said, _STATING)])

    def stated(self, statement: bytes, node: str) -> tuple[bytes, bytes]:
        """Both keys in a statement of this authority, or of one that is believed beside it. Raises Malformed."""
        match codec.decode(statement):
            case [bytes(said), bytes(signature)]:
                who, *keys = named(codec.decode(said))
            case _:
                raise Malformed("an identity's statement that is none")
        if who != node:
            raise Malformed(f"an identity's statement about {who[:80]!r}")
        for one in self.believed:
            key = one.public_key()
            with suppress(InvalidSignature):
                if isinstance(key, ec.EllipticCurvePublicKey):
                    key.verify(signature, ABOUT_IDENTITY + said, ec.ECDSA(hashes.SHA256()))
                    return keys[0], keys[1]
        raise Malformed("an identity's statement that no authority of this hub made")

    def accepts(self, pem: bytes, key: ec.EllipticCurvePublicKey, node: str, now: datetime) -> DeviceCertificates:
        """What `device` made once for this node and key, read back. Raises Malformed for anything else."""
        try:
            found = x509.load_pem_x509_certificates(pem)
            for one in found:
                one.verify_directly_issued_by(self.pair.certificate)
        except Exception:  # whatever cryptography makes of foreign bytes
            raise Malformed("certificates: are not this authority's") from None
        if [pki.common_name(one) for one in found] != [node, streams_name(node)]:
            raise Malformed(f"certificates: are not {node}'s")
        if any(one.public_key() != key or one.not_valid_after_utc <= now for one in found):
            raise Malformed("certificates: are for another key, or have expired")
        return DeviceCertificates(*found)


def named(said: object) -> tuple[str, bytes, bytes]:
    """Node and keys. Raises Malformed."""
    match said:
        case [str(node), bytes(signing), bytes(sealing)]:
            if len(signing) == SIGNING_KEY_BYTES and len(sealing) in (0, EXCHANGE_KEY_BYTES):
                return node, signing, sealing
    raise Malformed("an identity's statement that is none")


def load(certificate: Path | None, key: Path | None) -> Authority:
    """The authority in two PEM files; the first certificate is its own. Raises ConfigInvalid with the option's name."""
    if certificate is None or key is None:
        option = CERTIFICATE_OPTION if certificate is None else KEY_OPTION
        raise ConfigInvalid(option, "is needed: the authority's certificate and key belong together")
    believed = certificates_in(certificate)
    try:
        pair = pki.load(certificate, key)
    except pki.PkiError as why:
        raise ConfigInvalid(KEY_OPTION, str(why)) from None
    assert pair is not None, "one of the two was just read"
    try:
        limits = pair.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = pair.certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        signs = limits.ca and usage.key_cert_sign
    except (x509.ExtensionNotFound, ValueError):
        signs = False
    if not signs:
        raise ConfigInvalid(CERTIFICATE_OPTION, f"{certificate}: is no authority: it may sign no certificates")
    return Authority(pair, believed)


def certificates_in(file: Path) -> tuple[x509.Certificate, ...]:
    """At least one. Raises ConfigInvalid with the option's name."""
    try:
        return tuple(x509.load_pem_x509_certificates(file.read_bytes()))
    except OSError as why:
        raise ConfigInvalid(CERTIFICATE_OPTION, f"{file}: {why.strerror}") from None
    except ValueError:
        raise ConfigInvalid(CERTIFICATE_OPTION, f"{file}: holds no certificate in PEM") from None


def digest_of(certificate: x509.Certificate) -> bytes:
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()


def make(folder: Path) -> tuple[Path, Path]:
    """An authority in `folder`, made if there is none; its certificate and its key. Raises PkiError."""
    pki_files.authority(folder, STEM, NAME)
    return folder / f"{STEM}.crt", folder / f"{STEM}.key"


def stale(certificate: x509.Certificate, now: datetime) -> bool:
    """Whether a certificate that the hub made for itself should be made anew: late in its life, or by a clock that was
    wrong."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return not begin <= now < begin + (end - begin) * OWN_RENEW_PART


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)
