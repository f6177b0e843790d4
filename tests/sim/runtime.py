"""ports.Runtime before a simulated engine: calls take time, fail, hang, lose their answer, and listings omit things.

A call that fails may have had its effect or not; so may one whose caller was cancelled or died.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from sim import streams
from sim.engine import Engine
from sim.world import World
from skerry.errors import ImagePullFailed, RuntimeAway, RuntimeFailed, StreamBroken
from skerry.limits import PULL_TIMEOUT_S, RUNTIME_CALL_TIMEOUT_S
from skerry.model.observed import PodSeen
from skerry.model.pod import Pod, Resources
from skerry.model.streams import Attach, CloseCode, Exec, Logs
from skerry.ports import AuthConfig, ContainerSpec, Duplex, RuntimeEvent

T = TypeVar("T")
CALL_S = (0.001, 0.03)
LINE_S = 0.1  # between two writes of a container that talks
LIE_S = 1.5  # a listing omits something for this long at most: plan.memory.ABSENT_CONFIRM_S is what it must survive


@dataclass(slots=True)
class Weather:
    """What the engine's socket is like now. Outlives agents; set by faults."""

    away: bool = False
    slow: float = 1.0
    failing: float = 0.0  # part of the calls that fail
    hanging: float = 0.0  # part of the calls that are never answered
    deaf: float = 0.0  # part of the events that get lost
    late: float = 0.0  # seconds by which events may be late
    online: bool = True  # the registry can be reached
    hidden: set[str] = field(default_factory=set)  # ids that listings omit
    registry: set[str] = field(default_factory=set)  # images that can be pulled
    private: dict[str, AuthConfig] = field(default_factory=dict)  # image → who alone may pull it
    calls: int = 0
    pending: set[asyncio.Future[None]] = field(default_factory=set)
    streams: list[asyncio.Queue[str | None]] = field(default_factory=list)

    def go_away(self) -> None:
        """The daemon stops: every call and stream under way ends."""
        self.away = True
        for stream in self.streams:
            stream.put_nowait(None)
        self.streams.clear()


