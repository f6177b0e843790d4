"""CertificateSigningRequests as an API server has them: who asked, who approved, what was signed, and nothing twice."""

from __future__ import annotations

import base64
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from skerry_hub import pki
from skerry_hub.apiserver import signing_requests
from skerry_hub.apiserver.limits import CSR_DECIDED_TTL_S, CSR_PENDING_TTL_S
from unit.apiserver.serving import Client
from unit.apiserver.test_kubectl import FOUND, Kubectl
from unit.enrolment.site import csr_for

Obj = dict[str, Any]
PATH = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
APPROVED: Obj = {"type": "Approved", "status": "True", "reason": "Test", "message": "by hand"}
CA = pki.new_authority("test", 1, pki.utc_now())
PEM = pki.issue(CA, "pi", (), (), 1, pki.utc_now()).certificate_pem


def encoded(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def body(name: str = "", **spec: Any) -> Obj:
    wanted = {"signerName": "skerry.dev/device", "request": encoded(csr_for("pi")), "usages": ["client auth"], **spec}
    kept = {key: value for key, value in wanted.items() if value is not None}
    return {"metadata": {"name": name or "c" + uuid.uuid4().hex[:8]}, "spec": kept}


def made(api: Client, **spec: Any) -> str:
    code, found = api.call("POST", PATH, body(**spec))
    assert code == 201, found
    return str(found["metadata"]["name"])


def approve(api: Client, name: str, *conditions: Obj) -> tuple[int, Obj]:
    return api.call("PATCH", f"{PATH}/{name}/approval", {"status": {"conditions": list(conditions or [APPROVED])}})


def test_who_asks_is_what_the_server_knows_and_not_what_they_say(api: Client) -> None:
    asked = {**body(username="system:admin", uid="7", groups=["system:masters", "x"])}
    asked["status"] = {"certificate": encoded(PEM), "conditions": [APPROVED]}
    code, found = api.call("POST", PATH, asked)
    assert code == 201
    assert (found["spec"]["username"], found["spec"]["groups"]) == ("admin", ["system:masters", "system:authenticated"])
    assert "uid" not in found["spec"]
    assert found["status"] == {}


def test_what_was_asked_for_stays(api: Client) -> None:
    name = made(api)
    code, found = api.call(
        "PATCH", f"{PATH}/{name}", {"spec": {"usages": ["server auth"]}, "metadata": {"labels": {"a": "b"}}}
    )
    assert (code, found["spec"]["usages"], found["metadata"]["labels"]) == (200, ["client auth"], {"a": "b"})


def test_it_is_approved_and_then_signed(api: Client) -> None:
    name = made(api)
    code, found = approve(api, name)
    assert code == 200
    (condition,) = found["status"]["conditions"]
    assert condition["lastUpdateTime"]
    assert condition["lastTransitionTime"]
    both = encoded(PEM + PEM)
    code, found = api.call("PATCH", f"{PATH}/{name}/status", {"status": {"certificate": both}})
    assert (code, found["status"]["certificate"], found["status"]["conditions"]) == (200, both, [condition])


def test_each_path_changes_its_own_part(api: Client) -> None:
    name = made(api)
    code, found = api.call("PATCH", f"{PATH}/{name}/status", {"status": {"conditions": [APPROVED]}})
    assert (code, found["reason"]) == (422, "Invalid")
    assert 'updates may not add a condition of type "Approved"' in found["message"]
    code, found = api.call("PATCH", f"{PATH}/{name}/approval", {"status": {"certificate": encoded(PEM)}})
    assert (code, found["status"]) == (200, {})
    code, found = api.call("PATCH", f"{PATH}/{name}", {"status": {"certificate": encoded(PEM)}})
    assert (code, found["status"]) == (200, {})


def test_what_was_decided_stays_decided(api: Client) -> None:
    name = made(api)
    approve(api, name)
    code, found = api.call("PATCH", f"{PATH}/{name}/approval", {"status": {"conditions": None}})
    assert 'updates may not remove a condition of type "Approved"' in found["message"]
    code, found = approve(api, name, APPROVED, {**APPROVED, "type": "Denied"})
    assert "Approved and Denied conditions are mutually exclusive" in found["message"]
    other = {"status": {"conditions": [{**APPROVED, "message": "by another"}]}}
    code, found = api.call("PATCH", f"{PATH}/{name}/status", other)
    assert 'updates may not modify a condition of type "Approved"' in found["message"]
    kept = api.call("GET", f"{PATH}/{name}")[1]["status"]["conditions"]
    more = {"status": {"conditions": [*kept, {"type": "Failed", "status": "True", "reason": "Test"}]}}
    assert api.call("PATCH", f"{PATH}/{name}/status", more)[0] == 200
    code, found = api.call("PATCH", f"{PATH}/{name}/status", {"status": {"certificate": encoded(PEM)}})
    assert code == 200
    code, found = api.call("PATCH", f"{PATH}/{name}/status", {"status": {"certificate": encoded(PEM + PEM)}})
    assert "updates may not modify existing certificate content" in found["message"]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"request": encoded("none")}, "PEM block type must be CERTIFICATE REQUEST"),
        ({"request": encoded(PEM)}, "PEM block type must be CERTIFICATE REQUEST"),
        ({"request": encoded(csr_for("pi").replace("M", "N", 3))}, "spec.request"),
        ({"usages": None}, "spec.usages: Required value"),
        ({"usages": ["client auth", "sleep"]}, "spec.usages[1]: Unsupported value"),
        ({"usages": ["any", "any"]}, "spec.usages[1]: Duplicate value"),
        ({"signerName": None}, "spec.signerName: Required value"),
        ({"signerName": "device"}, "must be a fully qualified domain and path"),
        ({"signerName": "kubernetes.io/legacy-unknown"}, "the legacy signerName is not allowed"),
        ({"expirationSeconds": 599}, "may not specify a duration less than 600 seconds"),
    ],
)
def test_what_is_not_taken(api: Client, spec: Obj, said: str) -> None:
    code, found = api.call("POST", PATH, body(**spec))
    assert (code, said in found["message"]) == (422, True), found


