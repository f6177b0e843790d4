"""CertificateSigningRequest: what one may hold, and which path may change which part of it. Pure.

The server signs nothing; whoever may write here may approve and sign. Source: certificates.k8s.io/v1 API reference and
the real API server's messages.
"""

from __future__ import annotations

import base64
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from . import limits
from .normalize import parse_time, print_time
from .status import Cause, forbidden_value, invalid_value, required, unsupported

Obj = dict[str, Any]
_USAGES = (
    "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment",
    "decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel",
    "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime",
    "server auth", "signing", "timestamping",
)  # fmt: skip
_FINAL = ("Approved", "Denied", "Failed")  # conditions that are True or are not there, and never go again
_DECISIONS = ("Approved", "Denied")
_EXPIRATION_S_MIN = 600
_LEGACY = "kubernetes.io/legacy-unknown"


def name_rule(value: str) -> list[str]:
    """Why `value` may not be a request's name: any segment of a path may."""
    if value in (".", ".."):
        return [f"may not be '{value}'"]
    return [f"may not contain '{one}'" for one in "/%" if one in value]


def requested_by(obj: Obj, user: str, groups: tuple[str, ...]) -> None:
    """Nobody may ask in another's name. `obj` is changed."""
    spec = obj["spec"]
    for key in ("username", "uid", "groups"):
        spec.pop(key, None)
    spec.update({"username": user, "groups": list(groups)})
    obj["status"] = {}


def keep_spec(new: Obj, old: Obj) -> None:
    """What was asked for stays as it was. `new` is changed."""
    new["spec"] = old["spec"]


def causes(obj: Obj) -> list[Cause]:
    spec, out = obj["spec"], []
    why = _request_problem(spec.get("request", ""))
    if why:
        out.append(invalid_value("spec.request", spec.get("request", ""), why))
    usages = spec.get("usages", [])
    if not usages:
        out.append(required("spec.usages", ""))
    for i, usage in enumerate(usages):
        if usage not in _USAGES:
            out.append(unsupported(f"spec.usages[{i}]", usage, _USAGES))
        if usage in usages[:i]:
            out.append(Cause("Duplicate", f"spec.usages[{i}]", f'Duplicate value: "{usage}"'))
    out += _signer(spec.get("signerName", ""))
    seconds = spec.get("expirationSeconds")
    if seconds is not None and seconds < _EXPIRATION_S_MIN:
        why = "may not specify a duration less than 600 seconds (10 minutes)"
        out.append(invalid_value("spec.expirationSeconds", seconds, why))
    return out + _conditions(obj["status"].get("conditions", []))


def change(subresource: str, new: Obj, old: Obj, now: datetime) -> list[Cause]:
    """What is wrong with a change by this path ("" is the object's own); times that nobody gave are put in. `new` is
    changed."""
    status, was = new["status"], old["status"]
    if subresource == "approval":
        status.pop("certificate", None)
        status.update({"certificate": was["certificate"]} if "certificate" in was else {})
    _stamp(status.get("conditions", []), was.get("conditions", []), now)
    out = []
    for kind in _FINAL:
        mine = [c for c in status.get("conditions", []) if c["type"] == kind]
        theirs = [c for c in was.get("conditions", []) if c["type"] == kind]
        path = "status.conditions"
        if len(mine) < len(theirs):
            out.append(forbidden_value(path, f'updates may not remove a condition of type "{kind}"'))
        elif kind in _DECISIONS and subresource != "approval" and mine != theirs:
            verb = "add" if len(mine) > len(theirs) else "modify"
            out.append(forbidden_value(path, f'updates may not {verb} a condition of type "{kind}"'))
    if status.get("certificate") != was.get("certificate"):
        if was.get("certificate"):
            why = "updates may not modify existing certificate content"
            out.append(forbidden_value("status.certificate", why))
        problem = _certificate_problem(status.get("certificate", ""))
        if problem:
            out.append(invalid_value("status.certificate", "<certificate data>", problem))
    return out


