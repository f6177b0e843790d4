"""All devices of this hub, and the broker connection they share: which topics are listened to, and when devices are
asked to say Hello.

Every device has its own topics, subscribed by name; one that floods is unsubscribed for a while. After every
connection all topics are subscribed first, then the devices are hailed at a bounded rate, so a fleet never answers at
once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from skerry.errors import LinkLost
from skerry.limits import RECONNECT_BACKOFF_S
from skerry.plan.backoff import full_jitter
from skerry.ports import Clock, Entropy
from skerry.wire.guard import HubGuard, Secrets
from skerry_hub.cloudhub.alarms import Alarms
from skerry_hub.cloudhub.counts import HubCounts, SessionCounts, total
from skerry_hub.cloudhub.device import Controller, Device, Log
from skerry_hub.limits import BROKER_STEADY_S, HAIL_BATCH, HAIL_PAUSE_S, SUBSCRIBE_TOPICS_MAX
from skerry_hub.ports import Broker
from skerry_hub.sets import Given

PREFIX = "skerry/v1"
SHORT_MAX = 3  # connections in a row that were made and soon lost: then it is told what may be the matter
RIVAL = (
    f"connected and lost again within {BROKER_STEADY_S:.0f} s, {SHORT_MAX} times in a row: two hubs of one name throw"
    " each other off; let only one run, or give each its own --replica"
)
UP, DOWN, WILL = "up", "down", "will"


def topic(node: str, which: str) -> str:
    """A device's topic; its device publishes on UP and WILL and listens on DOWN."""
    return f"{PREFIX}/{node}/{which}"


def whose(name: str) -> tuple[str, str]:
    """Of which node a topic is, and which one; two empty words where it is none of ours.

    RabbitMQ hands a topic back with each `.` made a `/` (docs/rabbitmq.md). No node's name has a `/`, so it is the same
    node in either spelling, and no two nodes are one."""
    prefix, _, rest = name.partition(f"{PREFIX}/")
    node, _, which = rest.rpartition("/")
    return ("", "") if prefix or not node else (node.replace("/", "."), which)


@dataclass(slots=True)
class Entry:
    device: Device
    task: asyncio.Task[None]


GuardOf = Callable[[str], HubGuard]


