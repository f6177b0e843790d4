"""ports.Streams over this very machine: an exec is a process here, a log a list of lines, a port one of this loopback.
A fake at the seam, with real processes and sockets behind it, so that real clients can be tried."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import signal
import struct
import termios
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from skerry.errors import StreamBroken
from skerry.limits import STREAM_CHUNK_BYTES
from skerry.model.streams import Attach, Channel, CloseCode, Exec, Logs, Piece, PortForward, Stats, StreamRequest
from skerry.ports import Duplex

NS = 1_000_000_000


@dataclass
class LocalStreams:
    """`lines` are the log of container `a`: (time in ns, text)."""

    lines: list[tuple[int, str]] = field(default_factory=list)
    grown: asyncio.Event | None = None
    away: bool = False
    opened: list[StreamRequest] = field(default_factory=list)
    now: list[Duplex] = field(default_factory=list)  # not closed yet
    flood: bool = False  # the log never ends

    async def open(self, node: str, request: StreamRequest) -> Duplex:
        if self.away:
            raise StreamBroken(CloseCode.LOST, f"device {node} is not connected")
        if not isinstance(request, Stats) and request.pod == "gone":
            raise StreamBroken(CloseCode.NOT_FOUND, "pod does not exist")
        if isinstance(request, (Exec, Attach)) and request.container == "stopped":
            raise StreamBroken(CloseCode.UNAVAILABLE, 'container not found ("stopped")')
        self.opened.append(request)
        made = await self._open(request)
        self.now.append(made)
        return made

    async def _open(self, request: StreamRequest) -> Duplex:
        match request:
            case Logs():
                if request.previous:
                    text = f'previous terminated container "{request.container}" in pod "{request.pod}" not found'
                    raise StreamBroken(CloseCode.NOT_FOUND, text)
                return LogSource(self, request)
            case Exec() | Attach():
                return await Process.start(self, request)
            case PortForward():
                return await Socket.dial(self, request.port)
            case Stats():
                return Once(self, json.dumps(SUMMARY).encode())

    def lose(self) -> None:
        """The device leaves in the middle of everything."""
        for one in self.now:
            assert isinstance(one, Process)
            one.lose()

    def closed(self, one: Any) -> None:
        if one in self.now:
            self.now.remove(one)


SUMMARY = {
    "node": {
        "nodeName": "dev1",
        "cpu": {"time": "2026-01-01T00:00:00Z", "usageNanoCores": 5, "usageCoreNanoSeconds": 2_500_000_000},
        "memory": {"time": "2026-01-01T00:00:00Z", "workingSetBytes": 4096},
    },
    "pods": [
        {
            "podRef": {"name": "web", "namespace": "default", "uid": "u"},
            "cpu": {"time": "2026-01-01T00:00:00Z", "usageCoreNanoSeconds": 1_000_000_000},
            "memory": {"time": "2026-01-01T00:00:00Z", "workingSetBytes": 1024},
            "containers": [
                {
                    "name": "a",
                    "startTime": "2026-01-01T00:00:01Z",
                    "cpu": {"time": "2026-01-01T00:00:00Z", "usageCoreNanoSeconds": 900_000_000},
                    "memory": {"time": "2026-01-01T00:00:00Z", "workingSetBytes": 1000},
                }
            ],
        }
    ],
}


class Source:
    """What only sends."""

    def __init__(self, owner: LocalStreams) -> None:
        self.owner = owner
        self.code: CloseCode | None = None

    async def write(self, piece: Piece) -> None:
        return

    async def close(self, code: CloseCode = CloseCode.DONE, detail: str = "") -> None:
        if self.code is None:
            self.code = code
            self.owner.closed(self)


class Once(Source):
    def __init__(self, owner: LocalStreams, data: bytes) -> None:
        super().__init__(owner)
        self._data = data

    async def read(self) -> Piece | None:
        piece, self._data = Piece(Channel.STDOUT, self._data[:STREAM_CHUNK_BYTES]), self._data[STREAM_CHUNK_BYTES:]
        return piece if piece.data else None


class LogSource(Source):
    def __init__(self, owner: LocalStreams, want: Logs) -> None:
        super().__init__(owner)
        self._want, self._left = want, want.limit_bytes
        since = want.since_unix_ns or 0
        fit = [n for n, (at, _) in enumerate(owner.lines) if at >= since]
        self._at = fit[0] if fit else len(owner.lines)
        if want.tail_lines is not None:
            self._at = max(self._at, len(owner.lines) - want.tail_lines)
        self.sent = 0

    async def read(self) -> Piece | None:
        if self.owner.flood:
            self.sent += STREAM_CHUNK_BYTES
            return Piece(Channel.STDOUT, b"x" * (STREAM_CHUNK_BYTES - 1) + b"\n")
        while self._at >= len(self.owner.lines):
            if not self._want.follow or self.owner.grown is None:
                return None
            self.owner.grown.clear()
            await self.owner.grown.wait()
        at, text = self.owner.lines[self._at]
        self._at += 1
        stamp = f"2026-01-01T00:00:{at // NS % 60:02d}.000000000Z " if self._want.timestamps else ""
        data = f"{stamp}{text}\n".encode()
        if self._left is not None:
            data, self._left = data[: self._left], max(0, self._left - len(data))
            if not data:
                return None
        return Piece(Channel.STDOUT, data)


class Process:
    """A process of this machine, with pipes or a terminal."""

    def __init__(self, owner: LocalStreams) -> None:
        self.owner = owner
        self.code: CloseCode | None = None
        self._out: asyncio.Queue[Piece | None] = asyncio.Queue(maxsize=8)
        self._lost = asyncio.Event()
        self._stdin: Callable[[bytes, bool], Any]
        self._tasks: list[asyncio.Task[None]] = []
        self.child: asyncio.subprocess.Process
        self._terminal = -1

    @classmethod
    async def start(cls, owner: LocalStreams, want: Exec | Attach) -> Process:
        self = cls(owner)
        command = want.command if isinstance(want, Exec) else ("sh", "-c", "echo attached; cat")
        pipe, none = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        try:
            if want.tty:
                self._terminal, inner = pty.openpty()
                self.child = await asyncio.create_subprocess_exec(
                    *command, stdin=inner, stdout=inner, stderr=inner, start_new_session=True
                )
                os.close(inner)
                os.set_blocking(self._terminal, False)
                sources = [self._copy_terminal()]
            else:
                self.child = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=pipe if want.stdin else none,
                    stdout=pipe if want.stdout else none,
                    stderr=pipe if want.stderr else none,
                    start_new_session=True,
                )
                pairs = ((Channel.STDOUT, self.child.stdout), (Channel.STDERR, self.child.stderr))
                sources = [self._copy(channel, reader) for channel, reader in pairs if reader is not None]
        except OSError as why:
            text = f'exec: "{command[0]}": executable file not found in $PATH: {why.strerror}'
            raise StreamBroken(CloseCode.INVALID, text) from None
        self._tasks = [asyncio.ensure_future(self._run([asyncio.ensure_future(s) for s in sources]))]
        return self

    async def _run(self, copies: list[asyncio.Task[None]]) -> None:
        try:
            code = await self.child.wait()
            await asyncio.gather(*copies)
        finally:
            for copy in copies:
                copy.cancel()
        code = code if code >= 0 else 128 - code
        status: dict[str, Any] = {"metadata": {}, "status": "Success"}
        if code:
            causes = [{"reason": "ExitCode", "message": str(code)}]
            status = {
                "metadata": {},
                "status": "Failure",
                "reason": "NonZeroExitCode",
                "message": f"command terminated with non-zero exit code: error executing command, exit code {code}",
                "details": {"causes": causes},
            }
        await self._out.put(Piece(Channel.ERROR, json.dumps(status).encode(), end=True))
        await self._out.put(None)

    async def _copy(self, channel: Channel, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(STREAM_CHUNK_BYTES):
            await self._out.put(Piece(channel, data))
        await self._out.put(Piece(channel, b"", end=True))

    async def _copy_terminal(self) -> None:
        while True:
            try:
                data = os.read(self._terminal, STREAM_CHUNK_BYTES)
            except BlockingIOError:
                if self.child.returncode is not None:
                    return
                await asyncio.sleep(0.02)
                continue
            except OSError:
                return
            await self._out.put(Piece(Channel.STDOUT, data))

    def lose(self) -> None:
        self._lost.set()

    async def read(self) -> Piece | None:
        waits = [asyncio.ensure_future(self._out.get()), asyncio.ensure_future(self._lost.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if not waits[0].done():
                raise StreamBroken(CloseCode.LOST, "device dev1 left")
            return cast("Piece | None", waits[0].result())
        finally:
            for wait in waits:
                wait.cancel()

    async def write(self, piece: Piece) -> None:
        if piece.channel is Channel.RESIZE:
            size = json.loads(piece.data)
            packed = struct.pack("HHHH", size["Height"], size["Width"], 0, 0)
            fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, packed)
        elif self._terminal >= 0:
            with contextlib.suppress(OSError):
                os.write(self._terminal, piece.data)
        elif self.child.stdin is not None:
            with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: uvloop, of a pipe that is closed
                self.child.stdin.write(piece.data)
                await self.child.stdin.drain()
                if piece.end:
                    self.child.stdin.close()

    async def close(self, code: CloseCode = CloseCode.DONE, detail: str = "") -> None:
        if self.code is not None:
            return
        self.code = code
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child.pid, signal.SIGKILL)
        for task in self._tasks:
            task.cancel()
        if self._terminal >= 0:
            os.close(self._terminal)
            self._terminal = -1
        self.owner.closed(self)


class Socket:
    def __init__(self, owner: LocalStreams, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.owner, self._reader, self._writer = owner, reader, writer
        self.code: CloseCode | None = None

    @classmethod
    async def dial(cls, owner: LocalStreams, port: int) -> Socket:
        try:
            return cls(owner, *await asyncio.open_connection("127.0.0.1", port))
        except OSError:
            text = f"dial tcp4 127.0.0.1:{port}: connect: connection refused"
            raise StreamBroken(CloseCode.UNAVAILABLE, text) from None

    async def read(self) -> Piece | None:
        try:
            data = await self._reader.read(STREAM_CHUNK_BYTES)
        except OSError as why:
            raise StreamBroken(CloseCode.FAILED, str(why)) from None
        return Piece(Channel.STDOUT, data) if data else None

    async def write(self, piece: Piece) -> None:
        try:
            self._writer.write(piece.data)
            await self._writer.drain()
            if piece.end:
                self._writer.write_eof()
        except OSError as why:
            raise StreamBroken(CloseCode.FAILED, str(why)) from None

    async def close(self, code: CloseCode = CloseCode.DONE, detail: str = "") -> None:
        if self.code is None:
            self.code = code
            self._writer.close()
            self.owner.closed(self)