def stale(obj: Obj, now: datetime) -> bool:
    """Whether nobody needs it any more: an hour after the last decision, a day after it was made. Source:
    kube-controller-manager's csrcleaner."""
    said = obj["status"].get("conditions", [])
    stamps = [c.get("lastUpdateTime") for c in said] or [obj["metadata"].get("creationTimestamp")]
    seconds = limits.CSR_DECIDED_TTL_S if said else limits.CSR_PENDING_TTL_S
    return all(now - parse_time(stamp) > timedelta(seconds=seconds) for stamp in stamps if stamp)


def word(obj: Obj) -> str:
    """The Condition column."""
    kinds = {c["type"] for c in obj["status"].get("conditions", [])}
    out = "Denied" if "Denied" in kinds else "Approved" if "Approved" in kinds else "Pending"
    out += ",Failed" if "Failed" in kinds else ""
    return out + (",Issued" if obj["status"].get("certificate") else "")


# --- private ----------------------------------------------------------------------------------------------------------


def _request_problem(text: str) -> str:
    try:
        raw = base64.b64decode(text)
        if not raw.lstrip().startswith(b"-----BEGIN CERTIFICATE REQUEST-----"):
            return "PEM block type must be CERTIFICATE REQUEST"
        found = x509.load_pem_x509_csr(raw)
        return "" if found.is_signature_valid else "x509: the signature of the request is not valid"
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        return "x509: malformed certificate request"


def _certificate_problem(text: str) -> str:
    raw = base64.b64decode(text)
    if not raw:
        return ""
    labels = [line[11:-5].decode("latin-1") for line in raw.splitlines() if line.startswith(b"-----BEGIN ")]
    foreign = [label for label in labels if label != "CERTIFICATE"]
    if foreign:
        return f'only CERTIFICATE PEM blocks are allowed, found "{foreign[0]}"'
    if not labels:
        return "must contain at least one CERTIFICATE PEM block"
    try:
        x509.load_pem_x509_certificates(raw)
    except ValueError:
        return "x509: malformed certificate"
    return ""


def _signer(name: str) -> list[Cause]:
    path = "spec.signerName"
    if not name:
        return [required(path, "")]
    if name == _LEGACY:
        return [invalid_value(path, name, "the legacy signerName is not allowed via this API version")]
    domain, slash, rest = name.partition("/")
    if not slash or "." not in domain or not rest or "/" in rest:
        why = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        return [invalid_value(path, name, why)]
    return []


def _conditions(conditions: list[Obj]) -> list[Cause]:
    out, seen = [], set[str]()
    for i, condition in enumerate(conditions):
        path, kind, status = f"status.conditions[{i}]", condition["type"], condition["status"]
        allowed = ("True",) if kind in _FINAL else ("False", "True", "Unknown")
        if not kind:
            out.append(required(f"{path}.type", ""))
        if not status:
            out.append(required(f"{path}.status", ""))
        elif status not in allowed:
            out.append(unsupported(f"{path}.status", status, allowed))
        if kind in _DECISIONS and seen & (set(_DECISIONS) - {kind}):
            why = "Approved and Denied conditions are mutually exclusive"
            out.append(invalid_value(f"{path}.type", kind, why))
        if kind in seen:
            out.append(Cause("Duplicate", path, f'Duplicate value: "{kind}"'))
        seen.add(kind)
    return out


def _stamp(conditions: list[Obj], old: list[Obj], now: datetime) -> None:
    before = {c["type"]: c for c in old}
    for condition in conditions:
        known = before.get(condition["type"], {})
        condition.setdefault("lastUpdateTime", print_time(now))
        same = known.get("status") == condition["status"]
        condition.setdefault("lastTransitionTime", (known.get("lastTransitionTime") if same else "") or print_time(now))
