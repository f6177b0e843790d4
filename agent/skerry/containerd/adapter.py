"""ports.Runtime over containerd: what each seam method asks of CRI, and when an error is success.

Decides idempotency, by looking and never by the text of an error. Values are made and read in convert.py, failures get
their meaning in channel.py, events come from events.py. Protobuf goes no further than this package.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from skerry.containerd import convert, logs
from skerry.containerd.channel import IMAGES, Connection, cut, nonsense
from skerry.containerd.events import Owner, listen
from skerry.containerd.stubs import cri
from skerry.errors import ImagePullFailed, RuntimeAway, RuntimeFailed, StreamBroken
from skerry.limits import CONTAINERS_SEEN_MAX, LOOK_CALLS_MAX, PULL_TIMEOUT_S, RUNTIME_CALL_TIMEOUT_S
from skerry.model.observed import ContainerSeen, PodSeen, SandboxSeen, pods_seen
from skerry.model.pod import Pod, Resources
from skerry.model.streams import Attach, CloseCode, Exec, Logs
from skerry.ports import AuthConfig, Clock, ContainerSpec, Duplex, RuntimeEvent

T = TypeVar("T")
OpenLog = Callable[[Path, Logs, Callable[[], Awaitable[bool]]], Awaitable[Duplex]]  # as world.logs.open_log
NOT_FOUND = "NOT_FOUND"


class Containerd:
    """ports.Runtime. Connects at the first call and again whenever the connection broke; needs no closing but to be
    tidy. `cgroup_parent` is the control group of all containers, `log_dir` gets one folder for each pod, `exec_dir` one
    for each exec; without `memory_cgroup` containers get no memory limit. `open_log` reads logs, which are files;
    `writes` hears of the next write to one."""

    def __init__(
        self,
        socket: Path,
        *,
        cgroup_parent: str,
        log_dir: Path,
        clock: Clock,
        memory_cgroup: bool = True,
        exec_dir: Path = Path("/run/skerry/exec"),
        open_log: OpenLog | None = None,
        writes: logs.Writes | None = None,
    ) -> None:
        self._connection = Connection(socket)
        self._cgroup_parent = cgroup_parent
        self._log_dir = log_dir
        self._memory_cgroup = memory_cgroup
        self._clock = clock
        self._exec_dir = exec_dir
        self._open_log = open_log
        self._writes = writes
        self._sweeping: asyncio.Future[None] | None = None  # kept, or it could be collected under way
        self._logs: dict[str, Path] = {}  # of containers that were asked for
        self._owners: dict[str, Owner] = {}  # of each sandbox and container that was seen or made

    async def close(self) -> None:
        self._connection.close()
        if self._writes is not None:
            self._writes.close()

    async def version(self) -> str:
        told = await self._connection.cri("Version", cri.VersionRequest(), cri.VersionResponse)
        if not told.runtime_name or not told.runtime_version:
            raise nonsense("Version", "a name or version is empty")
        return f"{cut(told.runtime_name)}://{cut(told.runtime_version)}"

    # --- looking ------------------------------------------------------------------------------------------------------

    async def look(self, pod_uid: str | None = None) -> dict[str, PodSeen]:
        known = {key for key, owner in self._owners.items() if pod_uid in (None, owner.pod_uid)}
        boxes, listed = await _both(self._sandboxes(pod_uid), self._containers(pod_uid))
        seen = {box.id for box in boxes} | {container.id for container in listed}
        for gone in known - seen:
            self._owners.pop(gone, None)
            self._logs.pop(gone, None)
        calls = asyncio.Semaphore(LOOK_CALLS_MAX)
        sandboxes, containers = await _both(
            _all(self._sandbox_seen, boxes, calls), _all(self._container_seen, listed, calls)
        )
        self._owners.update((box.id, Owner(box.pod_uid, sandbox=True)) for box in sandboxes)
        self._owners.update((c.id, Owner(c.pod_uid, sandbox=False)) for c in containers)
        self._sweep()
        return pods_seen(sandboxes, containers)

    def events(self) -> AsyncIterator[RuntimeEvent]:
        return listen(self._connection, self._clock, self._owners, self._ended)

    # --- images -------------------------------------------------------------------------------------------------------

    async def image_present(self, image: str) -> bool:
        """containerd completes the name as Docker does: hello:1 is docker.io/library/hello:1."""
        request = cri.ImageStatusRequest(image=cri.ImageSpec(image=image))
        reply = await self._connection.call(IMAGES, "ImageStatus", request, cri.ImageStatusResponse)
        return reply.HasField("image")

    async def pull_image(self, image: str, auth: AuthConfig | None = None) -> None:
        request = cri.PullImageRequest(image=cri.ImageSpec(image=image), auth=convert.auth_config(auth))
        try:
            await self._connection.call(IMAGES, "PullImage", request, cri.PullImageResponse, PULL_TIMEOUT_S)
        except RuntimeFailed as error:
            raise ImagePullFailed(error.call, error.code, error.message) from error

    # --- making -------------------------------------------------------------------------------------------------------

    async def run_pod_sandbox(self, pod: Pod, attempt: int) -> str:
        existing = await self._find_sandbox(pod.uid, attempt)
        if existing is not None:
            return existing.id
        config = convert.sandbox_config(pod, attempt, self._cgroup_parent, self._log_dir)
        request = cri.RunPodSandboxRequest(config=config)
        try:
            made = (await self._connection.cri("RunPodSandbox", request, cri.RunPodSandboxResponse)).pod_sandbox_id
        except RuntimeFailed:
            # Only a ready one is what was asked for: a failed call may leave remains of its own.
            existing = await self._find_sandbox(pod.uid, attempt)
            if existing is None or existing.state != cri.SANDBOX_READY:
                raise
            made = existing.id
        return self._own(made, Owner(pod.uid, sandbox=True), "RunPodSandbox")

    async def create_container(self, pod: Pod, sandbox_id: str, attempt: int, spec: ContainerSpec) -> str:
        existing = await self._find_container(pod.uid, spec)
        if existing is not None:
            return existing.id
        request = cri.CreateContainerRequest(
            pod_sandbox_id=sandbox_id,
            config=convert.container_config(pod, spec, self._memory_cgroup),
            sandbox_config=convert.sandbox_config(pod, attempt, self._cgroup_parent, self._log_dir),
        )
        await asyncio.to_thread(logs.make_folder, convert.pod_log_dir(self._log_dir, pod) / spec.name)
        try:
            made = (await self._connection.cri("CreateContainer", request, cri.CreateContainerResponse)).container_id
        except RuntimeFailed:
            existing = await self._find_container(pod.uid, spec)
            if existing is None:
                raise
            made = existing.id
        return self._own(made, Owner(pod.uid, sandbox=False), "CreateContainer")

    async def start_container(self, container_id: str) -> None:
        request = cri.StartContainerRequest(container_id=container_id)
        try:
            await self._connection.cri("StartContainer", request, cri.StartContainerResponse)
        except RuntimeFailed:
            status = await self._status(container_id)
            if status is None or status.state != cri.CONTAINER_RUNNING:
                raise

    async def update_container_resources(self, container_id: str, resources: Resources) -> None:
        request = cri.UpdateContainerResourcesRequest(
            container_id=container_id, linux=convert.resources(resources, update=True, memory=self._memory_cgroup)
        )
        await self._connection.cri("UpdateContainerResources", request, cri.UpdateContainerResourcesResponse)

    # --- unmaking: what is not there is success -----------------------------------------------------------------------

    async def stop_container(self, container_id: str, grace_s: int) -> None:
        request = cri.StopContainerRequest(container_id=container_id, timeout=grace_s)
        timeout_s = RUNTIME_CALL_TIMEOUT_S + grace_s
        await _or_gone(self._connection.cri("StopContainer", request, cri.StopContainerResponse, timeout_s))

    async def remove_container(self, container_id: str) -> None:
        status = await self._status(container_id)
        request = cri.RemoveContainerRequest(container_id=container_id)
        await _or_gone(self._connection.cri("RemoveContainer", request, cri.RemoveContainerResponse))
        self._owners.pop(container_id, None)
        self._logs.pop(container_id, None)
        if status is not None and status.log_path:
            await asyncio.to_thread(logs.remove, self._log_dir, Path(status.log_path))

    async def stop_pod_sandbox(self, sandbox_id: str) -> None:
        request = cri.StopPodSandboxRequest(pod_sandbox_id=sandbox_id)
        await _or_gone(self._connection.cri("StopPodSandbox", request, cri.StopPodSandboxResponse))

    async def remove_pod_sandbox(self, sandbox_id: str) -> None:
        request = cri.RemovePodSandboxRequest(pod_sandbox_id=sandbox_id)
        await _or_gone(self._connection.cri("RemovePodSandbox", request, cri.RemovePodSandboxResponse))
        self._owners.pop(sandbox_id, None)

    # --- streams; what they need is imported by the first that is asked for ------------------------------------------

    async def logs(self, container_id: str, request: Logs) -> Duplex:
        log = await self._log(container_id)
        if log is None or self._open_log is None:
            raise StreamBroken(CloseCode.NOT_FOUND, f"container {cut(container_id)} has no log here")

        async def runs() -> bool:
            now = await self._status(container_id)
            return now is not None and now.state in (cri.CONTAINER_CREATED, cri.CONTAINER_RUNNING)

        return await self._open_log(log, request, runs)

    async def exec(self, container_id: str, request: Exec) -> Duplex:
        from skerry.containerd import execs

        return await execs.start(self._connection, self._exec_dir, container_id, request)

    async def attach(self, container_id: str, request: Attach) -> Duplex:
        from skerry.containerd import attach

        told = await self._connection.cri(
            "Attach",
            cri.AttachRequest(
                container_id=container_id,
                stdin=request.stdin,
                tty=request.tty,
                stdout=request.stdout,
                stderr=request.stderr and not request.tty,
            ),
            cri.AttachResponse,
        )
        return await attach.attach(told.url, await self._connection.peer_pid(), request)

    async def port_forward(self, sandbox_id: str, port: int) -> Duplex:
        from skerry.containerd import execs, forward, netns, processes

        task = execs.Task(self._connection, sandbox_id, "")
        pid, namespace = await task.pid(), await task.network()
        if not namespace or not await asyncio.to_thread(os.path.exists, namespace):
            # The board's own, or a runtime that has mounts of its own: then the sandbox's process leads there.
            inside = await asyncio.to_thread(processes.locate, sandbox_id, pid)
            if inside is None:
                raise RuntimeFailed("PortForward", "UNAVAILABLE", f"sandbox {cut(sandbox_id)} does not run")
            namespace = f"/proc/{inside.pid}/ns/net"
        try:
            return forward.Forward(await netns.dial(namespace, port))
        except OSError as error:
            problem = f"failed to connect to localhost:{port} inside the pod: {error.strerror or error}"
            raise RuntimeFailed("PortForward", "UNAVAILABLE", problem) from error

    async def log_files(self, container_id: str) -> Mapping[int, int]:
        log = await self._log(container_id)
        return {} if log is None else await asyncio.to_thread(logs.sizes, log)

    async def watch_log(self, container_id: str) -> None:
        log = await self._log(container_id)
        if log is not None and self._writes is not None:
            logs.watch(self._writes, container_id, log)

    async def logs_written(self) -> frozenset[str]:
        if self._writes is None:
            never: asyncio.Future[frozenset[str]] = asyncio.get_running_loop().create_future()
            return await never
        return await self._writes.written()

    async def rename_log(self, container_id: str, number: int, to: int) -> None:
        await asyncio.to_thread(logs.rename, await self._must_log("RenameLog", container_id), number, to)

    async def delete_log(self, container_id: str, number: int) -> None:
        await asyncio.to_thread(logs.delete, await self._must_log("DeleteLog", container_id), number)

    async def reopen_container_log(self, container_id: str) -> None:
        request = cri.ReopenContainerLogRequest(container_id=container_id)
        await self._connection.cri("ReopenContainerLog", request, cri.ReopenContainerLogResponse)

    # --- private ------------------------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        """End the processes that an agent left which died, once in this one's life, beside all else."""

        async def sweep() -> None:
            try:
                if await asyncio.to_thread(lambda: self._exec_dir.is_dir() and any(self._exec_dir.iterdir())):
                    from skerry.containerd import execs

                    await execs.sweep(self._connection, self._exec_dir)
            except RuntimeAway:
                self._sweeping = None  # again with the next look
            except OSError:
                pass  # what cannot be read cannot be swept

        if self._sweeping is None:
            self._sweeping = asyncio.ensure_future(sweep())

    async def _sandboxes(self, pod_uid: str | None) -> list[cri.PodSandbox]:
        request = cri.ListPodSandboxRequest(filter=cri.PodSandboxFilter(label_selector=convert.selector(pod_uid)))
        reply = await self._connection.cri("ListPodSandbox", request, cri.ListPodSandboxResponse)
        return _bounded("ListPodSandbox", list(reply.items))

    async def _containers(self, pod_uid: str | None) -> list[cri.Container]:
        request = cri.ListContainersRequest(filter=cri.ContainerFilter(label_selector=convert.selector(pod_uid)))
        reply = await self._connection.cri("ListContainers", request, cri.ListContainersResponse)
        return _bounded("ListContainers", list(reply.containers))

    async def _find_sandbox(self, pod_uid: str, attempt: int) -> cri.PodSandbox | None:
        return next((box for box in await self._sandboxes(pod_uid) if box.metadata.attempt == attempt), None)

    async def _find_container(self, pod_uid: str, spec: ContainerSpec) -> cri.Container | None:
        wanted = (spec.name, spec.attempt)
        listed = await self._containers(pod_uid)
        return next((c for c in listed if (c.metadata.name, c.metadata.attempt) == wanted), None)

    async def _status(self, container_id: str) -> cri.ContainerStatus | None:
        """None when there is none of that id."""
        request = cri.ContainerStatusRequest(container_id=container_id)
        reply = await _or_gone(self._connection.cri("ContainerStatus", request, cri.ContainerStatusResponse))
        return None if reply is None else reply.status

    async def _log(self, container_id: str) -> Path | None:
        """Where it lies, if that is where logs belong."""
        if container_id not in self._logs:
            status = await self._status(container_id)
            log = Path(status.log_path) if status is not None else Path()
            if not logs.inside(self._log_dir, log):
                return None
            self._logs[container_id] = log
        return self._logs[container_id]

    async def _must_log(self, call: str, container_id: str) -> Path:
        log = await self._log(container_id)
        if log is None:
            raise RuntimeFailed(call, NOT_FOUND, f"container {cut(container_id)} has no log here")
        return log

    async def _sandbox_status(self, sandbox_id: str) -> cri.PodSandboxStatus | None:
        request = cri.PodSandboxStatusRequest(pod_sandbox_id=sandbox_id)
        reply = await _or_gone(self._connection.cri("PodSandboxStatus", request, cri.PodSandboxStatusResponse))
        return None if reply is None else reply.status

    async def _sandbox_seen(self, box: cri.PodSandbox) -> SandboxSeen | None:
        ip = ""
        if box.state == cri.SANDBOX_READY:
            status = await self._sandbox_status(box.id)
            if status is None:
                return None
            ip = status.network.ip
        return _sensible("ListPodSandbox", convert.sandbox_seen, box, ip)

    async def _container_seen(self, listed: cri.Container) -> ContainerSeen | None:
        status = await self._status(listed.id)
        return None if status is None else _sensible("ContainerStatus", convert.container_seen, listed, status)

    async def _ended(self, own_id: str, owner: Owner) -> bool:
        """Whether CRI shows that a task has ended."""
        if owner.sandbox:
            box = await self._sandbox_status(own_id)
            return box is None or box.state != cri.SANDBOX_READY
        status = await self._status(own_id)
        return status is None or status.state not in (cri.CONTAINER_CREATED, cri.CONTAINER_RUNNING)

    def _own(self, made: str, owner: Owner, call: str) -> str:
        if not made:
            raise nonsense(call, "the id is empty")
        self._owners[made] = owner
        return made


