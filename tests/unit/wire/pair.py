"""Both real session machines, a journal and an API in memory, joined by two pipes. No IO, no clock of its own.

Knows every rule that must hold at each step (assertions in Board) and when both ends agree (`Pair.agreed`). Who loses,
repeats and reorders frames is the test.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from types import MappingProxyType

from golden.wirecheck import validate
from skerry.limits import OBJECTS_MAX, PODS_MAX
from skerry.model.desired import Change, Desired, Key, Kind, Object, object_of, packed_objects, set_digest
from skerry.model.report import OutboxItem, Phase, PodStatus, ReportKind
from skerry.wire import message, session
from skerry.wire.codec import encode as cbor
from skerry.wire.delta import full_name
from skerry.wire.message import Delta, Hello, Message, Report
from skerry.wire.report import encode_report
from skerry.wire.session import DeviceSession, Identity
from skerry_hub.cloudhub import session as hub
from skerry_hub.cloudhub.session import HubSession
from skerry_hub.sets import Target

NODE = "pi-7"
STORE, EPOCH = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
OTHER_STORE, OTHER_EPOCH = "33333333-3333-4333-8333-333333333333", "44444444-4444-4444-8444-444444444444"


def pod(uid: str, image: str = "busybox", size: int = 0, name: str = "") -> Object:
    filler = Random(f"{uid}{image}").randbytes(size)
    meta = {"uid": uid, "namespace": "default", "name": name or uid, "filler": filler}
    body = {"metadata": meta, "spec": {"containers": [{"name": "a", "image": image}]}}
    return object_of(Kind.POD, uid, cbor(body))


def config(uid: str, text: str = "x") -> Object:
    meta = {"uid": uid, "namespace": "default", "name": uid}
    return object_of(Kind.CONFIG_MAP, uid, cbor({"metadata": meta, "data": {"key": text}}))


def objects(*what: Object) -> dict[Key, Object]:
    return {o.key: o for o in what}


def desired(*what: Object, store: str = STORE, epoch: str = EPOCH, version: int = 5, generation: int = 3) -> Desired:
    held = objects(*what)
    digest = set_digest((k, o.digest) for k, o in held.items())
    return Desired(store, epoch, version, generation, MappingProxyType(held), digest)


class Board:
    """The device's journal in memory: what DeviceSession may read, and how its effects are carried out."""

    def __init__(self, start: Desired | None = None) -> None:
        self.journal_id = b"j" * 16
        self.desired = start or Desired()
        self.items: dict[int, OutboxItem] = {}
        self.outbox_next = 1
        self.waited_s = 0  # each of its items has
        self.statuses: dict[str, bytes] = {}
        self.full = False  # the disk is full: every commit fails
        self.commits: list[Change] = []

    @property
    def outbox_first(self) -> int:
        return next(iter(self.items), self.outbox_next)

    def outbox(self, after_seq: int, count_max: int) -> Sequence[OutboxItem]:
        return [i for i in self.items.values() if i.seq > after_seq][:count_max]

    def outbox_waited_s(self, seq: int, now: float) -> int:
        return self.waited_s

    def tell(self, uid: str, phase: Phase, message: str = "") -> None:
        self.statuses[uid] = encode_report(PodStatus(uid, "default", uid, phase, message=message))
        self._queue(uid)

    def retell(self) -> None:
        for uid in self.statuses:
            self._queue(uid)

    def trim(self, seq: int) -> None:
        self.items = {s: i for s, i in self.items.items() if s > seq}

    def apply(self, change: Change, hub_may_wipe: bool) -> None:
        own = self.desired
        assert change.generation == own.generation + 1, "generation never falls, never jumps"
        if not hub_may_wipe:
            assert not change.deletes, "a foreign or restored hub deletes"
            assert not any(o.key in own.objects for o in change.puts), "a foreign or restored hub changes"
            assert (change.store, change.epoch) == (own.store, own.epoch), "a foreign hub took the device over"
            names = {(o.kind, full_name(o.body)) for o in own.objects.values()}
            assert not any((o.kind, full_name(o.body)) in names for o in change.puts), "a foreign hub takes a name"
        self.desired = own.changed(change)
        self.commits.append(change)
        assert len(self.desired.objects) <= OBJECTS_MAX
        assert sum(k[0] is Kind.POD for k in self.desired.objects) <= PODS_MAX

    def _queue(self, uid: str) -> None:
        self.items = {s: i for s, i in self.items.items() if i.subject != uid}  # superseded
        self.items[self.outbox_next] = OutboxItem(self.outbox_next, ReportKind.POD_STATUS, uid, self.statuses[uid])
        self.outbox_next += 1


