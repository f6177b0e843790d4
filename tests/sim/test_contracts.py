"""The simulated adapters keep the contracts that the real ones keep: the same suites, in virtual time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest

from contract.authority import AuthorityContract
from contract.clock import ClockContract, EntropyContract
from contract.device_key import DeviceKeysContract
from contract.images import ImagesContract
from contract.link import LinkContract
from contract.manifests import ManifestsContract
from contract.runtime import RuntimeContract
from contract.store import StoreContract
from contract.stream_link import StreamLinkContract
from sim.broker import Broker, Port
from sim.device_key import Chip
from sim.engine import Engine
from sim.folder import Folder, SimManifests
from sim.link import Reach, SimLink, SimStreamLink, down_topic, up_topic
from sim.loop import bury
from sim.runtime import SimRuntime, Weather
from sim.store import Disk, SimStore
from sim.trust import STAMP, Trust
from sim.world import SimClock, SimEntropy, World
from skerry.ports import AuthConfig, Authority, DeviceKeys, Link, Manifests, Runtime, StreamLink
from skerry.world.link import streams_down_topic, streams_up_topic


class Stores:
    def __init__(self, world: World) -> None:
        self._world = world
        self._disk = Disk(world, "card")

    def open(self) -> SimStore:
        if self._disk.opened is not None:
            self._disk.opened.close()
        return self._disk.open()

    def small(self) -> SimStore:
        return Disk(self._world, "small", capacity=400_000).open()


class Runtimes:
    image, missing_image = "here:1", "nowhere:1"

    def __init__(self, world: World) -> None:
        self._world = world
        self._engine = Engine(world, "e", SimClock(world), images={self.image}, talkative=False)
        self._weather = Weather()

    def runtime(self) -> Runtime:
        return SimRuntime(self._world, self._engine, self._weather)

    async def private(self) -> tuple[str, AuthConfig]:
        auth = AuthConfig("tide", "ebb")
        self._weather.registry.add("private:1")
        self._weather.private["private:1"] = auth
        return "private:1", auth

    async def away(self) -> None:
        self._weather.go_away()
        await asyncio.sleep(0.01)

    async def back(self) -> None:
        self._weather.away = False

    async def kill(self, container_id: str) -> None:
        self._engine.kill(container_id, 137)


class Side:
    """The world on the other side of a device's connection `client`."""

    client, down, up = "n1", down_topic("n1"), up_topic("n1")

    def __init__(self, world: World) -> None:
        self._broker = Broker(world, world.rng("broker"))
        self._reach = Reach()
        self._heard: deque[bytes] = deque()
        port = self._broker.connect("hub", 1000, None, self._hears)
        assert port is not None
        self._hub = port
        self._broker.subscribe(port, [self.up])

    def _hears(self, port: Port, handle: int, topic: str, payload: bytes) -> None:
        del topic
        port.ack(handle)
        self._heard.append(payload)

    async def say(self, frame: bytes) -> None:
        self._hub.publish(self.down, frame)
        await asyncio.sleep(0.5)

    async def heard(self) -> bytes:
        while not self._heard:
            await asyncio.sleep(0.1)
        return self._heard.popleft()

    async def cut(self) -> None:
        self._reach.up = False
        self._broker.ports[self.client].cut("cut")
        await asyncio.sleep(0.01)

    async def mend(self) -> None:
        self._reach.up = True


class Links(Side):
    def link(self) -> Link:
        return SimLink(self._broker, self._reach, "n1")

    async def unacknowledged(self) -> int:
        await asyncio.sleep(0.5)
        return len(self._broker.ports["n1"].unacked)


class StreamLinks(Side):
    client, down, up = "n1.streams", streams_down_topic("n1"), streams_up_topic("n1")

    def link(self) -> StreamLink:
        return SimStreamLink(self._broker, self._reach, "n1")


class ManifestFolders:
    def __init__(self, world: World) -> None:
        del world
        self._folder = Folder()
        self.write = self._folder.write

    def manifests(self) -> Manifests:
        return SimManifests(self._folder)

    def fail(self) -> None:
        self._folder.failing = True


class Authorities:
    def __init__(self, world: World) -> None:
        self._trust = Trust(world, [])

    def authority(self) -> Authority:
        return self._trust

    def certified(self, public: bytes) -> bytes:
        return public + STAMP

    def strange(self, public: bytes) -> bytes:
        return public + b" certified by somebody"


SUITES = (
    (AuthorityContract, {"site": Authorities}),
    (ManifestsContract, {"site": ManifestFolders}),
    (StoreContract, {"site": Stores}),
    (RuntimeContract, {"site": Runtimes}),
    (ImagesContract, {"site": Runtimes}),
    (LinkContract, {"site": Links}),
    (StreamLinkContract, {"site": StreamLinks}),
    (ClockContract, {"clock": SimClock}),
    (EntropyContract, {"entropy": lambda world: SimEntropy(world.rng("entropy"))}),
)


# These take it for granted that tasks start in the order in which they were made.
IN_ORDER = ("test_commits_take_effect_in_call_order", "test_close_waits_for_commits_under_way")


def cases() -> Iterator[Any]:
    for suite, given in SUITES:
        for name in (n for n in vars(suite) if n.startswith("test_")):
            marks = [m for m in getattr(getattr(suite, name), "pytestmark", ()) if m.name == "parametrize"]
            more: list[dict[str, Any]] = [{m.args[0]: value} for m in marks for value in m.args[1]] or [{}]
            for extra in more:
                yield pytest.param(suite, name, given, extra, id=f"{suite.__name__}-{name}-{extra}")


@pytest.mark.parametrize(("suite", "name", "given", "extra"), list(cases()))
def test_a_simulated_adapter_keeps_the_contract(suite: Any, name: str, given: Any, extra: Any) -> None:
    for seed in range(5):
        world = World(seed)
        world.loop.shuffled = name not in IN_ORDER
        parts = {arg: make(world) for arg, make in given.items()}

        async def case(parts: Any = parts) -> None:
            done = getattr(suite(), name)(**parts, **extra)
            if asyncio.iscoroutine(done):
                await done

        try:
            world.loop.run_until_complete(case())
        finally:
            bury(world.loop)


class TestChip(DeviceKeysContract):
    @pytest.fixture
    def keys(self) -> DeviceKeys:
        return Chip()
