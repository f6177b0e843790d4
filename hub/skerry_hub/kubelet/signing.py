"""What is asked of the signer kubernetes.io/kubelet-serving, what the state of a request means, and when a certificate
is renewed. Pure but for the key's signature.

The signer's rules (Kubernetes documentation, Certificate Signing Requests, Kubernetes signers): organisation
system:nodes and no other; a common name that begins with system:node:; at least one DNS name or address, and no other
kind of name; usages digital signature and server auth, with RSA also key encipherment. Nothing in a cluster approves
such a request by itself, and the hub has no right to: who may approve for this signer may stand for any node.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from skerry_hub import pki
from skerry_hub.limits import KUBELET_CSR_MESSAGE_CHARS_MAX, KUBELET_RENEW_PART
from skerry_hub.ports import Obj, Resource

CERTIFICATE_SIGNING_REQUESTS = Resource("apis/certificates.k8s.io/v1", "certificatesigningrequests", namespaced=False)
SIGNER = "kubernetes.io/kubelet-serving"
ORGANIZATION = "system:nodes"
COMMON_NAME = "system:node:skerry-hub"  # X.509 allows 64 characters, and the name of a replica may have more
USAGES = ("digital signature", "server auth")  # the keys are ECDSA: nothing is enciphered with them
LABELS = {"app.kubernetes.io/name": "skerry-hub"}
OWNER_CHARS_MAX = 200  # of an object's name, which ends with DIGEST_CHARS of the key and has at most 253
DIGEST_CHARS = 16


@dataclass(frozen=True, slots=True)
class Pending:
    """Nobody has decided, or the signer has not signed yet."""

    approved: bool


@dataclass(frozen=True, slots=True)
class Issued:
    """PEM, as the signer gave it."""

    certificate: str


@dataclass(frozen=True, slots=True)
class Ended:
    """There will be no certificate: denied, or the signer failed."""

    why: str


State = Pending | Issued | Ended


def request_of(replica: str, address: str, key: ec.EllipticCurvePrivateKey) -> Obj:
    """The CertificateSigningRequest for a certificate of `address` (the InternalIP of the nodes). Its name tells the
    replica and the key, so that to create it twice is to create it once."""
    owner = (replica or "skerry-hub")[:OWNER_CHARS_MAX].rstrip("-.")
    request = pki.signing_request(key, COMMON_NAME, (ORGANIZATION,), (address,))
    return {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": f"{owner}-{pki.key_digest(key.public_key())[:DIGEST_CHARS]}", "labels": dict(LABELS)},
        "spec": {"signerName": SIGNER, "request": base64.b64encode(request).decode(), "usages": list(USAGES)},
    }


def state_of(request: Obj) -> State:
    """What an API server says of a request. Approved and signed are two steps; Denied and Failed are final."""
    status = request.get("status") or {}
    said = {c.get("type"): c for c in status.get("conditions") or () if c.get("status", "True") == "True"}
    for kind, word in (("Denied", "was denied"), ("Failed", "could not be signed")):
        if kind in said:
            why = " ".join(str(said[kind].get("message") or said[kind].get("reason") or "no reason is given").split())
            return Ended(f"{word} ({why[:KUBELET_CSR_MESSAGE_CHARS_MAX]})")
    if not status.get("certificate"):
        return Pending("Approved" in said)
    try:
        return Issued(base64.b64decode(status["certificate"], validate=True).decode())
    except ValueError:
        return Ended("was answered with what is not PEM")


def renew_at(valid: tuple[float, float], jitter: float) -> float:
    """When to ask for the next certificate, in seconds since 1970 as `valid` (from, to); `jitter` is in [0, 1)."""
    first, last = KUBELET_RENEW_PART
    begin, end = valid
    return begin + (end - begin) * (first + (last - first) * jitter)
