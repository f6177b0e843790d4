"""What every Clock and Entropy promise (ports.Clock, ports.Entropy). Subclasses give `clock` and `entropy`."""

from __future__ import annotations

import asyncio

from skerry.ports import Clock, Entropy


class ClockContract:
    async def test_now_never_goes_back(self, clock: Clock) -> None:
        last = clock.now()
        for _ in range(1000):
            now = clock.now()
            assert now >= last
            last = now

    async def test_after_sleeping_it_is_late_enough(self, clock: Clock) -> None:
        for nap in (0.0001, 0.0015, 0.01, 0.0333):
            when = clock.now() + nap
            await clock.sleep_until(when)
            assert clock.now() >= when

    async def test_a_time_that_was_is_no_sleep(self, clock: Clock) -> None:
        now = clock.now()
        await clock.sleep_until(now - 1000)
        await clock.sleep_until(now)
        assert clock.now() - now < 1

    async def test_sleepers_wake_in_the_order_of_their_times(self, clock: Clock) -> None:
        start, woken = clock.now() + 0.01, list[int]()

        async def sleeper(number: int) -> None:
            await clock.sleep_until(start + number * 0.01)
            woken.append(number)

        await asyncio.gather(*(sleeper(number) for number in (4, 1, 3, 0, 2)))
        assert woken == [0, 1, 2, 3, 4]

    async def test_a_sleep_of_years_can_be_cancelled(self, clock: Clock) -> None:
        task = asyncio.ensure_future(clock.sleep_until(clock.now() + 1e9))
        await asyncio.sleep(0)
        task.cancel()
        assert await asyncio.gather(task, return_exceptions=True)

    async def test_wall_is_a_date(self, clock: Clock) -> None:
        assert clock.wall() >= 0


class EntropyContract:
    def test_tokens_have_their_size_and_differ(self, entropy: Entropy) -> None:
        assert [len(entropy.token(size)) for size in (0, 1, 16, 100)] == [0, 1, 16, 100]
        assert len({entropy.token(16) for _ in range(100)}) == 100

    def test_uniform_covers_its_range(self, entropy: Entropy) -> None:
        drawn = [entropy.uniform() for _ in range(1000)]
        assert all(0 <= number < 1 for number in drawn)
        assert min(drawn) < 0.1
        assert max(drawn) > 0.9