class Sessions:
    """`nodes` and `changed` make it the edge controller's audience."""

    def __init__(
        self,
        broker: Broker,
        controller: Controller,
        clock: Clock,
        entropy: Entropy,
        log: Log,
        guard_of: GuardOf | None = None,
    ) -> None:
        """`guard_of` makes what protects a device's frames; None where they are in clear."""
        self._broker, self._controller, self._guard_of = broker, controller, guard_of
        self._clock, self._entropy, self._log = clock, entropy, log
        self._alarms = Alarms(clock)
        self._devices: dict[str, Entry] = {}
        self._subscribed: set[str] = set()  # nodes
        self._given: dict[str, Given] = {}  # of every node there was: one that comes again is no stranger
        self._hails: dict[str, None] = {}  # nodes to be hailed, in order
        self._bell = asyncio.Event()
        self.connected = asyncio.Event()
        self.counts = HubCounts()
        self._gone = SessionCounts()  # of devices that are no more: sums never go back

    # --- the edge controller's audience -------------------------------------------------------------------------------

    def nodes(self, names: Collection[str]) -> None:
        """All devices there are."""
        wanted = frozenset(names)
        for name in self._devices.keys() - wanted:
            self._remove(name)
        for name in sorted(wanted - self._devices.keys()):
            self._add(name)
        self._bell.set()

    def changed(self, node: str) -> None:
        """The device's target may be another one now."""
        entry = self._devices.get(node)
        if entry is not None:
            entry.device.changed()

    def identity_changed(self, node: str) -> bool:
        """The device may be revoked, or another board; whether a session has ended by it."""
        entry = self._devices.get(node)
        return entry is not None and entry.device.identity_changed()

    def dial(self, node: str, epoch: bytes) -> bool:
        """Ask a device for its connection for streams; False when it is not there."""
        entry = self._devices.get(node)
        return entry is not None and entry.device.dial(epoch)

    def secrets(self, node: str, epoch: bytes) -> Secrets | None:
        """Of the session in which an epoch of streams was dialled; None before the Dial was sent."""
        entry = self._devices.get(node)
        return entry.device.secrets(epoch) if entry is not None else None

    # --- what others may look at --------------------------------------------------------------------------------------

    def device(self, node: str) -> Device | None:
        entry = self._devices.get(node)
        return entry.device if entry is not None else None

    def snapshot(self) -> dict[str, Any]:
        """Counters and queues of this moment, fit for JSON."""
        devices = {name: _shown(entry.device) for name, entry in sorted(self._devices.items())}
        return {
            "connected": self.connected.is_set(),
            "broker": self.counts.dict(),
            "total": total([self._gone, *(e.device.counts for e in self._devices.values())]),
            "devices": devices,
        }

    # --- the connection -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Connect, listen, hail; again whenever the connection is lost. Never returns."""
        alarms = asyncio.ensure_future(self._alarms.run())
        failures = short = 0
        try:
            while True:
                began = self._clock.now()
                try:
                    await self._broker.connect(self._deliver)
                    self.counts.connects += 1
                    await self._converse()
                except LinkLost as why:
                    steady = self._clock.now() - began >= BROKER_STEADY_S
                    failures = 1 if steady else failures + 1
                    short = short + 1 if self.connected.is_set() and not steady else 0
                    if failures in (1, 10):
                        self._log(f"broker: {why}")
                    if short == SHORT_MAX:
                        self._log(f"broker: {RIVAL}")
                finally:
                    await self._disconnected()
                delay = full_jitter(RECONNECT_BACKOFF_S, failures, self._entropy.uniform())
                await self._clock.sleep_until(self._clock.now() + delay)
        finally:
            alarms.cancel()
            for name in list(self._devices):
                self._remove(name)

    # --- private ------------------------------------------------------------------------------------------------------

    def _add(self, name: str) -> None:
        send_to = topic(name, DOWN)
        device = Device(
            name, self._controller, lambda frame: self._broker.publish(send_to, frame), self._bell.set,
            self._alarms, self._clock, self._entropy, self._log, self._given.setdefault(name, Given()),
            self._guard_of(name) if self._guard_of is not None else None,
        )  # fmt: skip
        self._devices[name] = Entry(device, asyncio.ensure_future(device.run()))
        device.changed()

    def _remove(self, name: str) -> None:
        entry = self._devices.pop(name)
        entry.task.cancel()
        self._gone = SessionCounts(**total([self._gone, entry.device.counts]))
        self._hails.pop(name, None)

    def _deliver(self, name: str, payload: bytes) -> None:
        node, which = whose(name)
        entry = self._devices.get(node)
        if entry is not None and which == UP:
            entry.device.push(payload)
        elif entry is not None and which == WILL:
            entry.device.will()
        else:
            self.counts.strays += 1

    async def _disconnected(self) -> None:
        self.counts.disconnects += self.connected.is_set()
        self.connected.clear()
        self._subscribed.clear()
        self._hails.clear()
        for entry in self._devices.values():
            entry.device.cut()
        await self._broker.close()

    async def _converse(self) -> None:
        """Until the connection is lost, which is raised."""
        lost = asyncio.ensure_future(self._broker.lost())
        try:
            self._bell.set()
            while not lost.done():
                if self._bell.is_set():
                    self._bell.clear()
                    await self._subscribe()
                    self.connected.set()
                waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(self._bell.wait())]
                if self._hails:
                    self._hail()
                    waits.append(asyncio.ensure_future(self._clock.sleep_until(self._clock.now() + HAIL_PAUSE_S)))
                try:
                    await asyncio.wait([*waits, lost], return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for wait in waits:
                        wait.cancel()
            raise lost.result()
        finally:
            lost.cancel()

    async def _subscribe(self) -> None:
        """Make the broker's subscriptions those of the devices that are listened to."""
        wanted = {name for name, entry in self._devices.items() if entry.device.listening}
        for names in _batches(sorted(self._subscribed - wanted)):
            await self._broker.unsubscribe([topic(name, which) for name in names for which in (UP, WILL)])
            self._subscribed.difference_update(names)
        for names in _batches(sorted(wanted - self._subscribed)):
            await self._broker.subscribe([topic(name, which) for name in names for which in (UP, WILL)])
            self._subscribed.update(names)
            self._hails.update(dict.fromkeys(n for n in names if n in self._devices))  # some may have gone meanwhile

    def _hail(self) -> None:
        for name in list(self._hails)[:HAIL_BATCH]:
            del self._hails[name]
            self._devices[name].device.hail()


def _batches(names: list[str]) -> list[list[str]]:
    size = SUBSCRIBE_TOPICS_MAX // 2
    return [names[at : at + size] for at in range(0, len(names), size)]


def _shown(device: Device) -> dict[str, Any]:
    applied = device.applied
    return {
        "state": device.session.state.value,
        "live": device.shown is True,
        "held": bool(device.session.held),
        "listening": device.listening,
        "queue": device.queue_depth,
        "generation": applied.generation if applied is not None else None,
        "digest": applied.digest.hex() if applied is not None else None,
        "drift": device.session.drift,
        "outbox_age_s": device.outbox_age_s,
        "note": device.last_note,
        "trust": device.trust.hex(),
        **device.counts.dict(),
    }
