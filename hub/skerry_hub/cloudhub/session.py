"""The hub's end of one device's session, sans-IO: messages, targets and time in, effects out.

    AWAY ──Hello──► GREETED ──target known──► LIVE ──lost──► AWAY
                                               │  one Delta in flight; changes meanwhile become the next one

State is compared by content. What the device has (`base`) is learned from its Inventory, or remembered in memory from
Deltas that it acknowledged; nothing of it is on disk, and losing it costs one Inventory. Knows no broker and no API.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from skerry.limits import ACK_TIMEOUT_S, CREDIT_FRAMES, HAIL_BACKOFF_S, RESTORED_WAIT_S
from skerry.model.desired import Key, Object, set_digest, short
from skerry.model.report import OutboxItem
from skerry.wire.delta import next_step
from skerry.wire.message import (
    Ack,
    Delta,
    Hello,
    Inventory,
    Message,
    Reject,
    RejectCode,
    Report,
    Welcome,
)


class State(str, Enum):
    AWAY = "away"
    GREETED = "greeted"  # said Hello; the informers are not synced yet
    LIVE = "live"


@dataclass(frozen=True, slots=True)
class Target:
    """What one device should have, as the edge controller derives it from synced informers."""

    store: str
    epoch: str
    resource_version: int
    objects: Mapping[Key, Object]
    adopted: bool = False  # an operator adopted this node into this epoch

    @property
    def digests(self) -> dict[Key, bytes]:
        return {k: short(o.digest) for k, o in self.objects.items()}


@dataclass(frozen=True, slots=True)
class Send:
    message: Message


@dataclass(frozen=True, slots=True)
class StoreReports:
    """Write these to the API in order; once they are stored call `stored(journal_id, last seq)`."""

    journal_id: bytes
    items: tuple[OutboxItem, ...]


@dataclass(frozen=True, slots=True)
class OpenEpoch:
    """The device has seen a resourceVersion that this API never reached: it was restored. Write a new epoch."""

    why: str


@dataclass(frozen=True, slots=True)
class Held:
    """The condition RestoredHub of the node: true with a reason, or false."""

    held: bool
    why: str = ""


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


Effect = Send | StoreReports | OpenEpoch | Held | Presence | Applied | Note


@dataclass(slots=True)
class Base:
    """The set that the device has, as far as the hub knows it."""

    digests: dict[Key, bytes] = field(default_factory=dict)
    bodies: dict[Key, bytes] = field(default_factory=dict)

    @property
    def digest(self) -> bytes:
        return set_digest(self.digests.items())


class HubSession:
    """Every method returns effects in the order to carry them out. Never raises on what a device sends."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.state = State.AWAY
        self.deadline: float | None = None
        self.base: Base | None = None  # None: unknown, an Inventory is needed
        self.held: bool | None = None  # None: not decided since this process started
        self._hello: Hello | None = None
        self._generation = 0
        self._origin = ("", "")  # store and epoch of the device's set
        self._version = 0  # resourceVersion of the device's set
        self._flying: Delta | None = None
        self._flying_base: Base | None = None
        self._target: Target | None = None
        self._stored: dict[bytes, int] = {}  # journal id → last sequence stored by this process
        self._waiting_since: float | None = None  # for our resourceVersion to reach the device's
        self._epoch_asked = False
        self._inventory_due = False
        self._hails = 0

    # --- what the device says -----------------------------------------------------------------------------------------

    def received(self, got: Message, now: float) -> list[Effect]:
        match got:
            case Hello():
                return self._greeted(got, now)
            case Inventory():
                return self._inventory(got, now) if self._mine(got.nonce) else self._no_session()
            case Ack():
                return self._acked(got, now) if self._mine(got.nonce) else self._no_session()
            case Report():
                return self._report(got) if self._mine(got.nonce) else self._no_session()
            case Reject():
                return self._rejected(got) if self._mine(got.nonce) else []
            case _:
                return [Note(f"{type(got).__name__} came from a device")]

    def lost(self) -> list[Effect]:
        """The device's will arrived, or the broker connection is gone."""
        was = self.state
        self._end()
        return [Presence(False)] if was is not State.AWAY else []

    def hail(self, now: float) -> list[Effect]:
        """Ask a device that may be there to say Hello: after this process or its broker connection started.

        Repeated with back-off by `tick` until the device answers or its will says that it is away.
        """
        if self.state is not State.AWAY:
            return []
        first, last = HAIL_BACKOFF_S
        self.deadline = now + min(last, first * 2**self._hails)
        self._hails = min(self._hails + 1, 16)
        return self._no_session()

    # --- what the API and the clock say -------------------------------------------------------------------------------

    def target(self, target: Target, now: float) -> list[Effect]:
        """The set this device should have, now and whenever it changes."""
        self._target = target
        if self.state is State.GREETED:
            return self._answer(now)
        return self._advance(now) if self.state is State.LIVE else []

    def stored(self, journal_id: bytes, seq: int) -> list[Effect]:
        """Every outbox item up to seq is at the API: the device may forget it."""
        self._stored = {journal_id: max(seq, self._stored.get(journal_id, 0))}
        if self._hello is None or self._hello.journal_id != journal_id:
            return []
        return [Send(Ack(self._hello.nonce, journal_id=journal_id, seq=seq))]

    def tick(self, now: float) -> list[Effect]:
        if self.deadline is None or now < self.deadline:
            return []
        self.deadline = None
        if self.state is State.AWAY:
            return self.hail(now)
        if self._flying is not None or self._inventory_due:
            self._end()
            return [Note("the device does not answer"), Presence(False), *self.hail(now)]
        return self._advance(now) if self.state is State.LIVE else []

    # --- private ------------------------------------------------------------------------------------------------------

    def _mine(self, nonce: bytes) -> bool:
        return self._hello is not None and self._hello.nonce == nonce

    def _no_session(self) -> list[Effect]:
        return [Send(Reject(b"", RejectCode.NO_SESSION))]

    def _end(self) -> None:
        self.state, self.deadline, self._hello, self._flying = State.AWAY, None, None, None
        self._inventory_due = False

    def _greeted(self, hello: Hello, now: float) -> list[Effect]:
        if hello.node != self.node:
            return [Note(f"Hello of {hello.node} on the topic of {self.node}")]
        fresh = self.state is State.AWAY
        self.state, self.deadline, self._flying = State.GREETED, None, None
        self._hello, self._generation = hello, hello.generation
        self._origin, self._version = (hello.store, hello.epoch), hello.resource_version
        self._waiting_since, self._epoch_asked, self._inventory_due, self._hails = None, False, False, 0
        if self.base is not None and self.base.digest != hello.digest:
            self.base = None
        effects: list[Effect] = [Presence(True)] if fresh else []
        return effects + (self._answer(now) if self._target is not None else [])

    def _answer(self, now: float) -> list[Effect]:
        """Ack when nothing is needed, else Welcome."""
        assert self._hello is not None
        assert self._target is not None
        hello, self.state = self._hello, State.LIVE
        if self.base is None and hello.digest == set_digest(self._target.digests.items()):
            self.base = Base(self._target.digests, {k: o.body for k, o in self._target.objects.items()})
        elif self.base is None and hello.digest == set_digest(()):
            self.base = Base()
        known = self._stored.get(hello.journal_id)
        reports = known is None
        if reports:
            self._stored = {hello.journal_id: 0}
        self._inventory_due = self.base is None
        self.deadline = now + ACK_TIMEOUT_S if self._inventory_due else None
        if self.base is None or reports:
            answer: Message = Welcome(hello.nonce, inventory=self.base is None, reports=reports, credit=CREDIT_FRAMES)
        else:
            assert known is not None
            repeat = known >= hello.outbox_first  # its last Ack was lost
            answer = Ack(
                hello.nonce,
                hello.generation,
                hello.digest,
                journal_id=hello.journal_id if repeat else None,
                seq=min(known, hello.outbox_next - 1) if repeat else None,
                credit=CREDIT_FRAMES,
            )
        return [Send(answer), Applied(hello.generation, hello.digest), *self._advance(now)]

    def _inventory(self, got: Inventory, now: float) -> list[Effect]:
        digests = {(kind, uid): digest for kind, uid, digest in got.entries}
        assert self._hello is not None
        if self._flying is not None or set_digest(digests.items()) != self._hello.digest:
            return [*self._no_session(), Note("an Inventory that does not give the digest of its Hello")]
        self.base, self._inventory_due, self.deadline = Base(digests), False, None
        return self._advance(now)

    def _acked(self, got: Ack, now: float) -> list[Effect]:
        if self._flying is None or got.generation != self._flying.generation:
            return [Note("an Ack of nothing in flight")]
        if got.digest != self._flying.digest:
            return [*self._no_session(), Note("an Ack with another digest")]
        flown, self._flying, self.deadline = self._flying, None, None
        self.base, self._generation = self._flying_base, flown.generation
        if flown.adopt or self._origin in (("", ""), (flown.store, flown.epoch)):
            self._origin, self._version = (flown.store, flown.epoch), flown.resource_version
        applied = Applied(flown.generation, flown.digest)
        return [applied, *self._advance(now)]

    def _report(self, got: Report) -> list[Effect]:
        return [StoreReports(got.journal_id, got.items)] if got.items else []

    def _rejected(self, got: Reject) -> list[Effect]:
        """The device pauses and says Hello again by itself; its base is asked for anew."""
        self.base = None
        effects: list[Effect] = [Note(f"the device rejects: {got.code.name} {got.detail}"), Presence(False)]
        self._end()
        return effects

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
        step = next_step(self.base.digests, self.base.bodies, target.objects, additions_only=bool(self.held))
        adopt = foreign and target.adopted
        if step is None and not adopt:
            return effects
        puts, deletes, after = (step.puts, step.deletes, dict(step.after)) if step else ((), (), self.base.digests)
        self._flying_base = Base(after, {k: target.objects[k].body for k in after if k in target.objects})
        self._flying = Delta(
            nonce=hello.nonce,
            store=target.store,
            epoch=target.epoch,
            resource_version=target.resource_version,
            generation=self._generation + 1,
            base=self.base.digest,
            digest=self._flying_base.digest,
            puts=puts,
            deletes=deletes,
            adopt=adopt,
        )
        self.deadline = now + ACK_TIMEOUT_S
        return [*effects, Send(self._flying)]

    def _behind(self, target: Target, now: float) -> list[Effect] | None:
        """Whether to wait because the device has seen a later resourceVersion of this same store and epoch."""
        same = self._origin == (target.store, target.epoch)
        if not same or self._version <= target.resource_version:
            self._waiting_since = None
            return None
        if self._waiting_since is None:
            self._waiting_since = now
        self.deadline = self._waiting_since + RESTORED_WAIT_S
        if now < self.deadline or self._epoch_asked:
            return []
        self.deadline, self._epoch_asked = None, True
        return [OpenEpoch(f"{self.node} has seen {self._version}, this API is at {target.resource_version}")]

    def _hold(self, held: bool, target: Target) -> list[Effect]:
        if held == self.held:
            return []
        self.held = held
        why = f"the device's set comes from another API or an older backup; skerry-hub adopt {self.node}"
        return [Held(held, why if held else "")]
