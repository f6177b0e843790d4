"""The hub's end of one device's session, sans-IO: messages, targets and time in, effects out.

    AWAY ──Hello──► GREETED ──target known──► LIVE ──lost──► AWAY
                                               │  one Delta in flight; changes meanwhile become the next one

State is compared by content. What the device has (`base`) is learned from its Inventory, or remembered in memory from
Deltas that it acknowledged; nothing of it is on disk, and losing it costs one Inventory. Knows no broker and no API.

No state is without a way out: AWAY hails with back-off for ever, GREETED
ends by the device's own HELLO_TIMEOUT_S, and in LIVE whatever needs an answer has a deadline.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from enum import Enum

from skerry.limits import ACK_TIMEOUT_S, CREDIT_FRAMES, HAIL_BACKOFF_S, RESTORED_WAIT_S
from skerry.model.desired import packed
from skerry.model.report import OutboxItem
from skerry.wire.delta import next_step
from skerry.wire.message import (
    Ack,
    Delta,
    Dial,
    Hello,
    Inventory,
    Message,
    Reject,
    RejectCode,
    Report,
    Welcome,
)
from skerry_hub.sets import Given, KnownSet, Target

NONCES_MAX = 16  # of earlier Hellos, to know a repeated one


class State(str, Enum):
    AWAY = "away"
    GREETED = "greeted"  # said Hello; the informers are not synced yet
    LIVE = "live"


@dataclass(frozen=True, slots=True)
class Send:
    message: Message


@dataclass(frozen=True, slots=True)
class StoreReports:
    """Write these to the API in order; once they are stored call `stored(journal_id, last seq)`."""

    journal_id: bytes
    items: tuple[OutboxItem, ...]
    waited_s: int = 0  # of the oldest, before it came here


@dataclass(frozen=True, slots=True)
class OpenEpoch:
    """The device has seen a resourceVersion that this API never reached, as far as this hub knows: it was restored,
    unless the hub is behind. Write a new epoch."""

    version: int


@dataclass(frozen=True, slots=True)
class Held:
    """The condition RestoredHub of the node: true with a reason, or false."""

    held: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class Full:
    """The condition DiskPressure of the node: the device's journal has no room for a change, or `why` is empty."""

    why: str


@dataclass(frozen=True, slots=True)
class Presence:
    """The device's session began or ended."""

    live: bool


@dataclass(frozen=True, slots=True)
class Applied:
    """The device has journaled this generation; its set has this digest."""

    generation: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """Worth a counter, and a line in the log when somebody looks."""

    what: str


Effect = Send | StoreReports | OpenEpoch | Held | Full | Presence | Applied | Note


