"""Classic bugs, planted on purpose: what shows that the simulator can fail (test_planted.py).

Each replaces one function of the agent or the hub by a version with the bug in it, as its author might have written it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import signature
from typing import Any
from weakref import WeakKeyDictionary

import skerry.journal.journal as journal_module
import skerry.journal.recovery as recovery
import skerry.loops.link as link
import skerry.loops.protect as protect
import skerry.loops.steer as steer_module
import skerry.loops.streams as streams_module
import skerry.plan.keyring as keyring
import skerry.plan.reconcile as reconcile
import skerry.wire.delta as delta
import skerry.wire.guard as guard
import skerry.wire.session as device_session
from sim import trust as trust_module
from skerry import boot
from skerry.errors import LinkLost, Malformed, StoreFull
from skerry.journal import record
from skerry.limits import RECONNECT_BACKOFF_S
from skerry.model.desired import Change
from skerry.plan.backoff import full_jitter
from skerry.wire import codec, cose
from skerry_hub.cloudhub import session as hub_session_module
from skerry_hub.edgecontroller import reports, seals

Patch = tuple[Any, str, Any]
session: Any = device_session  # their names are patched, exported or not
steer: Any = steer_module
streams: Any = streams_module
hub_session: Any = hub_session_module


@dataclass(frozen=True, slots=True)
class Planted:
    """`promise` is the check that must name it, `seeds` the number of lives within which it must be caught."""

    name: str
    promise: tuple[str, ...]
    seeds: int
    patches: Callable[[], Sequence[Patch]]
    faults: tuple[str, ...] = ()  # the part of the vocabulary that brings it out; empty: whatever the seed draws


@contextlib.contextmanager
def plant(bug: Planted) -> Iterator[None]:
    with contextlib.ExitStack() as undo:
        for owner, name, value in bug.patches():
            undo.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)
        yield


def _ack_before_commit() -> Sequence[Patch]:
    async def commit(self: Any, said: Any) -> None:
        own = self._journal.desired
        after = own.changed(said.change)
        self._journal.desired = after  # the session is told that it is durable
        effects = self._session.committed(self._journal, self._clock.now())
        self._journal.desired = own
        await self._carry_out(effects)
        with contextlib.suppress(StoreFull):
            await self._journal.apply(said.change)

    return [(link.Conversation, "_commit", commit)]


def _puback_first() -> Sequence[Patch]:
    real = link.Conversation._woken

    async def woken(self: Any, name: str, result: Any) -> None:
        if name == "frame":
            self._link.ack(result.handle)  # as paho does by itself
        await real(self, name, result)

    return [(link.Conversation, "_woken", woken)]


def _generation_not_checked() -> Sequence[Patch]:
    """An older Delta whose base fits is applied: its generation, resourceVersion and session do not matter (each of the
    three alone refuses nearly every replay)."""
    real = session.judge

    def judge(got: Any, own: Any) -> Any:
        version = max(got.resource_version, own.resource_version)
        said = real(replace(got, generation=own.generation + 1, resource_version=version), own)
        return replace(said, generation=got.generation) if isinstance(said, Change) else said

    async def apply(self: Any, change: Any) -> None:
        after = self.desired.changed(change)
        puts = {record.object_key(o.key): o.body for o in change.puts}
        puts[record.DESIRED] = record.write_head(after)
        deletes = [record.object_key(k) for k in change.deletes]
        await self.store.commit(puts, deletes, record.write_copy(self.journal_id, after))
        self.desired = after
        self._dirty.update(uid for _, uid in (*(o.key for o in change.puts), *change.deletes))
        self.for_steer.ring()

    return [*_nonce_not_checked(), (session, "judge", judge), (journal_module.Journal, "apply", apply)]


def _restart_on_reconnect() -> Sequence[Patch]:
    """A new connection makes everything start afresh, as some agents do."""
    real = link.Conversation.run

    async def run(self: Any) -> None:
        for uid in list(self._journal.statuses):
            RESTARTS.add(uid)
            self._journal._dirty.add(uid)
            self._journal.for_steer.ring()
        await real(self)

    real_steps = steer.next_steps

    def next_steps(pod: Any, seen: Any, status: Any, memory: Any, now: float, *more: Any) -> Any:
        if pod.uid in RESTARTS:
            RESTARTS.discard(pod.uid)
            stops = tuple(reconcile._stop_all(seen, 1, "the hub is back"))
            if stops:
                return reconcile.Plan(stops)
        return real_steps(pod, seen, status, memory, now, *more)

    RESTARTS.clear()
    return [(link.Conversation, "run", run), (steer, "next_steps", next_steps)]


RESTARTS: set[str] = set()


def _outbox_trimmed_early() -> Sequence[Patch]:
    """What was handed to the broker counts as told."""
    real = link.Conversation._carry_out

    async def carry_out(self: Any, effects: Any) -> None:
        await real(self, effects)
        for effect in effects:
            if isinstance(effect, session.Send) and isinstance(effect.message, session.Report) and effect.message.items:
                with contextlib.suppress(StoreFull):
                    await self._journal.trim(effect.message.items[-1].seq)

    return [(link.Conversation, "_carry_out", carry_out)]


def _orphan_after_crash() -> Sequence[Patch]:
    """What was made is known in memory alone: what was made before a crash and is not wanted after it is nobody's."""
    real, made = journal_module.Journal.observe, WeakKeyDictionary[Any, set[str]]()

    def observe(self: Any, looked_at: Any, seen: Mapping[str, Any]) -> None:
        known = made.setdefault(self, set())
        known |= {uid for _, uid in self.desired.objects}
        real(self, looked_at, {uid: pod for uid, pod in seen.items() if uid in known})

    return [(journal_module.Journal, "observe", observe)]


