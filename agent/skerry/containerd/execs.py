"""Another process in a running container, through containerd's task service: started, spoken to, gone afterwards.

Not through CRI's Exec: that one leaves the process behind when its connection is cut, and tells nobody which it is.
Here the process has a name of ours. Its stdio are named pipes below a folder of ours, which say after a crash of this
agent what is still to be ended: FOLDER/PID-STARTED/CONTAINER.EXEC, by the agent's own pid and start. Decides nothing
about who may run what.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from secrets import token_hex
from typing import Any, TypeVar

from skerry.containerd import outcome
from skerry.containerd.channel import Connection, nonsense
from skerry.containerd.events import NAMESPACE
from skerry.containerd.processes import family, locate, read_process, send
from skerry.containerd.stubs import tasks
from skerry.errors import RuntimeAway, RuntimeFailed, StreamBroken
from skerry.limits import EXEC_END_S, EXEC_HANGUP_S, EXEC_STDIN_LOOK_S, EXEC_STDIN_S, STREAM_CHUNK_BYTES
from skerry.model.streams import Channel, CloseCode, Exec, Piece

TASKS = "/containerd.services.tasks.v1.Tasks/"
CONTAINERS = "/containerd.services.containers.v1.Containers/"
METADATA = {"containerd-namespace": NAMESPACE}
PROCESS_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/Process"
T = TypeVar("T")
NAMES = {Channel.STDIN: "stdin", Channel.STDOUT: "stdout", Channel.STDERR: "stderr"}


class Task:
    """Calls about one process of a container. Raise RuntimeAway or RuntimeFailed."""

    def __init__(self, connection: Connection, container_id: str, exec_id: str) -> None:
        self._connection = connection
        self.ids: dict[str, Any] = {"container_id": container_id, "exec_id": exec_id}

    async def process_spec(self) -> dict[str, Any]:
        """The container's own process, as its runtime was given it (OCI runtime specification, `process`)."""
        return await self._spec(lambda spec: dict(spec["process"]))

    async def network(self) -> str:
        """The path of its network namespace; empty if it is the board's own."""

        def path(spec: dict[str, Any]) -> str:
            kinds = {one["type"]: str(one.get("path", "")) for one in spec["linux"]["namespaces"]}
            return kinds.get("network", "")

        return await self._spec(path)

    async def pid(self) -> int:
        reply = await self._call("Get", tasks.GetRequest(**self.ids), tasks.GetResponse)
        return int(reply.process.pid)

    async def make(self, spec: dict[str, Any], pipes: dict[Channel, str]) -> None:
        payload = tasks.Payload(type_url=PROCESS_TYPE, value=json.dumps(spec).encode())
        stdio = {NAMES[channel]: path for channel, path in pipes.items()}
        request = tasks.ExecProcessRequest(**self.ids, **stdio, terminal=spec["terminal"], spec=payload)
        await self._call("Exec", request, tasks.Nothing)

    async def start(self) -> int:
        return int((await self._call("Start", tasks.StartRequest(**self.ids), tasks.StartResponse)).pid)

    async def wait(self) -> int:
        """The exit code, once there is one."""
        reply = await self._call("Wait", tasks.WaitRequest(**self.ids), tasks.WaitResponse, timeout_s=None)
        return int(reply.exit_status)

    async def resize(self, width: int, height: int) -> None:
        await self._call("ResizePty", tasks.ResizePtyRequest(**self.ids, width=width, height=height), tasks.Nothing)

    async def end_stdin(self) -> None:
        await self._call("CloseIO", tasks.CloseIORequest(**self.ids, stdin=True), tasks.Nothing)

    async def kill(self) -> None:
        await self._call("Kill", tasks.KillRequest(**self.ids, signal=signal.SIGKILL), tasks.Nothing)

    async def delete(self) -> None:
        await self._call("DeleteProcess", tasks.DeleteProcessRequest(**self.ids), tasks.DeleteResponse)

    async def _spec(self, read: Callable[[dict[str, Any]], T]) -> T:
        """Of the container's OCI runtime specification."""
        request = tasks.GetContainerRequest(id=self.ids["container_id"])
        reply = await self._call("Get", request, tasks.GetContainerResponse, service=CONTAINERS)
        try:
            return read(json.loads(reply.container.spec.value))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise nonsense("Get", "the container's spec is not one") from error

    async def _call(self, method: str, request: Any, reply: Any, service: str = TASKS, **more: Any) -> Any:
        return await self._connection.call(service, method, request, reply, metadata=METADATA, **more)


