"""What a device reads of certificates: whose they are, how long they are valid and what for. Source: RFC 5280, 4.1.

Reads DER and judges nothing: that a certificate is signed by whom it should is shown by a TLS handshake.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass

from skerry.errors import Malformed

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_SEQUENCE, _SET, _OID, _UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x30, 0x31, 0x06, 0x17, 0x18, 0xA0
_EXTENSIONS, _OCTETS = 0xA3, 0x04
CODE_SIGNING = bytes((0x2B, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x03))  # id-kp-codeSigning, RFC 5280, 4.2.1.12
_EXTENDED_KEY_USAGE = bytes((0x55, 0x1D, 0x25))  # id-ce-extKeyUsage, 2.5.29.37
_COMMON_NAME = bytes((0x55, 0x04, 0x03))  # id-at-commonName, 2.5.4.3
_TEXTS = {0x0C: "utf-8", 0x13: "ascii", 0x14: "latin-1", 0x16: "ascii"}  # UTF8, Printable, T61, IA5
_DAYS_BEFORE = (0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334)


@dataclass(frozen=True, slots=True)
class Certificate:
    """`common_name` of the subject, empty if it has none; `begins`, `ends`: seconds since 1970, both inclusive."""

    common_name: str
    begins: int
    ends: int


def pem_blocks(text: str) -> list[bytes]:
    """The certificates of a text in PEM, as DER, in their order (RFC 7468). Raises Malformed."""
    found = []
    for part in text.split(_BEGIN)[1:]:
        body, end, _ = part.partition(_END)
        if not end:
            raise Malformed("a certificate in PEM has no end")
        try:
            found.append(base64.b64decode("".join(body.split()), validate=True))
        except (binascii.Error, ValueError):
            raise Malformed("a certificate in PEM is not base64") from None
    return found


def read(der: bytes) -> Certificate:
    """Raises Malformed."""
    body = _body(der)
    validity = list(_elements(_only(*body[3], _SEQUENCE)))
    if len(validity) != 2:
        raise Malformed("a certificate's validity has not two times")
    return Certificate(_common_name(_only(*body[4], _SEQUENCE)), _seconds(*validity[0]), _seconds(*validity[1]))


def purposes(der: bytes) -> frozenset[bytes]:
    """What the certificate is for: object identifiers, as in DER, of its extended key usage; none where it has none or
    several. Raises Malformed."""
    found = []
    for tag, content in _body(der)[5:]:
        if tag != _EXTENSIONS:
            continue
        for kind, extension in _elements(_only(*_sole(content), _SEQUENCE)):
            parts = list(_elements(_only(kind, extension, _SEQUENCE)))
            if len(parts) >= 2 and parts[0] == (_OID, _EXTENDED_KEY_USAGE):
                usages = _elements(_only(*_sole(_only(*parts[-1], _OCTETS)), _SEQUENCE))
                found.append(frozenset(_only(*usage, _OID) for usage in usages))
    return found[0] if len(found) == 1 else frozenset()


def _body(der: bytes) -> list[tuple[int, bytes]]:
    """TBSCertificate from its serial number on: signature, issuer, validity, subject and more follow."""
    tag, certificate, _ = _element(der, 0)
    fields = list(_elements(_only(tag, certificate, _SEQUENCE)))
    body = list(_elements(_only(*fields[0], _SEQUENCE))) if fields else []
    if body and body[0][0] == _VERSION:
        del body[0]
    if len(body) < 5:
        raise Malformed("a certificate lacks a part")
    return body


def _sole(data: bytes) -> tuple[int, bytes]:
    found = list(_elements(data))
    if len(found) != 1:
        raise Malformed("a certificate has a part that is not one")
    return found[0]


def _element(data: bytes, at: int) -> tuple[int, bytes, int]:
    """Tag, content and where the next one begins (X.690, 8.1; definite lengths only, as in DER)."""
    head = data[at : at + 2]
    if len(head) < 2 or head[0] & 0x1F == 0x1F:
        raise Malformed("a certificate is not DER", at)
    size, begin = head[1], at + 2
    if size & 0x80:
        count = size & 0x7F
        if not 1 <= count <= 4:
            raise Malformed("a certificate is not DER", at)
        size, begin = int.from_bytes(data[begin : begin + count], "big"), begin + count
    if begin + size > len(data):
        raise Malformed("a certificate was cut short", at)
    return head[0], data[begin : begin + size], begin + size


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        tag, content, at = _element(data, at)
        yield tag, content


def _only(tag: int, content: bytes, wanted: int) -> bytes:
    if tag != wanted:
        raise Malformed(f"a certificate has the tag {tag:#x} where {wanted:#x} is expected")
    return content


def _common_name(name: bytes) -> str:
    found = ""
    for tag, relative in _elements(name):
        for kind, attribute in _elements(_only(tag, relative, _SET)):
            parts = list(_elements(_only(kind, attribute, _SEQUENCE)))
            if len(parts) == 2 and parts[0] == (_OID, _COMMON_NAME):
                try:
                    found = parts[1][1].decode(_TEXTS.get(parts[1][0], "latin-1"))
                except UnicodeDecodeError:
                    raise Malformed("a certificate's common name is not text") from None
    return found


def _seconds(tag: int, content: bytes) -> int:
    """RFC 5280, 4.1.2.5: in UTC, with seconds and without fractions."""
    if tag not in (_UTC_TIME, _GENERALIZED_TIME) or content[-1:] != b"Z" or not content[:-1].isdigit():
        raise Malformed("a certificate has a time that is none")
    digits = content[:-1].decode()
    if tag == _UTC_TIME:
        digits = ("20" if digits[:2] < "50" else "19") + digits
    if len(digits) != 14:
        raise Malformed("a certificate has a time that is none")
    year, (month, day, hour, minute, second) = int(digits[:4]), (int(digits[i : i + 2]) for i in range(4, 14, 2))
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 61):
        raise Malformed("a certificate has a time that is none")
    years = year - (month < 3)  # whose February counts
    leap_days = years // 4 - years // 100 + years // 400 - 477
    days = (year - 1970) * 365 + leap_days + _DAYS_BEFORE[month - 1] + day - 1
    return ((days * 24 + hour) * 60 + minute) * 60 + second
