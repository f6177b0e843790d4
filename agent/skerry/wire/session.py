"""The device's end of a session, sans-IO: messages and time in, effects out. Knows no socket, no disk and no pod.

    DOWN ──opened──► GREETING ──Ack or Welcome──► LIVE ──lost──► DOWN
                        ▲                          │
                        └── back-off ◄── Reject, silence

Only the answer to the Hello of this nonce makes it LIVE, so a hub that meant to ask for something is never taken for
one that had nothing to ask. Back-off grows until something is achieved or a session lasted as long as the longest one.

`loops.link` owns the connection and the journal and carries out the effects; `view` is what it lets the session read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from skerry.errors import LimitExceeded, Malformed
from skerry.limits import (
    ACK_TIMEOUT_S,
    CREDIT_FRAMES,
    HELLO_TIMEOUT_S,
    OBJECTS_MAX,
    REPORT_BYTES_TARGET,
    REPORT_ITEMS_MAX,
    SESSION_BACKOFF_S,
)
from skerry.model.desired import Change, Desired, short
from skerry.model.report import OutboxItem
from skerry.wire import message
from skerry.wire.delta import Fault, completed, full_name, judge
from skerry.wire.message import Ack, Credit, Delta, Dial, Hello, Inventory, Message, Reject, RejectCode, Report, Welcome


class State(str, Enum):
    DOWN = "down"
    GREETING = "greeting"  # Hello sent, no answer yet
    PAUSED = "paused"  # will say Hello again at the deadline
    LIVE = "live"


class View(Protocol):
    """What the session reads of the journal."""

    @property
    def journal_id(self) -> bytes: ...

    @property
    def desired(self) -> Desired: ...

    @property
    def outbox_first(self) -> int: ...

    @property
    def outbox_next(self) -> int: ...

    def outbox(self, after_seq: int, count_max: int) -> Sequence[OutboxItem]: ...

    def outbox_waited_s(self, seq: int, now: float) -> int: ...


@dataclass(frozen=True, slots=True)
class Send:
    message: Message


@dataclass(frozen=True, slots=True)
class Commit:
    """Journal this change; once durable, call `committed`."""

    change: Change


@dataclass(frozen=True, slots=True)
class Trim:
    """The hub has stored every outbox item up to and including seq."""

    seq: int


@dataclass(frozen=True, slots=True)
class Retell:
    """Put the present status of everything into the outbox again."""


@dataclass(frozen=True, slots=True)
class Dialled:
    """The hub wants the connection for streams, for this epoch."""

    epoch: bytes


@dataclass(frozen=True, slots=True)
class Tell:
    """A person should hear of it, as an Event of the node. `reason` is CamelCase."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Note:
    """Something worth a line in the log and a counter."""

    what: str


TOLD = (RejectCode.UNPROVEN, RejectCode.FOREIGN, RejectCode.STALE)  # no hub in its right mind sends such a set
Proves = Callable[[Delta], bool]
Effect = Send | Commit | Trim | Retell | Dialled | Tell | Note


@dataclass(frozen=True, slots=True)
class Identity:
    node: str
    boot_id: str
    agent: str


