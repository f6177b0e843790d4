"""What a device and a hub say to each other over HTTPS when the device is enrolled and when its certificates are
renewed: JSON bodies, both ends.

    GET  /ca       → the authority's certificate in PEM, which the device compares with its token's digest
    POST /enroll   Request → Issued, or a problem: {"reason", "message"}
    GET  /renew    → Challenge
    POST /renew    Renewal → Issued, or a problem

Bodies are bounded by ENROL_BYTES_MAX before they come here. Unknown members are of no account.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from skerry.errors import Malformed
from skerry.limits import (
    CHALLENGE_BYTES,
    EXCHANGE_KEY_BYTES,
    KEY_ID_BYTES,
    NAME_CHARS_MAX,
    PROOF_BYTES_MAX,
    SIGNING_KEY_BYTES,
    STATEMENT_BYTES_MAX,
    TEXT_CHARS_MAX,
    TOKEN_SECRET_BYTES,
)
from skerry.ports import Crypto
from skerry.wire import codec, cose

CA_PATH, ENROLL_PATH, RENEW_PATH = "/ca", "/enroll", "/renew"
ABOUT_RENEWAL = b"skerry renewal"
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
class Challenge:
    """What a renewal must be signed over to be of this moment. `value`: CHALLENGE_BYTES, which only a hub of this
    authority can make. `wall_s`: the hub's time, in seconds since 1970."""

    value: bytes
    wall_s: int


@dataclass(frozen=True, slots=True)
class Renewal:
    """`csr` is PKCS #10 in PEM by the key that the certificates are for; `proof` a COSE_Sign1 by the key that the
    device signs with, over `signed`. `statement`: of the authority, whose key that is, for a hub whose API was restored
    from before this device was enrolled; or nothing."""

    node: str
    challenge: bytes
    csr: str
    proof: bytes
    statement: bytes = b""

    def signed(self) -> bytes:
        """What the proof is about."""
        digest = hashlib.sha256(self.csr.encode()).digest()
        return codec.encode([self.node, self.challenge, digest])

    def proven(self, crypto: Crypto, public: bytes) -> bool:
        """Whether `proof` is the signature of `public`, an Ed25519 key."""
        try:
            cose.verified(crypto, cose.parse_sign1(self.proof), public, ABOUT_RENEWAL, self.signed())
        except Malformed:
            return False
        return True


def renewal(
    crypto: Crypto, seed: bytes, node: str, challenge: bytes, csr: str, statement: bytes = b""
) -> Renewal:
    """Signed by the device's Ed25519 `seed`."""
    said = Renewal(node, challenge, csr, b"", statement)
    kid = cose.key_id(crypto.public(seed))
    return replace(said, proof=cose.sign_detached(crypto, seed, kid, said.signed(), ABOUT_RENEWAL))


def trust_id(authorities: Iterable[bytes]) -> bytes:
    """What a set of authorities is called, KEY_ID_BYTES: `authorities` are certificates in DER, in any order."""
    whole = b"".join(sorted(hashlib.sha256(der).digest() for der in authorities))
    return hashlib.sha256(whole).digest()[:KEY_ID_BYTES]


@dataclass(frozen=True, slots=True)
class Problem:
    """Why not. `reason` is a CamelCase word, `message` one line with the cure, at most TEXT_CHARS_MAX."""

    reason: str
    message: str


def encode_request(request: Request) -> bytes:
    said = {"token": request.ident, "csr": request.csr}
    for name in ("secret", "signing", "sealing"):
        said[name] = _base64(getattr(request, name))
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


def encode_challenge(challenge: Challenge) -> bytes:
    return json.dumps({"challenge": _base64(challenge.value), "time": challenge.wall_s}).encode()


def decode_challenge(body: bytes) -> Challenge:
    """Raises Malformed with the member's name."""
    said = _object(body)
    wall_s = said.get("time")
    if not isinstance(wall_s, int) or not 0 <= wall_s < 1 << 40:
        raise Malformed("time: seconds since 1970 are expected")
    return Challenge(_bytes(said, "challenge", CHALLENGE_BYTES), wall_s)


def encode_renewal(said: Renewal) -> bytes:
    parts = {name: _base64(getattr(said, name)) for name in ("challenge", "proof", "statement")}
    return json.dumps({"node": said.node, "csr": said.csr, **parts}).encode()


def decode_renewal(body: bytes) -> Renewal:
    """Raises Malformed with the member's name."""
    said = _object(body)
    csr, node = _text(said, "csr"), _text(said, "node")
    if not csr.startswith(_PEM_REQUEST):
        raise Malformed("csr: is no certificate request in PEM")
    if len(node) > NAME_CHARS_MAX:
        raise Malformed(f"node: is longer than {NAME_CHARS_MAX}")
    proof, statement = _decoded(said, "proof"), _decoded(said, "statement") if said.get("statement") else b""
    for name, found, most in (("proof", proof, PROOF_BYTES_MAX), ("statement", statement, STATEMENT_BYTES_MAX)):
        if len(found) > most:
            raise Malformed(f"{name}: is longer than {most} bytes")
    return Renewal(node, _bytes(said, "challenge", CHALLENGE_BYTES), csr, proof, statement)


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


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decoded(said: dict[str, Any], name: str) -> bytes:
    try:
        return base64.b64decode(_text(said, name), validate=True)
    except (binascii.Error, ValueError):
        raise Malformed(f"{name}: is not base64") from None


def _bytes(said: dict[str, Any], name: str, size: int) -> bytes:
    found = _decoded(said, name)
    if len(found) != size:
        raise Malformed(f"{name}: {size} bytes expected, got {len(found)}")
    return found


def _text(said: dict[str, Any], name: str) -> str:
    found = said.get(name)
    if not isinstance(found, str) or not found:
        raise Malformed(f"{name}: a text is expected")
    return found
