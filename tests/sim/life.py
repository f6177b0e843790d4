"""One life: a seed gives a world, a storm blows, calm comes, and then the promises must hold within their bounds."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

import skerry.journal.journal as journal_module
import skerry.journal.outbox as outbox_module
from sim.broker import Broker
from sim.calm import QUIET_S, calm_problems, offline_problems, outage_problems, quiet_problems
from sim.checks import PROMISES, Watching, event_name
from sim.device import Device
from sim.etcd import Change, Etcd
from sim.faults import Faults, stock
from sim.folder import Keeper
from sim.hub import SECOND, Hub
from sim.loop import Asleep, Starved, bury
from sim.people import Operator
from sim.trust import Trust
from sim.viewers import Viewers
from sim.world import Broken, World
from skerry.model.report import Event
from skerry_hub.ports import PODS

CALM_S = 4_000.0  # the bound of promise 5: the longest hail of a hub (HAIL_BACKOFF_S) and one back-off
POLL_S = 10.0
REPLICAS_PART = 0.25  # of the lives have two replicas of the hub
TRUST_PART = 0.5  # of the lives, in which frames are protected; in the others the broker is in clear
OFFLINE_S = 400.0  # the bound of promise 4, from the boot: one look, one back-off of any step
OUTAGE_S = 400.0  # until the hub shows it: the longest that a runtime is away untold, and a back-off of the link
SETTLE_S = 800.0  # the longest program ends


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a life went."""

    seed: int
    broken: Broken | None
    trace: tuple[str, ...]
    digest: str
    simulated_s: float
    steps: int
    calm_s: float
    counts: dict[str, int]


@dataclass(slots=True)
class Life:
    world: World
    random: Random
    broker: Broker
    etcd: Etcd
    hub: Hub
    devices: list[Device]
    people: Operator
    faults: Faults
    watching: list[Watching]
    viewers: Viewers
    keepers: list[Keeper]
    shown: set[str]
    restores: list[float] = field(default_factory=list)
    calm_s: float = 0.0
    only: tuple[str, ...] = ()  # the faults that may happen; empty: whatever the seed draws
    second: Hub | None = None  # another replica of the hub, which no fault meets
    deaths: dict[str, float] = field(default_factory=dict)  # pod uid → when the API lost it


def make(seed: int, verbose: bool = False) -> Life:
    world = World(seed, verbose)
    random = world.rng("life")
    broker = Broker(world, world.rng("broker"))
    etcd = Etcd(world)
    names = [f"n{i}" for i in range(1 if random.random() < 0.85 else 2)]
    devices = [Device(world, broker, name) for name in names]
    trust = Trust(world, names) if world.rng("trust").random() < TRUST_PART else None
    two = world.rng("replicas").random() < REPLICAS_PART
    hub = Hub(world, broker, etcd, replica="one" if two else "")
    second = Hub(world, broker, etcd, SECOND, "two") if two else None
    for device in devices:
        device.trust = trust
    for one in (hub, second):
        if one is not None:
            one.trust = trust
    people = Operator(world, etcd, names)
    faults = Faults(world, broker, etcd, hub, devices, people, world.rng("faults"))
    shown: set[str] = set()
    watching = [Watching(world, device, shown) for device in devices]
    keepers = [Keeper(world, device.node, device.folder) for device in devices]
    viewers = Viewers(world, hub, etcd)
    life = Life(world, random, broker, etcd, hub, devices, people, faults, watching, viewers, keepers, shown)
    life.second = second

    def written(change: Change) -> None:
        meta = change.obj["metadata"]
        if change.plural == "events" and change.type == "ADDED":
            shown.add(f"{meta['namespace']}/{meta['name']}")
        if change.plural == "pods" and change.type == "DELETED":
            life.deaths[meta["uid"]] = world.now

    etcd.written.append(written)
    for watch, device, keeper in zip(watching, devices, keepers, strict=True):
        watch.keeper = keeper
        watch.pod_known = lambda event: pod_known(life, event)  # type: ignore[method-assign]
        stock(device)
    faults.tearing = lambda device: watching[devices.index(device)].torn()
    return life


