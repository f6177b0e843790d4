"""The Clock and Entropy contracts on the kernel's, on asyncio and uvloop."""

from __future__ import annotations

import time

import pytest

from contract.clock import ClockContract, EntropyContract
from skerry.world.clock import SystemClock
from skerry.world.entropy import SystemEntropy

LOOPS = ("asyncio", "uvloop")


@pytest.fixture
def clock() -> SystemClock:
    return SystemClock()


@pytest.fixture
def entropy() -> SystemEntropy:
    return SystemEntropy()


class TestSystemClock(ClockContract):
    async def test_wall_is_the_systems(self, clock: SystemClock) -> None:
        assert abs(clock.wall() - time.time()) < 1


class TestSystemEntropy(EntropyContract):
    pass
