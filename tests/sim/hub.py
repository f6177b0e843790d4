"""The hub process: the real edge controller and the real sessions on simulated seams."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from sim.broker import Broker
from sim.cluster import ApiWeather, SimCluster
from sim.etcd import Etcd
from sim.link import Reach, SimHubBroker
from sim.loop import Process, State
from sim.trust import SEED_BYTES, Trust
from sim.world import SimClock, SimEntropy, World
from skerry.wire.guard import HubGuard
from skerry_hub.cloudhub.sessions import Sessions
from skerry_hub.cloudhub.streams import DeviceStreams
from skerry_hub.edgecontroller.controller import EdgeController
from skerry_hub.edgecontroller.replicas import Replicas
from skerry_hub.hub import frames_for

CLIENT = "hub"
SECOND = "hub2"


class Hub:
    """Survives its process, which is started again by whoever killed it. `replica` is its name where there are two."""

    def __init__(self, world: World, broker: Broker, etcd: Etcd, client: str = CLIENT, replica: str = "") -> None:
        self.world, self.broker, self.etcd = world, broker, etcd
        self.weather, self.reach = ApiWeather(), Reach()
        self.clock = SimClock(world)
        self.client, self.replica = client, replica
        self.trust: Trust | None = None  # None: frames are in clear
        self.process = Process(f"{client}/never")
        self.process.state = State.DEAD
        self.lives = 0
        self.controller: EdgeController | None = None
        self.sessions: Sessions | None = None
        self.streams: DeviceStreams | None = None
        self.cluster: SimCluster | None = None
        self.log: list[str] = []

    @property
    def running(self) -> bool:
        return self.process.state is not State.DEAD

    def start(self) -> None:
        if self.running:
            return
        self.lives += 1
        self.process = Process(f"{self.client}/{self.lives}")
        self.world.tell(self.client, f"starts, life {self.lives}")
        self.world.loop.spawn(self.process, self._main())

    async def _main(self) -> None:
        entropy = SimEntropy(self.world.rng(f"entropy/{self.client}/{self.lives}"))
        name = str(self.lives) if self.client == CLIENT else f"{self.client}/{self.lives}"
        self.cluster = cluster = SimCluster(self.world, self.etcd, self.weather, name)
        broker = SimHubBroker(self.broker, self.reach, self.client)
        replicas = Replicas(cluster, self.clock, entropy, self._log, self.replica) if self.replica else None
        seals = self.trust.seals() if self.trust is not None else None
        self.controller = EdgeController(cluster, self.clock, entropy, self._log, replicas=replicas, seals=seals)
        guard_of = self._guard_of()
        self.sessions = sessions = Sessions(
            broker, self.controller, self.clock, entropy, self._log, guard_of
        )
        self.controller.listen(self.sessions)
        bulk = SimHubBroker(self.broker, self.reach, f"{self.client}.streams")
        frames_of = partial(frames_for, sessions) if guard_of else None
        self.streams = DeviceStreams(bulk, self.sessions.dial, entropy, self._log, frames_of)
        loops = [asyncio.ensure_future(self.controller.run()), asyncio.ensure_future(self.sessions.run())]
        try:
            await asyncio.gather(*loops)
        except Exception as bug:
            import traceback

            text = "".join(traceback.format_exception(type(bug), bug, bug.__traceback__)[-6:])
            self.world.break_("11 no latch", f"the hub ended with {bug!r}\n{text}")

    def _guard_of(self) -> Callable[[str], HubGuard] | None:
        """With a signing key of this process: each death is a rotation."""
        seed = self.world.rng(f"signer/{self.client}/{self.lives}").randbytes(SEED_BYTES)
        return self.trust.of_hub(seed) if self.trust is not None else None

    def _log(self, line: str) -> None:
        self.log.append(line)
        self.world.tell("log", f"{self.client} {line}")
        if "session failed" in line:
            self.world.break_("11 no latch", f"the hub's {line}")

    # --- what the world does to it ------------------------------------------------------------------------------------

    def kill(self) -> None:
        if self.running:
            self.world.tell("fault", f"{self.client} dies at step {self.process.steps}")
            self.world.loop.kill(self.process)
            self.sessions = self.controller = self.streams = None
            if self.cluster is not None:
                self.cluster.deaf()
            for client in (self.client, f"{self.client}.streams"):
                port = self.broker.ports.get(client)
                if port is not None:
                    port.cut("the process died")

    def freeze(self) -> None:
        """It stays connected and subscribed, and answers nothing."""
        if self.process.state is State.RUNNING:
            self.world.tell("fault", "hub stands still")
            self.world.loop.stop_process(self.process)

    def thaw(self) -> None:
        if self.process.state is State.STOPPED:
            self.world.tell("hub", "goes on")
            self.world.loop.go_on(self.process)