class HubSession:
    """Every method returns effects in the order to carry them out. Never raises on what a device sends."""

    def __init__(self, node: str, given: Given | None = None) -> None:
        """`given` outlives the session."""
        self.node = node
        self.given = given if given is not None else Given()
        self.state = State.AWAY
        self.base: KnownSet | None = None  # None: unknown, an Inventory is needed
        self.held: bool | None = None  # None: not decided since this process started
        self.full: bool | None = None  # the same of the device's journal
        self._hello: Hello | None = None
        self._generation = 0
        self._origin = ("", "")  # store and epoch of the device's set
        self._version = 0  # resourceVersion of the device's set
        self._flying: Delta | None = None
        self._flying_base: KnownSet | None = None
        self._target: Target | None = None
        self._stored: dict[bytes, int] = {}  # journal id → last sequence stored by this process
        self._told = b""  # the journal id whose statuses were all told to this process
        self._received = 0  # last sequence received in this session
        self._reports_due = False  # a Welcome asked for every status, and nothing shows yet that it arrived
        self._inventory_due = False
        self._nonces: deque[bytes] = deque(maxlen=NONCES_MAX)
        self._answer_by: float | None = None  # for an Inventory or the Ack of a Delta
        self._wait_until: float | None = None  # for our resourceVersion to reach the device's
        self._hail_at: float | None = None
        self._hails = 0
        self._asked_until = 0.0  # after a will

    @property
    def deadline(self) -> float | None:
        """When `tick` wants to be called."""
        match self.state:
            case State.AWAY:
                return self._hail_at
            case State.GREETED:
                return None
            case State.LIVE:
                return min((t for t in (self._answer_by, self._wait_until) if t is not None), default=None)

    @property
    def drift(self) -> bool | None:
        """Whether what the device has, as far as is known, is not what it should have; None while one is unknown."""
        if self.base is None or self._target is None:
            return None
        return self.base.packed != self._target.packed

    # --- what the device says -----------------------------------------------------------------------------------------

    def received(self, got: Message, now: float) -> list[Effect]:
        match got:
            case Hello():
                return self._greeted(got, now)
            case Reject():
                return self._rejected(got, now) if self._mine(got.nonce) else []
            case Inventory() | Ack() | Report():
                return self._answered(got, now) if self._mine(got.nonce) else self._no_session(got.nonce)
            case _:
                return [Note(f"{type(got).__name__} came from a device")]

    def vanished(self, now: float) -> list[Effect]:
        """The device's will arrived. It may be older than the session: RabbitMQ keeps that of a connection whose device
        has come again. Who was there is asked at once, but not again within the first HAIL_BACKOFF_S."""
        was, effects = self.state, self.lost(now)
        if was is State.AWAY or now < self._asked_until:
            return effects
        self._asked_until = now + HAIL_BACKOFF_S[0]
        return [*effects, *self.hail(now)]

    def lost(self, now: float) -> list[Effect]:
        """The device's session is over, or the broker connection is gone."""
        was = self.state
        self._end(now)
        return [Presence(False)] if was is not State.AWAY else []

    def hail(self, now: float) -> list[Effect]:
        """Ask a device that may be there to say Hello: after this process or its broker connection started.

        Repeated with back-off by `tick` until the device says Hello.
        """
        if self.state is not State.AWAY:
            return []
        first, last = HAIL_BACKOFF_S
        self._hail_at = now + min(last, first * 2**self._hails)
        self._hails = min(self._hails + 1, 16)
        return self._no_session(b"")

    def dial(self, epoch: bytes) -> list[Effect]:
        """Ask the device for its connection for streams; nothing where no session is live."""
        if self.state is not State.LIVE or self._hello is None:
            return []
        return [Send(Dial(self._hello.nonce, epoch))]

    # --- what the API and the clock say -------------------------------------------------------------------------------

    def target(self, target: Target, now: float) -> list[Effect]:
        """The set this device should have, now and whenever it changes."""
        before, self._target = self._target, target
        if before is not None and (before.store, before.epoch) != (target.store, target.epoch):
            return self._other_past(now)
        if self.state is State.GREETED:
            return self._answer(now)
        return self._advance(now) if self.state is State.LIVE else []

    def stored(self, journal_id: bytes, seq: int) -> list[Effect]:
        """Every outbox item up to seq is at the API: the device may forget it."""
        if self._hello is not None and self._hello.journal_id != journal_id:
            return []
        self._stored = {journal_id: max(seq, self._stored.get(journal_id, 0))}
        if self._hello is None:
            return []
        self._received = max(self._received, seq)
        return [Send(Ack(self._hello.nonce, journal_id=journal_id, seq=seq))]

    def tick(self, now: float) -> list[Effect]:
        if self.deadline is None or now < self.deadline:
            return []
        if self.state is State.AWAY:
            return self.hail(now)
        if self._answer_by is not None and now >= self._answer_by:
            self._end(now)
            return [Note("the device does not answer"), Presence(False), *self.hail(now)]
        return self._advance(now)

    # --- private ------------------------------------------------------------------------------------------------------

    def _mine(self, nonce: bytes) -> bool:
        return self._hello is not None and self._hello.nonce == nonce

    def _answered(self, got: Inventory | Ack | Report, now: float) -> list[Effect]:
        """What only a device sends that has the answer to its Hello."""
        assert self._hello is not None
        if self._reports_due:
            self._reports_due, self._told = False, self._hello.journal_id
        match got:
            case Inventory():
                return self._inventory(got, now)
            case Ack():
                return self._acked(got, now)
            case Report():
                return self._report(got)

    def _no_session(self, nonce: bytes) -> list[Effect]:
        """Ask for a Hello. With the nonce of what came, so that it cannot end a session that began meanwhile."""
        return [Send(Reject(nonce, RejectCode.NO_SESSION))]

    def _end(self, now: float) -> None:
        self.state, self._hello, self._flying, self._answer_by = State.AWAY, None, None, None
        self._inventory_due = self._reports_due = False
        if self._hail_at is None:
            self._hail_at, self._hails = now + HAIL_BACKOFF_S[0], 0

    def _other_past(self, now: float) -> list[Effect]:
        """The API is another one, or was restored: what it was told before it may not show, so all is told again."""
        self._told, self._stored = b"", {}
        if self.state is State.GREETED:
            return self._answer(now)
        if self.state is not State.LIVE or self._hello is None:
            return []
        nonce = self._hello.nonce
        self._end(now)
        return [*self._no_session(nonce), Note("the API has another past"), Presence(False)]

    def _greeted(self, hello: Hello, now: float) -> list[Effect]:
        if hello.node != self.node:
            return [Note(f"Hello of {hello.node} on the topic of {self.node}")]
        if hello.nonce in self._nonces:
            return [Note("a repeated Hello")]
        fresh = self.state is State.AWAY
        self._end(now)
        self._nonces.append(hello.nonce)
        self.state, self._hello, self._generation = State.GREETED, hello, hello.generation
        self._origin, self._version = (hello.store, hello.epoch), hello.resource_version
        self._hail_at, self._hails, self._received = None, 0, max(0, hello.outbox_first - 1)
        if self._stored.get(hello.journal_id, 0) >= max(1, hello.outbox_next):
            self._stored, self._told = {}, b""  # the journal went back: those sequences were given to other items
        if self.base is not None and self.base.digest != hello.digest:
            self.base = None
        effects: list[Effect] = [Presence(True)] if fresh else []
        return effects + (self._answer(now) if self._target is not None else [])

    def _answer(self, now: float) -> list[Effect]:
        """Ack when nothing is needed, else Welcome."""
        assert self._hello is not None
        assert self._target is not None
        hello, self.state = self._hello, State.LIVE
        if self.base is None:
            whole, empty = KnownSet(self._target.packed, self._target.bodies), KnownSet()
            self.base = next((known for known in (whole, empty) if known.digest == hello.digest), None)
        self._reports_due = hello.journal_id != self._told
        self._inventory_due = self.base is None
        self._answer_by = now + ACK_TIMEOUT_S if self._inventory_due else None
        if self._inventory_due or self._reports_due:
            answer: Message = Welcome(hello.nonce, self._inventory_due, self._reports_due, CREDIT_FRAMES)
        else:
            known = self._stored.get(hello.journal_id, 0)
            repeat = known > self._received  # its last Ack was lost
            self._received = max(self._received, known)
            answer = Ack(
                hello.nonce,
                hello.generation,
                hello.digest,
                journal_id=hello.journal_id if repeat else None,
                seq=known if repeat else None,
                credit=CREDIT_FRAMES,
            )
        return [Send(answer), Applied(hello.generation, hello.digest), *self._advance(now)]

    def _inventory(self, got: Inventory, now: float) -> list[Effect]:
        has = KnownSet(packed({(kind, uid): digest for kind, uid, digest, _ in got.entries}.items()))
        has.names = {(kind, uid): name for kind, uid, _, name in got.entries}
        assert self._hello is not None
        if not self._inventory_due:
            return [Note("an Inventory that nobody asked for")]
        if has.digest != self._hello.digest:
            return [*self._no_session(got.nonce), Note("an Inventory that does not give the digest of its Hello")]
        self.base, self._inventory_due, self._answer_by = has, False, None
        return self._advance(now)

    def _acked(self, got: Ack, now: float) -> list[Effect]:
        if self._flying is None or got.generation != self._flying.generation:
            return [Note("an Ack of nothing in flight")]
        if got.digest != self._flying.digest:
            return [*self._no_session(got.nonce), Note("an Ack with another digest")]
        flown, self._flying, self._answer_by = self._flying, None, None
        self.base, self._generation = self._flying_base, flown.generation
        if flown.adopt or self._origin in (("", ""), (flown.store, flown.epoch)):
            self._origin, self._version = (flown.store, flown.epoch), flown.resource_version
        applied = Applied(flown.generation, flown.digest)
        return [applied, *self._advance(now)]

    def _report(self, got: Report) -> list[Effect]:
        """What is new in it. After a lost one the session starts anew: an Ack would cover the lost one too."""
        assert self._hello is not None
        if got.journal_id != self._hello.journal_id:
            return [*self._no_session(got.nonce), Note("a Report of another journal than its Hello's")]
        if got.after > self._received:
            return [*self._no_session(got.nonce), Note(f"no Report of the sequences before {got.after}")]
        new = tuple(i for i in got.items if i.seq > self._received)
        if new:
            self._received = max(i.seq for i in new)
            return [StoreReports(got.journal_id, new, got.waited_s)]
        known = self._stored.get(got.journal_id, 0)
        if not got.items or max(i.seq for i in got.items) > known:
            return [Note("a repeated Report")]
        return [Send(Ack(got.nonce, journal_id=got.journal_id, seq=known))]

    def _rejected(self, got: Reject, now: float) -> list[Effect]:
        """The device pauses and says Hello again by itself; its base is asked for anew."""
        self.base = None
        if got.code is RejectCode.FULL:
            self._told = b""  # nor had it room to tell again what it was asked for; it may die before it has
        effects: list[Effect] = [Note(f"the device rejects: {got.code.name} {got.detail}"), Presence(False)]
        self._end(now)
        return effects + (self._room(got.detail or "no room") if got.code is RejectCode.FULL else [])

    def _room(self, why: str) -> list[Effect]:
        """Say whether the device's journal is full, when that changes."""
        if self.full == bool(why):
            return []
        self.full = bool(why)
        return [Full(why)]

    def _advance(self, now: float) -> list[Effect]:
        """Send the next Delta if there is one to send and none in flight."""
        hello, target = self._hello, self._target
        if hello is None or target is None or self._flying is not None:
            return []
        waiting = self._behind(target, now)
        if waiting is not None:
            return waiting
        foreign = self._origin != ("", "") and self._origin != (target.store, target.epoch)
        effects = self._hold(foreign and not target.adopted, target)
        if self.base is None:
            return effects
        held, base = bool(self.held), self.base
        wish = replace(target, objects=base.additions(target.objects)) if held else target
        step = next_step(base.packed, wish.packed, wish.objects, base.bodies, held, sparing=bool(self.full))
        adopt = foreign and target.adopted
        if step is None and not adopt:
            return effects + self._room("")  # all is there, so there was room
        puts, deletes, after = (step.puts, step.deletes, step.after) if step else ((), (), base.packed)
        self._flying_base = base.after(after, target)
        self._flying = Delta(
            nonce=hello.nonce,
            store=target.store,
            epoch=target.epoch,
            resource_version=target.resource_version,
            generation=self._generation + 1,
            base=base.digest,
            digest=self._flying_base.digest,
            puts=puts,
            deletes=deletes,
            adopt=adopt,
            continues=self._origin == (target.store, target.epoch),
        )
        self._answer_by = now + ACK_TIMEOUT_S
        self.given.origin, self.given.version = (target.store, target.epoch), target.resource_version
        return [*effects, Send(self._flying)]

    def _behind(self, target: Target, now: float) -> list[Effect] | None:
        """Whether to wait because the device has seen more of this same store and epoch than it can have: more than
        was there when this process began to follow the API, and not from this process. What the API has reached since
        says nothing: a restored one passes any version, by Leases alone."""
        own = self.given.version if self.given.origin == self._origin else 0
        floor = target.floor if target.floor is not None else target.resource_version
        if self._origin != (target.store, target.epoch) or self._version <= max(floor, own):
            self._wait_until = None
            return None
        if self._wait_until is not None and now < self._wait_until:
            return []
        self._wait_until = now + RESTORED_WAIT_S  # asked again unless the new epoch comes first
        return [OpenEpoch(self._version)]

    def _hold(self, held: bool, target: Target) -> list[Effect]:
        if held == self.held:
            return []
        self.held = held
        why = f"the device's set comes from another API or an older backup; skerry-hub adopt {self.node}"
        return [Held(held, why if held else "")]
