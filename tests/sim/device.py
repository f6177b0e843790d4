"""One simulated device: card, engine, board and network, and the agent process that lives and dies on them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from sim.broker import Broker
from sim.engine import Engine
from sim.folder import Folder, SimManifests
from sim.host import WATCHDOG_S, Board, SimHost
from sim.link import Reach, SimLink, SimStreamLink
from sim.loop import Process, State
from sim.runtime import SimRuntime, Weather
from sim.store import Disk
from sim.trust import Trust
from sim.world import SimClock, SimEntropy, World
from skerry import boot
from skerry.errors import StoreBroken, StoreFull
from skerry.journal.journal import Journal
from skerry.journal.recovery import recover
from skerry.loops.protect import Protection

RESTART_S = (0.1, 3.0)  # the service manager's
BOOT_S = (2.0, 20.0)


class Device:
    """What survives: everything but `process` and what hangs from it."""

    def __init__(self, world: World, broker: Broker, node: str) -> None:
        self.world, self.broker, self.node = world, broker, node
        self.random = world.rng(f"device/{node}")
        self.clock = SimClock(world)
        self.disk = Disk(world, node)
        self.engine = Engine(world, node, self.clock)
        self.weather = Weather()
        self.folder = Folder()
        self.board = Board(world, node)
        self.reach = Reach()
        self.process = Process(f"{node}/never")
        self.process.state = State.DEAD
        self.powered = True
        self.lives = 0
        self.trust: Trust | None = None  # None: frames are in clear
        self.journal: Journal | None = None
        self.link: SimLink | None = None
        self.host: SimHost | None = None
        self.log: list[str] = []
        self.started: Callable[[Device], None] = lambda device: None  # told after each recovery
        self._restart: asyncio.TimerHandle | None = None
        self._watchdog: asyncio.TimerHandle | None = None
        self._dead: list[Process] = []

    @property
    def running(self) -> bool:
        return self.process.state is not State.DEAD

    # --- the service manager ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """A new agent process, as `skerry run`."""
        assert not self.running
        self._restart = None
        self.lives += 1
        self.process = Process(f"{self.node}/{self.lives}")
        self._dead.append(self.process)
        self.world.tell("agent", f"{self.node} starts, life {self.lives}")
        self.world.loop.spawn(self.process, self._main())

    def start_later(self, bounds: tuple[float, float]) -> None:
        if self._restart is None and self.powered:
            self._restart = self.world.after(self.random.uniform(*bounds), self.start)

    def _told(self, state: str) -> None:
        """sd_notify: the first READY=1 starts the watchdog, WATCHDOG=1 feeds it."""
        if "READY=1" in state or "WATCHDOG=1" in state:
            self._call_off_watchdog()
            self._watchdog = self.world.after(WATCHDOG_S, self._unfed)

    def _unfed(self) -> None:
        """An agent that hangs is killed; one that runs is fed by itself, whatever happens to it."""
        late = self.host.notes[-1] if self.host is not None and self.host.notes else ""
        if self.process.state is not State.STOPPED:
            self.world.break_("11 no latch", f"{self.node}: the watchdog was not fed: {late!r}")
        self.kill("watchdog")

    def _call_off_watchdog(self) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None

    async def _main(self) -> None:
        """boot._main on simulated seams."""
        why = "ended"
        self.folder.watchers.clear()
        try:
            store = self.disk.open()
            entropy = SimEntropy(self.world.rng(f"entropy/{self.node}/{self.lives}"))
            recovered = await recover(store, entropy, self.clock)
            self.journal = recovered.journal
            self._log(f"journal: {recovered.story}, generation {self.journal.desired.generation}")
            self._overhear(self.journal)
            self.started(self)
            self.host = SimHost(self.board, self._told)
            self.link = SimLink(self.broker, self.reach, self.node)
            self.listen(self.link)
            runtime = SimRuntime(self.world, self.engine, self.weather)
            await boot.serve(
                self.node, False, self.journal, self.clock, entropy, self.host, runtime, self.link,
                asyncio.Event(), self._log, boot.Streaming(self.streams_link(), None, True),
                manifests=SimManifests(self.folder),
                protection=self._protection(),
                unseal=partial(self.trust.unseal, self.node) if self.trust is not None else None,
            )  # fmt: skip
        except (StoreBroken, StoreFull) as broken:
            why = f"journal: {broken}"
        except Exception as bug:
            import traceback

            text = "".join(traceback.format_exception(type(bug), bug, bug.__traceback__)[-6:])
            self.world.break_("11 no latch", f"{self.node}: the agent ended with {bug!r}\n{text}")
        # the process exits: nothing of it goes on
        self.world.after(0.0, self.kill, why)
        await asyncio.get_running_loop().create_future()

    def _protection(self) -> Callable[[], Protection] | None:
        if self.trust is None:
            return None
        mine = self.trust.of_device(self.node)  # one for a process: it remembers the hub's signing key
        return lambda: mine

    def _overhear(self, journal: Journal) -> None:
        """Decisions go into the trace as they are noted."""
        note = journal.note

        def noted(at: float, pod: str, uid: str, what: str, why: str, outcome: str = "") -> None:
            self.world.tell("decided", f"{self.node} {pod}: {what}: {why}{': ' + outcome if outcome else ''}")
            note(at, pod, uid, what, why, outcome)

        journal.note = noted  # type: ignore[method-assign]

    def streams_link(self) -> SimStreamLink:
        return SimStreamLink(self.broker, self.reach, self.node)

    def _cut(self, why: str, notice_s: float) -> None:
        """Both connections break at this end; the broker notices later."""
        for client in (self.node, f"{self.node}.streams"):
            port = self.broker.ports.get(client)
            if port is not None:
                port.cut(why, (0.0, self.random.uniform(0, notice_s)))

    def listen(self, link: SimLink) -> None:
        """Checks hang themselves in here."""

    def _log(self, line: str) -> None:
        self.log.append(line)
        self.world.tell("log", f"{self.node} {line}")

    # --- what the world does to it ------------------------------------------------------------------------------------

    def kill(self, why: str = "SIGKILL") -> None:
        """The agent's process is gone at this very step; pods live on; systemd starts another."""
        if not self.running:
            return
        self.world.tell("fault", f"{self.node}: agent dies ({why}) at step {self.process.steps}")
        self._end_process()
        self.start_later(RESTART_S)

    def kill_at_step(self, more: int) -> None:
        """Die in so many steps, wherever that is."""
        if self.running:
            self.process.die_at = (self.process.steps + more, self.kill)

    def freeze(self, seconds: float) -> None:
        """SIGSTOP, or a board that swaps."""
        if self.process.state is State.RUNNING:
            self.world.tell("fault", f"{self.node}: agent stands still for {seconds:.1f} s")
            frozen = self.process
            self.world.loop.stop_process(frozen)
            self.world.after(seconds, self.world.loop.go_on, frozen)

    def power_cut(self, seconds: float, forget: bool = False, tear: bool = False) -> None:
        """Everything stops; the board boots again after so long."""
        if not self.powered:
            return
        self.world.tell("fault", f"{self.node}: power cut for {seconds:.1f} s{' (engine forgets)' if forget else ''}")
        self._end_process()
        self.powered = False
        if tear:
            self.disk.torn = True
        self.board.power_cut()
        self.engine.forget_all() if forget else self.engine.power_cut()
        self.weather.streams.clear()
        self.weather.away = True
        self._cut("power cut", 400)
        self.world.after(seconds, self._boot)

    def power_on(self) -> None:
        self._boot()

    # --- private ------------------------------------------------------------------------------------------------------

    def _boot(self) -> None:
        if self.powered:
            return
        self.powered = True
        self.world.tell("board", f"{self.node} boots, {self.board.boot_id}")
        self.world.after(self.random.uniform(0.0, 5.0), self._engine_up)
        self.start_later(BOOT_S)

    def _engine_up(self) -> None:
        if self.powered:
            self.weather.away = False

    def _end_process(self) -> None:
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None
        self._call_off_watchdog()
        if self.running:
            self.world.loop.kill(self.process)
            self.disk.crash()
            self._cut("the process died", 1)
            self.journal = self.link = None
            self.weather.streams.clear()
            self.engine.listeners.clear()
            self.engine.readers.clear()
