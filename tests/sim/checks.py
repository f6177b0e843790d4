"""The promises of DESIGN §5 as checks. Those that hold at every step hang in the seams (`Watching`); those that hold
once it is calm are asked (calm.py). Nothing here asks `plan/` or the journal's memory: what counts
is what lies on the card, what the engine runs, what frames say and what the API shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sim.device import Device
from sim.engine import Made
from sim.folder import Keeper
from sim.link import SimLink, down_topic
from sim.people import CANARY, MARK
from sim.world import World
from skerry.journal import record
from skerry.limits import CREDIT_FRAMES, FRAME_BYTES_MAX, INBOX_FRAMES_MAX, RUNTIME_CALL_TIMEOUT_S
from skerry.model.desired import Desired, Kind
from skerry.model.report import Event, OutboxItem, PodStatus, ReportKind
from skerry.ports import Inbound
from skerry.wire import message
from skerry.wire.codec import decode
from skerry.wire.delta import completed, full_name
from skerry.wire.message import Ack, Delta, Hello, Inventory, Reject, RejectCode, Report, Welcome
from skerry.wire.report import decode_report
from skerry_hub.edgecontroller import status as hub_status

CALL_S_MAX = RUNTIME_CALL_TIMEOUT_S + 60.0  # a stop with the longest grace that people give here
PROMISES = {
    "1": "1 ack after commit",
    "2": "2 generation never falls",
    "3": "3 unchanged pods run on",
    "3s": "3 no foreign deletion",
    "4": "4 boots offline",
    "5": "5 converges",
    "6": "6 told once",
    "6t": "6 outbox kept until acknowledged",
    "7": "7 neighbouring states",
    "8": "8 no orphans",
    "9": "9 bounds",
    "10": "10 idle",
    "11": "11 no latch",
    "12": "12 streams leave nothing",
    "13": "13 nobody else is heard",
    "14": "14 secrets are sealed",
    "w": "wire contract",
}

try:
    from golden.wirecheck import validate as _validate

    validate: Callable[[bytes], bytes] | None = _validate
except ImportError:  # pycddl is not installed
    validate = None


def _names(records: Iterable[tuple[bytes, bytes]]) -> set[tuple[Kind, str]]:
    """Kind and name of the objects among these records."""
    objects = [record.read_object(key, body) for key, body in records if key.startswith(record.OBJECT)]
    return {(o.kind, full_name(o.body)) for o in objects}


def head_of(device: Device) -> Desired:
    """Everything of Desired but its objects, as it lies on the card."""
    raw = device.disk.records.get(record.DESIRED)
    if raw is None:
        return Desired()
    _, store, epoch, version, generation, digest = decode(raw)
    return Desired(store, epoch, version, generation, {}, digest)


@dataclass(slots=True)
class Told:
    """What a device put into its outbox under one journal id."""

    items: dict[int, OutboxItem] = field(default_factory=dict)
    acked: int = 0  # by the hub, as far as the device heard
    acked_said: int = 0  # by the hub, as far as it said
    latest: dict[tuple[ReportKind, str], int] = field(default_factory=dict)  # of each subject


class Watching:
    """Hangs in one device's seams and sees what it does at every step."""

    def __init__(self, world: World, device: Device, shown: set[str]) -> None:
        self.world, self.device, self.shown = world, device, shown
        self.told: dict[bytes, Told] = {}
        self.events: dict[str, Event] = {}  # event id → durable event
        self.dropped_ids: set[str] = set()
        self.lost_ids: set[str] = set()  # in a journal that was torn
        self.generation = 0
        self.digests: dict[int, bytes] = {}
        self.deltas: dict[tuple[bytes, int, bytes], Delta] = {}  # by nonce, generation, digest: what hubs sent
        self.early: set[tuple[int, bytes]] = set()  # (generation, digest) of Deltas acknowledged and not durable
        self.hello: Hello | None = None
        self.unacked: dict[int, bytes] = {}  # frames handed to the agent
        self.reports_open: list[int] = []
        self.stops = 0
        self.left: set[bytes] = set()  # records of objects that went from the card
        self.back: dict[bytes, float] = {}  # those that came again (a restored API), or do not have to end any more
        self.keeper: Keeper
        self.validating = world.rng("validate").random() < 0.1  # against the CDDL: it costs a fifth of the time
        self._decoded: dict[bytes, Any] = {}
        self.commits_at: list[float] = []
        self.frames_at: list[float] = []
        device.disk.watchers.append(self._commit)
        device.engine.stopping = self._stopping
        device.listen = self._listen  # type: ignore[method-assign]
        device.started = self._recovered
        device.broker.watchers.append(self._published)

    # --- the card -----------------------------------------------------------------------------------------------------

    def _commit(self, puts: Mapping[bytes, bytes], deletes: Sequence[bytes]) -> None:
        self.commits_at.append(self.world.now)
        for key, value in puts.items():
            self._sealed(value, "the card", repr(key))
        if record.DESIRED in puts:
            self._desired(puts, deletes)
        told = self.mine()
        for key, value in puts.items():
            if key.startswith(record.OUTBOX):
                item = record.read_outbox(key, value)
                self.world.check(item.seq not in told.items, PROMISES["6"], f"sequence {item.seq} is given twice")
                told.items[item.seq] = item
                if item.kind is ReportKind.EVENT:
                    event = decode_report(item.kind, item.body)
                    assert isinstance(event, Event)
                    self.events[event.id] = event
                else:
                    subject = (item.kind, item.subject)
                    told.latest[subject] = max(item.seq, told.latest.get(subject, 0))
        self._trims(puts, deletes, told)

    def _came_back(self, puts: Iterable[bytes], gone: Iterable[bytes], changed: Iterable[bytes]) -> None:
        """For what is wanted again, a stop that was asked for meanwhile may still be under way."""
        records = self.device.disk.records
        ending = {k for k in changed if decode(records[k])["metadata"].get("deletionTimestamp")}
        again = {k for k in puts if k in self.left and k not in records}
        self.back |= dict.fromkeys(ending | again, self.world.now)
        self.left |= set(gone)

    def _desired(self, puts: Mapping[bytes, bytes], deletes: Sequence[bytes]) -> None:
        before, records = head_of(self.device), self.device.disk.records
        _, store, epoch, _version, generation, digest = decode(puts[record.DESIRED])
        fresh = record.JOURNAL_ID in puts  # recovery writes what it found
        low = self.generation if fresh else self.generation + 1
        self.world.tell("journal", f"{self.device.node} generation {generation} {digest.hex()[:8]} {store}/{epoch}")
        self.world.check(
            generation >= low,
            PROMISES["7" if fresh else "2"],
            f"{self.device.node}: generation {generation} after {self.generation}",
        )
        what = f"{self.device.node}: PUBACK of generation {generation} came before its commit"
        self.world.check((generation, digest) not in self.early, PROMISES["1"], what)
        self.generation = max(self.generation, generation)
        self.digests[generation] = digest
        if fresh:
            return
        gone = [k for k in deletes if k.startswith(record.OBJECT) and k in records]
        changed = [k for k, v in puts.items() if k.startswith(record.OBJECT) and records.get(k, v) != v]
        self._came_back(puts, gone, changed)
        # One that names no store is of the device's own; that its hub's target is so too, unit.wire.pair checks.
        same = [d for (_, g, _d), d in self.deltas.items() if g == generation and d.digest == digest]
        deltas = [completed(d, before) for d in same]
        self.world.check(bool(deltas), PROMISES["2"], f"{self.device.node}: a generation that the hub never sent")
        nonce = self.hello.nonce if self.hello is not None else b""
        replayed = f"{self.device.node}: generation {generation} comes from a set of an earlier session"
        self.world.check(any(d.nonce == nonce for d in deltas), PROMISES["2"], replayed)
        home = [
            d
            for d in deltas
            if not before.store
            or d.adopt
            or ((d.store, d.epoch) == (before.store, before.epoch) and d.resource_version >= before.resource_version)
        ]
        twins = _names((k, v) for k, v in puts.items() if k not in records) & _names(records.items())
        what = f"{self.device.node}: a foreign or older hub deletes {gone}, changes {changed}, takes names of {twins}"
        self.world.check(bool(home) or not (gone or changed or twins), PROMISES["3s"], what)

    def _trims(self, puts: Mapping[bytes, bytes], deletes: Sequence[bytes], told: Told) -> None:
        """An outbox item goes only by the hub's Ack, by a later one of its subject, or counted."""
        records, excused, acked = self.device.disk.records, 0, 0
        for key in deletes:
            if not key.startswith(record.OUTBOX) or key not in records:
                continue
            item = record.read_outbox(key, records[key])
            later = told.latest.get((item.kind, item.subject), 0) > item.seq
            if item.seq <= told.acked or (item.kind is not ReportKind.EVENT and later):
                acked += item.seq <= told.acked
                continue
            excused += 1
            if item.kind is ReportKind.EVENT:
                event = decode_report(item.kind, item.body)
                assert isinstance(event, Event)
                self.dropped_ids.add(event.id)
        if excused:
            before = decode(records[record.DROPPED]) if record.DROPPED in records else 0
            counted = decode(puts[record.DROPPED]) - before if record.DROPPED in puts else 0
            self.world.check(
                excused <= counted <= excused + acked,  # an acknowledged one may still be there when room is needed
                PROMISES["6t"],
                f"{self.device.node}: {excused} items leave the outbox unacknowledged, {counted} are counted",
            )

    def mine(self) -> Told:
        journal_id = self.device.disk.records.get(record.JOURNAL_ID, b"")
        return self.told.setdefault(journal_id, Told())

    def torn(self) -> None:
        """The environment is about to be lost: what was not shown yet cannot be."""
        for item in self.mine().items.values():
            if item.kind is ReportKind.EVENT and record.outbox_key(item.seq) in self.device.disk.records:
                event = decode_report(item.kind, item.body)
                assert isinstance(event, Event)
                self.lost_ids.add(event.id)

    def _recovered(self, device: Device) -> None:
        assert device.journal is not None
        found = device.journal.desired
        text = f"{device.node} recovered generation {found.generation} of {self.generation}"
        # a copy that was written and whose commit was not is the next state: the Ack was not sent
        self.world.check(self.generation <= found.generation, PROMISES["7"], text)
        known = self.digests.get(found.generation)
        sent = {d.digest for (_, g, _d), d in self.deltas.items() if g == found.generation}
        ok = found.generation == 0 or known == found.digest or (known is None and found.digest in sent)
        self.world.check(ok, PROMISES["7"], f"{text}, with a digest that never was")
        self.unacked.clear()
        self.early.clear()

    # --- the engine ---------------------------------------------------------------------------------------------------

    def _stopping(self, made: Made, how: str) -> None:
        """Promise 3: only a changed spec, a deletion or an ending pod stops what runs."""
        self.stops += 1
        uid, name = made.seen.pod_uid, made.seen.name
        body = self.device.disk.records.get(record.object_key((Kind.POD, uid)))
        local = self.device.disk.records.get(record.local_key((Kind.POD, uid)))
        if local is not None:
            body = decode(local)[1]
        where = f"{self.device.node}: {how} of {made.pod.full_name}/{name} ({made.seen.id})"
        if body is None or (local is not None and decode(body)["metadata"].get("deletionTimestamp")):
            still = self.keeper.always_wanted((Kind.POD, uid)) and not self.device.folder.failing
            self.world.check(not still, PROMISES["3"], f"{where}, which was in the folder all the time")
        if body is None:
            return  # not wanted any more
        pod = decode(body)
        if pod["metadata"].get("deletionTimestamp") or name not in [c["name"] for c in pod["spec"]["containers"]]:
            return
        box = self.device.engine.sandboxes.get(made.seen.sandbox_id)
        if box is None or not box.ready:
            return
        newer = [
            m
            for m in self.device.engine.containers.values()
            if m.seen.pod_uid == uid and m.seen.name == name and m.seen.attempt > made.seen.attempt
        ]
        made_from = dict(made.pod.annotations).get(MARK + name)
        now = (pod["metadata"].get("annotations") or {}).get(MARK + name)
        same = made_from == now and not newer
        back = self.back.get(record.object_key((Kind.POD, uid)))
        if back is not None and self.world.now <= back + CALL_S_MAX:
            return
        self.world.check(not same or self._final(uid), PROMISES["3"], f"{where} though nothing about it changed")

    def _final(self, uid: str) -> bool:
        body = self.device.disk.records.get(record.status_key(uid))
        if body is None:
            return False
        said = decode_report(ReportKind.POD_STATUS, body)
        return isinstance(said, PodStatus) and said.phase.value in ("Succeeded", "Failed")

    # --- the link -----------------------------------------------------------------------------------------------------

    def _listen(self, link: SimLink) -> None:
        link.sending, link.got, link.acking = self._sends, self._gets, self._pubacks

    def _sends(self, frame: bytes) -> None:
        self.frames_at.append(self.world.now)
        said = self._read(frame, "up")
        own = head_of(self.device)
        match said:
            case Hello():
                self.hello, self.reports_open = said, []
                durable = (own.generation, own.digest) == (said.generation, said.digest) or own.generation == 0
                self.world.check(durable, PROMISES["1"], f"Hello says {said.generation}, the card {own.generation}")
            case Ack(generation=int() as generation):
                what = f"{self.device.node}: Ack of {generation}, on the card is {own.generation}"
                good = generation < own.generation or (generation, said.digest) == (own.generation, own.digest)
                self.world.check(good, PROMISES["1"], what)
            case Report():
                self.reports_open.append(said.items[-1].seq if said.items else 0)
                what = f"{len(self.reports_open)} Reports are open, the credit is {CREDIT_FRAMES}"
                self.world.check(len(self.reports_open) <= CREDIT_FRAMES, PROMISES["9"], what)
                mine = self.mine().items
                missing = [i.seq for i in said.items if mine.get(i.seq) != i]
                what = f"reports {missing}, which are not on the card"
                self.world.check(not missing, PROMISES["1"], f"{self.device.node} {what}")

    def _gets(self, inbound: Inbound) -> None:
        self.unacked[inbound.handle] = inbound.frame
        self.world.check(
            self.device.link is None or self.device.link.inbox_most <= INBOX_FRAMES_MAX, PROMISES["9"], "inbox"
        )
        said = self._decode(inbound.frame)
        if isinstance(said, Delta):
            self.early.discard((said.generation, said.digest))
        if isinstance(said, Ack) and said.seq is not None and said.journal_id is not None:
            told = self.told.setdefault(said.journal_id, Told())
            told.acked = max(told.acked, said.seq)
            if self.hello is not None and said.nonce == self.hello.nonce:
                self.reports_open = [s for s in self.reports_open if s > said.seq]

    def _pubacks(self, handle: int) -> None:
        """What the frame asked for must be durable by now, unless it is never applied."""
        frame = self.unacked.pop(handle, None)
        if frame is None or self.hello is None:
            return
        said = self._decode(frame)
        own = head_of(self.device)
        if isinstance(said, Delta) and own.generation < said.generation:
            self.early.add((said.generation, said.digest))  # refused or stale, or it must not become durable any more

    def _published(self, topic: str, payload: bytes) -> None:
        """What the hub says to this device, as the broker gets it."""
        if topic != down_topic(self.device.node):
            return
        said = self._read(payload, "down")
        if isinstance(said, Delta):
            self.deltas[(said.nonce, said.generation, said.digest)] = said
        if isinstance(said, Ack) and said.seq is not None and said.journal_id is not None:
            self._hub_acks(self.told.get(said.journal_id, Told()), said.seq)

    def _hub_acks(self, told: Told, seq: int) -> None:
        """The hub acknowledges what it has stored: events are at the API, or their pod is not."""
        for item in [told.items[s] for s in range(told.acked_said + 1, seq + 1) if s in told.items]:
            if item.kind is ReportKind.EVENT:
                event = decode_report(item.kind, item.body)
                assert isinstance(event, Event)
                name = event_name(self.device.node, event)
                excused = event.id in self.dropped_ids or not self.pod_known(event)
                what = f"the hub acknowledges event {event.reason} of {event.name}, which is not at the API"
                self.world.check(name in self.shown or excused, PROMISES["6"], what)
        told.acked_said = max(told.acked_said, seq)

    def pod_known(self, event: Event) -> bool:
        """Whether the API had the event's pod all the time since: set by the life."""
        raise NotImplementedError

    def _read(self, payload: bytes, way: str) -> Any:
        frame = self._plain(payload)
        self.world.check(len(frame) <= FRAME_BYTES_MAX, PROMISES["9"], "FRAME_BYTES_MAX")
        said = self._decode(payload)
        if said is None:
            return None
        self.world.tell("frame", f"{self.device.node} {way:4} {summary(said)}")
        for data in texts(said):
            self._sealed(data, "a frame", summary(said))
        if validate is not None and self.validating:
            try:
                validate(frame)
            except AssertionError as why:
                self.world.break_(PROMISES["w"], f"{summary(said)}: {why}")
        return said

    def _sealed(self, data: bytes, where: str, what: str) -> None:
        """Where devices are enrolled, what a Secret holds is in a seal wherever it is but in memory."""
        what = f"{self.device.node}: a Secret is in clear in {where}: {what}"
        self.world.check(self.device.trust is None or CANARY.encode() not in data, PROMISES["14"], what)

    def _plain(self, payload: bytes) -> bytes:
        """What nobody but a hostile broker made says nothing."""
        return payload if self.device.trust is None else self.device.trust.plain.get(payload, b"")

    def _decode(self, payload: bytes) -> Any:
        """The message; None for the sealed nothing by which a device shows that it is there."""
        frame = self._plain(payload)
        known = self._decoded.get(frame)
        if known is None and frame:
            known = self._decoded[frame] = message.decode(frame)
        return known


