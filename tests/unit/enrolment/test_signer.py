"""Whose signature a hub believes: by its records, and where those were lost by what its authority stated."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.errors import Malformed
from skerry.limits import STATEMENT_BYTES_MAX
from skerry.wire import codec
from skerry_hub import pki
from skerry_hub.enrolment import records
from skerry_hub.enrolment.authority import Authority
from skerry_hub.enrolment.records import Identity
from skerry_hub.enrolment.signer import DeviceIdentities

NOW = pki.utc_now()
OLD, NEW, STRANGER = (pki.new_authority(name, 30, NOW) for name in ("old", "new", "stranger"))
AUTHORITY = Authority(OLD, (OLD.certificate,))
MINE, SEALING, OTHER = bytes(range(32)), bytes(range(1, 33)), bytes(32)
IDENTITY = Identity(
    "pi", "ab" * 32, ("1f", "20"), 1_800_000_000.0, 1_700_000_000.0, "abcdef", OTHER.hex(), OTHER.hex()
)


def secrets(*identities: Identity) -> dict[tuple[str, str], Any]:
    return {("skerry", records.identity_name(one.node)): records.identity_secret(one) for one in identities}


def signing_key(by: Authority, known: dict[tuple[str, str], Any], node: str, statement: bytes) -> bytes:
    return DeviceIdentities(by, lambda: known, lambda _node: None).signing_key(node, statement)


def test_both_keys_are_known_once_the_device_has_shown_them_and_it_is_told() -> None:
    told = list[str]()
    known = DeviceIdentities(AUTHORITY, dict, told.append)
    assert known.sealing_key("pi") == b""
    for _ in range(2):
        assert known.signing_key("pi", AUTHORITY.statement("pi", MINE, SEALING)) == MINE
    assert known.signing_key("pi", b"") == MINE
    assert known.sealing_key("pi") == SEALING
    assert told == ["pi"]


def test_the_record_counts_and_not_the_statement() -> None:
    """A device that was enrolled anew has another key; what an old card shows is of no use."""
    statement = AUTHORITY.statement("pi", MINE, SEALING)
    assert signing_key(AUTHORITY, secrets(IDENTITY), "pi", statement) == OTHER
    assert signing_key(AUTHORITY, secrets(replace(IDENTITY, signing="!")), "pi", statement) == b""


def test_where_the_record_was_lost_the_statement_counts() -> None:
    statement = AUTHORITY.statement("pi", MINE, SEALING)
    assert len(statement) <= STATEMENT_BYTES_MAX
    assert signing_key(AUTHORITY, {}, "pi", statement) == MINE
    assert signing_key(AUTHORITY, secrets(replace(IDENTITY, node="pi-2")), "pi", statement) == MINE
    assert signing_key(AUTHORITY, {}, "pi", b"") == b""


def test_it_is_about_one_node_and_by_an_authority_that_this_hub_believes() -> None:
    statement = AUTHORITY.statement("pi", MINE, SEALING)
    assert signing_key(AUTHORITY, {}, "pi-2", statement) == b""
    for pair in (STRANGER, NEW):
        assert signing_key(Authority(pair, (pair.certificate,)), {}, "pi", statement) == b""
    rotated = Authority(NEW, (NEW.certificate, OLD.certificate))
    assert signing_key(rotated, {}, "pi", statement) == MINE


def test_the_longest_name_fits() -> None:
    assert len(AUTHORITY.statement("n" * 56, MINE, SEALING)) <= STATEMENT_BYTES_MAX


@given(st.integers(0, 8 * 170))
def test_one_bit_more_or_less_is_refused(flip: int) -> None:
    statement = bytearray(AUTHORITY.statement("pi", MINE, SEALING))
    statement[flip // 8 % len(statement)] ^= 1 << flip % 8
    with pytest.raises(Malformed):
        AUTHORITY.stated(bytes(statement), "pi")


ANY = st.recursive(st.none() | st.text() | st.binary() | st.integers(-9, 99), st.lists).map(codec.encode)


@given(st.binary(max_size=200) | ANY)
def test_any_bytes_are_malformed(statement: bytes) -> None:
    with pytest.raises(Malformed):
        AUTHORITY.stated(statement, "pi")
