"""The simulator can fail: each classic bug is planted, and the check that names its promise sees it in time."""

from __future__ import annotations

import pytest

from sim.checks import PROMISES
from sim.life import run
from sim.planted import BUGS, Planted, plant


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_caught_by_the_check_that_names_its_promise(bug: Planted) -> None:
    with plant(bug):
        for seed in range(bug.seeds):
            outcome = run(seed, only=bug.faults)
            if outcome.broken is not None:
                break
        else:
            raise AssertionError(f"{bug.name}: not caught in {bug.seeds} lives")
    assert outcome.broken.promise in {PROMISES[key] for key in bug.promise}, outcome.broken
