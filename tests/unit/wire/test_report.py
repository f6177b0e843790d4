"""Bodies of reports: defaults are left out, later keys are passed over, every error names its field."""

from __future__ import annotations

from typing import Any

import pytest

from golden.wirecheck import NotInContract, check
from skerry.errors import Malformed
from skerry.limits import CONTAINERS_MAX
from skerry.model.report import Life, Phase, PodStatus, ReportKind
from skerry.wire.codec import decode, encode
from skerry.wire.report import TABLES, Reported, decode_report, encode_report
from unit.wire.examples import BODIES, STATUS

RULE = {ReportKind.POD_STATUS: "pod-status", ReportKind.EVENT: "event", ReportKind.NODE: "node-facts"}
RULE |= {ReportKind.LOCAL_PODS: "local-pods"}
ROWS = [(kind, key, field) for kind, table in TABLES.items() for key, (field, _) in table.rows.items()]


WRONG: tuple[Any, ...] = (1.5, {}, None, [[]], 1 << 63, -(1 << 63))


def example(kind: ReportKind) -> dict[int, Any]:
    body: dict[int, Any] = decode(next(encode_report(value) for k, _, value in BODIES if k is kind))
    return body


@pytest.mark.parametrize(("kind", "subject", "value"), BODIES)
def test_a_body_comes_back_as_it_went_and_is_in_the_contract(kind: ReportKind, subject: str, value: Reported) -> None:
    assert decode_report(kind, encode_report(value)) == value
    check(RULE[kind], decode(encode_report(value)), RULE[kind])


def test_what_holds_its_default_is_not_sent() -> None:
    assert decode(encode_report(PodStatus("u", "default", "web", Phase.PENDING))).keys() == {1, 2, 3, 4}


@pytest.mark.parametrize(("kind", "key", "field"), ROWS)
def test_a_field_of_another_type_is_refused_by_name_and_by_the_contract(kind: ReportKind, key: int, field: str) -> None:
    for wrong in WRONG:
        body = example(kind) | {key: wrong}
        with pytest.raises(Malformed, match=field):
            decode_report(kind, encode(body))
        with pytest.raises(NotInContract):
            check(RULE[kind], body, "body")


def test_an_older_end_passes_over_what_it_does_not_know() -> None:
    body = example(ReportKind.POD_STATUS)
    body[77] = "later"
    body[5][0][99] = {1: 2}
    assert decode_report(ReportKind.POD_STATUS, encode(body)) == STATUS
    check("pod-status", body, "body")


@pytest.mark.parametrize("body", [b"", b"\x80", b"\xa0", b"\x01", b"\xa1"])
def test_a_body_that_is_none_is_malformed(body: bytes) -> None:
    for kind in ReportKind:
        with pytest.raises(Malformed):
            decode_report(kind, body)


def test_members_of_an_enum_keep_their_numbers() -> None:
    """They travel by position: a member may only be added at the end."""
    assert list(Phase) == [Phase.PENDING, Phase.RUNNING, Phase.SUCCEEDED, Phase.FAILED]
    assert list(Life) == [Life.WAITING, Life.RUNNING, Life.TERMINATED]


def test_containers_end_at_their_bound() -> None:
    body = example(ReportKind.POD_STATUS)
    one = body[5][0]
    for count, fits in ((CONTAINERS_MAX, True), (CONTAINERS_MAX + 1, False)):
        body[5] = [one] * count
        if fits:
            decode_report(ReportKind.POD_STATUS, encode(body))
            check("pod-status", body, "body")
            continue
        with pytest.raises(Malformed, match="containers"):
            decode_report(ReportKind.POD_STATUS, encode(body))
        with pytest.raises(NotInContract):
            check("pod-status", body, "body")
