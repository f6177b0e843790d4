"""The bodies of an enrolment come back as they went, and any others are Malformed with the member's name."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.errors import Malformed
from skerry.wire import enrolment
from skerry.wire.enrolment import Issued, Problem, Request

CSR = "-----BEGIN CERTIFICATE REQUEST-----\nMA==\n-----END CERTIFICATE REQUEST-----\n"
PEM = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"
REQUEST = Request("abc123", bytes(range(16)), CSR, bytes(32), bytes(32))
ISSUED = Issued("edge-1", PEM, PEM, PEM + PEM, "mqtts://hub.example:8883", "https://hub.example:10443", "AAAA")


def test_all_three_come_back() -> None:
    assert enrolment.decode_request(enrolment.encode_request(REQUEST)) == REQUEST
    assert enrolment.decode_issued(enrolment.encode_issued(ISSUED)) == ISSUED
    problem = Problem("TokenUsed", "the token was used; ask for a new one")
    assert enrolment.decode_problem(enrolment.encode_problem(problem)) == problem


@pytest.mark.parametrize(
    ("member", "value", "said"),
    [
        ("token", None, "token: a text"), ("secret", "!", "secret: is not base64"), ("csr", PEM, "csr: is no cert"),
        ("secret", "AAAA", "secret: 16 bytes expected, got 3"), ("csr", 7, "csr: a text"),
        ("signing", "AAAA", "signing: 32 bytes expected, got 3"), ("signing", None, "signing: a text"),
        ("sealing", "AAAA", "sealing: 32 bytes expected, got 3"), ("sealing", None, "sealing: a text"),
    ],
)  # fmt: skip
def test_a_request_that_is_wrong_names_the_member(member: str, value: object, said: str) -> None:
    body = {**json.loads(enrolment.encode_request(REQUEST)), member: value}
    with pytest.raises(Malformed, match=said):
        enrolment.decode_request(json.dumps(body).encode())


def test_an_answer_that_is_wrong_names_the_member() -> None:
    body = json.loads(enrolment.encode_issued(ISSUED))
    for member in ("certificate", "streams", "ca"):
        with pytest.raises(Malformed, match=f"{member}: is no certificate"):
            enrolment.decode_issued(json.dumps({**body, member: CSR}).encode())
    for statement, said in (("!", "is not base64"), ("A" * 4_000, "is longer than")):
        with pytest.raises(Malformed, match=f"statement: {said}"):
            enrolment.decode_issued(json.dumps({**body, "statement": statement}).encode())
    with pytest.raises(Malformed, match="node: is longer"):
        enrolment.decode_issued(json.dumps({**body, "node": "e" * 300}).encode())


@given(st.binary(max_size=300) | st.recursive(st.none() | st.text(), lambda of: st.dictionaries(st.text(), of) | st.lists(of)).map(lambda v: json.dumps(v).encode()))  # fmt: skip  # noqa: E501
def test_any_bytes_decode_or_are_malformed(body: bytes) -> None:
    for decode in (enrolment.decode_request, enrolment.decode_issued, enrolment.decode_problem):
        with pytest.raises(Malformed):
            decode(body)


def test_its_secret_is_never_shown() -> None:
    assert repr(REQUEST.secret) not in repr(REQUEST)
