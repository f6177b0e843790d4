"""Lives: the kept seeds, fresh ones, and that a life is its seed's alone.

Fresh seeds follow from a number that the log shows: $SIM_START, or today's date. `SEEDS` in the environment says how
many (`make sim SEEDS=1000`), 500 without it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import pytest

from sim.__main__ import many, show
from sim.life import make, run

LIVES = 500
TESTS = Path(__file__).parents[1]


def kept() -> list[int]:
    lines = (Path(__file__).parent / "seeds.txt").read_text().splitlines()
    return [int(line.split("#")[0]) for line in lines if line.split("#")[0].strip()]


@pytest.mark.parametrize("seed", kept())
def test_a_kept_seed(seed: int) -> None:
    outcome = run(seed)
    if outcome.broken is not None:
        show(outcome)
    assert outcome.broken is None


def test_fresh_lives() -> None:
    start = int(os.environ.get("SIM_START") or datetime.now(timezone.utc).strftime("%Y%m%d") + "000")
    count = int(os.environ.get("SEEDS") or LIVES)
    print(f"fresh lives {start} to {start + count - 1}: SIM_START={start} SEEDS={count}")
    broken = many(list(range(start, start + count)), jobs=os.cpu_count() or 2)
    for outcome in broken[:1]:
        show(outcome)
    replays = [f"PYTHONPATH=tests python -m sim --seed {o.seed} --verbose  # {o.broken}"[:400] for o in broken]
    assert not replays, "\n".join(replays)


def test_the_same_seed_is_the_same_life() -> None:
    assert run(3).digest == run(3).digest


def test_a_life_does_not_depend_on_the_hash_seed() -> None:
    code = "from sim.life import run; print([run(seed).digest for seed in range(6)])"
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("0", "1", "42")
    }
    assert len(said) == 1


@pytest.mark.parametrize("trusted", [True, False])
def test_streams_are_opened_whether_frames_are_protected_or_not(trusted: bool) -> None:
    lives = [seed for seed in range(30) if (make(seed).hub.trust is not None) is trusted][:10]
    assert sum(run(seed).counts.get("streams opened", 0) for seed in lives) >= 10


def test_the_runtime_is_away_in_some_calms() -> None:
    assert sum(run(seed).counts.get("outages shown", 0) for seed in range(20)) >= 2


def test_a_calm_is_followed_by_a_quiet_hour_in_some_lives() -> None:
    assert sum(run(seed).counts.get("quiet hours", 0) for seed in range(20)) >= 2
