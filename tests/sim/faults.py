"""The fault vocabulary: what can go wrong, how long it lasts, and how it ends. A life draws from a part of it, so that
some lives suffer much of little (swarm testing). Every fault tells itself to the trace and is taken back by `end`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from sim.broker import Broker, Mood
from sim.cluster import ApiWeather
from sim.device import Device
from sim.etcd import Backup, Etcd
from sim.hub import CLIENT, Hub
from sim.loop import State
from sim.people import CANARY, IMAGES, PRIVATE_IMAGE, Operator
from sim.runtime import LIE_S
from sim.world import World
from skerry.model.observed import ContainerState
from skerry.ports import AuthConfig
from skerry.world.link import down_topic, streams_down_topic, streams_up_topic, up_topic

HOSTILE_FRAMES = 40
LIE_PAUSE_S = 120.0  # between two lies of one engine: a lie must be over when steer looks again


@dataclass(slots=True)
class Faults:
    """The world's ill will."""

    world: World
    broker: Broker
    etcd: Etcd
    hub: Hub
    devices: list[Device]
    people: Operator
    random: Random
    tearing: Callable[[Device], None] = lambda device: None  # told before an environment is torn
    backups: list[Backup] = field(default_factory=list)
    _lied: dict[str, float] = field(default_factory=dict)
    _epochs: dict[str, int] = field(default_factory=dict)

    def vocabulary(self) -> dict[str, tuple[int, Callable[[], None]]]:
        """name → (weight, what happens)."""
        return {
            "link cut": (6, self.link_cut),
            "link blip": (6, self.link_blip),
            "half open": (3, self.half_open),
            "hub link": (3, self.hub_link),
            "broker restart": (3, self.broker_restart),
            "broker moody": (8, self.broker_moody),
            "broker hostile": (3, self.broker_hostile),
            "hub dies": (4, self.hub_dies),
            "hub mute": (3, self.hub_mute),
            "api away": (3, self.api_away),
            "api moody": (5, self.api_moody),
            "api compacts": (1, self.etcd.compact),
            "api restored": (2, self.api_restored),
            "api empty": (1, self.api_empty),
            "adoption": (2, self.adoption),
            "agent dies": (6, self.agent_dies),
            "agent dies at a step": (8, self.agent_dies_at_step),
            "agent stands still": (2, self.agent_freezes),
            "power cut": (3, self.power_cut),
            "engine away": (4, self.engine_away),
            "engine moody": (6, self.engine_moody),
            "engine lies": (3, self.engine_lies),
            "container dies": (5, self.container_dies),
            "sandbox dies": (2, self.sandbox_dies),
            "registry away": (3, self.registry_away),
            "disk full": (3, self.disk_full),
            "disk breaks": (2, self.disk_breaks),
            "disk slow": (2, self.disk_slow),
            "mounts fail": (2, self.mounts_fail),
            "clock jumps": (3, self.clock_jumps),
        }

    def end(self) -> None:
        """Calm: nothing is wrong any more. What was broken stays as it is, and must be repaired by the parts."""
        self.world.calm = True
        self.world.tell("calm", "begins")
        self.broker.up, self.broker.mood = True, Mood()
        self.hub.reach.up = True
        weather = self.hub.weather
        weather.away, weather.slow, weather.failing, weather.conflicts = False, 1.0, 0.0, 0.0
        weather.closing, weather.lag_s = 0.0, 0.0
        self.hub.process.die_at = None
        self.hub.thaw()
        self.hub.start()
        for device in self.devices:
            self._mend(device)

    def _mend(self, device: Device) -> None:
        device.reach.up = True
        device.process.die_at = None
        weather = device.weather
        weather.slow, weather.failing, weather.hanging, weather.deaf, weather.late = 1.0, 0.0, 0.0, 0.0, 0.0
        weather.online = True
        weather.hidden.clear()
        device.disk.full = device.disk.eio = False
        device.disk.slow = 1.0
        device.board.failing = 0.0
        self.world.loop.go_on(device.process)
        if device.powered:
            weather.away = False
        else:
            device.power_on()

    # --- network ------------------------------------------------------------------------------------------------------

    def link_cut(self) -> None:
        device, seconds = self._device(), self._seconds(1, 400)
        self._tell(f"{device.node}: no network for {seconds:.0f} s")
        device.reach.up = False
        self._cut(device.node)
        self._later(seconds, f"reach {device.node}", setattr, device.reach, "up", True)

    def link_blip(self) -> None:
        device = self._device()
        self._tell(f"{device.node}: connection cut")
        self._cut(device.node)

    def half_open(self) -> None:
        name = self.random.choice([*[d.node for d in self.devices], CLIENT])
        port = self.broker.ports.get(name)
        if port is not None:
            self._tell(f"{name}: half-open connection")
            port.freeze()

    def hub_link(self) -> None:
        seconds = self._seconds(1, 200)
        self._tell(f"hub: no broker for {seconds:.0f} s")
        self.hub.reach.up = False
        self._cut(CLIENT)
        self._later(seconds, "hub reach", setattr, self.hub.reach, "up", True)

    def broker_restart(self) -> None:
        seconds = self._seconds(0.1, 60)
        self._tell(f"broker restarts, {seconds:.0f} s")
        self.broker.restart()
        self.broker.up = False
        self._later(seconds, "broker", setattr, self.broker, "up", True)

    def broker_moody(self) -> None:
        kinds = self.random.sample(["dropping", "repeating", "delaying"], self.random.randint(1, 3))
        mood = Mood(**{kind: self.random.choice([0.05, 0.3, 0.6]) for kind in kinds})
        mood.late_s = self.random.choice([1.0, 30.0, 200.0])
        self._tell(f"broker: {mood}")
        self.broker.mood = mood
        self._later(self._seconds(5, 300), "mood", setattr, self.broker, "mood", Mood())

    def broker_hostile(self) -> None:
        """It sends again what it heard at any time, to anybody, whole or with a bit flipped, and frames of its own."""
        if self.hub.trust is None:
            return  # there nothing could be done about it
        seconds = self._seconds(30, 600)
        self._tell(f"broker: hostile for {seconds:.0f} s")
        topics = [way(device.node) for device in self.devices for way in (up_topic, down_topic)]
        topics += [way(device.node) for device in self.devices for way in (streams_up_topic, streams_down_topic)]
        for _ in range(HOSTILE_FRAMES):
            self.world.after(self.random.uniform(0, seconds), self._forge, self.random.choice(topics))

    def _forge(self, topic: str) -> None:
        assert self.hub.trust is not None
        payload = self.hub.trust.forged(self.random)
        if payload and self.broker.up and not self.world.calm:
            self.world.count("forged frames")
            self.broker.inject(topic, payload)

    # --- hub and API --------------------------------------------------------------------------------------------------

    def hub_dies(self) -> None:
        if self.random.random() < 0.5:
            self.hub.process.die_at = (self.hub.process.steps + self.random.randint(1, 400), self._hub_died)
        else:
            self._hub_died()

    def _hub_died(self) -> None:
        if self.hub.running:
            self.hub.kill()
            self._later(self._seconds(0.1, 90), "hub", self.hub.start)

    def hub_mute(self) -> None:
        self.hub.freeze()
        self._later(self._seconds(5, 900), "hub mute", self.hub.thaw)

    def api_away(self, seconds: float = 0.0) -> None:
        seconds = seconds or self._seconds(1, 200)
        self._tell(f"API away for {seconds:.0f} s")
        self.hub.weather.away = True
        self.etcd.ring_all()
        self._later(seconds, "api", setattr, self.hub.weather, "away", False)

    def api_moody(self) -> None:
        weather, random = self.hub.weather, self.random
        weather.slow = random.choice([1.0, 1.0, 20.0])
        weather.failing = random.choice([0.0, 0.2, 0.6])
        weather.conflicts = random.choice([0.0, 0.2])
        weather.closing = random.choice([0.0, 0.1, 0.4])
        weather.lag_s = random.choice([0.0, 0.5, 10.0])
        self._tell(f"API: {weather}")
        self._later(self._seconds(5, 200), "api mood", self._api_calm)

    def _api_calm(self) -> None:
        weather: ApiWeather = self.hub.weather
        weather.slow, weather.failing, weather.conflicts, weather.closing, weather.lag_s = 1.0, 0.0, 0.0, 0.0, 0.0

    def api_restored(self) -> None:
        """Sometimes with the hub's own restart, as `skerry-hub up` on one machine would."""
        old = [b for b in self.backups if self.world.now - b.at > 120]
        if not old:
            return
        backup = self.random.choice(old)
        self._tell(f"API restored from a backup of {self.world.now - backup.at:.0f} s ago")
        self._hub_too()
        self.etcd.restore(backup)
        self.api_away(self._seconds(3, 30))

    def api_empty(self) -> None:
        self._tell("API replaced by an empty one")
        self._hub_too()
        self.etcd.empty()
        self.api_away(self._seconds(3, 30))

    def _hub_too(self) -> None:
        """Sometimes the hub restarts with its API; always if it stands still, because a hub that sleeps through all of
        it and finds its version within the new API's range cannot tell (docs/simulator.md, gaps)."""
        if self.random.random() < 0.4 or self.hub.process.state is State.STOPPED:
            self._hub_died()

    def adoption(self) -> None:
        self.people.adopt()

    # --- the board ----------------------------------------------------------------------------------------------------

    def agent_dies(self) -> None:
        self._device().kill()

    def agent_dies_at_step(self) -> None:
        self._device().kill_at_step(self.random.choice([self.random.randint(1, 30), self.random.randint(1, 600)]))

    def agent_freezes(self) -> None:
        self._device().freeze(self._seconds(0.5, 200))

    def power_cut(self) -> None:
        device = self._device()
        forget, tear = self.random.random() < 0.15, self.random.random() < 0.15
        if tear:
            self.tearing(device)
        device.power_cut(self._seconds(1, 120), forget, tear)

    def engine_away(self) -> None:
        device, seconds = self._device(), self._seconds(0.5, 200)
        if device.powered:
            self._tell(f"{device.node}: engine away for {seconds:.0f} s")
            device.weather.go_away()
            self._later(seconds, f"engine {device.node}", device._engine_up)

    def engine_moody(self) -> None:
        device, random = self._device(), self.random
        weather = device.weather
        weather.slow = random.choice([1.0, 10.0, 100.0])
        weather.failing = random.choice([0.0, 0.2, 0.5])
        weather.hanging = random.choice([0.0, 0.0, 0.1])
        weather.deaf = random.choice([0.0, 0.3, 1.0])
        weather.late = random.choice([0.0, 1.0, 20.0])
        self._tell(f"{device.node}: engine slow {weather.slow} failing {weather.failing} hanging {weather.hanging}")
        self._later(self._seconds(5, 200), f"engine mood {device.node}", self._engine_calm, device)

    def _engine_calm(self, device: Device) -> None:
        weather = device.weather
        weather.slow, weather.failing, weather.hanging, weather.deaf, weather.late = 1.0, 0.0, 0.0, 0.0, 0.0

    def engine_lies(self) -> None:
        """Listings omit something for a moment."""
        device = self._device()
        things = [*device.engine.sandboxes, *device.engine.containers]
        if not things or self.world.now - self._lied.get(device.node, 0.0) < LIE_PAUSE_S:
            return
        self._lied[device.node] = self.world.now
        hidden = set(self.random.sample(things, self.random.randint(1, len(things))))
        self._tell(f"{device.node}: listings omit {len(hidden)} of {len(things)}")
        device.weather.hidden = hidden
        for uid in sorted(device.engine.look()):
            device.engine._tell(uid)
        self._later(self._seconds(0.01, LIE_S), f"lie {device.node}", device.weather.hidden.clear)

    def container_dies(self) -> None:
        device = self._device()
        running = [i for i, m in device.engine.containers.items() if m.seen.state is ContainerState.RUNNING]
        if running:
            device.engine.kill(self.random.choice(running), self.random.choice([0, 1, 137]), "OOMKilled")

    def sandbox_dies(self) -> None:
        device = self._device()
        ready = [i for i, box in device.engine.sandboxes.items() if box.ready]
        if ready:
            device.engine.lose_sandbox(self.random.choice(ready))

    def registry_away(self) -> None:
        device = self._device()
        self._tell(f"{device.node}: no registry; images forgotten")
        device.weather.online = False
        used = {m.seen.image for m in device.engine.containers.values()}
        device.engine.images &= used
        self._later(self._seconds(10, 600), f"registry {device.node}", setattr, device.weather, "online", True)

    def disk_full(self) -> None:
        device, seconds = self._device(), self._seconds(1, 300)
        self._tell(f"{device.node}: disk full for {seconds:.0f} s")
        device.disk.full = True
        self._later(seconds, f"disk {device.node}", setattr, device.disk, "full", False)

    def disk_breaks(self) -> None:
        device = self._device()
        self._tell(f"{device.node}: the next commit meets EIO")
        device.disk.eio = True

    def disk_slow(self) -> None:
        device = self._device()
        self._tell(f"{device.node}: slow disk")
        device.disk.slow = self.random.choice([10.0, 100.0])
        self._later(self._seconds(5, 100), f"slow {device.node}", setattr, device.disk, "slow", 1.0)

    def mounts_fail(self) -> None:
        device = self._device()
        self._tell(f"{device.node}: mounts fail")
        device.board.failing = 0.5
        self._later(self._seconds(5, 200), f"mounts {device.node}", setattr, device.board, "failing", 0.0)

    def clock_jumps(self) -> None:
        device, jump = self._device(), self.random.choice([-1e9, -3600.0, -5.0, 5.0, 86400.0, 3e8])
        self._tell(f"{device.node}: wall clock jumps by {jump:.0f} s")
        device.clock.offset = max(-self.world.now, device.clock.offset + jump)

    # --- private ------------------------------------------------------------------------------------------------------

    def _device(self) -> Device:
        return self.random.choice(self.devices)

    def _seconds(self, low: float, high: float) -> float:
        """Short ones are as likely as long ones of ten times their length."""
        return float(low * (high / low) ** self.random.random())

    def _tell(self, what: str) -> None:
        self.world.tell("fault", what)

    def _cut(self, client: str) -> None:
        """Both connections of a client."""
        for name in (client, f"{client}.streams"):
            port = self.broker.ports.get(name)
            if port is not None:
                notice = self.random.choice([0.0, 0.0, 5.0, 60.0]), self.random.choice([0.0, 1.0, 90.0])
                port.cut("connection reset", notice)

    def _later(self, seconds: float, what: str, do: Callable[..., Any], *args: Any) -> None:
        """The end of a fault, unless a later one of the same kind has begun or calm has come."""
        number = self._epochs[what] = self._epochs.get(what, 0) + 1

        def ends() -> None:
            if self._epochs[what] == number and not self.world.calm:
                do(*args)

        self.world.after(seconds, ends)


def stock(device: Device) -> None:
    """The images that a device has or can get."""
    device.weather.registry.update(IMAGES)
    device.weather.private[PRIVATE_IMAGE] = AuthConfig("sim", CANARY)