class SimRuntime:
    """ports.Runtime."""

    def __init__(self, world: World, engine: Engine, weather: Weather) -> None:
        self._world, self._engine, self._weather = world, engine, weather
        self._left = list(engine.streams)
        self._watched: set[str] = set()  # containers whose next write to their log is told
        self._written: set[str] = set()
        self._heard = asyncio.Event()
        self._random = world.rng(f"runtime/{engine.name}/{weather.calls}")

    async def version(self) -> str:
        return await self._call("Version", lambda: "simulated://1.0")

    async def look(self, pod_uid: str | None = None) -> dict[str, PodSeen]:
        for stream in self._left:  # by an agent that died
            stream.end()
        self._left = []
        seen = await self._call("List", self._seen)
        return seen if pod_uid is None else {uid: pod for uid, pod in seen.items() if uid == pod_uid}

    async def events(self) -> AsyncIterator[RuntimeEvent]:
        if self._weather.away:
            raise RuntimeAway("the engine is away")
        queue: asyncio.Queue[str | None] = asyncio.Queue()
        self._weather.streams.append(queue)
        listener = self._listener(queue)
        self._engine.listeners.append(listener)
        try:
            yield RuntimeEvent("")
            while (uid := await queue.get()) is not None:
                yield RuntimeEvent(uid)
        finally:
            if listener in self._engine.listeners:
                self._engine.listeners.remove(listener)
        raise RuntimeAway("the engine went away")

    async def image_present(self, image: str) -> bool:
        return await self._call("ImageStatus", lambda: image in self._engine.images)

    async def pull_image(self, image: str, auth: AuthConfig | None = None) -> None:
        def pull() -> None:
            said = image if auth is None else f"{image} for {auth.username} with {auth.password}"  # registries may
            if not self._weather.online or image not in self._weather.registry:
                raise ImagePullFailed("PullImage", "NOT_FOUND" if self._weather.online else "UNAVAILABLE", said)
            if auth != self._weather.private.get(image, auth):
                raise ImagePullFailed("PullImage", "UNKNOWN", f"{said}: 401 Unauthorized")
            self._engine.images.add(image)

        seconds = self._random.uniform(0.1, 20.0) * (1 if self._random.random() < 0.9 else 10)
        await self._call(f"PullImage {image}", pull, min(seconds, PULL_TIMEOUT_S))

    async def run_pod_sandbox(self, pod: Pod, attempt: int) -> str:
        what = f"RunPodSandbox {pod.full_name}.{attempt}"
        return await self._call(what, lambda: self._engine.run_pod_sandbox(pod, attempt), 0.05)

    async def create_container(self, pod: Pod, sandbox_id: str, attempt: int, spec: ContainerSpec) -> str:
        what = f"CreateContainer {pod.full_name}/{spec.name}.{spec.attempt}"
        return await self._call(what, lambda: self._engine.create_container(pod, sandbox_id, spec), 0.02)

    async def start_container(self, container_id: str) -> None:
        await self._call(f"StartContainer {container_id}", lambda: self._engine.start_container(container_id), 0.05)

    async def update_container_resources(self, container_id: str, resources: Resources) -> None:
        await self._call(
            f"UpdateContainerResources {container_id}", lambda: self._engine.update_resources(container_id, resources)
        )

    async def stop_container(self, container_id: str, grace_s: int) -> None:
        what = f"StopContainer {container_id} {grace_s} s"
        seconds = self._engine.stop_takes(container_id, grace_s)
        await self._call(what, lambda: self._engine.stop_container(container_id, "StopContainer"), seconds)

    async def remove_container(self, container_id: str) -> None:
        await self._call(f"RemoveContainer {container_id}", lambda: self._engine.remove_container(container_id))

    async def stop_pod_sandbox(self, sandbox_id: str) -> None:
        await self._call(f"StopPodSandbox {sandbox_id}", lambda: self._engine.stop_pod_sandbox(sandbox_id), 0.03)

    async def remove_pod_sandbox(self, sandbox_id: str) -> None:
        await self._call(f"RemovePodSandbox {sandbox_id}", lambda: self._engine.remove_pod_sandbox(sandbox_id), 0.02)

    # --- streams: the answer to the call is told by its weather, what comes after it is not --------------------------

    async def logs(self, container_id: str, request: Logs) -> Duplex:
        if not await self._call("Logs", lambda: container_id in self._engine.containers):
            raise StreamBroken(CloseCode.NOT_FOUND, f"container {container_id} has no log here")
        return streams.log(self._engine, container_id, request.follow)

    async def exec(self, container_id: str, request: Exec) -> Duplex:
        await self._call(f"Exec {container_id}", lambda: self._must_run("Exec", container_id))
        return streams.process(self._engine, container_id, request)

    async def attach(self, container_id: str, request: Attach) -> Duplex:
        await self._call(f"Attach {container_id}", lambda: self._must_run("Attach", container_id))
        return streams.attached(self._engine, container_id)

    async def port_forward(self, sandbox_id: str, port: int) -> Duplex:
        def dial() -> None:
            if sandbox_id not in self._engine.sandboxes:
                raise RuntimeFailed("PortForward", "NOT_FOUND", sandbox_id)
            if not streams.listens(self._engine, sandbox_id, port):
                raise RuntimeFailed("PortForward", "UNAVAILABLE", "connection refused")

        await self._call(f"PortForward {sandbox_id} {port}", dial)
        return streams.echo(self._engine)

    async def log_files(self, container_id: str) -> Mapping[int, int]:
        return dict(await self._call("LogFiles", lambda: self._engine.log_files(container_id)))

    async def watch_log(self, container_id: str) -> None:
        def watch() -> None:
            if self._reads not in self._engine.readers:
                self._engine.readers.append(self._reads)
            self._watched |= {container_id} if self._engine.log_files(container_id) else set()
            if self._engine.talks(container_id):
                self._world.after(LINE_S, self._reads, container_id)

        await self._call("WatchLog", watch)

    async def logs_written(self) -> frozenset[str]:
        while not self._written:
            self._heard.clear()
            await self._heard.wait()
        written, self._written = frozenset(self._written), set()
        return written

    async def rename_log(self, container_id: str, number: int, to: int) -> None:
        def rename() -> None:
            files = self._engine.log_files(container_id)
            if number not in files:
                raise RuntimeFailed("RenameLog", "INTERNAL", f"{container_id} has no log {number}")
            files[to] = files.pop(number)

        await self._call(f"RenameLog {container_id} {number} {to}", rename)

    async def delete_log(self, container_id: str, number: int) -> None:
        await self._call("DeleteLog", lambda: self._engine.log_files(container_id).pop(number, None))

    async def reopen_container_log(self, container_id: str) -> None:
        def reopen() -> None:
            self._must_run("ReopenContainerLog", container_id)
            self._engine.log_files(container_id).setdefault(0, 0)

        await self._call(f"ReopenContainerLog {container_id}", reopen)

    # --- private ------------------------------------------------------------------------------------------------------

    async def _call(self, what: str, do: Callable[[], T], seconds: float = 0.0) -> T:
        """One call over the engine's socket."""
        weather, random = self._weather, self._random
        weather.calls += 1
        if weather.away:
            raise RuntimeAway("the engine is away")
        delay = (random.uniform(*CALL_S) + seconds) * weather.slow
        luck, effect = random.random(), random.random() < 0.5
        hangs, fails = luck < weather.hanging, luck > 1 - weather.failing
        timeout = RUNTIME_CALL_TIMEOUT_S + seconds
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        call = Call(self._world, self, what, do, answer, hangs, fails, effect)
        self._world.after(min(delay, timeout) if not hangs else timeout * random.random(), call.done)
        if hangs:
            self._world.after(timeout, call.times_out)
        return await answer

    def _reads(self, container_id: str) -> None:
        if container_id in self._watched:
            self._watched.discard(container_id)
            self._written.add(container_id)
            self._heard.set()

    def _must_run(self, call: str, container_id: str) -> None:
        if not streams.running(self._engine, container_id):
            raise RuntimeFailed(call, "NOT_FOUND", f"{container_id} does not run")

    def _seen(self) -> dict[str, PodSeen]:
        hidden = self._weather.hidden
        if not hidden:
            return self._engine.look()
        out = {}
        for uid, pod in self._engine.look().items():
            boxes = tuple(s for s in pod.sandboxes if s.id not in hidden)
            containers = tuple(c for c in pod.containers if c.id not in hidden)
            if boxes or containers:
                out[uid] = PodSeen(uid, boxes, containers)
        return out

    def _listener(self, queue: asyncio.Queue[str | None]) -> Callable[[str], None]:
        def listen(uid: str) -> None:
            if self._random.random() < self._weather.deaf:
                self._world.tell("fault", f"{self._engine.name} misses an event of {uid}")
                return
            self._world.after(0.002 + self._random.random() * self._weather.late, queue.put_nowait, uid)

        return listen


