"""Make the values, start the three loops, end cleanly. The one place that knows all parts, and the one that names
uvloop.

Order: journal first (recovery), then the runtime's loops, then the link: a pod never waits for the network.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skerry import __version__, identity
from skerry.config import Config, listen_address
from skerry.errors import NodeChanged, StoreBroken
from skerry.journal.journal import Journal
from skerry.journal.recovery import recover
from skerry.limits import CONTAINER_LOG_BYTES_MAX
from skerry.loops.introduce import introduce_loop
from skerry.loops.link import link_loop
from skerry.loops.local import Local
from skerry.loops.protect import Protection
from skerry.loops.pulse import Pulse, beating, watchdog_loop
from skerry.loops.renew import Renewable, renew_loop
from skerry.loops.report import Counters, Log
from skerry.loops.rotate import rotate_loop
from skerry.loops.steer import Steer
from skerry.loops.streams import Dials, ReadStats, Targets, streams_loop
from skerry.loops.watch import watch_loop
from skerry.model.streams import Logs
from skerry.mux import StreamCounts
from skerry.ports import Clock, Duplex, Entropy, Host, Link, Manifests, Runtime, StreamLink
from skerry.wire.sealed import Unseal
from skerry.wire.session import DeviceSession, Identity, State

if TYPE_CHECKING:
    from skerry.identity import Enrolled
    from skerry.world.enrolled import Enrolment
    from skerry.world.store import Opened

ServeMetrics = Callable[[Journal, DeviceSession, Counters, StreamCounts], Coroutine[Any, Any, None]]
ALONE = "; it is not enrolled and no broker is set, so it has no hub"
EXIT_BROKEN = 70  # the journal failed under us, or the device has another name now: start again


def log(line: str) -> None:
    """One line to standard error, where journald adds the time."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201


def run(config: Config) -> int:
    """Run the agent until SIGTERM or SIGINT; containers go on. Returns the exit code."""
    import faulthandler

    import uvloop

    from skerry.world.private_memory import keep_private
    from skerry.world.store import open_store

    keep_private(log)
    faulthandler.enable()  # what the watchdog kills says where it stood
    # Before the loop and before any thread: opening forks a child that walks the environment first.
    opened = open_store(journal_folder(config), map_bytes=config.journal_bytes_max, meanwhile=_read_modules)
    runner: Callable[[Coroutine[Any, Any, int]], int] = uvloop.run
    return runner(_main(config, opened))


def _read_modules() -> None:
    """The largest part of what `_seams` is going to import."""
    from skerry.containerd import adapter  # noqa: F401


async def _main(config: Config, opened: Opened) -> int:
    from skerry.world.sealing_keys import SealingKeys

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        if opened.quarantined is not None:
            log(f"journal: damaged, moved to {opened.quarantined}")
        seams, protection, renewable = _seams(config)
        recovered = await recover(opened.store, seams[1], seams[0])
        journal = recovered.journal
        count, generation = len(journal.desired.objects), journal.desired.generation
        log(f"journal: {recovered.story}, generation {generation}, {count} objects")
        return await serve(
            config.node, config.secret_env, journal, *seams, stop, log,
            _streaming(config, seams[4], journal, protection is not None), _manifests(config),
            _metrics(config, *seams[:2], renewable), config.container_log_bytes, protection,
            SealingKeys(config.data_dir).unseal, renewable,
        )  # fmt: skip
    except StoreBroken as why:
        log(f"journal: {why}; starting again")
        return EXIT_BROKEN
    except NodeChanged as why:
        log(f"enrolment: {why}; starting again")
        return EXIT_BROKEN
    finally:
        opened.store.close()


Seams = tuple[Clock, Entropy, Host, Runtime, Link | None]


def _seams(config: Config) -> tuple[Seams, Callable[[], Protection] | None, Renewable | None]:
    """The adapters, what protects frames, and the certificates; None where the broker is one in clear."""
    from skerry.containerd.adapter import Containerd
    from skerry.world.clock import SystemClock
    from skerry.world.entropy import SystemEntropy
    from skerry.world.first_writes import FirstWrites
    from skerry.world.host import Host as SystemHost
    from skerry.world.volumes import Volumes

    clock = SystemClock()
    volumes = Volumes(config.data_dir / "volumes", config.run_dir / "volumes", config.volume_bytes_max)
    host = SystemHost(volumes)
    runtime = Containerd(
        config.containerd_socket,
        cgroup_parent=config.cgroup_parent,
        log_dir=config.log_dir,
        clock=clock,
        memory_cgroup=host.memory_cgroup,
        exec_dir=config.run_dir / "exec",
        open_log=_open_log,
        writes=FirstWrites(),
    )
    entropy = SystemEntropy()
    link, credentials = _link(config, clock, entropy)
    protection = _Protections(credentials).now if credentials is not None else None
    return (clock, entropy, host, runtime, link), protection, credentials


