"""Delays: kubelet's for containers, full jitter for everything else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skerry.plan.backoff import failures_after, full_jitter, outage_delay, restart_delay


def test_the_crash_loop_is_kubelets() -> None:
    assert [restart_delay(n) for n in range(10)] == [0, 0, 10, 20, 40, 80, 160, 300, 300, 300]
    assert restart_delay(10**9) == 300


def test_ten_minutes_of_running_forgive_everything() -> None:
    assert failures_after(5, 599.9) == 6
    assert failures_after(5, 600.0) == 1
    assert failures_after(0, 1.0) == 1


def test_outages_in_a_row_are_told_later_and_later() -> None:
    assert [outage_delay(n) for n in range(7)] == [10, 20, 40, 80, 160, 300, 300]
    assert outage_delay(10**9) == 300


@given(st.integers(0, 10**9), st.floats(0, 1, exclude_max=True))
def test_jitter_stays_within_its_bounds(failures: int, jitter: float) -> None:
    first, last = 0.5, 60.0
    delay = full_jitter((first, last), failures, jitter)
    assert first / 2 <= delay < first / 2 + last
    assert delay <= first / 2 + full_jitter((first, last), failures + 1, 1.0)
