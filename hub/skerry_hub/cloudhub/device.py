"""One device at the hub: its bounded queue, its task, its reports on the way to the API. Drives `session.HubSession`.

Nothing here waits for another device. What comes in is put into the queue at once or dropped and counted; what the
session decides is carried out by this device's own task; reports are stored by a second one, so that an API that is
away keeps no Hello waiting.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from skerry.errors import LimitExceeded, LinkLost, Malformed
from skerry.limits import ACK_TIMEOUT_S, CREDIT_FRAMES, SESSION_QUEUE_FRAMES_MAX, STATUS_COALESCE_S, TEXT_CHARS_MAX
from skerry.model.report import OutboxItem
from skerry.plan.backoff import full_jitter
from skerry.ports import Clock, Entropy
from skerry.wire.guard import HubGuard, NoSession, Replayed, Secrets
from skerry.wire.message import Hello, Message, Reject, RejectCode, Report
from skerry_hub.cloudhub.alarms import Alarms
from skerry_hub.cloudhub.counts import SessionCounts
from skerry_hub.cloudhub.flood import Flood, Hellos
from skerry_hub.cloudhub.protect import Frames, Garbled
from skerry_hub.cloudhub.session import (
    Applied,
    Effect,
    Full,
    Held,
    HubSession,
    Note,
    OpenEpoch,
    Presence,
    Send,
    State,
    StoreReports,
)
from skerry_hub.limits import CRASH_BACKOFF_S, PRESENCE_GRACE_S, REJECT_PAUSE_S
from skerry_hub.sets import Given, Target

Log = Callable[[str], None]


class Controller(Protocol):
    """What sessions want of whoever knows the API. All but store_reports return at once."""

    def target(self, node: str) -> Target | None:
        """The set this device should have as of now; None while it cannot be known."""

    async def store_reports(self, node: str, items: Sequence[OutboxItem]) -> None:
        """Return once all of it is stored. Raises nothing."""

    def open_epoch(self, node: str, version: int) -> None: ...

    def presence(self, node: str, live: bool) -> None: ...

    def held(self, node: str, held: bool, why: str) -> None: ...

    def full(self, node: str, why: str) -> None: ...


class Device:
    """`push`, `will`, `cut`, `hail` and `changed` are called on the loop and only leave word."""

    def __init__(
        self,
        node: str,
        controller: Controller,
        send: Callable[[bytes], Awaitable[None]],
        flooded: Callable[[], None],
        alarms: Alarms,
        clock: Clock,
        entropy: Entropy,
        log: Log,
        given: Given | None = None,
        guard: HubGuard | None = None,
    ) -> None:
        """`send` publishes to the device and raises LinkLost; `flooded` says that `listening` has become False; without
        `guard` frames are in clear."""
        self.node, self._controller, self._send, self._flooded = node, controller, send, flooded
        self._alarms, self._clock, self._entropy, self._log = alarms, clock, entropy, log
        self.session, self._frames = HubSession(node, given), Frames(guard, entropy)
        self.counts = SessionCounts()
        self.applied: Applied | None = None
        self.last_note = ""
        self.shown: bool | None = None  # the presence that the controller knows
        self._queue: deque[bytes] = deque()
        self._reports: deque[StoreReports] = deque()
        self._taken: deque[float] = deque()  # since when the oldest item of each Report waits that is not stored
        self._stored: deque[tuple[bytes, int]] = deque()
        self._stored_at = -STATUS_COALESCE_S
        self._bell = asyncio.Event()
        self._will = self._cut = self._hail = self._changed = self._expelled = False
        self._dial, self._reject_after = b"", 0.0  # the epoch to ask for; no Reject before
        self._prove_by: float | None = None  # for the device to show that its Hello is no copy
        self._claims: dict[type, Effect] = {}  # what follows from one that it has not shown to be none
        self._failed: Exception | None = None
        self._armed: float | None = None
        self._absent_at: float | None = clock.now() + PRESENCE_GRACE_S
        self._flood, self._hellos = Flood(), Hellos()
        self._storing: asyncio.Task[None] | None = None

    # --- word from outside --------------------------------------------------------------------------------------------

    def push(self, frame: bytes) -> None:
        """A frame of the device. Over the bound it is dropped and counted."""
        self.counts.frames += 1
        self.counts.bytes_in += len(frame)
        if self._flood.until is not None or len(self._queue) >= SESSION_QUEUE_FRAMES_MAX:
            self._drop("dropped_queue")
            return
        self._queue.append(frame)
        self.counts.queue_peak = max(self.counts.queue_peak, len(self._queue))
        self._bell.set()

    def will(self) -> None:
        """The device is gone, says the broker. What it sent before is told again in its next session."""
        self.counts.wills += 1
        if self._will:
            self._drop("dropped_queue")
            return
        self._queue.clear()
        self._will = True
        self._bell.set()

    def cut(self) -> None:
        """The broker connection is gone."""
        self._queue.clear()
        self._cut = True
        self._bell.set()

    def hail(self) -> None:
        """The broker connection is up: ask the device to say Hello."""
        self._hail = True
        self._bell.set()

    def changed(self) -> None:
        """The target may be another one."""
        self._changed = True
        self._bell.set()

    def identity_changed(self) -> bool:
        """Whether the session's device is one no more: then its keys are gone at once, and the session ends."""
        if self._frames.admitted:
            return False
        self._frames.forget()
        self._queue.clear()
        self._expelled = True
        self.counts.expelled += 1
        self._log(f"{self.node}: its identity was revoked or replaced: the session is over")
        self._bell.set()
        return True

    def dial(self, epoch: bytes) -> bool:
        """Ask for the connection for streams. False when the device is not there."""
        if self.session.state is not State.LIVE:
            return False
        self._dial = epoch
        self._bell.set()
        return True

    def secrets(self, epoch: bytes) -> Secrets | None:
        """What protects the streams of this epoch; None where it was not asked for, or frames are in clear."""
        return self._frames.secrets(epoch)

    @property
    def trust(self) -> bytes:
        """Which authorities it believes, as it said last; nothing where that is not known."""
        return self._frames.trust

    @property
    def queue_depth(self) -> int:
        return len(self._queue)

    @property
    def outbox_age_s(self) -> float | None:
        """How long the oldest report that came here and is not stored has waited, since it came about on the device; 0
        where all is stored. None while the device is away: what it keeps is not known then."""
        if self._taken:
            return self._clock.now() - min(self._taken)
        return 0.0 if self.session.state is State.LIVE else None

    @property
    def listening(self) -> bool:
        """Whether the hub wants to hear this device now."""
        return self._flood.over(self._clock.now())

    # --- its task -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Never returns. A failure is a bug: it is counted, and the session begins anew after a back-off."""
        failures = 0
        try:
            while True:
                try:
                    await self._serve()
                except Exception as why:
                    failures += 1
                    self.counts.crashes += 1
                    self._log(f"{self.node}: session failed: {why!r}")
                    self._begin_anew()
                    delay = full_jitter(CRASH_BACKOFF_S, failures, self._entropy.uniform())
                    await self._clock.sleep_until(self._clock.now() + delay)
                    self.hail()
        finally:
            if self._storing is not None:
                self._storing.cancel()

    async def _serve(self) -> None:
        while True:
            self._arm()
            await self._bell.wait()
            self._bell.clear()
            if self._failed is not None:
                failed, self._failed = self._failed, None
                raise failed
            await self._told()
            while self._queue and not (self._will or self._cut or self._expelled):
                await self._frame(self._queue.popleft())
                await asyncio.sleep(0)  # the others' turn
            while self._stored:
                await self._carry_out(self.session.stored(*self._stored.popleft()))
            await self._due()

    async def _told(self) -> None:
        """Word that came since the last turn; it stands before the frames that came after it."""
        now = self._clock.now()
        if self._cut or self._will or self._expelled:
            ask, gone = self._will and not self._expelled and not self._cut, self._will or self._expelled
            self._will = self._cut = self._expelled = False
            await self._carry_out(self.session.vanished(now) if ask else self.session.lost(now), gone)
            if gone:
                self._show(False)
        if self._changed:
            self._changed = False
            await self._refresh()
        if self._dial:
            epoch, self._dial = self._dial, b""
            await self._carry_out(self.session.dial(epoch))
        if self._hail:
            self._hail = False
            await self._carry_out(self.session.hail(self._clock.now()))

    async def _refresh(self) -> None:
        target = self._controller.target(self.node)
        if target is not None:
            await self._carry_out(self.session.target(target, self._clock.now()))

    async def _frame(self, payload: bytes) -> None:
        if self._frames.greets(payload) and not self._hellos.allowed(self._clock.now()):
            self._drop("dropped_hello")  # so that it ends no session either
            return
        try:
            got = self._frames.opened(payload)
        except (Garbled, LimitExceeded) as why:
            self._note(f"malformed frame: {why}")
            self.counts.malformed += 1
            self._dropped()
            await self._carry_out(self.session.lost(self._clock.now()))
            await self._publish(Reject(b"", RejectCode.MALFORMED, str(why)[: TEXT_CHARS_MAX // 8]))
            return
        except Replayed:
            self.counts.replayed += 1
            return
        except Malformed as why:
            await self._refused(why)
            return
        if self._prove_by is not None and self._frames.proven:
            self._prove_by, claims = None, list(self._claims.values())
            self._claims.clear()
            await self._carry_out(claims)
            if self.session.state is not State.AWAY:
                self._show(True)
        if got is None:
            return
        if isinstance(got, Report):
            if len(self._taken) >= CREDIT_FRAMES:  # the session sees the gap in the next one
                self._drop("dropped_credit")
                return
            self.counts.reports += 1
        elif isinstance(got, Hello):
            self.counts.hellos += 1
            self._prove_by = None if self._frames.proven else self._clock.now() + ACK_TIMEOUT_S
            self._claims.pop(OpenEpoch, None)  # it is asked for again; the others stand until one of their kind comes
        await self._carry_out(self.session.received(got, self._clock.now()))
        if isinstance(got, Hello):
            await self._refresh()  # its version may be one that the hub has reached only just now

    async def _refused(self, why: Malformed) -> None:
        """What the device did not say, or said in a session that this process does not know. It ends nothing: any
        broker could send it."""
        self._note(f"refused frame: {why}")
        self.counts.refused += 1
        self._dropped()
        if isinstance(why, NoSession) and self._clock.now() >= self._reject_after:
            self._reject_after = self._clock.now() + REJECT_PAUSE_S
            await self._publish(Reject(b"", RejectCode.NO_SESSION))

    async def _due(self) -> None:
        now = self._clock.now()
        if self.session.deadline is not None and now >= self.session.deadline:
            if self.session.state is not State.AWAY:
                await self._refresh()
            await self._carry_out(self.session.tick(self._clock.now()))
        if self._prove_by is not None and now >= self._prove_by:
            self._prove_by = None
            if self.session.state is not State.AWAY:  # else it was hailed
                await self._carry_out([Note("a Hello, and nothing that shows it was no copy"), *self.session.lost(now)])
                await self._carry_out(self.session.hail(now))
        if self._absent_at is not None and now >= self._absent_at:
            self._show(False)

    def _arm(self) -> None:
        """Have the bell rung at the next deadline, unless an alarm before it is set already."""
        due = [t for t in (self.session.deadline, self._absent_at, self._prove_by) if t is not None]
        if due and (self._armed is None or min(due) < self._armed):
            self._armed = min(due)
            self._alarms.at(self._armed, self._rung)

    def _rung(self) -> None:
        self._armed = None
        self._bell.set()

    # --- effects ------------------------------------------------------------------------------------------------------

    async def _carry_out(self, effects: Sequence[Effect], gone: bool = False) -> None:
        for effect in effects:
            match effect:
                case Send(said):
                    await self._publish(said)
                case OpenEpoch() | Held() | Full() | Applied() if not self._frames.proven:
                    self._claims[type(effect)] = effect
                case StoreReports():
                    self._take(effect)
                case OpenEpoch(version):
                    self._controller.open_epoch(self.node, version)
                case Held(held, why):
                    self._controller.held(self.node, held, why)
                case Full(why):
                    self._controller.full(self.node, why)
                case Presence(True):
                    if self._frames.proven:
                        self._show(True)
                case Presence(False):
                    self.counts.lost += 1
                    if not gone and self._absent_at is None:
                        self._absent_at = self._clock.now() + PRESENCE_GRACE_S
                case Applied():
                    self.applied = effect
                case Note(what):
                    self._note(what)

    async def _publish(self, said: Message) -> None:
        if isinstance(said, Reject) and not self._may_reject(said):
            return
        try:
            frame = self._frames.closed(said)
            await self._send(frame)
            self.counts.sent += 1
            self.counts.bytes_out += len(frame)
        except LimitExceeded as why:
            self.counts.too_large += 1
            self._note(f"{type(said).__name__} cannot be sent: {why}")
        except LinkLost:
            pass  # the connection's own loop sees it too, and says Hello to everybody

    def _may_reject(self, said: Reject) -> bool:
        now = self._clock.now()
        if said.code is RejectCode.NO_SESSION and not said.nonce:  # a hail; the session paces them
            self.counts.hails += 1
        elif now < self._reject_after:
            self.counts.rejects_held += 1
            return False
        else:
            self._reject_after = now + REJECT_PAUSE_S
        self.counts.rejects += 1
        return True

    def _show(self, live: bool) -> None:
        self._absent_at = None
        if live != self.shown:
            self.shown = live
            self._controller.presence(self.node, live)

    def _note(self, what: str) -> None:
        self.counts.notes += 1
        self.last_note = what
        if what.startswith("the device rejects"):
            self.counts.rejected += 1

    # --- reports ------------------------------------------------------------------------------------------------------

    def _take(self, reports: StoreReports) -> None:
        self._reports.append(reports)
        self._taken.append(self._clock.now() - reports.waited_s)
        if self._storing is None or self._storing.done():
            self._storing = asyncio.ensure_future(self._store())

    async def _store(self) -> None:
        """Everything that waits is one batch; batches closer than STATUS_COALESCE_S become one."""
        try:
            while self._reports:
                await self._clock.sleep_until(self._stored_at + STATUS_COALESCE_S)
                batch = [self._reports.popleft()]
                while self._reports and self._reports[0].journal_id == batch[0].journal_id:
                    batch.append(self._reports.popleft())
                await self._controller.store_reports(self.node, [item for r in batch for item in r.items])
                self._stored_at = self._clock.now()
                for _ in batch:
                    self._taken.popleft()
                self._stored.append((batch[-1].journal_id, batch[-1].items[-1].seq))
                self._bell.set()
        except Exception as why:
            self._failed = why
            self._bell.set()

    def _begin_anew(self) -> None:
        if self._storing is not None:
            self._storing.cancel()
        self.session, self._storing = HubSession(self.node, self.session.given), None
        self._taken.clear()
        self._queue.clear()
        self._reports.clear()
        self._stored.clear()
        self._changed = True
        if self._absent_at is None:
            self._absent_at = self._clock.now() + PRESENCE_GRACE_S

    # --- floods -------------------------------------------------------------------------------------------------------

    def _drop(self, counter: str) -> None:
        setattr(self.counts, counter, getattr(self.counts, counter) + 1)
        self._dropped()

    def _dropped(self) -> None:
        """Too many drops within the window: the hub stops to listen for a while."""
        now = self._clock.now()
        if not self._flood.dropped(now, self._entropy.uniform):
            return
        assert self._flood.until is not None, "it has just begun"
        self.counts.floods += 1
        self._log(f"{self.node}: floods the hub, not listened to for {self._flood.until - now:.0f} s")
        self.cut()
        self._alarms.at(self._flood.until, self._flooded)
        self._flooded()