async def version_within(socket: Path, clock: Clock, seconds: float) -> str:
    """As `Containerd.version`, asked once. Raises RuntimeAway, also when no answer came in time."""
    runtime = Containerd(socket, cgroup_parent="", log_dir=socket.parent, clock=clock)
    try:
        return await asyncio.wait_for(runtime.version(), seconds)
    except asyncio.TimeoutError:
        raise RuntimeAway(f"no answer within {seconds:.0f} s") from None
    finally:
        await runtime.close()


async def _or_gone(call: Awaitable[T]) -> T | None:
    """None when the runtime says that it does not exist."""
    try:
        return await call
    except RuntimeFailed as error:
        if error.code == NOT_FOUND:
            return None
        raise


A = TypeVar("A")
B = TypeVar("B")


async def _both(first: Awaitable[A], second: Awaitable[B]) -> tuple[A, B]:
    """Both at the same time; when one fails the other is ended before its error goes on."""
    tasks = (asyncio.ensure_future(first), asyncio.ensure_future(second))
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return tasks[0].result(), tasks[1].result()


async def _all(see: Callable[[A], Awaitable[B | None]], items: Iterable[A], calls: asyncio.Semaphore) -> list[B]:
    """`see` of each item, as many at a time as `calls` allows; what has gone meanwhile is left out."""

    async def one(item: A) -> B | None:
        async with calls:
            return await see(item)

    tasks = [asyncio.ensure_future(one(item)) for item in items]
    try:
        return [seen for seen in await asyncio.gather(*tasks) if seen is not None]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _bounded(call: str, items: list[T]) -> list[T]:
    if len(items) > CONTAINERS_SEEN_MAX:
        raise nonsense(call, f"CONTAINERS_SEEN_MAX is {CONTAINERS_SEEN_MAX}, got {len(items)}")
    return items


def _sensible(call: str, read: Callable[[A, B], T], one: A, two: B) -> T:
    try:
        return read(one, two)
    except convert.Nonsense as error:
        raise nonsense(call, str(error)) from error