class DeviceSession:
    """One session after the other over one connection. All methods return effects in the order to carry them out.

    `jitter` is in [0, 1) and comes from the caller's Entropy with each call that may start a back-off.
    """

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self.proves: Proves | None = None  # whether this session's hub signed a Delta; None: frames are in clear
        self.state = State.DOWN
        self.deadline: float | None = None  # when `tick` wants to be called
        self._nonce = b""
        self._failures = 0
        self._live_since = 0.0
        self._credit = CREDIT_FRAMES
        self._sent_seq = 0  # last outbox sequence handed to the connection in this session
        self._unacked: list[int] = []  # last sequence of each Report not yet acknowledged
        self._committing = False

    def opened(self, view: View, now: float, wall: float, nonce: bytes) -> list[Effect]:
        """The connection is up: say Hello."""
        self.state = State.GREETING
        self.deadline = now + HELLO_TIMEOUT_S
        self._nonce, self._unacked, self._committing = nonce, [], False
        self._sent_seq = view.outbox_first - 1
        desired = view.desired
        hello = Hello(
            node=self._identity.node,
            nonce=nonce,
            journal_id=view.journal_id,
            boot_id=self._identity.boot_id,
            store=desired.store,
            epoch=desired.epoch,
            resource_version=desired.resource_version,
            generation=desired.generation,
            digest=desired.digest,
            outbox_first=view.outbox_first,
            outbox_next=view.outbox_next,
            wall_s=max(0, int(wall)),
            agent=self._identity.agent,
        )
        return [Send(hello)]

    def lost(self) -> None:
        """The connection is gone."""
        self.state, self.deadline, self._unacked, self._committing = State.DOWN, None, [], False

    def received(self, frame: bytes, view: View, now: float, jitter: float) -> list[Effect]:
        """Any bytes from the other end. A frame that is wrong costs the session a pause, never the connection."""
        try:
            got = message.decode(frame)
        except (Malformed, LimitExceeded) as why:
            if self.state in (State.DOWN, State.PAUSED):
                return []  # more of the same shall not make the pause longer
            reject = Reject(self._nonce, RejectCode.MALFORMED, str(why)[:200])
            return [Send(reject), *self._pause(now, jitter, 0, f"malformed frame: {why}")]
        if isinstance(got, Reject):
            return self._rejected(got, now, jitter)
        if isinstance(got, (Hello, Inventory, Report)):
            return [Note(f"{type(got).__name__} came from the hub")]
        if got.nonce != self._nonce or self.state in (State.DOWN, State.PAUSED):
            return self._stale(got, now, jitter)
        match got:
            case Welcome():
                return self._welcomed(got, view, now)
            case Ack():
                return self._acked(got, view, now, jitter)
            case Credit():
                self._credit = min(got.frames, CREDIT_FRAMES)
                return self.flush(view, now)
            case Delta():
                return self._delta(got, view, now, jitter)
            case Dial():
                live = self.state is State.LIVE
                return [Dialled(got.epoch) if live else Note("a Dial before the answer to my Hello")]

    def committed(self, view: View, now: float) -> list[Effect]:
        """The change of the last Commit is durable: acknowledge it."""
        self._committing, self._failures = False, 0
        if self.state is not State.LIVE:
            return []
        ack = Ack(self._nonce, generation=view.desired.generation, digest=view.desired.digest)
        return [Send(ack), *self.flush(view, now)]

    def not_committed(self, why: str, now: float, jitter: float) -> list[Effect]:
        """The journal had no room: say so and come back later."""
        self._committing = False
        if self.state is not State.LIVE:
            return []
        return [Send(Reject(self._nonce, RejectCode.FULL, why[:200])), *self._pause(now, jitter, 0, "journal full")]

    def flush(self, view: View, now: float) -> list[Effect]:
        """Send what the outbox holds, as far as the credit reaches."""
        effects: list[Effect] = []
        while self.state is State.LIVE and len(self._unacked) < self._credit:
            items, after = self._batch(view), self._sent_seq
            if not items:
                break
            self._sent_seq = items[-1].seq
            self._unacked.append(self._sent_seq)
            if self.deadline is None:
                self.deadline = now + ACK_TIMEOUT_S
            waited_s = view.outbox_waited_s(items[0].seq, now)
            effects.append(Send(Report(self._nonce, view.journal_id, items, after, waited_s)))
        return effects

    def tick(self, view: View, now: float, wall: float, nonce: bytes, jitter: float) -> list[Effect]:
        """Time has passed; `nonce` is fresh and used if a Hello is due."""
        if self.deadline is None or now < self.deadline:
            return []
        if self.state is State.PAUSED:
            return self.opened(view, now, wall, nonce)
        what = "Hello" if self.state is State.GREETING else "Report"
        return self._pause(now, jitter, 0, f"the hub does not answer my {what}")

    # --- private ------------------------------------------------------------------------------------------------------

    def _batch(self, view: View) -> tuple[OutboxItem, ...]:
        """The items of the next Report: one at least, then as many as fit REPORT_BYTES_TARGET."""
        items, size = tuple(view.outbox(self._sent_seq, REPORT_ITEMS_MAX)), 0
        for count, item in enumerate(items):
            size += len(item.body)
            if count and size > REPORT_BYTES_TARGET:
                return items[:count]
        return items

    def _pause(self, now: float, jitter: float, retry_ms: int, why: str) -> list[Effect]:
        first, last = SESSION_BACKOFF_S
        if self.state is State.LIVE and now - self._live_since >= last:
            self._failures = 0
        if retry_ms:
            delay = max(first, min(retry_ms / 1000, last)) * (0.5 + jitter / 2)
        else:
            delay = first / 2 + jitter * min(last, first * 2**self._failures)
            self._failures = min(self._failures + 1, 16)
        self.state, self.deadline, self._unacked = State.PAUSED, now + delay, []
        return [Note(f"{why}; Hello again in {delay:.1f} s")]

    def _stale(self, got: Welcome | Ack | Delta | Credit | Dial, now: float, jitter: float) -> list[Effect]:
        """Of another session. Where it answers a Hello, that Hello may have reached the hub after this session's own:
        then the hub goes by what was true then, and where it has nothing to ask, both ends would be silent for good."""
        answer = isinstance(got, Welcome) or (isinstance(got, Ack) and got.generation is not None)
        if answer and self.state is State.LIVE:
            return self._pause(now, jitter, 0, "the hub answers an earlier Hello of mine")
        return [Note(f"stale {type(got).__name__}")]

    def _live(self, now: float) -> None:
        """The Hello is answered. A repeated answer leaves the deadline of unacknowledged Reports alone."""
        if self.state is State.GREETING:
            self.state, self.deadline, self._live_since = State.LIVE, None, now

    def _rejected(self, got: Reject, now: float, jitter: float) -> list[Effect]:
        if self.state is State.DOWN or (got.nonce and got.nonce != self._nonce):
            return [Note("stale Reject")]
        if self.state is State.PAUSED:
            return []
        return self._pause(now, jitter, got.retry_ms, f"the hub rejects: {got.code.name} {got.detail}".rstrip())

    def _welcomed(self, got: Welcome, view: View, now: float) -> list[Effect]:
        self._live(now)
        self._credit = min(got.credit, CREDIT_FRAMES)
        effects: list[Effect] = [Retell()] if got.reports else []  # durable before anything shows the hub that it came
        if got.inventory:
            known = sorted(view.desired.objects.items())
            entries = tuple((k[0], k[1], short(o.digest), full_name(o.body)) for k, o in known)
            assert len(entries) <= OBJECTS_MAX
            effects.append(Send(Inventory(self._nonce, entries)))
        return effects + self.flush(view, now)

    def _acked(self, got: Ack, view: View, now: float, jitter: float) -> list[Effect]:
        if got.generation is not None or got.digest is not None:
            if (got.generation, got.digest) != (view.desired.generation, view.desired.digest):
                return self._pause(now, jitter, 0, "the hub takes my set for another")
            self._live(now)
        if got.credit is not None:
            self._credit = min(got.credit, CREDIT_FRAMES)
        effects: list[Effect] = []
        if got.seq is not None and got.journal_id == view.journal_id:
            if got.seq >= view.outbox_next:
                return [Note(f"Ack of sequence {got.seq}, which was never sent")]
            self._unacked = [seq for seq in self._unacked if seq > got.seq]
            if self.state is State.LIVE:
                self.deadline = now + ACK_TIMEOUT_S if self._unacked else None
            if got.seq >= view.outbox_first:
                self._failures = 0
                effects.append(Trim(got.seq))
            self._sent_seq = max(self._sent_seq, got.seq)
        return effects + self.flush(view, now)

    def _delta(self, got: Delta, view: View, now: float, jitter: float) -> list[Effect]:
        if self.state is State.GREETING:
            return [Note("a Delta before the answer to my Hello")]
        assert not self._committing, "loops.link commits one change at a time"
        own = view.desired
        got = completed(got, own)
        verdict: Change | Fault | None = Fault(RejectCode.UNPROVEN, "the set is not signed by my hub for me")
        if self.proves is None or self.proves(got):
            verdict = judge(got, own)
        if verdict is None:
            return [Send(Ack(self._nonce, generation=own.generation, digest=own.digest))]
        if isinstance(verdict, Fault):
            reject = Reject(self._nonce, verdict.code, verdict.detail)
            told = [Tell("SetRefused", verdict.detail)] if verdict.code in TOLD else []
            return [Send(reject), *told, *self._pause(now, jitter, 0, f"Delta refused: {verdict.detail}")]
        self._committing = True
        return [Commit(verdict)]
