"""What is asked of the cluster's signer, what its answers mean, and when the next certificate is asked for."""

from __future__ import annotations

import base64
import ipaddress
from typing import Any

import pytest
from cryptography import x509

from skerry_hub import pki
from skerry_hub.kubelet.signing import Ended, Issued, Pending, State, renew_at, request_of, state_of
from unit.hub.signing_controller import broken

DAY_S = 86_400.0


@pytest.mark.parametrize("address", ["10.1.2.3", "fd00::7"])
@pytest.mark.parametrize("replica", ["", "skerry-hub-6d4cf56db6-x2x4z", f"{'a' * 199}-{'b' * 53}"])
def test_a_request_keeps_the_signers_rules_and_asks_for_the_nodes_address(replica: str, address: str) -> None:
    request = request_of(replica, address, pki.new_key())
    assert broken(request) == ""
    asked = x509.load_pem_x509_csr(base64.b64decode(request["spec"]["request"]))
    names = asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.IPAddress(ipaddress.ip_address(address))]
    assert request["spec"]["usages"] == ["digital signature", "server auth"]
    name = request["metadata"]["name"]
    assert len(name) <= 253
    assert name.startswith(replica[:199] or "skerry-hub")
    assert all(label[0].isalnum() and label[-1].isalnum() for label in name.split("."))


def test_its_name_is_that_of_the_key() -> None:
    one, other = pki.new_key(), pki.new_key()
    names = [request_of("hub-0", "10.0.0.1", key)["metadata"]["name"] for key in (one, one, other)]
    assert names[0] == names[1] != names[2]
    assert names[0] != request_of("hub-1", "10.0.0.1", one)["metadata"]["name"]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"usages": ["digital signature", "client auth"]}, "usages"),
        ({"signerName": "kubernetes.io/kube-apiserver-client"}, "signerName"),
        ({"request": (("system:masters",), "system:node:x", ("10.0.0.1",))}, "organization"),
        ({"request": (("system:nodes", "more"), "system:node:x", ("10.0.0.1",))}, "organization"),
        ({"request": (("system:nodes",), "admin", ("10.0.0.1",))}, "common name"),
        ({"request": (("system:nodes",), "system:node:x", ())}, "subjectAltName"),
    ],
)
def test_the_stand_in_keeps_the_rules_too(change: dict[str, Any], rule: str) -> None:
    """Else the test above would say nothing."""
    request = request_of("", "10.0.0.1", pki.new_key())
    if "request" in change:
        organizations, common, names = change["request"]
        pem = pki.signing_request(pki.new_key(), common, organizations, names)
        change = {"request": base64.b64encode(pem).decode()}
    request["spec"].update(change)
    assert rule in broken(request)


def condition(kind: str, message: str = "", status: str = "True") -> dict[str, str]:
    return {"type": kind, "status": status, "reason": "Why", "message": message}


PEM = base64.b64encode(b"-----BEGIN CERTIFICATE-----").decode()


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (None, Pending(False)),
        ({}, Pending(False)),
        ({"conditions": [condition("Approved")]}, Pending(True)),
        ({"conditions": [condition("Approved", status="False")]}, Pending(False)),
        ({"conditions": [condition("Approved")], "certificate": PEM}, Issued("-----BEGIN CERTIFICATE-----")),
        ({"conditions": [condition("Approved")], "certificate": "?"}, Ended("was answered with what is not PEM")),
        ({"conditions": [condition("Denied", "no such\nnode")]}, Ended("was denied (no such node)")),
        ({"conditions": [condition("Denied")]}, Ended("was denied (Why)")),
        (
            {"conditions": [condition("Approved"), condition("Failed", "x" * 900)]},
            Ended(f"could not be signed ({'x' * 300})"),
        ),
    ],
)
def test_each_state_of_a_request(status: dict[str, Any] | None, state: State) -> None:
    assert state_of({"metadata": {"name": "x"}, **({"status": status} if status is not None else {})}) == state


def test_a_certificate_is_renewed_at_70_to_90_percent_of_its_life() -> None:
    valid = (1000 * DAY_S, 1365 * DAY_S)
    assert renew_at(valid, 0.0) == pytest.approx((1000 + 0.7 * 365) * DAY_S)
    assert renew_at(valid, 0.999999) == pytest.approx((1000 + 0.9 * 365) * DAY_S, abs=DAY_S)
    assert renew_at(valid, 0.25) < renew_at(valid, 0.75)


def test_validity_is_that_of_the_first_certificate() -> None:
    pair = pki.new_authority("x", 7, pki.utc_now())
    begin, end = pki.validity(pair.certificate_pem.decode() * 2)
    assert 7 * DAY_S <= end - begin < 8 * DAY_S
    with pytest.raises(pki.PkiError):
        pki.validity("not PEM")
