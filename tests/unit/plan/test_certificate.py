"""What time it is, and when certificates are renewed, for every clock that a board may have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.limits import RENEW_EXPIRED_S, RENEW_REFUSED_S, RENEW_RETRY_S, RENEW_TRUST_S, RENEW_UNSURE_S
from skerry.plan.certificate import (
    Due,
    Life,
    Time,
    Told,
    Why,
    begun,
    ended,
    renewal_due,
    retry_bounds,
    time_of,
)

DAY_S = 86_400.0
YEAR_S = 365 * DAY_S
Y1970, Y2038 = 0.0, float(1 << 31)
NOW = 1_800_000_000.0  # what the time is
MADE = NOW - 30 * DAY_S  # this release
LIFE = Life(NOW - 10 * DAY_S, NOW + 80 * DAY_S)
CLOCKS = {"1970": Y1970, "2038": Y2038, "an hour back": NOW - 3_600, "a year ahead": NOW + YEAR_S, "right": NOW}
clocks = pytest.mark.parametrize("wall", CLOCKS.values(), ids=CLOCKS)


@clocks
def test_a_clock_that_nobody_has_set_ends_nothing_and_keeps_nothing_from_beginning(wall: float) -> None:
    time = time_of(wall, False, MADE, None, 5.0)
    assert not time.sure
    assert time.now_s >= MADE
    assert not ended(LIFE, time)
    assert begun(LIFE, time)


def test_what_ended_before_the_floor_has_ended_whatever_the_clock_says() -> None:
    for wall in CLOCKS.values():
        assert ended(Life(MADE - 90 * DAY_S, MADE - 1), time_of(wall, False, MADE, None, 5.0))


def test_a_clock_that_a_time_server_has_set_is_believed_unless_it_is_behind_the_floor() -> None:
    assert time_of(NOW, True, MADE, None, 5.0) == Time(NOW, MADE, True)
    assert ended(LIFE, time_of(NOW + YEAR_S, True, MADE, None, 5.0))
    assert not begun(LIFE, time_of(NOW - 20 * DAY_S, True, MADE, None, 5.0))
    assert not time_of(Y1970, True, MADE, None, 5.0).sure


def test_a_hub_whose_clock_is_before_the_floor_says_nothing_of_the_time() -> None:
    assert time_of(NOW, True, MADE, Told(Y1970, 1.0), 5.0) == time_of(NOW, True, MADE, None, 5.0)
    assert not time_of(Y1970, False, MADE, Told(Y1970, 1.0), 5.0).sure
    late = time_of(NOW, True, MADE, Told(MADE - 60, 1.0), 5.0)  # another replica signed, whose clock was a minute ahead
    assert late == Time(MADE - 56, MADE, True)


@clocks
@pytest.mark.parametrize("synchronized", [True, False])
def test_the_hubs_time_is_believed_most_and_goes_on_by_the_monotonic_clock(wall: float, synchronized: bool) -> None:
    """So a clock that steps during a session changes nothing."""
    told = Told(NOW, 100.0)
    time = time_of(wall, synchronized, MADE, told, 100.0 + DAY_S)
    assert time == Time(NOW + DAY_S, NOW, True)
    assert ended(LIFE, time_of(wall, synchronized, MADE, told, 100.0 + 81 * DAY_S))


@given(st.floats(0, 4e9), st.booleans(), st.floats(0, 4e9))
def test_no_time_is_before_the_floor(wall: float, synchronized: bool, floor: float) -> None:
    time = time_of(wall, synchronized, floor, None, 0.0)
    assert time.now_s >= time.floor_s == floor


@pytest.mark.parametrize(("jitter", "days"), [(0.0, 35.0), (0.999, 48.5)])
def test_it_is_renewed_from_half_of_its_life_on(jitter: float, days: float) -> None:
    due = renewal_due(LIFE, Time(NOW, MADE, True), False, False, jitter)
    assert due.why is Why.AGE
    assert due.after_s == pytest.approx(days * DAY_S, rel=0.001)


@pytest.mark.parametrize("wall", [Y2038, NOW + YEAR_S])
def test_a_clock_that_nobody_has_set_and_that_runs_ahead_waits_for_the_hubs_time(wall: float) -> None:
    """Else each boot of such a board would be a renewal."""
    first, last = RENEW_UNSURE_S
    due = renewal_due(LIFE, time_of(wall, False, MADE, None, 5.0), False, False, 0.5)
    assert due == Due(Why.UNSURE, (first + last) / 2)
    told = renewal_due(LIFE, time_of(wall, False, MADE, Told(NOW, 5.0), 5.0), False, False, 0.5)
    assert told.why is Why.AGE
    assert told.after_s > 30 * DAY_S


def test_a_year_offline_makes_it_due_at_once() -> None:
    due = renewal_due(LIFE, Time(NOW + YEAR_S, MADE, True), False, False, 0.5)
    assert due == Due(Why.ENDED, 0.5 * RENEW_EXPIRED_S[0])


def test_a_board_in_1970_learns_of_the_end_by_the_broker() -> None:
    time = time_of(Y1970, False, MADE, None, 5.0)
    assert renewal_due(LIFE, time, False, False, 0.5).why is Why.AGE
    assert renewal_due(LIFE, time, True, False, 0.5).why is Why.REFUSED


def test_other_authorities_are_fetched_soon_and_not_by_all_at_once() -> None:
    time = Time(NOW, MADE, True)
    dues = [renewal_due(LIFE, time, False, True, jitter) for jitter in (0.0, 0.5, 0.999)]
    assert {due.why for due in dues} == {Why.TRUST}
    assert RENEW_TRUST_S[0] <= dues[0].after_s < dues[1].after_s < dues[2].after_s < RENEW_TRUST_S[1]
    assert renewal_due(LIFE, time, True, True, 0.5).why is Why.REFUSED


def test_who_cannot_connect_asks_more_often_and_who_is_unknown_rarely() -> None:
    assert retry_bounds(Why.AGE, False) == retry_bounds(Why.TRUST, False) == RENEW_RETRY_S
    assert retry_bounds(Why.ENDED, False) == retry_bounds(Why.REFUSED, False) == RENEW_EXPIRED_S
    assert {retry_bounds(why, True) for why in Why} == {RENEW_REFUSED_S}
