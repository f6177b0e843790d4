"""What the API keeps of enrolment: a Secret for each token and one for each device's identity, and what stands in them.

Any replica of the hub can read and write them, so that a device may ask any. The secret of a token is never kept, only
its SHA-256: it has 128 random bits, so nothing slower is needed. Pure.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from skerry.errors import Malformed
from skerry.limits import DIGEST_BYTES
from skerry.model.streams import STREAMS_SUFFIX
from skerry_hub.limits import DEVICE_NAME_CHARS_MAX, SERIALS_KEPT_MAX
from skerry_hub.ports import Obj

NAMESPACE = "skerry"
TOKEN_TYPE, IDENTITY_TYPE = "skerry.dev/token", "skerry.dev/identity"
IDENTITY_PREFIX = "skerry-device-"
NODE_LABEL = "skerry.dev/node"
IDENT = re.compile(r"[a-z0-9]{6,32}")
_NODE = re.compile(r"[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?")
_STAMP = "%Y-%m-%dT%H:%M:%SZ"
_YEAR_9999 = 253_402_300_799


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """`expires` and `used` are seconds since 1970; `used_by` is the digest of the key that used it, empty before.
    `version` and `uid` are the object's, empty before it is stored."""

    ident: str
    node: str
    secret_digest: bytes
    expires: float
    tainted: bool = True
    used_by: str = ""
    used: float = 0.0
    version: str = ""
    uid: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a device is: the digest of its key, the serial numbers of its certificates and until when they are valid,
    when it was enrolled (both in seconds since 1970) and by which token; `signing` is the Ed25519 public key by which
    it signs, `sealing` the X25519 one that its Secrets are sealed to, both in hexadecimal digits; `sealing` is empty of
    a device that was enrolled by a hub which did not seal.

    `earlier`: certificates of this name that are not its present ones and have not ended, each with its end.
    `certificates`: the present ones in PEM, once they were renewed. `trust`: which authorities it was given
    (wire.enrolment.trust_id), in hexadecimal digits. `renewed`, `revoked`: when, or 0."""

    node: str
    key_digest: str
    serials: tuple[str, ...]
    not_after: float
    enrolled: float
    ident: str
    signing: str
    sealing: str
    earlier: tuple[tuple[str, float], ...] = ()
    certificates: str = ""
    trust: str = ""
    renewed: float = 0.0
    revoked: float = 0.0


def device_name(node: str) -> bool:
    """Whether a device can have this name: a Secret of an identity has it in its own, and so do two certificates, of
    which none may be another device's, or a hub's."""
    good = len(node) <= DEVICE_NAME_CHARS_MAX and _NODE.fullmatch(node) is not None
    return good and not node.endswith(STREAMS_SUFFIX)


def token_name(ident: str) -> str:
    return f"skerry-token-{ident}"


def identity_name(node: str) -> str:
    """A name that a Secret may have, whatever name a Node may have."""
    return IDENTITY_PREFIX + node


def node_of(name: str) -> str:
    """Whose identity a Secret of this name is; empty for any other."""
    node = name.removeprefix(IDENTITY_PREFIX)
    return node if node != name else ""


def token_secret(record: TokenRecord) -> Obj:
    """The object of a new token."""
    data = {
        "node": record.node,
        "secret-sha256": record.secret_digest.hex(),
        "expires": stamp(record.expires),
        "taint": "true" if record.tainted else "false",
    }
    return _secret(token_name(record.ident), TOKEN_TYPE, record.node, data)


def token_record(obj: Obj) -> TokenRecord:
    """Raises Malformed for an object that is none, or that somebody wrote by hand."""
    meta = obj.get("metadata") or {}
    ident = str(meta.get("name") or "").removeprefix("skerry-token-")
    data = _data(obj, TOKEN_TYPE)
    try:
        digest = bytes.fromhex(data["secret-sha256"])
        expires = unix(data["expires"])
        used = unix(data["used"]) if data.get("used") else 0.0
        node = data["node"]
    except (KeyError, ValueError):
        raise Malformed(f"Secret {NAMESPACE}/{meta.get('name')}: is no token of skerry") from None
    if not IDENT.fullmatch(ident) or len(digest) != DIGEST_BYTES or not device_name(node):
        raise Malformed(f"Secret {NAMESPACE}/{meta.get('name')}: is no token of skerry")
    version, uid = str(meta.get("resourceVersion") or ""), str(meta.get("uid") or "")
    return TokenRecord(
        ident, node, digest, expires, data.get("taint") != "false", data.get("used-by", ""), used, version, uid
    )


def use(record: TokenRecord, key_digest: str, now: float) -> tuple[TokenRecord, Obj]:
    """The record once this key has used it, and the merge patch that says so unless somebody else was first."""
    data = _encoded({"used-by": key_digest, "used": stamp(now)})
    return replace(record, used_by=key_digest, used=now), {
        "metadata": {"resourceVersion": record.version},
        "data": data,
    }


def identity_secret(identity: Identity) -> Obj:
    data = {
        "key-sha256": identity.key_digest,
        "serials": ",".join(identity.serials),
        "not-after": stamp(identity.not_after),
        "enrolled": stamp(identity.enrolled),
        "token": identity.ident,
        "signing-key": identity.signing,
        "sealing-key": identity.sealing,
    }
    more = {
        "earlier-serials": ",".join(f"{serial}={stamp(ends)}" for serial, ends in identity.earlier),
        "certificates": identity.certificates,
        "trust": identity.trust,
        "renewed": stamp(identity.renewed) if identity.renewed else "",
        "revoked": stamp(identity.revoked) if identity.revoked else "",
    }
    data.update({key: value for key, value in more.items() if value})
    return _secret(identity_name(identity.node), IDENTITY_TYPE, identity.node, data)


def identity_of(obj: Obj) -> Identity:
    """Raises Malformed."""
    meta = obj.get("metadata") or {}
    data = _data(obj, IDENTITY_TYPE)
    try:
        serials = tuple(part for part in data["serials"].split(",") if part)
        times = unix(data["not-after"]), unix(data["enrolled"])
        node = node_of(str(meta["name"]))
        keys = data["signing-key"], data.get("sealing-key", "")
        earlier = [part.partition("=") for part in data.get("earlier-serials", "").split(",") if part]
        marks = [unix(data[key]) if data.get(key) else 0.0 for key in ("renewed", "revoked")]
        return Identity(
            node, data["key-sha256"], serials, *times, data.get("token", ""), *keys,
            tuple((serial, unix(ends)) for serial, _, ends in earlier),
            data.get("certificates", ""), data.get("trust", ""), *marks,
        )  # fmt: skip
    except (KeyError, ValueError):
        raise Malformed(f"Secret {NAMESPACE}/{meta.get('name')}: is no identity of skerry") from None


def identity_patch(found: Obj, wanted: Identity) -> Obj:
    """The merge patch that makes `wanted` of the object, unless somebody changes it meanwhile. What others wrote into
    it goes: a mark of a revocation must not outlive the identity that it was about."""
    data: dict[str, str | None] = dict.fromkeys(found.get("data") or {})
    data.update(identity_secret(wanted)["data"])
    return {"metadata": {"resourceVersion": found["metadata"]["resourceVersion"]}, "data": data}


def succeeded(identity: Identity, serials: tuple[str, ...], now: float) -> Identity:
    """With these certificates instead; the others are kept as long as a broker would take them, the latest of
    SERIALS_KEPT_MAX."""
    had = [(serial, identity.not_after) for serial in identity.serials if serial not in serials]
    earlier = [one for one in (*identity.earlier, *had) if one[1] > now and one[0] not in serials]
    return replace(identity, serials=serials, earlier=tuple(earlier[-SERIALS_KEPT_MAX:]))


def stamp(wall: float) -> str:
    """RFC 3339 in whole seconds."""
    return datetime.fromtimestamp(min(max(0, int(wall)), _YEAR_9999), timezone.utc).strftime(_STAMP).rjust(20, "0")


def unix(text: str) -> float:
    """Raises ValueError."""
    return datetime.strptime(text, _STAMP).replace(tzinfo=timezone.utc).timestamp()


# --- private ----------------------------------------------------------------------------------------------------------


def _secret(name: str, kind: str, node: str, data: Mapping[str, str]) -> Obj:
    meta = {"name": name, "namespace": NAMESPACE, "labels": {NODE_LABEL: node}}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": kind, "data": _encoded(data)}


def _encoded(data: Mapping[str, str]) -> dict[str, str]:
    return {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}


def _data(obj: Obj, kind: str) -> dict[str, str]:
    """Raises Malformed."""
    try:
        if obj.get("type") != kind:
            raise Malformed(f"the Secret is no {kind}")
        return {key: base64.b64decode(str(value)).decode() for key, value in (obj.get("data") or {}).items()}
    except (binascii.Error, ValueError):
        raise Malformed("the Secret's data is not text in base64") from None
