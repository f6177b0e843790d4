"""certificates.k8s.io of a cluster and the signing controller of its kube-controller-manager, in memory.

It keeps the rules of the signer kubernetes.io/kubelet-serving as the controller does (organisation, common name, names,
usages), and tells what breaks them by the condition Failed. The test is the administrator, and the controller that
deletes old requests.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from skerry_hub import pki

Obj = dict[str, Any]
SIGNER = "kubernetes.io/kubelet-serving"
USAGES = ({"digital signature", "server auth"}, {"digital signature", "server auth", "key encipherment"})
BACKDATED = timedelta(minutes=5)  # as the controller does


class SigningController:
    """`wall` says what time it is, `life_s` how long certificates last. While `absent`, nobody signs."""

    def __init__(self, wall: Callable[[], float] = time.time, life_s: float = 365 * 86_400.0) -> None:
        self.authority = pki.new_authority("kubelet-serving", 10_000, pki.utc_now())
        self.requests: dict[str, Obj] = {}
        self.absent = False
        self.wall, self._life = wall, timedelta(seconds=life_s)

    # --- the API ------------------------------------------------------------------------------------------------------

    def answer(self, verb: str, name: str, body: bytes) -> tuple[int, Obj]:
        """HTTP status and object, of create and get."""
        if verb == "create":
            return self.create(json.loads(body))
        assert verb == "get"
        found = self.requests.get(name)
        return (200, found) if found is not None else (404, _status(404, "NotFound", f"{name} not found"))

    def create(self, request: Obj) -> tuple[int, Obj]:
        name = request["metadata"]["name"]
        if name in self.requests:
            return 409, _status(409, "AlreadyExists", f"{name} already exists")
        if "status" in request or set(request["spec"]) - {"signerName", "request", "usages", "expirationSeconds"}:
            return 422, _status(422, "Invalid", "what the API fills in")
        try:
            _parsed(request)
        except ValueError as why:
            return 422, _status(422, "Invalid", f"spec.request: {why}")
        self.requests[name] = {**request, "status": {}}
        return 201, self.requests[name]

    # --- the administrator --------------------------------------------------------------------------------------------

    @property
    def pending(self) -> list[str]:
        """The requests that nobody has decided."""
        return [name for name, one in self.requests.items() if not one["status"].get("conditions")]

    def approve(self, name: str) -> None:
        self.condition(name, "Approved", "by the test")
        self.sign(name)

    def deny(self, name: str, message: str) -> None:
        self.condition(name, "Denied", message)

    def delete(self, name: str) -> None:
        del self.requests[name]

    # --- the controller -----------------------------------------------------------------------------------------------

    def sign(self, name: str) -> None:
        """An approved request, or tell by Failed why not."""
        if self.absent:
            return
        request = self.requests[name]
        why = broken(request)
        if why:
            self.condition(name, "Failed", why)
            return
        certificate = self.issue(_parsed(request))
        request["status"]["certificate"] = base64.b64encode(certificate).decode()

    def issue(self, asked: x509.CertificateSigningRequest) -> bytes:
        now = datetime.fromtimestamp(self.wall(), timezone.utc)
        names = asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        builder = x509.CertificateBuilder().subject_name(asked.subject).public_key(asked.public_key())
        builder = builder.issuer_name(self.authority.certificate.subject).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - BACKDATED).not_valid_after(now - BACKDATED + self._life)
        builder = builder.add_extension(names, critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.authority.key.public_key())
        builder = builder.add_extension(issuer, critical=False)
        return pki.Pair(builder.sign(self.authority.key, hashes.SHA256()), self.authority.key).certificate_pem

    def condition(self, name: str, kind: str, message: str) -> None:
        conditions = self.requests[name]["status"].setdefault("conditions", [])
        conditions.append({"type": kind, "status": "True", "reason": "Test", "message": message})


def broken(request: Obj) -> str:
    """The rule of the signer that a request breaks; empty for a good one."""
    spec, asked = request["spec"], _parsed(request)
    organizations = [a.value for a in asked.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    common = [str(a.value) for a in asked.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    try:
        names = list(asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        names = []
    rules = (
        (spec["signerName"] == SIGNER, "signerName"),
        (asked.is_signature_valid, "the signature of the request"),
        (organizations == ["system:nodes"], "organization"),
        (len(common) == 1 and common[0].startswith("system:node:"), "common name"),
        (bool(names), "DNS or IP subjectAltName is required"),
        (all(isinstance(n, (x509.DNSName, x509.IPAddress)) for n in names), "other kinds of subjectAltName"),
        (set(spec["usages"]) in USAGES, "usages"),
    )
    return next((rule for kept, rule in rules if not kept), "")


def _parsed(request: Obj) -> x509.CertificateSigningRequest:
    """Raises ValueError."""
    return x509.load_pem_x509_csr(base64.b64decode(request["spec"]["request"], validate=True))


def _status(code: int, reason: str, message: str) -> Obj:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code}
    return {**body, "message": message}
