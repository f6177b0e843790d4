"""The loop that renews: when it asks, how often, and that nothing ends it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from skerry.errors import EnrolmentFailed, EnrolmentRefused, LinkLost, SkerryError
from skerry.limits import RENEW_LOOK_S, RENEW_REFUSED_S
from skerry.loops.renew import renew_loop
from skerry.loops.report import Counters
from skerry.plan.certificate import Life, Time
from unit.hub.fakes import ManualClock, settle

DAY_S = 86_400.0
BEGIN = 1_000_000.0


class Half:
    def token(self, size: int) -> bytes:
        return bytes(size)

    def uniform(self) -> float:
        return 0.5


class Fake:
    """A device whose hub answers in turn: None renews, False has nothing new, an error is raised; the last for ever."""

    def __init__(self, clock: ManualClock, *answers: SkerryError | bool | None) -> None:
        self._clock, self._answers = clock, list(answers) or [None]
        self.life: Life | None = Life(BEGIN, BEGIN + 90 * DAY_S)
        self.ahead_s = 0.0  # by so much the clock runs ahead, until the hub has told the time
        self.refused = self.other_trust = False
        self.bell = asyncio.Event()
        self.asked: list[float] = []

    def time(self) -> Time:
        return Time(BEGIN + self._clock.now() + self.ahead_s, 0.0, not self.ahead_s)

    async def news(self) -> None:
        await self.bell.wait()
        self.bell.clear()

    async def renew(self) -> bool:
        self.asked.append(self._clock.now())
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, SkerryError):
            raise answer
        if answer is None:
            begins = BEGIN + self._clock.now()
            self.life, self.refused, self.other_trust = Life(begins, begins + 90 * DAY_S), False, False
        return answer is None


class Lines(list[str]):
    def __call__(self, line: str) -> None:
        self.append(line)


class Stage:
    def __init__(self) -> None:
        self.clock, self.lines, self.counters = ManualClock(), Lines(), Counters()
        self.task: asyncio.Task[None] | None = None

    async def plays(self, device: Fake) -> None:
        loop = renew_loop(device, self.clock, Half(), self.lines, self.counters)
        self.task = asyncio.ensure_future(loop)
        await settle()

    async def passes(self, seconds: float) -> None:
        """In steps, as timers end."""
        end, step_s = self.clock.now() + seconds, max(15.0, seconds / 400)
        while self.clock.now() < end:
            await self.clock.advance(min(step_s, end - self.clock.now()))
            await settle()


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    made = Stage()
    yield made
    assert made.task is not None
    assert not made.task.done()
    made.task.cancel()


async def test_it_asks_once_after_half_of_its_life(stage: Stage) -> None:
    device = Fake(stage.clock)
    await stage.plays(device)
    device.life = Life(BEGIN - 51 * DAY_S, BEGIN + 39 * DAY_S)
    device.bell.set()
    await settle()
    assert device.asked == [], "at 57.5 % of its life, which is tomorrow"
    await stage.passes(DAY_S)
    assert len(device.asked) == 1
    assert stage.lines == ["renewal: done, because its certificate is halfway through its life"]
    await stage.passes(DAY_S)
    assert len(device.asked) == 1


async def test_a_hub_that_is_away_is_asked_again_rarely_and_told_of_once(stage: Stage) -> None:
    device = Fake(stage.clock, EnrolmentFailed("hub: no route"))
    device.life = Life(BEGIN - 80 * DAY_S, BEGIN + 10 * DAY_S)
    await stage.plays(device)
    await stage.passes(2 * DAY_S)
    assert 8 <= len(device.asked) <= 30
    assert [line for line in stage.lines if "no route" in line] == stage.lines
    assert len(stage.lines) == 1
    assert stage.counters["certificate_renewals_failed"] == len(device.asked)


async def test_who_is_revoked_asks_a_few_times_a_day_and_never_gives_up(stage: Stage) -> None:
    device = Fake(stage.clock, *[EnrolmentRefused("revoked")] * 5, None)
    device.life = Life(BEGIN - 80 * DAY_S, BEGIN + 10 * DAY_S)
    await stage.plays(device)
    await stage.passes(DAY_S)
    assert 1 <= len(device.asked) <= DAY_S / RENEW_REFUSED_S[0] * 2
    await stage.passes(4 * DAY_S)
    assert stage.lines[-1].startswith("renewal: done")


async def test_a_broker_that_refuses_makes_it_urgent_though_it_failed_before(stage: Stage) -> None:
    device = Fake(stage.clock, EnrolmentFailed("away"), EnrolmentFailed("away"), EnrolmentFailed("away"), None)
    device.life = Life(BEGIN - 80 * DAY_S, BEGIN + 10 * DAY_S)
    await stage.plays(device)
    await stage.passes(3_600)
    device.refused = True
    device.bell.set()
    await settle()
    await stage.passes(120)
    assert stage.lines[-1] == "renewal: done, because the broker takes its certificate no more"
    assert not device.refused


async def test_a_broker_that_refuses_for_ever_does_not_make_the_device_hammer(stage: Stage) -> None:
    """The hub gives the same again: it is a broker that was set up wrongly."""
    device = Fake(stage.clock, False)
    device.refused = True
    await stage.plays(device)
    await stage.passes(3_600)
    assert 3 <= len(device.asked) <= 20


async def test_other_authorities_are_fetched_within_the_quarter_of_an_hour(stage: Stage) -> None:
    device = Fake(stage.clock)
    await stage.plays(device)
    device.other_trust = True
    device.bell.set()
    await settle()
    assert device.asked == []
    await stage.passes(900)
    assert len(device.asked) == 1


@pytest.mark.parametrize("told", [True, False])
async def test_a_clock_that_runs_ahead_waits_for_the_hubs_time_and_not_for_ever(stage: Stage, told: bool) -> None:
    device = Fake(stage.clock)
    device.ahead_s = 365 * DAY_S
    await stage.plays(device)
    await stage.passes(600)
    assert device.asked == []
    if told:
        device.ahead_s = 0.0
        device.bell.set()
    await stage.passes(3_600)
    assert len(device.asked) == (0 if told else 1)


async def test_without_an_identity_it_waits_for_one(stage: Stage) -> None:
    device = Fake(stage.clock, LinkLost("under way"), None)
    device.life = None
    await stage.plays(device)
    await stage.passes(RENEW_LOOK_S)
    assert device.asked == []
    device.life = Life(0.0, 1.0)
    device.bell.set()
    await stage.passes(300)
    assert len(device.asked) == 2
