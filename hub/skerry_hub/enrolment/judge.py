"""May this request be enrolled, may this device renew? Pure: a record, what is asked, and the time, into one verdict.

A token is good once. The same key may ask again until the token's end, because an answer can be lost on its way, and
then it is given what it was given before.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass

from skerry_hub.enrolment.records import Identity, TokenRecord

CREATE = "skerry-hub token create --node"
_NODE = re.compile(r"[a-z0-9][-a-z0-9.]{0,62}")
_NO_DIGEST = bytes(hashlib.sha256().digest_size)


@dataclass(frozen=True, slots=True)
class Asked:
    """`node` is the common name of the certificate request, `key_digest` of its key, `signing` the Ed25519 public key
    by which the device signs and `sealing` the X25519 one that its Secrets are sealed to, in hexadecimal digits."""

    ident: str
    secret: bytes
    node: str
    key_digest: str
    signing: str
    sealing: str

    @property
    def keys(self) -> str:
        """All of them: a token is bound to them by its first use."""
        return f"{self.key_digest} {self.signing} {self.sealing}"

    def __repr__(self) -> str:
        return f"Asked({self.ident} for {self.node})"


@dataclass(frozen=True, slots=True)
class Use:
    """The token is good and has not been used."""


@dataclass(frozen=True, slots=True)
class Again:
    """It was used by this very key."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """`status` is HTTP's (RFC 9110, 15.5), `reason` a CamelCase word, `message` one line with the cure."""

    status: int
    reason: str
    message: str


Verdict = Use | Again | Refuse


def judge(record: TokenRecord | None, asked: Asked, now: float) -> Verdict:
    """`now` is seconds since 1970. To who has not the secret, a token that is not there and one that is are the same,
    in what they hear and in the time it takes."""
    kept = record.secret_digest if record is not None else _NO_DIGEST
    right = hmac.compare_digest(hashlib.sha256(asked.secret).digest(), kept)
    if record is None or not right:
        return Refuse(403, "UnknownToken", f"the hub knows no such token; {cure(asked.node)}")
    if record.used_by and not hmac.compare_digest(record.used_by.encode(), asked.keys.encode()):
        return Refuse(403, "UsedToken", f"another key has used this token; {cure(record.node)}")
    if now >= record.expires:
        return Refuse(410, "ExpiredToken", f"the token has expired; {cure(record.node)}")
    if asked.node != record.node:
        return Refuse(403, "OtherNode", f"the token is for node {record.node}; {cure(asked.node)}")
    return Again() if record.used_by else Use()


@dataclass(frozen=True, slots=True)
class Renewing:
    """`node` is who says to ask, `common_name` and `key_digest` are the certificate request's, which is signed by its
    key; `proven`: the key by which `node` signs has signed all of it, now."""

    node: str
    common_name: str
    key_digest: str
    proven: bool


@dataclass(frozen=True, slots=True)
class Renew:
    identity: Identity


def judge_renewal(identity: Identity | None, asked: Renewing) -> Renew | Refuse:
    """It needs both keys. To who has not both, a device that is not there and one that is are the same. That its
    certificates have ended is of no account."""
    same = identity is not None and hmac.compare_digest(identity.key_digest, asked.key_digest)
    if identity is None or not same or not asked.proven or {asked.node, asked.common_name} != {identity.node}:
        return Refuse(403, "UnknownDevice", f"the hub knows no such device with these keys; {cure(asked.node)}")
    if identity.revoked:
        return Refuse(403, "Revoked", f"the hub's operator has revoked this device; {cure(asked.node)}")
    return Renew(identity)


def superseded(before: Identity, record: TokenRecord) -> Refuse | None:
    """Whether a token that was used once is too old to give its node a name again: it was revoked since, or is another
    board's by now."""
    if before.ident == record.ident and not before.revoked:
        return None
    if before.revoked >= record.used:
        return Refuse(403, "Revoked", f"the hub's operator has revoked this device; {cure(record.node)}")
    if before.ident != record.ident and before.enrolled > record.used:
        return Refuse(403, "UsedToken", f"a later token has been used for this node; {cure(record.node)}")
    return None


def cure(node: str) -> str:
    """What a person can do, for a node's name that may be anything."""
    return f"ask for a new token: {CREATE} {node if _NODE.fullmatch(node) else 'NAME'}"