class _Protections:
    """What protects the frames of the identity of this moment; made once for each."""

    def __init__(self, credentials: Enrolment) -> None:
        self._credentials = credentials
        self._made: tuple[Enrolled, Protection] | None = None

    def now(self) -> Protection:
        from skerry.wire.enrolment import statement_of, trust_id
        from skerry.wire.guard import DeviceGuard
        from skerry.wire.x509 import pem_blocks
        from skerry.world.authority import OpensslAuthority
        from skerry.world.sodium import Sodium

        enrolled = self._credentials.enrolled
        assert enrolled is not None, "there is a connection, and so an identity"
        if self._made is None or self._made[0] is not enrolled:
            issued, asked = enrolled.issued, self._credentials
            seed, trust = bytes.fromhex(enrolled.keys.seed), trust_id(pem_blocks(issued.ca))
            guard = DeviceGuard(Sodium(), seed, statement_of(issued), trust)
            self._made = enrolled, Protection(guard, OpensslAuthority(issued.ca, asked.time), asked.told)
        return self._made[1]


def _link(config: Config, clock: Clock, entropy: Entropy) -> tuple[Link | None, Enrolment | None]:
    """None: this device belongs to no hub, and nothing looks for one; or it is not enrolled, and the broker is one in
    clear."""
    from skerry.world.link import MqttLink
    from skerry.world.mqtt_values import MqttOptions

    enrolling = [name for name in (identity.IDENTITY, identity.TOKEN) if identity.mark(config.data_dir, name)]
    options = MqttOptions(
        host=config.broker_host,
        port=config.broker_port,
        client_id=config.node,
        keepalive_s=config.keepalive_s,
        insecure=config.insecure,
    )
    if config.broker_host and not config.broker_tls:
        if enrolling:
            log(f"{config.data_dir / enrolling[-1]} is not used: the configured broker is one in clear (mqtt://)")
        return MqttLink(config.node, options), None
    if not config.broker_tls and not enrolling:
        return None, None
    from skerry.wire.address import BrokerAddress
    from skerry.world.enrolled import Enrolment

    address = BrokerAddress(config.broker_host, config.broker_port, True) if config.broker_tls else None
    credentials = Enrolment(config.data_dir, config.node, config.node_given, address, clock, entropy, log)
    return MqttLink(config.node, options, credentials), credentials


def _streaming(config: Config, link: Link | None, journal: Journal, protected: bool) -> Streaming | None:
    from skerry.world.link import MqttLink

    if not isinstance(link, MqttLink):
        return None
    return Streaming(link.for_streams(), _stats(config, journal), protected or config.insecure)


def _stats(config: Config, journal: Journal) -> ReadStats:
    """Imported by the first question; the second one is answered from what the first one saw."""
    made: list[ReadStats] = []

    async def read() -> Duplex:
        if not made:
            from skerry.world.stats import Stats

            made.append(Stats(config.node, config.cgroup_parent, lambda: journal.seen).open)
        return await made[0]()

    return read


def _manifests(config: Config) -> Manifests:
    from skerry.world.manifests import ManifestFolder

    return ManifestFolder(config.manifests_dir)


def _metrics(
    config: Config, clock: Clock, entropy: Entropy, certificate: Renewable | None
) -> ServeMetrics | None:
    """Where somebody wants to scrape: the only one who pays for it."""
    if not config.metrics_listen:
        return None
    from skerry.metrics import TYPE, Sources
    from skerry.world.metrics import Scrapes

    host, port = listen_address(config.metrics_listen, config.insecure)

    def ends() -> float | None:
        life = certificate.life if certificate is not None else None
        return life.ends_s if life is not None else None

    async def serve_metrics(
        journal: Journal, session: DeviceSession, counters: Counters, streams: StreamCounts
    ) -> None:
        sources = Sources(journal, config.journal_bytes_max, session, counters, streams, clock, ends)
        await Scrapes(sources.text, TYPE).serve(host, port, clock, entropy, log)

    return serve_metrics


