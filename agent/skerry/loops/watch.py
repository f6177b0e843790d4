"""Runtime → journal. Looks where an event or steer points, and at everything now and then; acts on nothing.

The only loop that reads the runtime. Events are hints: what counts is what a look shows, and the relist is the net
under events that were missed.
"""

from __future__ import annotations

import asyncio

from skerry.errors import RuntimeAway, RuntimeFailed
from skerry.journal.journal import Journal
from skerry.limits import LOOK_BATCH_MAX, RELIST_FIRST_S, RELIST_S, RUNTIME_BACKOFF_S
from skerry.loops.pulse import Beat
from skerry.loops.report import Counters, Log
from skerry.plan.backoff import full_jitter
from skerry.ports import Clock, Entropy, Runtime


async def watch_loop(
    runtime: Runtime, journal: Journal, clock: Clock, entropy: Entropy, log: Log, counters: Counters, beat: Beat
) -> None:
    """Run for ever: subscribe, look, follow; when the runtime goes away, wait and begin again. The stream's first event
    asks for the first look, so that one is enough."""
    failures = 0
    while True:
        follow = asyncio.ensure_future(_follow(runtime, journal))
        relist = asyncio.ensure_future(_relist(journal, clock))
        try:
            while True:
                beat.waits()
                await _either(journal.for_watch.wait(), follow)
                await _look(runtime, journal, counters, beat)
                if failures:
                    log("runtime: back")
                failures = 0
        except (RuntimeAway, RuntimeFailed) as why:
            journal.runtime_lost(str(why))
            failures += 1
            counters["runtime_lost"] += 1
            if failures <= 3:
                log(f"runtime: {why}")
        finally:
            follow.cancel()
            relist.cancel()
        beat.waits()
        await clock.sleep_until(clock.now() + full_jitter(RUNTIME_BACKOFF_S, failures, entropy.uniform()))


async def _follow(runtime: Runtime, journal: Journal) -> None:
    """Turn events into wishes to look. Ends with RuntimeAway."""
    async for event in runtime.events():
        journal.want_look(event.pod_uid)
    raise RuntimeAway("the runtime ended its event stream")


async def _relist(journal: Journal, clock: Clock) -> None:
    """A net under missed events: soon after the stream opened, since the runtime may still be noticing what happened
    just before, and then rarely."""
    await clock.sleep_until(clock.now() + RELIST_FIRST_S)
    while True:
        journal.want_look()
        await clock.sleep_until(clock.now() + RELIST_S)


async def _look(runtime: Runtime, journal: Journal, counters: Counters, beat: Beat) -> None:
    """One round of looks at whatever is wanted."""
    looks = journal.looks()
    if looks is not None and len(looks) > LOOK_BATCH_MAX:
        journal.want_look()
        looks = None
    journal.looked(looks)
    beat.works()
    if looks is None:
        counters["looks_at_all"] += 1
        journal.observe(None, await runtime.look())
    for uid in sorted(looks or ()):
        counters["looks"] += 1
        beat.works()
        journal.observe({uid}, await runtime.look(uid))


async def _either(wanted: object, follow: asyncio.Future[None]) -> None:
    """Wait for the bell, or for the event stream to end (which raises)."""
    bell = asyncio.ensure_future(wanted)  # type: ignore[call-overload]
    try:
        await asyncio.wait({bell, follow}, return_when=asyncio.FIRST_COMPLETED)
        if follow.done():
            follow.result()
    finally:
        if not bell.done():
            bell.cancel()
