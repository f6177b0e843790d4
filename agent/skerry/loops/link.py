"""Link → journal → link. Acknowledge only what is durable; carry out what the session decides, and nothing else.

Knows nothing of pods or the runtime. The connection comes and goes with full jitter; silence and refusals of the hub
are the session's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

from skerry.errors import LinkLost, StoreFull
from skerry.journal.journal import Journal
from skerry.limits import JOURNAL_ALARM_RATIO, LINK_REASONS_MAX, NONCE_BYTES, RECONNECT_BACKOFF_S, STEP_BACKOFF_S
from skerry.loops.protect import Protected, Protection
from skerry.loops.pulse import Beat
from skerry.loops.report import Counters, Log, Sparing
from skerry.model.report import Event
from skerry.plan.backoff import full_jitter
from skerry.ports import Clock, Entropy, Inbound, Link
from skerry.wire.guard import Secrets
from skerry.wire.session import Commit, DeviceSession, Dialled, Effect, Note, Retell, Send, Tell, Trim

Dialling = Callable[[bytes, Secrets | None], None]


async def link_loop(
    link: Link,
    journal: Journal,
    session: DeviceSession,
    clock: Clock,
    entropy: Entropy,
    log: Log,
    counters: Counters,
    beat: Beat,
    dialled: Dialling,
    protection: Callable[[], Protection] | None = None,
) -> None:
    """Run for ever: connect, converse until the connection is lost, wait, again. `dialled` gets the epoch when the hub
    asks for the connection for streams, and what protects it; it only leaves word. `protection` is asked after each
    connection, for the device may be enrolled only then; None: the broker is one in clear."""
    failures, log = 0, Sparing(log, clock)
    said: set[str] = set()  # since the last connection: what is new is told, however long it has been away
    while True:
        beat.works()
        try:
            await link.connect()
            log("link: connected")
            counters["link_connects"] += 1
            failures = 0
            said.clear()
            protected = protection() if protection is not None else None
            session.proves = protected.proves if protected is not None else None
            frames = Protected(link, protected, clock, entropy, log, counters)
            await Conversation(link, frames, journal, session, clock, entropy, log, counters, beat, dialled).run()
        except LinkLost as why:
            if failures < 3 or (str(why) not in said and len(said) < LINK_REASONS_MAX):
                said.add(str(why))
                log(f"link: {why}")
            counters["link_lost"] += 1
        finally:
            session.lost()
            await link.close()
        failures += 1
        beat.waits()
        await clock.sleep_until(clock.now() + full_jitter(RECONNECT_BACKOFF_S, failures, entropy.uniform()))


class Conversation:
    """One connection's life."""

    def __init__(
        self,
        link: Link,
        frames: Protected,
        journal: Journal,
        session: DeviceSession,
        clock: Clock,
        entropy: Entropy,
        log: Log,
        counters: Counters,
        beat: Beat,
        dialled: Dialling,
    ) -> None:
        self._dialled, self._frames = dialled, frames
        self._link, self._journal, self._session = link, journal, session
        self._clock, self._entropy, self._log, self._counters, self._beat = clock, entropy, log, counters, beat
        self._owed_at: float | None = clock.now() if journal.owes_reports else None  # when to try `retell` again
        self._owed_tries = 0
        self._told: set[str] = set()  # one for each of session.TOLD, and what they name: bounded by the back-off
        self._alarmed = False  # the journal is filling up, and that was said

    async def run(self) -> None:
        """Until LinkLost."""
        nonce = self._entropy.token(NONCE_BYTES)
        await self._carry_out(self._session.opened(self._journal, self._clock.now(), self._clock.wall(), nonce))
        waits: dict[str, asyncio.Task[Any]] = {}
        try:
            while True:
                self._ensure(waits, "frame", self._link.recv())
                self._ensure(waits, "bell", self._journal.for_link.wait())
                if self._session.deadline is not None:
                    self._ensure(waits, "deadline", self._clock.sleep_until(self._session.deadline))
                if self._owed_at is not None:
                    self._ensure(waits, "owed", self._clock.sleep_until(self._owed_at))
                self._beat.waits()
                done, _ = await asyncio.wait(waits.values(), return_when=asyncio.FIRST_COMPLETED)
                self._beat.works()
                for name in [n for n, task in waits.items() if task in done]:
                    await self._woken(name, waits.pop(name).result())
                if "deadline" in waits:
                    waits.pop("deadline").cancel()  # the next round waits for the present one
        finally:
            for task in waits.values():
                task.cancel()

    @staticmethod
    def _ensure(waits: dict[str, asyncio.Task[Any]], name: str, wait: Coroutine[Any, Any, Any]) -> None:
        if name in waits:
            wait.close()
        else:
            waits[name] = asyncio.ensure_future(wait)

    async def _woken(self, name: str, result: Any) -> None:
        now, jitter = self._clock.now(), self._entropy.uniform()
        if name == "frame":
            assert isinstance(result, Inbound)
            frame = await self._frames.opened(result.frame)
            if frame is not None:
                await self._carry_out(self._session.received(frame, self._journal, now, jitter))
            self._link.ack(result.handle)
        elif name == "bell":
            await self._carry_out(self._session.flush(self._journal, now))
        elif name == "owed":
            if self._owed_at is not None:
                await self._retell()
        else:
            nonce = self._entropy.token(NONCE_BYTES)
            await self._carry_out(self._session.tick(self._journal, now, self._clock.wall(), nonce, jitter))

    async def _carry_out(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(message):
                    await self._frames.send(message)
                case Commit():
                    await self._commit(effect)
                case Trim(seq):
                    with suppress(StoreFull):  # they stay, and go with the hub's next Ack
                        await self._journal.trim(seq)
                case Retell():
                    await self._retell()
                case Dialled(epoch):
                    self._dialled(epoch, self._frames.secrets)
                case Tell(reason, message):
                    await self._tell(reason, message)
                case Note(what):
                    self._counters["session_notes"] += 1
                    self._log(f"session: {what}")

    async def _retell(self) -> None:
        """What the hub asked for, or when the journal is full, later: a deletion that would make room must not wait for
        it."""
        try:
            await self._journal.retell()
            self._owed_at, self._owed_tries = None, 0
        except StoreFull:
            self._counters["store_full"] += 1
            self._owed_tries += 1
            delay = full_jitter(STEP_BACKOFF_S, self._owed_tries, self._entropy.uniform())
            self._owed_at = self._clock.now() + delay

    async def _tell(self, reason: str, message: str) -> None:
        """Once for each message and connection: who sends a set that is refused sends it again."""
        if message in self._told:
            return
        self._told.add(message)
        at, ident = int(self._clock.wall()), self._entropy.token(8).hex()
        with suppress(StoreFull):  # the log has it
            await self._journal.tell(None, [Event("", "", "", reason, message, True, at, ident)])

    async def _commit(self, commit: Commit) -> None:
        """A change that the session accepted: into the journal, then acknowledged."""
        try:
            await self._journal.apply(commit.change)
        except StoreFull as why:
            self._counters["store_full"] += 1
            now, jitter = self._clock.now(), self._entropy.uniform()
            await self._carry_out(self._session.not_committed(str(why), now, jitter))
            return
        self._counters["changes_applied"] += 1
        high = self._journal.store.usage() > JOURNAL_ALARM_RATIO
        if high and not self._alarmed:
            self._log(f"journal: over {JOURNAL_ALARM_RATIO:.0%} of journal_bytes_max is used")
        self._alarmed = high
        assert self._journal.desired.generation >= commit.change.generation
        await self._carry_out(self._session.committed(self._journal, self._clock.now()))