@dataclass(frozen=True, slots=True)
class Streaming:
    """What streams need beside the loops' own seams. `open_to_people`: whether exec, attach and port-forward are
    allowed."""

    link: StreamLink
    stats: ReadStats | None
    open_to_people: bool


async def serve(
    node: str,
    secret_env: bool,
    journal: Journal,
    clock: Clock,
    entropy: Entropy,
    host: Host,
    runtime: Runtime,
    link: Link | None,
    stop: asyncio.Event,
    log: Log,
    streaming: Streaming | None = None,
    manifests: Manifests | None = None,
    metrics: ServeMetrics | None = None,
    log_bytes_max: int = CONTAINER_LOG_BYTES_MAX,
    protection: Callable[[], Protection] | None = None,
    unseal: Unseal | None = None,
    renewable: Renewable | None = None,
) -> int:
    """The loops, until `stop` or until one of them fails (a bug or a broken journal: the process ends). Without a link
    the device has no hub and runs what its journal holds. The simulator runs this very function on its own seams."""
    facts, counters, dials, streams = host.facts(), Counters(), Dials(), StreamCounts()
    booted = journal.boot_id != facts.boot_id
    session = DeviceSession(Identity(node, facts.boot_id, __version__))
    pulse = Pulse(clock, ("watch", "steer", "pods", *(["link"] if link else [])))
    watch, steer, pods, hub = (pulse.of(name) for name in ("watch", "steer", "pods", "link"))
    hands = Steer(runtime, host, journal, clock, entropy, log, counters, steer, pods, secret_env, unseal, booted)
    local = Local(manifests, journal, node, secret_env, clock, entropy, log, counters) if manifests else None
    await local.look() if local is not None else None
    status = partial(_status, journal, session if link is not None else None)
    loops: list[Coroutine[Any, Any, Any]] = [
        beating(watch, watch_loop(runtime, journal, clock, entropy, log, counters, watch)),
        beating(steer, hands.run()),
        watchdog_loop(host, pulse, clock, status, log),
        introduce_loop(journal, host, runtime, clock, entropy),
        rotate_loop(runtime, journal, clock, entropy, log, counters, log_bytes_max),
        stop.wait(),
    ]
    loops += [local.run()] if local is not None else []
    loops += [renew_loop(renewable, clock, entropy, log, counters)] if renewable is not None else []
    loops += [metrics(journal, session, counters, streams)] if metrics is not None else []
    if link is not None:
        talk = link_loop(link, journal, session, clock, entropy, log, counters, hub, dials.put, protection)
        loops.append(beating(hub, talk))
        if streaming is not None:
            targets = Targets(journal, runtime, streaming.stats, streaming.open_to_people)
            loops.append(streams_loop(dials, streaming.link, targets, clock, log, counters, streams))
    log(f"skerry {__version__}: {node} is up{'' if link else ALONE}")
    tasks = [asyncio.ensure_future(loop) for loop in loops]
    try:
        await _until(stop, tasks)
    finally:
        host.notify("STOPPING=1")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if link is not None:
            await link.close()
    log("skerry: stopped, containers go on")
    return 0


async def _until(stop: asyncio.Event, loops: Iterable[asyncio.Future[Any]]) -> None:
    """Raises what a loop ended with."""
    pending = set(loops)
    while not stop.is_set():
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()


def _status(journal: Journal, session: DeviceSession | None) -> str:
    """One line for `systemctl status`."""
    pods = sum(1 for _ in journal.pods())
    runtime = "the runtime answers" if journal.runtime_up else "the runtime is away"
    hub = "the hub is there" if session is not None and session.state is State.LIVE else "the hub is away"
    hub = hub if session is not None else "no hub is set"
    return f"{pods} pods, generation {journal.desired.generation}; {runtime}, {hub}"


async def _open_log(path: Path, request: Logs, runs: Callable[[], Awaitable[bool]]) -> Duplex:
    """Imported by the first log that is read."""
    from skerry.world.logs import open_log

    return await open_log(path, request, runs)


def journal_folder(config: Config) -> Path:
    """Where the journal lies, for the commands that only read it."""
    return config.data_dir / "journal"