def pod_known(life: Life, event: Event) -> bool:
    """Whether the API shows the event's pod, and was not restored since the simulation began (a pod of a lost past)."""
    if life.etcd.lives:
        return False
    return any(pod["metadata"]["uid"] == event.pod_uid for pod in life.etcd.all(PODS).values())


async def live(life: Life) -> None:
    world, random = life.world, life.random
    world.loop.set_exception_handler(lambda loop, context: _unhandled(world, context))
    for name in life.people.nodes:
        life.people.register(name)
    life.people.make_configs()
    for _ in range(random.randint(0, 4)):
        life.people.create_pod()
    for keeper in life.keepers:
        keeper.begin()
    for device in life.devices:
        device.start_later((0.0, 30.0))
    world.after(random.uniform(0, 30), life.hub.start)
    if life.second is not None:
        world.after(world.rng("replicas/start").uniform(0, 60), life.second.start)
    await storm(life)
    if random.random() < 0.3:
        await offline_boot(life)
    life.faults.end()
    await calm(life)
    if world.rng("outage").random() < 0.3:
        await outage(life)
    if random.random() < 0.25:
        await quiet(life)


async def storm(life: Life) -> None:
    world, random = life.world, life.random
    everything = life.faults.vocabulary()
    names = [name for name in everything if random.random() < random.choice([0.2, 0.5, 0.9])]
    names = list(life.only) or names
    if not any(n == "api restored" or n == "api empty" for n in names):
        names = [n for n in names if n != "adoption"]
    pace = random.choice([3.0, 15.0, 60.0])
    wishes = random.choice([2.0, 10.0, 60.0]) if pace < 60 else random.choice([10.0, 60.0])
    lasts = random.uniform(60, 300) if pace < 10 else random.uniform(100, 1000)
    world.tell("storm", f"{lasts:.0f} s of {', '.join(names)}; a fault each {pace:.0f} s, a wish each {wishes:.0f} s")
    until = world.now + lasts
    next_fault, next_wish, next_backup = world.now + 5, world.now + 1, world.now + 30
    looking = world.rng("looking")
    looks = looking.choice([5.0, 30.0, 1e9])
    next_look = world.now + looking.expovariate(1 / looks)
    while world.now < until:
        await asyncio.sleep(max(0.0, min(next_fault, next_wish, next_backup, next_look, until) - world.now))
        if world.now >= next_backup:
            life.faults.backups.append(life.etcd.backup())
            next_backup = world.now + random.uniform(60, 400)
        if world.now >= next_wish:
            if not life.hub.weather.away:
                life.people.wish()
            for keeper in life.keepers:
                keeper.wish()
            next_wish = world.now + random.expovariate(1 / wishes)
        if world.now >= next_look:
            life.viewers.come()
            next_look = world.now + looking.expovariate(1 / looks)
        if world.now >= next_fault and names:
            name = random.choices(names, [everything[n][0] for n in names])[0]
            world.count("faults")
            everything[name][1]()
            next_fault = world.now + random.expovariate(1 / pace)
        elif world.now >= next_fault:
            next_fault = until + 1


async def offline_boot(life: Life) -> None:
    """Promise 4: a board that boots without any network runs what its journal says."""
    world = life.world
    world.tell("storm", "ends offline: every board boots without network")
    life.faults.end()
    world.calm = False
    for device in life.devices:
        device.reach.up = False
        port = life.broker.ports.get(device.node)
        if port is not None:
            port.cut("no network")
        device.power_cut(life.random.uniform(1, 30))
    booted = world.now + 50
    while problems := offline_problems(life.devices):
        if world.now > booted + OFFLINE_S:
            world.break_(PROMISES["4"], "; ".join(problems))
        await asyncio.sleep(POLL_S)
    world.tell("storm", f"all pods run offline {world.now - booted + 50:.0f} s after the power cut")


