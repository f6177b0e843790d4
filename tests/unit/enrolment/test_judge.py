"""What a token is good for: once, for one key, for one node, until its end."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry_hub.enrolment.judge import Again, Asked, Refuse, Use, Verdict, cure, judge
from skerry_hub.enrolment.records import TokenRecord

SECRET = bytes(range(16))
NOW = 1_800_000_000.0
RECORD = TokenRecord("abcdef", "pi", hashlib.sha256(SECRET).digest(), NOW + 60)
ASKED = Asked("abcdef", SECRET, "pi", "aa" * 32, "bb" * 32, "cc" * 32)
USED = replace(RECORD, used_by=ASKED.keys, used=NOW)


@pytest.mark.parametrize(
    ("record", "asked", "now", "expected"),
    [
        (RECORD, ASKED, NOW, Use()),
        (USED, ASKED, NOW, Again()),
        (RECORD, ASKED, NOW + 59.9, Use()),
        (RECORD, ASKED, NOW + 60, "ExpiredToken"),
        (USED, ASKED, NOW + 60, "ExpiredToken"),
        (USED, replace(ASKED, key_digest="bb" * 32), NOW, "UsedToken"),
        (USED, replace(ASKED, key_digest="bb" * 32), NOW + 60, "UsedToken"),  # that somebody else has it says more
        (USED, replace(ASKED, signing="dd" * 32), NOW, "UsedToken"),
        (USED, replace(ASKED, sealing="dd" * 32), NOW, "UsedToken"),
        (RECORD, replace(ASKED, node="pi2"), NOW, "OtherNode"),
        (RECORD, replace(ASKED, secret=bytes(16)), NOW, "UnknownToken"),
        (USED, replace(ASKED, secret=bytes(16)), NOW + 60, "UnknownToken"),
        (None, ASKED, NOW, "UnknownToken"),
    ],
)
def test_a_verdict(record: TokenRecord | None, asked: Asked, now: float, expected: Verdict | str) -> None:
    verdict = judge(record, asked, now)
    assert (verdict.reason if isinstance(verdict, Refuse) else verdict) == expected


def test_who_has_not_the_secret_cannot_tell_a_token_that_is_there_from_one_that_is_not() -> None:
    wrong = replace(ASKED, secret=bytes(16))
    assert judge(RECORD, wrong, NOW) == judge(None, wrong, NOW) == judge(USED, wrong, NOW + 1e6)


@pytest.mark.parametrize("expired", [False, True])
def test_each_refusal_is_one_line_with_the_cure(expired: bool) -> None:
    asked = [ASKED, replace(ASKED, key_digest="bb"), replace(ASKED, node="other"), replace(ASKED, secret=bytes(16))]
    now = NOW + 100 if expired else NOW
    refusals = [v for one in asked for v in [judge(USED, one, now)] if isinstance(v, Refuse)]
    assert len(refusals) >= 3
    for refusal in refusals:
        assert "skerry-hub token create --node " in refusal.message
        assert "\n" not in refusal.message
        assert refusal.status in (403, 410)


@given(st.text(max_size=80))
def test_a_name_that_is_no_nodes_is_not_repeated(name: str) -> None:
    said = cure(name)
    assert said.isprintable()
    assert said.isascii()


@given(st.binary(min_size=16, max_size=16), st.text(max_size=8), st.text(max_size=8), st.floats(0, 4e9))
def test_nothing_is_good_without_the_secret(secret: bytes, node: str, key: str, now: float) -> None:
    if secret != SECRET:
        one, other = (Asked(ident, secret, node, key, key, key) for ident in ("abcdef", "x"))
        assert judge(RECORD, one, now) == judge(None, other, now)


def test_the_secret_is_not_shown() -> None:
    assert SECRET.hex() not in repr(ASKED)
    assert "secret" not in repr(ASKED)
