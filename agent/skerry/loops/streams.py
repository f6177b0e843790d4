"""Streams between the hub and what runs here: logs, exec, attach, port-forward, figures. Only reads the journal.

The connection is opened when the hub dials and closed STREAM_LINGER_S after the last stream. What a stream does to the
device ends with it: a source that nobody reads stops itself, and a process of an exec ends with its stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from skerry.errors import LinkLost, RuntimeAway, RuntimeFailed, StreamBroken
from skerry.journal.journal import Journal
from skerry.limits import STREAM_LINGER_S
from skerry.loops.protect import SealedStreamLink
from skerry.loops.report import Counters, Log, Sparing
from skerry.model.manifest import RefusedPod, read_pod
from skerry.model.pod import Pod
from skerry.model.streams import Attach, CloseCode, Exec, Logs, PortForward, Stats, StreamRequest
from skerry.mux import CONNECTION, Mux, MuxStream, StreamCounts, join
from skerry.plan.streams import log_source, network_target, process_target
from skerry.ports import Clock, Duplex, Runtime, StreamLink
from skerry.wire import streams as wire
from skerry.wire.codec import decode
from skerry.wire.delta import full_name
from skerry.wire.guard import Secrets
from skerry.wire.streams import Close, Ready

INSECURE = (
    "streams are not protected from the broker yet, so this device lets nobody in; insecure = true in its configuration"
    " allows it"
)
GONE = "the device closed its connection for streams"
ReadStats = Callable[[], Awaitable[Duplex]]


@dataclass(frozen=True, slots=True)
class Dial:
    epoch: bytes
    secrets: Secrets | None = None


class Dials:
    """Where the link leaves word that the hub has dialled. The latest epoch wins."""

    def __init__(self) -> None:
        self.served = b""
        self._dial = Dial(b"")
        self._bell = asyncio.Event()

    def put(self, epoch: bytes, secrets: Secrets | None = None) -> None:
        """One that is being served already is a repeated message. `secrets`: of the session that it came in."""
        if epoch != self.served:
            self._dial = Dial(epoch, secrets)
            self._bell.set()

    async def take(self) -> Dial:
        await self._bell.wait()
        self._bell.clear()
        return self._dial


class Opens(Protocol):
    """Who opens what a request asks for."""

    async def open(self, request: StreamRequest) -> Duplex:
        """Raises StreamBroken with the refusal."""


class Targets:
    """Opens what a request asks for."""

    def __init__(self, journal: Journal, runtime: Runtime, stats: ReadStats | None, open_to_people: bool) -> None:
        """`open_to_people`: whether exec, attach and port-forward are allowed at all."""
        self._journal, self._runtime = journal, runtime
        self._stats, self._open_to_people = stats, open_to_people

    async def open(self, request: StreamRequest) -> Duplex:
        """Raises StreamBroken with the refusal."""
        try:
            return await self._opened(request)
        except RuntimeAway as why:
            raise StreamBroken(CloseCode.UNAVAILABLE, f"container runtime is down: {why}") from None
        except RuntimeFailed as why:
            raise StreamBroken(CloseCode.UNAVAILABLE, why.message) from None

    async def _opened(self, request: StreamRequest) -> Duplex:
        if isinstance(request, Stats):
            if self._stats is None:
                raise StreamBroken(CloseCode.UNAVAILABLE, "this device counts nothing")
            return await self._stats()
        if not isinstance(request, Logs) and not self._open_to_people:
            raise StreamBroken(CloseCode.FORBIDDEN, INSECURE)
        pod = self._pod(request.namespace, request.pod)
        seen = (await self._runtime.look(pod.uid)).get(pod.uid)
        match request:
            case Logs():
                source = log_source(pod, seen, self._journal.statuses.get(pod.uid), request)
                return await self._runtime.logs(source, request)
            case Exec():
                return await self._runtime.exec(process_target(pod, seen, request), request)
            case Attach():
                return await self._runtime.attach(process_target(pod, seen, request), request)
            case PortForward():
                return await self._runtime.port_forward(network_target(pod, seen), request.port)

    def _pod(self, namespace: str, name: str) -> Pod:
        for obj in self._journal.pods():  # those of the device's own folder first: a hub's pod of that name is refused
            if full_name(obj.body) == f"{namespace}/{name}":
                pod = read_pod(obj, decode(obj.body), secret_env=True)  # whether it may run is not the question here
                if isinstance(pod, RefusedPod):
                    raise StreamBroken(CloseCode.UNAVAILABLE, f'pod "{name}" is refused by this device')
                return pod
        raise StreamBroken(CloseCode.NOT_FOUND, f'pod "{name}" does not exist on this device')


async def streams_loop(
    dials: Dials,
    link: StreamLink,
    targets: Opens,
    clock: Clock,
    log: Log,
    counters: Counters,
    counts: StreamCounts,
) -> None:
    """Run for ever: wait for a Dial, serve its epoch until the connection is lost, idle, or dialled anew. A connection
    that does not come up is not tried again by itself: whoever wants a stream dials again."""
    log = Sparing(log, clock)
    waiting = asyncio.ensure_future(dials.take())
    try:
        while True:
            dial = await waiting
            dials.served = epoch = dial.epoch
            waiting = asyncio.ensure_future(dials.take())
            way: StreamLink = link
            if dial.secrets is not None:
                way = SealedStreamLink(link, dial.secrets, epoch, counters)
            try:
                await way.connect(wire.encode(Close(epoch, CONNECTION, CloseCode.LOST, 0, GONE)))
                await _Epoch(epoch, way, targets, clock, log, counts).run(waiting)
            except LinkLost as why:
                counters["streams_lost"] += 1
                log(f"streams: {why}")
            finally:
                dials.served = b""
                await link.close()
    finally:
        waiting.cancel()


class _Epoch:
    """One Dial's streams, each in a task of its own."""

    def __init__(
        self, epoch: bytes, link: StreamLink, targets: Opens, clock: Clock, log: Log, counts: StreamCounts
    ) -> None:
        self._epoch, self._link, self._targets, self._clock, self._log = epoch, link, targets, clock, log
        self._mux = Mux(epoch, link.send, counts, self._accept)
        self._tasks: dict[asyncio.Task[None], None] = {}  # in their order: a simulated life is its seed's alone
        self._moved = asyncio.Event()  # a stream began or ended

    async def run(self, dialled: asyncio.Future[Dial]) -> None:
        """Until no stream has been open for STREAM_LINGER_S or the hub dials again. Raises LinkLost."""
        tasks: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(part()) for part in (self._read, self._mux.tend, self._linger)
        ]
        why = "closed"
        try:
            await self._link.send(wire.encode(Ready(self._epoch)), False)
            await asyncio.wait([*tasks, dialled], return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
        except LinkLost as lost:
            why = str(lost)
            raise
        finally:
            self._mux.lost(why)
            for task in (*tasks, *self._tasks):
                task.cancel()
            await asyncio.gather(*tasks, *self._tasks, return_exceptions=True)

    async def _read(self) -> None:
        while True:
            await self._mux.received(await self._link.recv())

    async def _linger(self) -> None:
        while True:
            self._moved.clear()
            if self._tasks:
                await self._moved.wait()
                continue
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._moved.wait(), STREAM_LINGER_S)
            if not self._tasks:
                return

    def _accept(self, request: StreamRequest, stream: MuxStream) -> None:
        task = asyncio.ensure_future(self._serve(request, stream))
        self._tasks[task] = None
        task.add_done_callback(self._ended)
        self._moved.set()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        self._moved.set()
        if not task.cancelled() and (bug := task.exception()) is not None:
            self._log(f"streams: {bug!r}")

    async def _serve(self, request: StreamRequest, stream: MuxStream) -> None:
        try:
            source = await self._targets.open(request)
        except StreamBroken as why:
            await stream.close(CloseCode(why.code), str(why))
            return
        except BaseException as why:
            await stream.close(CloseCode.FAILED, type(why).__name__)
            raise
        try:
            await stream.accept()
        except StreamBroken:
            await source.close(CloseCode.CANCELLED)
            return
        await join(stream, source)
