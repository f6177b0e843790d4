"""`python -m sim --seed N [--verbose]` replays one life; `python -m sim --lives 500 --start N` runs many."""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from sim.life import Outcome, run

TAIL = 120


def show(outcome: Outcome, tail: int = TAIL) -> None:
    """What a person needs of a life that broke a promise."""
    for line in outcome.trace[-tail:] if tail else ():
        print(line)
    print(f"\n{outcome.broken}\nreplay: PYTHONPATH=tests python -m sim --seed {outcome.seed} --verbose", flush=True)


def many(seeds: list[int], jobs: int) -> list[Outcome]:
    """Live them; the broken ones, with their traces."""
    broken, began, steps, simulated = [], time.perf_counter(), 0, 0.0
    with ProcessPoolExecutor(jobs) as pool:
        for done, outcome in enumerate(pool.map(run, seeds, chunksize=4), 1):
            steps, simulated = steps + outcome.steps, simulated + outcome.simulated_s
            if outcome.broken is not None:
                broken.append(outcome)
                print(f"seed {outcome.seed}: {outcome.broken}"[:300], flush=True)
            if done % 100 == 0:
                print(f"{done} lives, {len(broken)} broken, {time.perf_counter() - began:.0f} s", flush=True)
    took = time.perf_counter() - began
    print(f"{len(seeds)} lives = {simulated / 3600:.0f} simulated hours, {steps} steps, in {took:.1f} s")
    return broken


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sim", description=__doc__)
    parser.add_argument("--seed", type=int, help="live this one life")
    parser.add_argument("--verbose", action="store_true", help="print the trace as it happens")
    parser.add_argument("--lives", type=int, default=100)
    parser.add_argument("--start", type=int, default=0, help="first seed")
    parser.add_argument("--jobs", type=int, default=2)
    said = parser.parse_args()
    if said.seed is not None:
        outcome = run(said.seed, said.verbose)
        if outcome.broken is not None:
            show(outcome, 0 if said.verbose else TAIL)
            return 1
        print(
            f"seed {said.seed}: all promises kept; {outcome.simulated_s:.0f} s simulated, {outcome.steps} steps, calm "
            f"after {outcome.calm_s:.0f} s, {len(outcome.trace)} lines, trace {outcome.digest[:16]}"
        )
        return 0
    broken = many(list(range(said.start, said.start + said.lives)), said.jobs)
    if broken:
        show(broken[0])
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
