"""The journal as the loops see it: durable facts, the present observation, and a bell for each loop. The only place
they meet.

A method that changes something durable returns after the commit; memory follows the store, never the other way round.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from skerry.journal.bell import Bell
from skerry.journal.outbox import Outbox, Waiting
from skerry.journal.record import (
    BOOT_ID,
    DESIRED,
    DROPPED,
    NODE,
    OUTBOX_NEXT,
    Decision,
    FileRead,
    LocalObject,
    file_key,
    history_key,
    local_key,
    names_in,
    object_key,
    outbox_key,
    status_key,
    write_copy,
    write_decision,
    write_file,
    write_head,
    write_local,
    write_outbox,
)
from skerry.limits import HISTORY_ITEMS_MAX
from skerry.model.desired import Change, Desired, Key, Kind, Object
from skerry.model.observed import PodSeen
from skerry.model.report import Event, LocalPod, LocalPods, NodeFacts, OutboxItem, PodStatus, ReportKind
from skerry.ports import Clock, Store
from skerry.wire.codec import encode
from skerry.wire.report import encode_report

EMPTY_LOCAL: Mapping[Key, LocalObject] = MappingProxyType({})
NO_FILES: Mapping[str, FileRead] = MappingProxyType({})


@dataclass(slots=True)
class Pending:
    """A commit under way: what memory will follow once it is durable. Memory follows in the order of the calls, in
    whatever order their tasks go on, because a hub's Ack covers every lower sequence."""

    items: Sequence[OutboxItem]
    gone: Sequence[int]  # sequences that it deletes
    drops: Sequence[int]  # those of it that nobody will ever hear of, and of the commits that were under way before it
    dropped: int  # the count of all drops, once it is durable
    history_first: int
    said: PodStatus | NodeFacts | None
    durable: bool | None = None  # None: not known yet