def _second_copy_absent() -> Sequence[Patch]:
    return [(recovery, "_from_copies", lambda store: None)]


def _deletes_on_foreign_hub() -> Sequence[Patch]:
    real = hub_session.next_step
    found = delta._foreign

    def next_step(*args: Any, **named: Any) -> Any:
        bound = signature(real).bind(*args, **named)
        bound.arguments["additions_only"] = False
        return real(*bound.args, **bound.kwargs)

    def foreign(got: Any, own: Any) -> Any:
        said = found(got, own)
        return True if isinstance(said, delta.Fault) else said

    return [(hub_session, "next_step", next_step), (delta, "_foreign", foreign)]


def _nonce_not_checked() -> Sequence[Patch]:
    """Frames of earlier sessions are taken for this one's, at both ends."""
    real = session.DeviceSession.received

    def received(self: Any, frame: bytes, view: Any, now: float, jitter: float) -> Any:
        got = session.message.decode(frame)
        if got.nonce and got.nonce != self._nonce:
            frame = session.message.encode(replace(got, nonce=self._nonce))
        return real(self, frame, view, now, jitter)

    def mine(self: Any, nonce: bytes) -> bool:
        return self._hello is not None

    return [(session.DeviceSession, "received", received), (hub_session.HubSession, "_mine", mine)]


def _hub_acks_before_storing() -> Sequence[Patch]:
    async def store(self: Any, node: str, items: Any) -> None:
        """Written later, by somebody, if nothing happens."""
        task = asyncio.ensure_future(real(self, node, items))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    real = reports.Reports.store
    return [(reports.Reports, "store", store)]


def _replays_are_heard() -> Sequence[Patch]:
    """The counter of a sealed frame is not looked at."""

    def open_(self: Any, payload: bytes) -> bytes:
        return cose.decrypt(self.crypto, self.key, payload[1:])[1]

    return [(guard.Receiver, "open", open_)]


def _an_answer_is_heard_again() -> Sequence[Patch]:
    """The answer to this Hello counts each time that it comes."""

    def open_(self: Any, payload: bytes) -> Any:
        try:
            return real(self, payload)
        except guard.Replayed:
            if payload[:1] != guard.SIGNED:
                raise
            return codec.decode(cose.parse_sign1(payload[1:]).payload or b"")[guard.FRAME]

    real = guard.DeviceGuard.open
    return [(guard.DeviceGuard, "open", open_)]