class Pair:
    """Two ends and two pipes of frames. The test decides when which frame arrives, and moves `now`."""

    def __init__(self, target: Target | None = None, start: Desired | None = None, seed: int = 0) -> None:
        self.random = Random(seed)
        self.now = 1_000.0
        self.board = Board(start)
        self.device = DeviceSession(Identity(NODE, "boot-1", "0.1.0"))
        self.hub = HubSession(NODE)
        self.to_hub: list[bytes] = []
        self.to_device: list[bytes] = []
        self.said: list[Message] = []  # all that either end sent, in order
        self.shown: dict[str, tuple[int, bytes]] = {}  # the API: uid → (sequence, status)
        self.storing: list[hub.StoreReports] = []  # handed to the API, not yet stored
        self.api_up = True
        self.held: bool | None = None
        self.full = ""  # why the hub shows the device's journal as full
        self.live = False
        self.epochs = 0
        self.hub_has_target = False
        self.trace: list[str] = []
        if target is not None:
            self.set_target(target)

    # --- what happens -------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        self.note("connect")
        self.to_device.clear()  # Clean Start
        self._device(self.device.opened(self.board, self.now, 0.0, self._nonce()))

    def cut(self) -> None:
        """The device's connection is gone, and what was under way with it."""
        self.note("cut")
        self.device.lost()
        self.to_device.clear()

    def will(self) -> None:
        self.note("will")
        self._hub(self.hub.vanished(self.now))

    def restart_hub(self) -> None:
        """The hub's process starts anew: all memory is lost, a hail goes out, the informers come later."""
        self.note("hub restarts")
        self.hub, self.hub_has_target = HubSession(NODE), False
        self.storing.clear()
        self._hub(self.hub.hail(self.now))

    def set_target(self, target: Target) -> None:
        self.note(f"target {sorted(uid for _, uid in target.objects)} version {target.resource_version}")
        self.target, self.hub_has_target = target, True
        self._hub(self.hub.target(target, self.now))

    def sync_informers(self) -> None:
        if not self.hub_has_target:
            self.set_target(self.target)

    def tell(self, uid: str, phase: Phase, message: str = "") -> None:
        self.board.tell(uid, phase, message)
        self._device(self.device.flush(self.board, self.now))

    def store(self) -> None:
        """The API stores the oldest reports that wait for it."""
        if self.storing and self.api_up:
            reports = self.storing.pop(0)
            for item in reports.items:
                if item.seq >= self.shown.get(item.subject, (0, b""))[0]:
                    self.shown[item.subject] = (item.seq, item.body)
            self._hub(self.hub.stored(reports.journal_id, max(i.seq for i in reports.items)))

    def device_gets(self, at: int = 0, keep: bool = False) -> None:
        frame = self.to_device[at] if keep else self.to_device.pop(at)
        if self.device.state is not session.State.DOWN:
            self._device(self.device.received(frame, self.board, self.now, self.random.random()))

    def hub_gets(self, at: int = 0, keep: bool = False) -> None:
        frame = self.to_hub[at] if keep else self.to_hub.pop(at)
        self._hub(self.hub.received(message.decode(frame), self.now))

    def device_ticks(self) -> None:
        """Time moves to the device's deadline."""
        assert self.device.deadline is not None
        self.now = max(self.now, self.device.deadline)
        self.note("device tick")
        self._device(self.device.tick(self.board, self.now, 0.0, self._nonce(), self.random.random()))

    def hub_ticks(self) -> None:
        assert self.hub.deadline is not None
        self.now = max(self.now, self.hub.deadline)
        self.note("hub tick")
        self._hub(self.hub.tick(self.now))

    # --- calm ---------------------------------------------------------------------------------------------------------

    def deliver(self) -> None:
        """Everything under way arrives in order, and the API stores; no time passes."""
        for _ in range(2_000):
            if self.to_hub:
                self.hub_gets()
            elif self.to_device:
                self.device_gets()
            elif self.storing and self.api_up:
                self.store()
            else:
                return
        raise AssertionError("the ends talk without end:\n" + self.story())

    def deliver_until(self, what: type[Message]) -> None:
        """Deliver until such a message is the next one that the device gets."""
        self.said.clear()
        while not (self.to_device and isinstance(message.decode(self.to_device[0]), what)):
            if self.to_hub:
                self.hub_gets()
            elif self.to_device:
                self.device_gets()
            else:
                self.device_ticks()

    def calm(self, seconds: float = 4_000.0) -> None:
        """No loss from now on: deliver and let deadlines come, until both agree. Fails at a dead-end."""
        self.sync_informers()
        end = self.now + seconds
        ticks = 0
        while True:
            self.deliver()
            if self.agreed():
                return
            due = [t for t in (self.device.deadline, self.hub.deadline) if t is not None]
            assert due, "dead-end: neither end has a deadline and they differ\n" + self.story()
            assert min(due) <= end, f"not agreed within {seconds} s\n" + self.story()
            ticks += 1
            assert ticks < 2_000, "ticks without end:\n" + self.story()
            if self.device.deadline == min(due):
                self.device_ticks()
            else:
                self.hub_ticks()

    def agreed(self) -> bool:
        """The device has the target, the hub knows it, and the API shows every status. Held: nothing is left to add."""
        if self.device.state is not session.State.LIVE or self.hub.state is not hub.State.LIVE or not self.live:
            return False
        have = packed_objects(self.board.desired.objects.values())
        reached = have == self.target.packed
        if self.hub.held:
            names = {(o.kind, full_name(o.body)) for o in self.board.desired.objects.values()}
            missing = [o for k, o in self.target.objects.items() if k not in self.board.desired.objects]
            reached = all((o.kind, full_name(o.body)) in names for o in missing)
        known = self.hub.base is not None and self.hub.base.packed == have
        shown = {uid: body for uid, (_, body) in self.shown.items()}
        told = all(shown.get(uid) == body for uid, body in self.board.statuses.items()) and not self.board.items
        return reached and known and told

    def story(self) -> str:
        device = f"device {self.device.state.value} until {self.device.deadline}"
        hub_end = f"hub {self.hub.state.value} until {self.hub.deadline}"
        return "\n".join((*self.trace[-60:], device, hub_end))

    def note(self, what: str) -> None:
        self.trace.append(f"{self.now:9.2f} {what}")

    # --- private ------------------------------------------------------------------------------------------------------

    def _nonce(self) -> bytes:
        return self.random.randbytes(8)

    def _device(self, effects: Sequence[session.Effect]) -> None:
        bell = False
        for effect in effects:
            match effect:
                case session.Send(what):
                    self.note(f"device → {told(what)}")
                    self.said.append(what)
                    self.to_hub.append(validate(message.encode(what)))
                case session.Commit(change):
                    self._commit(change)
                case session.Trim(seq):
                    self.board.trim(seq)
                case session.Retell():
                    self.board.retell()
                    bell = True
                case session.Note(what):
                    self.note(f"device: {what}")
        if bell:
            self._device(self.device.flush(self.board, self.now))

    def _commit(self, change: Change) -> None:
        if self.board.full:
            self._device(self.device.not_committed("map full", self.now, self.random.random()))
            return
        own = self.board.desired
        same = not own.store or (self.target.store, self.target.epoch) == (own.store, own.epoch)
        self.board.apply(change, hub_may_wipe=same or self.target.adopted)
        self._device(self.device.committed(self.board, self.now))

    def _hub(self, effects: Sequence[hub.Effect]) -> None:
        for effect in effects:
            match effect:
                case hub.Send(what):
                    self.note(f"hub    → {told(what)}")
                    self.said.append(what)
                    self.to_device.append(validate(message.encode(what)))
                case hub.StoreReports():
                    self.storing.append(effect)
                case hub.OpenEpoch(version):
                    self.note(f"hub: opens an epoch: the device has seen {version}")
                    self.epochs += 1
                case hub.Held(held, _):
                    self.held = held
                case hub.Full(why):
                    self.full = why
                case hub.Presence(live):
                    self.live = live
                case hub.Note(what):
                    self.note(f"hub: {what}")
                case hub.Applied():
                    pass