class Journal:
    """Made by `journal.recovery.recover`. Every commit may raise StoreFull or StoreBroken (ports.Store)."""

    def __init__(
        self,
        store: Store,
        journal_id: bytes,
        desired: Desired,
        statuses: dict[str, PodStatus],
        outbox: Outbox,
        history: tuple[int, int],  # first and next sequence
        boot_id: str,
        dropped: int = 0,
        node: NodeFacts | None = None,
        stale: Iterable[int] = (),
        local: Mapping[Key, LocalObject] = EMPTY_LOCAL,
        files: Mapping[str, FileRead] = NO_FILES,
        clock: Clock | None = None,
    ) -> None:
        """Without a `clock` nobody is told how long a report has waited."""
        self.store, self.journal_id, self.desired, self.statuses = store, journal_id, desired, statuses
        self.boot_id, self.dropped, self.node = boot_id, dropped, node
        self.owes_reports = False  # the hub asked for every status, and there was no room for them yet
        self.local: Mapping[Key, LocalObject] = MappingProxyType(dict(local))  # what the device's own folder asks for
        self.files: Mapping[str, FileRead] = MappingProxyType(dict(files))
        self.for_link, self.for_steer, self.for_watch, self.for_introduce = Bell(), Bell(), Bell(), Bell()
        self.for_local, self.for_rotate = Bell(), Bell()
        self.local_changes = 0  # of what `local` holds, since the process started
        self._local_names: tuple[Mapping[Key, LocalObject], Mapping[str, str]] = ({}, {})  # made of which `local`
        self._local_turn = asyncio.Lock()  # what is told of the whole folder must be told in the order it became so
        self._outbox, self._history = outbox, list(history)
        self._clock, self._waiting = clock, Waiting()
        self._mark()
        self._noted: list[Decision] = []
        self._pending: deque[Pending] = deque()
        self._stale = list(stale)  # outbox sequences in the store that the next commit deletes
        self._seen: dict[str, PodSeen] = {}
        self._runtime_up = False
        self._runtime_trouble = ""
        self._dirty: set[str] = set()  # pods that steer should think about
        self._looks: set[str] = set()  # pods that watch should look at
        self._look_at_all = True
        self._looking: set[str] = set()  # pods that watch is looking at
        self._looking_at_all = False

    # --- link: desired state in, reports out --------------------------------------------------------------------------

    async def apply(self, change: Change) -> None:
        """Make the change durable in the store and its copy; then it is what steer follows."""
        assert change.generation > self.desired.generation, "an applied generation never goes back"
        after = self.desired.changed(change)
        puts = {object_key(o.key): o.body for o in change.puts}
        puts[DESIRED] = write_head(after)
        deletes = [object_key(k) for k in change.deletes]
        await self.store.commit(puts, deletes, write_copy(self.journal_id, after))
        self.desired = after
        self._dirty.update(o.uid for o in change.puts)
        self._dirty.update(uid for _, uid in change.deletes)
        self.for_steer.ring()

    def pods(self) -> Iterator[Object]:
        """Every pod that should run: those of the device's folder, then the hub's."""
        yield from (o.obj for (kind, _), o in self.local.items() if kind is Kind.POD)
        yield from (o for (kind, _), o in self.desired.objects.items() if kind is Kind.POD)

    def objects(self, local: bool) -> Iterable[tuple[Key, Object]]:
        """Those of the device's folder, or of the hub's set."""
        return ((key, o.obj) for key, o in self.local.items()) if local else self.desired.objects.items()

    @property
    def local_names(self) -> Mapping[str, str]:
        """namespace/name of the folder's pods → file."""
        if self._local_names[0] is not self.local:
            names = {"/".join(names_in(o.obj)): o.file for (kind, _), o in self.local.items() if kind is Kind.POD}
            self._local_names = (self.local, names)
        return self._local_names[1]

    def pod(self, uid: str) -> Object | None:
        local = self.local.get((Kind.POD, uid))
        return local.obj if local is not None else self.desired.objects.get((Kind.POD, uid))

    @property
    def outbox_first(self) -> int:
        return self._outbox.first

    @property
    def outbox_next(self) -> int:
        return self._outbox.ready_next

    def outbox(self, after_seq: int, count_max: int) -> Sequence[OutboxItem]:
        return self._outbox.after(after_seq, count_max)

    def outbox_waited_s(self, seq: int, now: float) -> int:
        """Whole seconds that an item of the outbox has waited at least; `now` is of the journal's own clock."""
        return int(self._waiting.waited_s(seq, now))

    async def trim(self, seq: int) -> None:
        """The hub has stored everything up to seq."""
        done = [s for s in self._outbox.items if s <= seq]
        if done:
            await self.store.commit({}, [outbox_key(s) for s in done])
            for s in done:
                self._outbox.drop(s)

    async def retell(self) -> None:
        """Put every present status, and the node's facts, into the outbox again: those that are being committed at this
        moment too, or an older one would be told after them. With StoreFull it stays owed."""
        self.owes_reports = True
        async with self._local_turn:
            await self._retell()
        self.owes_reports = False

    # --- steer: decisions and statuses --------------------------------------------------------------------------------

    async def tell(self, status: PodStatus | None, events: Iterable[Event] = ()) -> None:
        """Journal a pod's changed status and its events, with the decisions noted since, and queue them for the hub."""
        told = [(ReportKind.EVENT, e.pod_uid, encode_report(e)) for e in events]
        puts: dict[bytes, bytes] = {}
        if status is not None:
            body = encode_report(status)
            puts[status_key(status.uid)] = body
            told.append((ReportKind.POD_STATUS, status.uid, body))
        if status is not None and status.gone and (Kind.POD, status.uid) in self.local:
            await self._end_local((Kind.POD, status.uid), puts, told, status)
        else:
            await self._commit(puts, [], told, status)
        if status is not None:
            self.statuses[status.uid] = status

    async def tell_node(self, facts: NodeFacts, boot_id: str) -> None:
        """Journal facts that differ from those told before."""
        body = encode_report(facts)
        await self._commit({BOOT_ID: boot_id.encode(), NODE: body}, [], [(ReportKind.NODE, "", body)], facts)
        self.node, self.boot_id = facts, boot_id

    async def apply_local(
        self,
        puts: Iterable[LocalObject],
        deletes: Iterable[Key],
        files: Mapping[str, FileRead],
        events: Iterable[Event] = (),
    ) -> None:
        """Make what the device's folder asks for durable; then it is what steer follows. `files` is all of them."""
        changed, gone = {o.obj.key: o for o in puts}, set(deletes)
        async with self._local_turn:
            after = {key: o for key, o in {**self.local, **changed}.items() if key not in gone}
            records = {local_key(key): write_local(o) for key, o in changed.items()}
            records |= {file_key(name): write_file(name, r) for name, r in files.items() if self.files.get(name) != r}
            lost = [file_key(name) for name in self.files if name not in files]
            told = [(ReportKind.EVENT, "", encode_report(e)) for e in events]
            told += [self._told_local(after)] if changed or gone else []
            await self._commit(records, [*(local_key(key) for key in gone), *lost], told)
            self.files = MappingProxyType(dict(files))
            self._follow_local(after)

    async def forget(self, uid: str) -> None:
        """Nothing is left of a pod that is not wanted."""
        if uid in self.statuses:
            await self._commit({}, [status_key(uid)], [])
            self.statuses.pop(uid, None)
        self._seen.pop(uid, None)

    def note(self, at: float, pod: str, uid: str, what: str, why: str, outcome: str = "") -> None:
        """Remember a decision; it becomes durable with the next commit."""
        seq = self._history[1]
        self._history[1] += 1
        self._noted.append(Decision(seq, max(0, int(at * 1000)), pod, uid, self.desired.generation, what, why, outcome))
        del self._noted[:-HISTORY_ITEMS_MAX]

    def take_dirty(self) -> set[str]:
        """The pods that changed since the last call."""
        dirty, self._dirty = self._dirty, set()
        return dirty

    # --- watch: what is -----------------------------------------------------------------------------------------------

    @property
    def seen(self) -> Mapping[str, PodSeen]:
        return self._seen

    @property
    def runtime_up(self) -> bool:
        """Whether the observation is alive: steer does nothing while the runtime is away."""
        return self._runtime_up

    @property
    def runtime_trouble(self) -> str:
        """Why the runtime went away, or did not come; empty while it is up, or nobody has looked yet."""
        return self._runtime_trouble

    def observe(self, looked_at: Iterable[str] | None, seen: Mapping[str, PodSeen]) -> None:
        """What a look showed. `looked_at` None: everything."""
        uids = set(self._seen) | set(seen) if looked_at is None else set(looked_at)
        for uid in uids:
            before, now = self._seen.get(uid), seen.get(uid)
            if now is not None and now.running != (before.running if before is not None else ()):
                self.for_rotate.ring()
            if now is None:
                self._seen.pop(uid, None)
            else:
                self._seen[uid] = now
        self._looking -= uids
        if looked_at is None:
            if not self._runtime_up:
                self.for_introduce.ring()
                self.for_rotate.ring()
            self._looking_at_all, self._runtime_up, self._runtime_trouble = False, True, ""
            uids |= {o.uid for o in self.pods()} | set(self.statuses)
        self._dirty |= uids  # of a look at everything also what it does not show: the look that was due may have failed
        self.for_steer.ring()

    def runtime_lost(self, why: str) -> None:
        """Nothing is known until the next look at everything. Of one outage the first `why` counts."""
        if not self._runtime_trouble:
            self._runtime_trouble = why
            self.for_introduce.ring()
        self._runtime_up, self._look_at_all, self._looking_at_all = False, True, False
        self._looking.clear()

    def want_look(self, uid: str = "") -> None:
        """Ask watch to look at one pod, or at everything."""
        if uid:
            self._looks.add(uid)
        else:
            self._look_at_all = True
        self.for_watch.ring()

    def look_pending(self, uid: str) -> bool:
        """Whether what is known of a pod is older than the last thing done to it."""
        return self._look_at_all or self._looking_at_all or uid in self._looks or uid in self._looking

    def looks(self) -> set[str] | None:
        """What to look at next; None: everything."""
        return None if self._look_at_all else set(self._looks)

    def looked(self, looks: set[str] | None) -> None:
        """A look begins: whatever is asked from now on needs another."""
        if looks is None:
            self._look_at_all, self._looking_at_all = False, True
            self._looks.clear()
        else:
            self._looks -= looks
            self._looking |= looks

    # --- private ------------------------------------------------------------------------------------------------------

    async def _retell(self) -> None:
        said = [p.said for p in self._pending]
        statuses = self.statuses | {s.uid: s for s in said if isinstance(s, PodStatus)}
        node = next((s for s in reversed(said) if isinstance(s, NodeFacts)), self.node)
        told: list[tuple[ReportKind, str, bytes]] = []
        if node is not None:
            told.append((ReportKind.NODE, "", encode_report(node)))
        told.append(self._told_local(self.local))
        told += [(ReportKind.POD_STATUS, s.uid, encode_report(s)) for s in statuses.values()]
        await self._commit({}, [], told)

    @staticmethod
    def _told_local(local: Mapping[Key, LocalObject]) -> tuple[ReportKind, str, bytes]:
        pods = []
        for (kind, uid), o in sorted(local.items()):
            if kind is Kind.POD:
                pods.append(LocalPod(uid, *names_in(o.obj), o.file, o.obj.body))
        return (ReportKind.LOCAL_PODS, "", encode_report(LocalPods(tuple(pods))))

    async def _end_local(
        self, key: Key, puts: dict[bytes, bytes], told: list[tuple[ReportKind, str, bytes]], status: PodStatus
    ) -> None:
        """A pod of the folder whose deletion is complete leaves the journal: no hub will ask for that."""
        async with self._local_turn:
            left = {k: o for k, o in self.local.items() if k != key}
            await self._commit(puts, [local_key(key)], [*told, self._told_local(left)], status)
            self._follow_local(left)

    def _follow_local(self, after: Mapping[Key, LocalObject]) -> None:
        """The hub's pods too are thought about: one may have a name that the folder has taken or given back."""
        before, self.local = self.local, MappingProxyType(dict(after))
        self.local_changes += 1
        self._dirty.update(uid for _, uid in [*before, *after])
        if before.keys() != after.keys():
            self._dirty.update(o.uid for o in self.pods())
        self.for_steer.ring()
        self.for_local.ring()

    async def _commit(
        self,
        puts: dict[bytes, bytes],
        deletes: list[bytes],
        told: Sequence[tuple[ReportKind, str, bytes]],
        said: PodStatus | NodeFacts | None = None,
    ) -> None:
        """One commit: records, things to tell with what they supersede, and the decisions noted."""
        coming = [*(i.body for p in self._pending for i in p.items), *(body for _, _, body in told)]
        going = {s for p in self._pending for s in p.gone}
        drops = self._outbox.overflow(len(coming), sum(map(len, coming)), going)
        items = [self._outbox.make(kind, subject, body) for kind, subject, body in told]
        old = [s for s in map(self._outbox.superseded, items) if s is not None]
        noted, self._noted = self._noted, []
        stale, self._stale = self._stale, []
        puts |= {outbox_key(i.seq): write_outbox(i) for i in items}
        if items:
            puts[OUTBOX_NEXT] = self._outbox.next_seq.to_bytes(8, "big")
        puts |= {history_key(d.seq): write_decision(d) for d in noted}
        first = max(self._history[0], self._history[1] - HISTORY_ITEMS_MAX)
        # One under way may still fail, and this one not: so this one drops for it too, and counts what it drops.
        drops = list(dict.fromkeys([*(s for p in self._pending for s in p.drops), *drops]))
        dropped = self.dropped + len(drops)
        gone = (*drops, *old, *stale)
        deletes += [history_key(s) for s in range(self._history[0], first)] + [outbox_key(s) for s in gone]
        if drops or stale:
            puts[DROPPED] = encode(dropped)
        if not puts and not deletes:
            return
        pending = Pending(items, gone, drops, dropped, first, said)
        self._pending.append(pending)
        try:
            await self.store.commit(puts, deletes)
            pending.durable = True
        except BaseException:
            pending.durable = False
            self._noted, self._stale = noted + self._noted, stale + self._stale
            raise
        finally:
            self._settle()

    def _settle(self) -> None:
        """Let memory follow every commit whose end is known and that no earlier one holds up."""
        while self._pending and self._pending[0].durable is not None:
            pending = self._pending.popleft()
            if not pending.durable:
                continue
            self._history[0] = pending.history_first
            self.dropped = pending.dropped
            for seq in pending.gone:
                self._outbox.drop(seq)
            for item in pending.items:
                late = self._outbox.superseded(item)  # one that was under way together with it
                if late is not None:
                    self._outbox.drop(late)
                    self._stale.append(late)
                self._outbox.add(item)
            if pending.items:
                self._mark()
                self.for_link.ring()

    def _mark(self) -> None:
        if self._clock is not None and self._outbox.items:
            self._waiting.mark(self._clock.now(), self._outbox.first, self._outbox.ready_next)
