"""Who fails too often waits, and nobody else."""

from __future__ import annotations

import pytest

from skerry_hub.enrolment.failures import Failures
from skerry_hub.limits import ENROL_ADDRESSES_MAX, ENROL_FAILURES_ADDRESS, ENROL_FAILURES_ALL

BURST, EACH_S = ENROL_FAILURES_ADDRESS
ALL_BURST, ALL_EACH_S = ENROL_FAILURES_ALL


def test_an_address_may_fail_so_often_and_then_once_in_a_while() -> None:
    failures = Failures(0.0)
    for _ in range(BURST):
        assert failures.wait_s("10.0.0.1", 0.0) == 0.0
        failures.failed("10.0.0.1", 0.0)
    assert failures.wait_s("10.0.0.1", 0.0) == pytest.approx(EACH_S)
    assert failures.wait_s("10.0.0.2", 0.0) == 0.0
    assert failures.wait_s("10.0.0.1", EACH_S + 0.01) == 0.0
    failures.failed("10.0.0.1", EACH_S + 0.01)
    assert failures.wait_s("10.0.0.1", EACH_S + 0.02) > 0


def test_all_addresses_together_have_a_bound_too() -> None:
    failures = Failures(0.0)
    for i in range(ALL_BURST):
        failures.failed(f"10.0.{i // 250}.{i % 250}", 0.0)
    assert 0 < failures.wait_s("192.0.2.1", 0.0) <= ALL_EACH_S
    assert failures.wait_s("192.0.2.1", 2 * ALL_EACH_S) == 0.0


@pytest.mark.parametrize(
    ("one", "other"),
    [("2001:db8::1", "2001:db8::ffff:1"), ("::ffff:10.0.0.1", "10.0.0.1"), ("fe80::1%eth0", "fe80::2%eth0")],
)
def test_addresses_of_one_person_are_one(one: str, other: str) -> None:
    failures = Failures(0.0)
    for _ in range(BURST):
        failures.failed(one, 0.0)
    assert failures.wait_s(other, 0.0) > 0


def test_what_is_remembered_is_bounded() -> None:
    failures = Failures(0.0)
    for i in range(2 * ENROL_ADDRESSES_MAX):
        failures.failed(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}", float(i))
    assert len(failures._addresses) == ENROL_ADDRESSES_MAX


def test_a_clock_that_stands_still_gives_nothing_back() -> None:
    failures = Failures(100.0)
    for _ in range(BURST):
        failures.failed("10.0.0.1", 100.0)
    assert failures.wait_s("10.0.0.1", 50.0) > 0
