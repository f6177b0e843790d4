"""Certificates are renewed before they end, and after it, when they did while the device was away.

Decides when to ask (by plan.certificate) and how often. Whatever comes of it, connections are tried as before: a broker
judges certificates by its own clock, and this device's may be wrong.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from skerry.errors import EnrolmentFailed, EnrolmentRefused, LinkLost
from skerry.limits import RENEW_LOOK_S, RENEW_RETRY_S
from skerry.loops.report import Counters, Log
from skerry.plan.backoff import full_jitter
from skerry.plan.certificate import Life, Time, Why, renewal_due, retry_bounds
from skerry.ports import Clock, Entropy


class Renewable(Protocol):
    """This device's certificates. Adapter: world.enrolled.Enrolment."""

    @property
    def life(self) -> Life | None:
        """Of the present ones; None while it is not enrolled, or that is not known yet."""

    @property
    def refused(self) -> bool:
        """The broker has refused the present ones."""

    @property
    def other_trust(self) -> bool:
        """The hub wants other authorities to be believed than those that came with the present ones."""

    def time(self) -> Time: ...

    async def news(self) -> None:
        """Return once any of the above may be another."""

    async def renew(self) -> bool:
        """Whether the hub gave anything that is new; it is used from the next connection on. Raises EnrolmentRefused
        (it knows this device no more), EnrolmentFailed, LinkLost."""


async def renew_loop(certificate: Renewable, clock: Clock, entropy: Entropy, log: Log, counters: Counters) -> None:
    """Run for ever."""
    watched = Watched(certificate, clock, entropy, log, counters)
    while True:
        at = watched.due_at()
        if at is not None and clock.now() >= at:
            await watched.renew()
            continue
        latest = clock.now() + RENEW_LOOK_S
        await _woken(certificate, clock, latest if at is None else min(at, latest))


async def _woken(certificate: Renewable, clock: Clock, at: float) -> None:
    waits = [asyncio.ensure_future(certificate.news()), asyncio.ensure_future(clock.sleep_until(at))]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


class Watched:
    """The present certificates, and what was tried for the next ones."""

    def __init__(self, certificate: Renewable, clock: Clock, entropy: Entropy, log: Log, counters: Counters) -> None:
        self._certificate, self._clock, self._entropy = certificate, clock, entropy
        self._log, self._counters = log, counters
        self._life: Life | None = None
        self._jitter = 0.0  # of that certificate
        self._why: Why | None = None
        self._since, self._not_before, self._failures = 0.0, 0.0, 0
        self._told = ""

    def due_at(self) -> float | None:
        """The monotonic time of the next try; None without certificates."""
        life = self._certificate.life
        if life is None:
            return None
        if life != self._life:
            self._life, self._jitter, self._why = life, self._entropy.uniform(), None
        found = self._certificate
        due = renewal_due(life, found.time(), found.refused, found.other_trust, self._jitter)
        now = self._clock.now()
        if due.why is not self._why:
            urgent = due.why in (Why.REFUSED, Why.ENDED) and self._why not in (Why.REFUSED, Why.ENDED)
            self._why, self._since = due.why, now
            if urgent:
                self._failures, self._not_before = 0, 0.0
        begin = now if due.why is Why.AGE else self._since
        return max(begin + due.after_s, self._not_before)

    async def renew(self) -> None:
        """Try once, and say when it may be tried again."""
        why = self._why
        assert why is not None, "something made it due"
        final, problem = False, ""
        try:
            if not await self._certificate.renew():
                problem = "the hub has nothing new"
        except EnrolmentRefused as refused:
            final, problem = True, str(refused)
        except (EnrolmentFailed, LinkLost) as failed:
            problem = str(failed)
        now = self._clock.now()
        if not problem:
            self._counters["certificate_renewals"] += 1
            self._log(f"renewal: done, because {why.value}")
            self._failures, self._told, self._not_before = 0, "", now + RENEW_RETRY_S[0]
            return
        self._failures += 1
        self._counters["certificate_renewals_failed"] += 1
        self._not_before = now + full_jitter(retry_bounds(why, final), self._failures, self._entropy.uniform())
        if problem != self._told:  # an hour of the same is one line
            self._log(f"renewal: due, because {why.value}: {problem}")
        self._told = problem