async def calm(life: Life) -> None:
    """Promise 5, 6 and 8, within CALM_S."""
    world, began = life.world, life.world.now
    for keeper in life.keepers:
        keeper.mend()
    life.people.register_all()
    life.people.make_configs()
    problems: list[str] = ["not asked yet"]
    while problems:
        await asyncio.sleep(POLL_S)
        life.people.adopt()
        problems = calm_problems(life) or life.viewers.left_behind(life.devices)
        if problems and world.now > began + CALM_S:
            said = {problem[1 : problem.find("]")] for problem in problems}
            worst = next((key for key in ("14", "12", "8", "6") if key in said), "5")
            only = all(p.startswith(f"[{worst}]") for p in problems)
            world.break_(PROMISES[worst if only else "5"], "; ".join(problems))
            await asyncio.sleep(POLL_S)
    life.calm_s = world.now - began
    world.tell("calm", f"converged after {life.calm_s:.0f} s")
    missing = [
        f"{event.reason} of {event.name} ({event.id})"
        for watch in life.watching
        for event in watch.events.values()
        if event_name(watch.device.node, event) not in life.shown
        and event.id not in watch.dropped_ids | watch.lost_ids
        and watch.pod_known(event)
    ]
    world.check(not missing, PROMISES["6"], f"events that were never shown: {missing}")


async def outage(life: Life) -> None:
    """Promise 5 of the nodes: a runtime that is away is shown within OUTAGE_S, and not any more when it is back."""
    world, began = life.world, life.world.now
    world.tell("calm", "every runtime goes away")
    for device in life.devices:
        device.weather.go_away()
    while problems := outage_problems(life):
        if world.now > began + OUTAGE_S:
            world.break_(PROMISES["5"], "; ".join(problems))
        await asyncio.sleep(POLL_S)
    world.tell("calm", f"the hub shows it after {world.now - began:.0f} s")
    world.count("outages shown")
    for device in life.devices:
        device.weather.away = False
    await calm(life)


async def quiet(life: Life) -> None:
    """Promise 10, for an hour."""
    life.people.end_restless()
    for keeper in life.keepers:
        keeper.end_restless()
    await asyncio.sleep(SETTLE_S)
    await calm(life)
    await asyncio.sleep(400)  # one relist and its consequences
    world = life.world
    for device in life.devices:
        device.process.timers = []
    before = [(d.disk.commits, d.process.steps, d.lives) for d in life.devices]
    frames = life.broker.messages
    await asyncio.sleep(QUIET_S)
    problems = quiet_problems(life, before)
    if life.broker.messages != frames:
        problems.append(f"{life.broker.messages - frames} messages went through the broker in a quiet hour")
    for device in life.devices:
        device.process.timers = None
    world.check(not problems, PROMISES["10"], "; ".join(problems))
    world.tell("calm", "an hour was quiet")
    world.count("quiet hours")


def _unhandled(world: World, context: dict[str, object]) -> None:
    why = context.get("exception")
    world.break_(PROMISES["11"], f"unhandled: {context.get('message')} {why!r}")


@contextlib.contextmanager
def small_limits() -> Iterator[None]:
    """Bounds that a short life can reach."""
    limits = ((outbox_module, "OUTBOX_ITEMS_MAX", 60), (journal_module, "HISTORY_ITEMS_MAX", 100))
    before = [getattr(module, name) for module, name, _ in limits]
    for module, name, value in limits:
        setattr(module, name, value)
    try:
        yield
    finally:
        for (module, name, _), value in zip(limits, before, strict=True):
            setattr(module, name, value)


def run(seed: int, verbose: bool = False, only: tuple[str, ...] = ()) -> Outcome:
    """Live one life from its seed. Same seed, same trace. `only` names the faults that may happen."""
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    if seed % 8 == 0:
        gc.collect()
    gc.disable()  # when cycles are collected is not the seed's to say
    life = make(seed, verbose)
    life.only = only
    world = life.world
    with small_limits():
        try:
            world.loop.run_until_complete(live(life))
        except Broken:
            pass
        except (Asleep, Starved) as why:
            world.broken = Broken(PROMISES["9"] if isinstance(why, Starved) else PROMISES["11"], str(why))
        finally:
            bury(world.loop)
            gc.enable()
    counts = dict(world.counts)
    return Outcome(
        seed, world.broken, tuple(world.trace.lines), world.trace.digest(), world.now - 1_000.0, world.loop.steps,
        life.calm_s, counts,
    )  # fmt: skip