def told(what: Message) -> str:
    """A message in a few words."""
    name = type(what).__name__
    nonce = what.nonce[:2].hex()
    match what:
        case Hello():
            return f"{name} {nonce} generation {what.generation} outbox {what.outbox_first}..{what.outbox_next}"
        case Delta():
            return f"{name} {nonce} generation {what.generation} puts {len(what.puts)} deletes {len(what.deletes)}"
        case Report():
            return f"{name} {nonce} after {what.after} items {[i.seq for i in what.items]}"
        case message.Ack():
            return f"{name} {nonce} generation {what.generation} seq {what.seq}"
        case message.Reject():
            return f"{name} {nonce} {what.code.name} {what.detail}"
        case _:
            return f"{name} {nonce}"


def kinds(said: Sequence[Message]) -> list[str]:
    return [type(m).__name__ for m in said]


def target(*what: Object, version: int = 5, store: str = STORE, epoch: str = EPOCH, adopted: bool = False) -> Target:
    return Target(store, epoch, version, objects(*what), adopted)


def settled(*what: Object) -> Pair:
    """A device that joined, has this set and told a status."""
    pair = Pair(target(*what))
    pair.connect()
    pair.calm()
    pair.tell("a", Phase.RUNNING)
    pair.calm()
    pair.said.clear()
    return pair


def origin(pair: Pair) -> tuple[str, str, int]:
    own = pair.board.desired
    return own.store, own.epoch, own.resource_version
