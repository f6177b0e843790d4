"""An enrolment token: one line that an operator copies to a device, and all that the device needs to come to its hub.

    skerry1.<base64url of CBOR and its CRC-32>

The CBOR is a map: where the hub enrols (1), SHA-256 of its authority's certificate (2), the node's name (3), the
token's name at the hub (4) and the secret (5). The checksum tells a line that was cut short from one that the hub does
not know; it protects nothing. Both ends use this file, and docs/wire-protocol.md describes it.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from dataclasses import dataclass

from skerry.errors import Malformed
from skerry.limits import DIGEST_BYTES, NAME_CHARS_MAX, TOKEN_CHARS_MAX, TOKEN_SECRET_BYTES
from skerry.model.streams import STREAMS_SUFFIX
from skerry.wire import codec
from skerry.wire.address import hub_address

PREFIX = "skerry1."
URL, CA, NODE, IDENT, SECRET = 1, 2, 3, 4, 5
CURE = "copy the whole line that skerry-hub token create printed"
_CRC_BYTES = 4
_IDENT = re.compile(r"[a-z0-9]{6,32}")  # a part of a Secret's name
_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_NODE = re.compile(rf"{_LABEL}(\.{_LABEL})*")  # RFC 1123, as Kubernetes has it


@dataclass(frozen=True, slots=True)
class Token:
    """`url`: https://HOST:PORT. `ca_digest`: SHA-256 of the authority's certificate in DER, 32 bytes. `ident`: 6 to 32
    of a-z and 0-9. `secret`: TOKEN_SECRET_BYTES, never printed."""

    url: str
    ca_digest: bytes
    node: str
    ident: str
    secret: bytes

    def __repr__(self) -> str:
        return f"Token({self.ident} for {self.node} at {self.url})"


def encode(token: Token) -> str:
    """The line. Of equal tokens it is equal."""
    body = codec.encode(
        {URL: token.url, CA: token.ca_digest, NODE: token.node, IDENT: token.ident, SECRET: token.secret}
    )
    whole = body + zlib.crc32(body).to_bytes(_CRC_BYTES, "big")
    return PREFIX + base64.urlsafe_b64encode(whole).rstrip(b"=").decode("ascii")


def decode(text: str) -> Token:
    """The token in a line; blanks around it and line breaks within are of no account. Raises Malformed, whose text has
    the cure and never the secret."""
    line = "".join(text[: 2 * TOKEN_CHARS_MAX].split())
    if not line.startswith(PREFIX):
        raise Malformed(f"this is no token of skerry, which begins with {PREFIX}: {CURE}")
    if len(line) > TOKEN_CHARS_MAX:
        raise Malformed(f"the token has more than {TOKEN_CHARS_MAX} characters: {CURE}")
    return _checked(codec.decode(_body(line.removeprefix(PREFIX))))


def _body(text: str) -> bytes:
    try:
        whole = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise Malformed(f"the token was cut short or mistyped: {CURE}") from None
    body, crc = whole[:-_CRC_BYTES], whole[-_CRC_BYTES:]
    if len(crc) < _CRC_BYTES or zlib.crc32(body) != int.from_bytes(crc, "big"):
        raise Malformed(f"the token was cut short or mistyped: {CURE}")
    return body


def _checked(found: object) -> Token:
    """A hub of a later release may say more: unknown keys are of no account."""
    said = found if isinstance(found, dict) else {}
    url, ca, node, ident, secret = (said.get(key) for key in (URL, CA, NODE, IDENT, SECRET))
    if not (isinstance(url, str) and isinstance(node, str) and isinstance(ident, str)):
        raise Malformed(f"the token lacks a part: {CURE}")
    if not (isinstance(ca, bytes) and isinstance(secret, bytes)):
        raise Malformed(f"the token lacks a part: {CURE}")
    good = len(ca) == DIGEST_BYTES and len(secret) == TOKEN_SECRET_BYTES and _IDENT.fullmatch(ident)
    named = len(node) <= NAME_CHARS_MAX and _NODE.fullmatch(node) and not node.endswith(STREAMS_SUFFIX)
    if not good or not named:
        raise Malformed(f"the token has a part that cannot be: {CURE}")
    try:
        hub_address(url)
    except Malformed as why:
        raise Malformed(f"the hub's URL in the token {why}: {CURE}") from None
    return Token(url, ca, node, ident, secret)