@dataclass(slots=True)
class Call:
    """A call under way in the engine; it goes on when its caller is gone."""

    world: World
    runtime: SimRuntime
    what: str
    do: Callable[[], object]
    answer: asyncio.Future[object] | object
    hangs: bool
    fails: bool
    effect: bool

    def done(self) -> None:
        weather, engine = self.runtime._weather, self.runtime._engine
        answer = self.answer
        assert isinstance(answer, asyncio.Future)
        quiet = self.what in ("List", "Version", "ImageStatus", "Logs", "LogFiles", "WatchLog")
        if answer.done() and not self.effect:
            return  # cancelled in time
        if weather.away or ((self.fails or self.hangs) and not self.effect):
            self._end(RuntimeAway("the engine went away") if weather.away else self._failure())
            return
        if not quiet:
            self.world.tell("call", f"{engine.name} {self.what}")
        try:
            value = self.do()
        except RuntimeFailed as why:
            self._end(why)
            return
        if self.fails:
            self._end(self._failure())
        elif not self.hangs and not answer.done():
            answer.set_result(value)

    def times_out(self) -> None:
        self._end(RuntimeAway(f"{self.what.partition(' ')[0]}: no answer in time"), late=True)

    def _failure(self) -> RuntimeFailed:
        name = self.what.partition(" ")[0]
        self.world.tell("fault", f"{self.what} fails")
        if name == "PullImage":
            return ImagePullFailed(name, "UNKNOWN", "simulated failure")
        return RuntimeFailed(name, "UNKNOWN", "simulated failure")

    def _end(self, why: Exception, late: bool = False) -> None:
        answer = self.answer
        assert isinstance(answer, asyncio.Future)
        if not answer.done() and (late or not self.hangs):
            answer.set_exception(why)
