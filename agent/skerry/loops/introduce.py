"""Board → journal. Tells the hub what the board is, and that its container runtime is away or back.

Told when it changes, never on a schedule. Decides nothing about pods: an outage stops none of them and starts none.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from skerry import __version__
from skerry.errors import SkerryError, StoreBroken
from skerry.journal.journal import Journal
from skerry.limits import RUNTIME_BACKOFF_S, RUNTIME_STEADY_S, STATUS_MESSAGE_CHARS_MAX
from skerry.model.report import NodeFacts
from skerry.plan.backoff import full_jitter, outage_delay
from skerry.ports import Clock, Entropy, Host, Runtime

DOWN = "container runtime is down"  # kubelet's words, pkg/kubelet/runtime.go


async def introduce_loop(journal: Journal, host: Host, runtime: Runtime, clock: Clock, entropy: Entropy) -> None:
    """Run for ever: wait until the runtime is surely up or away, tell it, wait until that changes."""
    why, failures, outages = "", 0, 0
    while True:
        why = await _settled(journal, clock, 0.0 if why and failures else outage_delay(outages))
        try:
            await _tell(why, journal, host, runtime)
        except StoreBroken:
            raise
        except SkerryError:  # no room in the journal, or the runtime is away after all
            failures += 1
            await clock.sleep_until(clock.now() + full_jitter(RUNTIME_BACKOFF_S, failures, entropy.uniform()))
            continue
        failures, outages, told_at = 0, outages + bool(why), clock.now()
        while bool(journal.runtime_trouble) == bool(why):
            await journal.for_introduce.wait()
        if not why and clock.now() - told_at >= RUNTIME_STEADY_S:
            outages = 0


async def _settled(journal: Journal, clock: Clock, delay_s: float) -> str:
    """Why the runtime is away, once it has been for `delay_s`; empty as soon as it is up."""
    while not journal.runtime_up:
        if not journal.runtime_trouble:
            await journal.for_introduce.wait()
            continue
        bell = asyncio.ensure_future(journal.for_introduce.wait())
        patience = asyncio.ensure_future(clock.sleep_until(clock.now() + delay_s))
        try:
            await asyncio.wait({bell, patience}, return_when=asyncio.FIRST_COMPLETED)
            if patience.done() and journal.runtime_trouble:
                return journal.runtime_trouble
        finally:
            bell.cancel()
            patience.cancel()
    return ""


async def _tell(why: str, journal: Journal, host: Host, runtime: Runtime) -> None:
    """Journal the facts if they differ from those told before. The runtime's version needs the runtime."""
    told = journal.node
    if why:
        facts, boot_id = _troubled(host.facts(), told, why), journal.boot_id  # what survived the boot is not known yet
    else:
        facts = replace(host.facts(), runtime=await runtime.version(), agent=__version__)
        boot_id = facts.boot_id
    if facts != told:
        await journal.tell_node(facts, boot_id)


def _troubled(facts: NodeFacts, told: NodeFacts | None, why: str) -> NodeFacts:
    problem = f"{DOWN}: {why}"[:STATUS_MESSAGE_CHARS_MAX]
    return replace(facts, runtime=told.runtime if told is not None else "", agent=__version__, problem=problem)
