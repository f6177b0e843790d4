"""What a device and a hub say to each other over HTTPS when the device is enrolled: JSON bodies, both ends.

    GET  /ca       → the authority's certificate in PEM, which the device compares with its token's digest
    POST /enroll   Request → Issued, or a problem: {"reason", "message"}

Bodies are bounded by ENROL_BYTES_MAX before they come here. Unknown members are of no account.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

from skerry.errors import Malformed
from skerry.limits import (
    EXCHANGE_KEY_BYTES,
    NAME_CHARS_MAX,
    SIGNING_KEY_BYTES,
    STATEMENT_BYTES_MAX,
    TEXT_CHARS_MAX,
    TOKEN_SECRET_BYTES,
)

CA_PATH, ENROLL_PATH = "/ca", "/enroll"
_PEM_REQUEST, _PEM_CERTIFICATE = "-----BEGIN CERTIFICATE REQUEST-----", "-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class Request:
    """`ident` and `secret` are the token's; `csr` is PKCS #10 in PEM (RFC 2986), its common name the node's; `signing`
    is the Ed25519 public key by which the device signs, SIGNING_KEY_BYTES, `sealing` the X25519 public key to which its
    Secrets are sealed, EXCHANGE_KEY_BYTES."""

    ident: str
    secret: bytes
    csr: str
    signing: bytes
    sealing: bytes

    def __repr__(self) -> str:
        return f"Request({self.ident})"


@dataclass(frozen=True, slots=True)
class Issued:
    """What the device is from now on. Certificates are PEM: `certificate` with the common name `node`, `streams` with
    `node`.streams, both for the key of the request; `ca` is what the broker and the hub are verified by, one or more
    of them. `broker`: mqtts://HOST:PORT. `url`: where the hub renews, https://HOST:PORT. `statement`:
    of the authority, in base64, that the request's signing key is `node`'s."""

    node: str
    certificate: str
    streams: str
    ca: str
    broker: str
    url: str
    statement: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Why not. `reason` is a CamelCase word, `message` one line with the cure, at most TEXT_CHARS_MAX."""

    reason: str
    message: str


def encode_request(request: Request) -> bytes:
    said = {"token": request.ident, "csr": request.csr}
    for name in ("secret", "signing", "sealing"):
        said[name] = base64.b64encode(getattr(request, name)).decode("ascii")
    return json.dumps(said).encode()


def decode_request(body: bytes) -> Request:
    """Raises Malformed with the member's name."""
    said = _object(body)
    csr = _text(said, "csr")
    if not csr.startswith(_PEM_REQUEST):
        raise Malformed("csr: is no certificate request in PEM")
    secret = _bytes(said, "secret", TOKEN_SECRET_BYTES)
    signing, sealing = _bytes(said, "signing", SIGNING_KEY_BYTES), _bytes(said, "sealing", EXCHANGE_KEY_BYTES)
    return Request(_text(said, "token"), secret, csr, signing, sealing)


def encode_issued(issued: Issued) -> bytes:
    return json.dumps({name: getattr(issued, name) for name in Issued.__slots__}).encode()


def decode_issued(body: bytes) -> Issued:
    """Raises Malformed with the member's name."""
    said = _object(body)
    issued = Issued(**{name: _text(said, name) for name in Issued.__slots__})
    for name in ("certificate", "streams", "ca"):
        if not getattr(issued, name).startswith(_PEM_CERTIFICATE):
            raise Malformed(f"{name}: is no certificate in PEM")
    statement_of(issued)
    if len(issued.node) > NAME_CHARS_MAX:
        raise Malformed(f"node: is longer than {NAME_CHARS_MAX}")
    return issued


def statement_of(issued: Issued) -> bytes:
    """Raises Malformed."""
    try:
        found = base64.b64decode(issued.statement, validate=True)
    except (binascii.Error, ValueError):
        raise Malformed("statement: is not base64") from None
    if len(found) > STATEMENT_BYTES_MAX:
        raise Malformed(f"statement: is longer than {STATEMENT_BYTES_MAX} bytes")
    return found


def encode_problem(problem: Problem) -> bytes:
    return json.dumps({"reason": problem.reason, "message": problem.message}).encode()


def decode_problem(body: bytes) -> Problem:
    """Raises Malformed."""
    said = _object(body)
    return Problem(_text(said, "reason")[:TEXT_CHARS_MAX], _text(said, "message")[:TEXT_CHARS_MAX])


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise Malformed("the body is not JSON") from None
    if not isinstance(found, dict):
        raise Malformed("the body is no JSON object")
    return found


def _bytes(said: dict[str, Any], name: str, size: int) -> bytes:
    try:
        found = base64.b64decode(_text(said, name), validate=True)
    except (binascii.Error, ValueError):
        raise Malformed(f"{name}: is not base64") from None
    if len(found) != size:
        raise Malformed(f"{name}: {size} bytes expected, got {len(found)}")
    return found


def _text(said: dict[str, Any], name: str) -> str:
    found = said.get(name)
    if not isinstance(found, str) or not found:
        raise Malformed(f"{name}: a text is expected")
    return found