def texts(said: Any) -> list[bytes]:
    """What of a message came from the API or goes there."""
    match said:
        case Delta():
            return [put.data for put in said.puts]
        case Report():
            return [item.body for item in said.items]
    return [repr(said).encode()]


def event_name(node: str, event: Event) -> str:
    """The name of its object at the API."""
    meta = hub_status.event_object(event, node, 0.0)["metadata"]
    return f"{meta['namespace']}/{meta['name']}"


def summary(said: Any) -> str:
    """A message in one line."""
    match said:
        case Hello():
            return f"Hello {said.nonce.hex()[:6]} generation {said.generation} {said.digest.hex()[:8]}"
        case Welcome():
            return f"Welcome {said.nonce.hex()[:6]} inventory={said.inventory} reports={said.reports}"
        case Inventory():
            return f"Inventory {said.nonce.hex()[:6]} of {len(said.entries)}"
        case Delta():
            puts = " ".join(f"+{p.uid}" for p in said.puts) + "".join(f" -{uid}" for _, uid in said.deletes)
            tail = " adopt" if said.adopt else ""
            return f"Delta {said.nonce.hex()[:6]} generation {said.generation} {said.digest.hex()[:8]} {puts}{tail}"
        case Ack():
            return f"Ack {said.nonce.hex()[:6]} generation {said.generation} seq {said.seq}"
        case Reject():
            return f"Reject {said.nonce.hex()[:6]} {RejectCode(said.code).name} {said.detail}"
        case Report():
            return f"Report {said.nonce.hex()[:6]} {[i.seq for i in said.items]} after {said.after}"
        case _:
            return repr(said)
