"""The record of what was signed: a CertificateSigningRequest for each token that was used. Pure.

Its signer is skerry's own, so that no controller of a cluster signs or approves it, and an administrator may look at it
(`kubectl get csr`) or deny it. By this signer's definition status.certificate holds the two certificates of one device:
as itself, then for its streams. Source: Kubernetes API reference, CertificateSigningRequest v1.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from skerry_hub.enrolment.records import NODE_LABEL, stamp
from skerry_hub.ports import Obj, Resource

REQUESTS = Resource("apis/certificates.k8s.io/v1", "certificatesigningrequests", namespaced=False)
SIGNER = "skerry.dev/device"
USAGES = ("digital signature", "client auth")
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Pending:
    """Nobody has decided."""


@dataclass(frozen=True, slots=True)
class Approved:
    """It may be signed."""


@dataclass(frozen=True, slots=True)
class Signed:
    """PEM, as it was given out."""

    certificates: bytes


@dataclass(frozen=True, slots=True)
class Denied:
    """By an administrator, or a signer failed: there will be no certificate."""

    why: str


State = Pending | Approved | Signed | Denied


def request_name(node: str, ident: str) -> str:
    """One for each token, so that to ask again is to ask for the same."""
    return f"skerry-{node}-{ident}"


def request_object(node: str, ident: str, pem: bytes, days: int) -> Obj:
    return {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": request_name(node, ident), "labels": {NODE_LABEL: node}},
        "spec": {
            "signerName": SIGNER,
            "request": base64.b64encode(pem).decode(),
            "usages": list(USAGES),
            "expirationSeconds": days * DAY_S,
        },
    }


def request_pem(obj: Obj) -> bytes:
    """Empty for an object that is not for our signer."""
    spec = obj.get("spec") or {}
    return _decoded(spec.get("request")) if spec.get("signerName") == SIGNER else b""


def state_of(obj: Obj) -> State:
    """Denied and Failed are final, whatever else is said."""
    status = obj.get("status") or {}
    said = {str(c.get("type")): c for c in status.get("conditions") or () if c.get("status", "True") == "True"}
    for kind in ("Denied", "Failed"):
        if kind in said:
            message = said[kind].get("message") or said[kind].get("reason") or "no reason is given"
            return Denied(" ".join(str(message).split()))
    if "Approved" not in said:
        return Pending()
    return Signed(_decoded(status["certificate"])) if status.get("certificate") else Approved()


def approve(obj: Obj, ident: str, now: float) -> Obj:
    """The merge patch for subresource approval, unless somebody decides meanwhile."""
    condition = {
        "type": "Approved",
        "status": "True",
        "reason": "TokenUsed",
        "message": f"enrolled by token {ident}",
        "lastUpdateTime": stamp(now),
    }
    conditions = [*((obj.get("status") or {}).get("conditions") or ()), condition]
    return {**_unless_changed(obj), "status": {"conditions": conditions}}


def sign(obj: Obj, certificates: bytes) -> Obj:
    """The merge patch for subresource status."""
    return {**_unless_changed(obj), "status": {"certificate": base64.b64encode(certificates).decode()}}


def _unless_changed(obj: Obj) -> Obj:
    return {"metadata": {"resourceVersion": obj["metadata"]["resourceVersion"]}}


def _decoded(text: object) -> bytes:
    try:
        return base64.b64decode(str(text or ""), validate=True)
    except (binascii.Error, ValueError):
        return b""
