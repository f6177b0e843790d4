"""ports.DeviceKeys as a TPM is: the key stays in the chip, what is kept is only where in it."""

from __future__ import annotations

import os
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from skerry.errors import KeyFailed
from skerry.limits import COMMON_NAME_CHARS_MAX
from skerry.ports import DeviceKey, TakesCertificate


class Chip:
    """ports.DeviceKeys. Outlives processes."""

    def __init__(self) -> None:
        self.slots: dict[str, ec.EllipticCurvePrivateKey] = {}

    def new(self) -> DeviceKey:
        handle = f"slot {len(self.slots)}"
        self.slots[handle] = ec.generate_private_key(ec.SECP256R1())
        return KeyInChip(self, handle)

    def again(self, kept: str) -> DeviceKey:
        return KeyInChip(self, kept)


class KeyInChip:
    def __init__(self, chip: Chip, handle: str) -> None:
        self._chip, self._handle = chip, handle

    def __repr__(self) -> str:
        return "KeyInChip()"

    @property
    def kept(self) -> str:
        return self._handle

    @property
    def _key(self) -> ec.EllipticCurvePrivateKey:
        if self._handle not in self._chip.slots:
            raise KeyFailed("the chip has no such key")
        return self._chip.slots[self._handle]

    def csr(self, common_name: str) -> str:
        good = all(char.isascii() and (char.isalnum() or char in "-.") for char in common_name)
        if not good or not 0 < len(common_name) <= COMMON_NAME_CHARS_MAX:
            raise KeyFailed(f"no certificate can have the name {common_name!r}")
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(self._key, hashes.SHA256())
        return request.public_bytes(serialization.Encoding.PEM).decode()

    def load_into(self, context: TakesCertificate, chain: str) -> None:
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        key = self._key.private_bytes(encoding, form, serialization.NoEncryption())
        descriptor = os.memfd_create("chip")
        try:
            os.write(descriptor, key + chain.encode())
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        except ssl.SSLError:
            raise KeyFailed("this device's key and its certificate do not go together") from None
        finally:
            os.close(descriptor)
