"""Secrets of the API that hold tokens and identities: what goes in comes out, and what is wrong is refused."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.errors import Malformed
from skerry_hub.apiserver.validate import label_value, subdomain
from skerry_hub.enrolment import records
from skerry_hub.enrolment.records import Identity, TokenRecord
from skerry_hub.enrolment.signer import DeviceIdentities
from skerry_hub.limits import DEVICE_NAME_CHARS_MAX
from unit.enrolment.test_signer import AUTHORITY

NODES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?){0,3}", fullmatch=True)
STAMPS = st.integers(0, 250_000_000_000).map(float)
IDENTS = st.from_regex(r"[a-z0-9]{6,32}", fullmatch=True)
DIGESTS = st.binary(min_size=32, max_size=32)


@given(IDENTS, NODES, DIGESTS, STAMPS, st.booleans())
def test_a_token_comes_back_as_it_was(ident: str, node: str, digest: bytes, expires: float, tainted: bool) -> None:
    if len(node) > DEVICE_NAME_CHARS_MAX:
        return
    record = TokenRecord(ident, node, digest, expires, tainted)
    obj = records.token_secret(record)
    assert records.token_record(obj) == record
    used, patch = records.use(record, "ab" * 32, 1_000.0)
    assert records.token_record({**obj, "data": {**obj["data"], **patch["data"]}}) == used
    assert obj["type"] == "skerry.dev/token"


@given(IDENTS, NODES)
def test_names_are_what_the_api_allows_for_any_node(ident: str, node: str) -> None:
    node = node[:DEVICE_NAME_CHARS_MAX].rstrip("-.")
    for name in (records.token_name(ident), records.identity_name(node)):
        assert subdomain(name) == []
    assert label_value(node) == []


def test_the_secret_itself_is_not_kept() -> None:
    record = TokenRecord("abcdef", "pi", bytes(32), 1.0)
    assert set(records.token_secret(record)["data"]) == {"node", "secret-sha256", "expires", "taint"}


IDENTITY = Identity("a.b", "ab" * 32, ("1f", "20"), 1_800_000_000.0, 1_700_000_000.0, "abcdef", "cd" * 32, "ef" * 32)


def test_an_identity_comes_back_as_it_was() -> None:
    assert records.identity_of(records.identity_secret(IDENTITY)) == IDENTITY


def test_one_of_a_hub_that_did_not_seal_has_no_key_for_it() -> None:
    obj = records.identity_secret(IDENTITY)
    del obj["data"]["sealing-key"]
    assert records.identity_of(obj) == replace(IDENTITY, sealing="")


def test_the_keys_of_devices_are_found_among_all_secrets() -> None:
    obj = records.identity_secret(IDENTITY)
    broken = {**obj, "data": {**obj["data"], "sealing-key": base64.b64encode(b"no digits").decode()}}
    found = {(records.NAMESPACE, "skerry-device-a.b"): obj, (records.NAMESPACE, "skerry-device-broken"): broken}
    identities = DeviceIdentities(AUTHORITY, lambda: found, lambda _node: None)
    assert (identities.signing_key("a.b", b""), identities.sealing_key("a.b")) == (b"\xcd" * 32, b"\xef" * 32)
    assert [identities.sealing_key(node) for node in ("broken", "nobody")] == [b"", b""]
    assert identities.node_of((records.NAMESPACE, "skerry-device-a.b")) == "a.b"
    for other in (("default", "skerry-device-a.b"), (records.NAMESPACE, "skerry-token-a"), ("", "")):
        assert identities.node_of(other) == ""


def test_use_is_refused_when_somebody_was_first() -> None:
    record = TokenRecord("abcdef", "pi", bytes(32), 1.0, version="17")
    assert records.use(record, "ab", 1.0)[1]["metadata"] == {"resourceVersion": "17"}


GOOD = records.token_secret(TokenRecord("abcdef", "pi", bytes(32), 1.0))


@pytest.mark.parametrize(
    "data",
    [
        {"expires": "soon"},
        {"secret-sha256": "zz"},
        {"secret-sha256": "00"},
        {"node": ""},
        {"node": "n" * 57},
        {"node": "pi.streams"},
        {"node": "skerry-hub:hub"},
        {"node": "Pi"},
        {"node": "+"},
        {"used": "x"},
    ],
)
def test_what_somebody_wrote_by_hand_is_no_token(data: dict[str, str]) -> None:
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    with pytest.raises(Malformed):
        records.token_record({**GOOD, "data": {**GOOD["data"], **encoded}})


@pytest.mark.parametrize(
    "obj", [{}, {**GOOD, "type": "Opaque"}, {**GOOD, "data": None}, {**GOOD, "data": {"node": "?"}}]
)
def test_what_is_no_token_is_refused(obj: dict[str, object]) -> None:
    with pytest.raises(Malformed):
        records.token_record(json.loads(json.dumps(obj)))
    with pytest.raises(Malformed):
        records.identity_of(json.loads(json.dumps(obj)))


def test_stamps_are_seconds() -> None:
    assert records.stamp(0) == "1970-01-01T00:00:00Z"
    assert records.unix(records.stamp(1_800_000_000.9)) == 1_800_000_000.0
    assert records.stamp(-5) == "1970-01-01T00:00:00Z"
    assert records.stamp(1e30).startswith("9999-")