async def start(connection: Connection, folder: Path, container_id: str, request: Exec) -> Running | NotStarted:
    """Raises RuntimeFailed (no such container, or it does not run) or RuntimeAway. That the command cannot be run is no
    error here: kubectl's users get it from the stream."""
    exec_id = token_hex(16)
    task = Task(connection, container_id, exec_id)
    spec = await task.process_spec()
    spec |= {"args": list(request.command), "terminal": request.tty}
    spec.pop("commandLine", None)
    if request.tty and not any(str(one).startswith("TERM=") for one in spec.get("env", ())):
        spec["env"] = [*spec.get("env", ()), "TERM=xterm"]
    home = _owner(folder) / f"{container_id}.{exec_id}"
    wanted = [(Channel.STDIN, request.stdin), (Channel.STDOUT, request.stdout or request.tty)]
    wanted.append((Channel.STDERR, request.stderr and not request.tty))
    pipes = {channel: str(home / NAMES[channel]) for channel, is_wanted in wanted if is_wanted}
    outs: dict[Channel, int] = {}
    try:
        _make_pipes(home, pipes)
        for channel in set(pipes) - {Channel.STDIN}:
            outs[channel] = os.open(pipes[channel], os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        await task.make(spec, pipes)
        pid = await task.start()
    except BaseException as error:
        for file in outs.values():
            os.close(file)
        await asyncio.shield(_remove(task, home))
        if isinstance(error, OSError):
            raise RuntimeFailed("Exec", "INTERNAL", f"{error.filename or home}: {error.strerror}") from error
        if isinstance(error, RuntimeFailed) and error.call == "Start":
            return NotStarted(error.message)
        raise
    return Running(task, home, pid, pipes.get(Channel.STDIN), outs)


async def sweep(connection: Connection, folder: Path) -> None:
    """End what execs of agents that died have left. Raises RuntimeAway: the rest is left for the next time."""
    for home in await asyncio.to_thread(_orphans, folder):
        container_id, _, exec_id = home.name.partition(".")
        task = Task(connection, container_id, exec_id)
        with contextlib.suppress(RuntimeFailed):  # it is gone already
            await _end(task, await task.pid(), None)
        await _remove(task, home)


class NotStarted:
    """ports.Duplex of a command that could not be run: it only says so."""

    def __init__(self, why: str) -> None:
        self._said = [Piece(Channel.ERROR, outcome.not_started(why)[:STREAM_CHUNK_BYTES], end=True)]

    async def read(self) -> Piece | None:
        return self._said.pop() if self._said else None

    async def write(self, piece: Piece) -> None:
        """Nobody is there."""

    async def close(self, code: CloseCode = CloseCode.DONE, detail: str = "") -> None:
        self._said.clear()


class Running:
    """ports.Duplex of a process."""

    def __init__(self, task: Task, home: Path, pid: int, stdin: str | None, outs: dict[Channel, int]) -> None:
        """`stdin`: the path of a pipe, unless it has none; it is opened when there is something for it."""
        self._task, self._home, self._pid, self._stdin_path, self._outs = task, home, pid, stdin, outs
        self._stdin: int | None = None
        self._exit = asyncio.ensure_future(_exit_code(task))
        self._exit.add_done_callback(lambda _: self._stop_feeding())
        self._closed = False
        self._told = False
        self._ready = asyncio.Event()  # something can be read
        self._room = asyncio.Event()  # stdin takes more
        self._ending: asyncio.Future[None] | None = None

    async def read(self) -> Piece | None:
        while not self._closed and self._outs:
            for channel in list(self._outs):
                piece = self._taken(channel)
                if piece is not None:
                    return piece
            await self._readable()
        if self._closed or self._told:
            return None
        code = await asyncio.shield(self._exit)
        self._told = True
        return Piece(Channel.ERROR, outcome.exited(code), end=True)

    async def write(self, piece: Piece) -> None:
        if piece.channel is Channel.RESIZE and not self._closed:
            await self._resize(piece.data)
        if piece.channel is Channel.STDIN:
            await self._open_stdin()
            await self._feed(piece.data)
            if piece.end and self._stdin is not None:
                self._stop_feeding()
                with contextlib.suppress(RuntimeFailed, RuntimeAway):
                    await self._task.end_stdin()

    async def close(self, code: CloseCode = CloseCode.DONE, detail: str = "") -> None:
        if self._ending is None:
            self._closed = True
            self._ready.set()
            self._stop_feeding()
            self._ending = asyncio.ensure_future(self._end())
        await asyncio.shield(self._ending)

    # --- private ------------------------------------------------------------------------------------------------------

    def _taken(self, channel: Channel) -> Piece | None:
        """What can be read now."""
        try:
            data = os.read(self._outs[channel], STREAM_CHUNK_BYTES)
        except BlockingIOError:
            return None
        if not data:
            os.close(self._outs.pop(channel))
            return Piece(channel, b"", end=True)
        self._outs[channel] = self._outs.pop(channel)  # the other one comes first next time
        return Piece(channel, data)

    async def _readable(self) -> None:
        loop, files = asyncio.get_running_loop(), list(self._outs.values())
        self._ready.clear()
        for file in files:
            loop.add_reader(file, self._ready.set)
        try:
            await self._ready.wait()
        finally:
            for file in files:
                loop.remove_reader(file)

    async def _open_stdin(self) -> None:
        """Until the shim has its end open, which it does in the background of a start. Raises StreamBroken."""
        loop, pause = asyncio.get_running_loop(), EXEC_STDIN_LOOK_S[0]
        late = loop.time() + EXEC_STDIN_S
        while self._stdin is None and self._stdin_path is not None and not self._exit.done():
            try:
                self._stdin = os.open(self._stdin_path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as error:
                if error.errno != errno.ENXIO or loop.time() > late:
                    raise StreamBroken(CloseCode.FAILED, f"the command's stdin: {error.strerror}") from error
                await asyncio.sleep(pause)
                pause = min(2 * pause, EXEC_STDIN_LOOK_S[1])

    async def _feed(self, data: bytes) -> None:
        loop, rest = asyncio.get_running_loop(), memoryview(data)
        while rest and self._stdin is not None:
            try:
                rest = rest[os.write(self._stdin, rest) :]
            except BlockingIOError:
                self._room.clear()
                loop.add_writer(self._stdin, self._room.set)
                try:
                    await self._room.wait()
                finally:
                    if self._stdin is not None:
                        loop.remove_writer(self._stdin)
            except OSError:  # it reads no more
                self._stop_feeding()

    def _stop_feeding(self) -> None:
        self._stdin_path = None
        if self._stdin is not None:
            asyncio.get_running_loop().remove_writer(self._stdin)
            os.close(self._stdin)
            self._stdin = None
            self._room.set()

    async def _resize(self, data: bytes) -> None:
        try:
            said = json.loads(data)
            width, height = int(said["Width"]), int(said["Height"])
        except (ValueError, KeyError, TypeError):
            return  # a size that makes no sense changes nothing
        if 0 < width < 1 << 16 and 0 < height < 1 << 16:
            with contextlib.suppress(RuntimeFailed, RuntimeAway):
                await self._task.resize(width, height)

    async def _end(self) -> None:
        await asyncio.sleep(0)  # a reader that waits lets go of its descriptors first
        while self._outs:
            os.close(self._outs.popitem()[1])
        if not self._exit.done():
            with contextlib.suppress(RuntimeFailed, RuntimeAway):
                await _end(self._task, self._pid, self._exit)
        self._exit.cancel()
        await asyncio.gather(self._exit, return_exceptions=True)
        await _remove(self._task, self._home)


# --- private ----------------------------------------------------------------------------------------------------------


def _owner(folder: Path) -> Path:
    me = read_process(os.getpid())
    return folder / f"{os.getpid()}-{me.started if me else 0}"


def _orphans(folder: Path) -> list[Path]:
    homes: list[Path] = []
    for owner in folder.iterdir():
        pid, _, started = owner.name.partition("-")
        alive = read_process(int(pid)) if pid.isdigit() else None
        if alive is None or str(alive.started) != started:
            left = sorted(owner.iterdir())
            homes += left
            if not left:
                owner.rmdir()
    return homes


def _make_pipes(home: Path, pipes: dict[Channel, str]) -> None:
    home.mkdir(0o700, parents=True)
    for path in pipes.values():
        os.mkfifo(path, 0o600)


async def _exit_code(task: Task) -> int:
    """Waits over restarts of containerd, which its shims outlive. Raises StreamBroken."""
    pause = 0.2
    while True:
        try:
            return await task.wait()
        except RuntimeFailed as error:
            raise StreamBroken(CloseCode.FAILED, f"how the command ended is not known: {error}") from error
        except RuntimeAway as error:
            if pause > EXEC_END_S:
                raise StreamBroken(CloseCode.LOST, f"how the command ended is not known: {error}") from error
            await asyncio.sleep(pause)
            pause *= 2


async def _end(task: Task, pid: int, exited: asyncio.Future[int] | None) -> None:
    """A hang-up first, as from a terminal that goes away, then the end, for all that it started."""
    container_id = task.ids["container_id"]
    leader = await asyncio.to_thread(locate, container_id, pid)
    members = await asyncio.to_thread(family, container_id, leader) if leader is not None else []
    send(members, signal.SIGHUP)
    if members and exited is not None:
        await asyncio.wait({exited}, timeout=EXEC_HANGUP_S)
    if leader is not None:
        members += await asyncio.to_thread(family, container_id, leader)
    send(members, signal.SIGKILL)
    if exited is None or not exited.done():
        with contextlib.suppress(RuntimeFailed):  # it is gone
            await task.kill()
        await asyncio.wait({exited or asyncio.ensure_future(_exit_code(task))}, timeout=EXEC_END_S)


async def _remove(task: Task, home: Path) -> None:
    with contextlib.suppress(RuntimeFailed, RuntimeAway):
        await task.delete()
    await asyncio.to_thread(shutil.rmtree, home, ignore_errors=True)
