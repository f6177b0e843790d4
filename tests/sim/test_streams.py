"""The simulated runtime keeps the contract of streams, in virtual time, in any order of its tasks."""

from __future__ import annotations

from typing import Any

import pytest

from contract.streams import StreamsContract
from sim.loop import bury
from sim.test_contracts import Runtimes
from sim.world import World

CASES = sorted(name for name in vars(StreamsContract) if name.startswith("test_"))


@pytest.mark.parametrize("name", CASES)
def test_the_simulated_runtime_keeps_the_contract(name: str) -> None:
    case: Any = getattr(StreamsContract(), name)
    (marks,) = [m.args[1] for m in getattr(case, "pytestmark", ()) if m.name == "parametrize"] or [(None,)]
    for seed in range(5):
        for value in marks:
            world = World(seed)
            world.loop.shuffled = True
            more = () if value is None else (value,)
            try:
                world.loop.run_until_complete(case(Runtimes(world), *more))
            finally:
                bury(world.loop)