@pytest.mark.parametrize(
    ("certificate", "said"),
    [
        (b"none", "must contain at least one CERTIFICATE PEM block"),
        (CA.key_pem, 'only CERTIFICATE PEM blocks are allowed, found "PRIVATE KEY"'),
        (PEM + CA.key_pem, 'only CERTIFICATE PEM blocks are allowed, found "PRIVATE KEY"'),
        (PEM.replace(b"M", b"N", 4), "malformed"),
    ],
)
def test_a_certificate_is_one(api: Client, certificate: bytes, said: str) -> None:
    name = made(api)
    code, found = api.call("PATCH", f"{PATH}/{name}/status", {"status": {"certificate": encoded(certificate)}})
    assert (code, said in found["message"]) == (422, True), found


def test_a_signers_requests_are_selected(api: Client) -> None:
    name = made(api, signerName="example.com/own")
    _, found = api.call("GET", f"{PATH}?fieldSelector=spec.signerName%3Dexample.com/own")
    assert [item["metadata"]["name"] for item in found["items"]] == [name]


@pytest.mark.parametrize("binary", FOUND)
def test_kubectl_shows_approves_and_denies(api: Client, tmp_path: Path, binary: str) -> None:
    kubectl = Kubectl(binary, api, tmp_path)
    asked = {
        **body(expirationSeconds=86_400),
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
    }
    name = asked["metadata"]["name"]
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump(asked))
    head, row = kubectl("get", "csr", name).splitlines()
    if "1.20" not in kubectl("version", "--client"):
        assert head.split() == ["NAME", "AGE", "SIGNERNAME", "REQUESTOR", "REQUESTEDDURATION", "CONDITION"]
    assert [row.split()[i] for i in (0, 2, 3, 4, 5)] == [name, "skerry.dev/device", "admin", "24h", "Pending"]
    kubectl("certificate", "approve", name)
    assert kubectl("get", "csr", name).split()[-1] == "Approved"
    api.call("PATCH", f"{PATH}/{name}/status", {"status": {"certificate": encoded(PEM)}})
    assert kubectl("get", "csr", name).split()[-1] == "Approved,Issued"
    assert "Status:" in kubectl("describe", "csr", name)
    other = made(api)
    kubectl("certificate", "deny", other)
    assert kubectl("get", "csr", other).split()[-1] == "Denied"
    kubectl("delete", "csr", name, other)


# --- pure -------------------------------------------------------------------------------------------------------------


def test_decided_ones_go_after_an_hour_and_forgotten_ones_after_a_day() -> None:
    now = datetime(2027, 1, 2, tzinfo=timezone.utc)

    def ago(seconds: float) -> str:
        return (now - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")

    def obj(created_s: float, *decided_s: float) -> Obj:
        conditions = [{**APPROVED, "lastUpdateTime": ago(s)} for s in decided_s]
        return {"metadata": {"creationTimestamp": ago(created_s)}, "status": {"conditions": conditions}}

    assert not signing_requests.stale(obj(CSR_PENDING_TTL_S - 60), now)
    assert signing_requests.stale(obj(CSR_PENDING_TTL_S + 60), now)
    assert not signing_requests.stale(obj(1e6, CSR_DECIDED_TTL_S - 60), now)
    assert signing_requests.stale(obj(1e6, CSR_DECIDED_TTL_S + 60), now)
    assert not signing_requests.stale(obj(1e6, 1e6, 10), now)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_have_a_cause(raw: bytes) -> None:
    asked = {"spec": {**body("x")["spec"], "request": encoded(raw)}, "status": {}}
    (cause,) = signing_requests.causes(asked)
    assert cause.field == "spec.request"


@pytest.mark.parametrize(("name", "good"), [("a", True), ("A:b_c", True), ("..", False), ("a/b", False), ("a%", False)])
def test_names(name: str, good: bool) -> None:
    assert (signing_requests.name_rule(name) == []) is good