def _unsealed_is_heard() -> Sequence[Patch]:
    """A device takes a frame in clear, as one of an earlier release."""

    def opened(self: Any, payload: bytes) -> Any:
        try:
            return real(self, payload)
        except Malformed:
            self._trust.opened(payload, self._node)
            return payload

    real = trust_module._DeviceGuard.open
    return [(trust_module._DeviceGuard, "open", opened)]


def _secrets_in_clear() -> Sequence[Patch]:
    """The hub forgets to seal."""
    return [(seals.Seals, "begin", lambda self, node: lambda part: part)]


def _a_pull_tells_all() -> Sequence[Patch]:
    """What a registry says is not searched for passwords."""
    return [(keyring, "shown", lambda text, auths: text)]


def _latch_after_failures() -> Sequence[Patch]:
    """The link gives up after three failures in a row."""

    async def link_loop(
        link_: Any,
        journal: Any,
        session_: Any,
        clock: Any,
        entropy: Any,
        log: Any,
        counters: Any,
        beat: Any,
        dialled: Any,
        protection: Any = None,
    ) -> None:
        failures = 0
        while failures < 3:
            try:
                await link_.connect()
                failures = 0
                frames = protect.Protected(link_, protection and protection(), clock, entropy, log, counters)
                talk = link.Conversation(link_, frames, journal, session_, clock, entropy, log, counters, beat, dialled)
                await talk.run()
            except LinkLost:
                failures += 1
            finally:
                session_.lost()
                await link_.close()
            await clock.sleep_until(clock.now() + full_jitter(RECONNECT_BACKOFF_S, failures, entropy.uniform()))
        beat.waits()  # else the watchdog would see it first
        await clock.sleep_until(clock.now() + 1e9)

    return [(boot, "link_loop", link_loop)]


def _process_outlives_stream() -> Sequence[Patch]:
    """A viewer who goes away ends the stream, and nobody tells the process."""

    class Deaf:
        def __init__(self, source: Any) -> None:
            self.read, self.write = source.read, source.write

        async def close(self, *_: Any) -> None:
            pass

    async def join(one: Any, other: Any) -> None:
        await real(one, Deaf(other))

    real = streams.join
    return [(streams_module, "join", join)]


def _files_of_the_start() -> Sequence[Patch]:
    """A ConfigMap is written when the pod starts; a change of it is for the pod's next life."""

    def refreshed(_pod: Any, _seen: Any, _memory: Any, _now: float, plan: reconcile.Plan) -> reconcile.Plan:
        return plan

    return [(reconcile, "_refreshed", refreshed)]


MOODY = ("broker moody", "link blip", "agent dies", "hub dies")
HOSTILE = ("broker hostile", "link blip")
BUGS = (
    Planted("ack before commit", ("1",), 10, _ack_before_commit),
    Planted("PUBACK before commit", ("1",), 10, _puback_first),
    Planted("generation not checked", ("2",), 150, _generation_not_checked, MOODY),
    Planted("restart on reconnect", ("3",), 10, _restart_on_reconnect),
    Planted("outbox trimmed early", ("6t",), 10, _outbox_trimmed_early),
    Planted("orphan after crash", ("8", "5"), 60, _orphan_after_crash),
    Planted("second copy absent", ("7",), 60, _second_copy_absent),
    Planted("deletes on a foreign hub", ("3s",), 60, _deletes_on_foreign_hub),
    Planted("nonce not checked", ("2",), 60, _nonce_not_checked, MOODY),
    Planted("hub acknowledges before storing", ("6",), 60, _hub_acks_before_storing),
    Planted("link gives up", ("5",), 60, _latch_after_failures),
    Planted("a process outlives its stream", ("12",), 20, _process_outlives_stream),
    Planted("replays are heard", ("13",), 60, _replays_are_heard, HOSTILE),
    Planted("an answer is heard again", ("13",), 60, _an_answer_is_heard_again, HOSTILE),
    Planted("frames in clear are heard", ("13",), 60, _unsealed_is_heard, HOSTILE),
    Planted("Secrets travel in clear", ("14",), 60, _secrets_in_clear),
    Planted("a registry's words are told as they are", ("14",), 60, _a_pull_tells_all),
    Planted("files of the start", ("5",), 60, _files_of_the_start),
)
