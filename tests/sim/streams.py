"""Streams of a simulated engine: a process, an attached container, a port, a log. Programs are those of the contract
suite (contract.streams). The engine remembers what is open: processes outlive the agent that asked for them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from sim.engine import Engine, behaviour
from skerry.containerd.outcome import exited
from skerry.model.observed import ContainerState
from skerry.model.streams import Channel, CloseCode, Exec, Piece


class SimDuplex:
    """ports.Duplex of which the other half is `hear` (what was written) and `say`."""

    closed: bool = False

    def __init__(self, engine: Engine, hear: Callable[[SimDuplex, Piece], None] = lambda stream, piece: None) -> None:
        engine.streams = [*(stream for stream in engine.streams if not stream.closed), self]
        self._hear = hear
        self._said: deque[Piece] = deque()
        self._over = False
        self._changed = asyncio.Event()

    def say(self, *pieces: Piece, over: bool = False) -> None:
        if not self._over:
            self._said += pieces
            self._over = over
            self._changed.set()

    async def read(self) -> Piece | None:
        while not self._said and not self._over and not self.closed:
            self._changed.clear()
            await self._changed.wait()
        return self._said.popleft() if self._said and not self.closed else None

    async def write(self, piece: Piece) -> None:
        if not self.closed and not self._over:
            self._hear(self, piece)

    async def close(self, code: CloseCode = CloseCode.DONE, detail: str = "") -> None:
        self.end()

    def end(self) -> None:
        self.closed = self._over = True
        self._changed.set()


def process(engine: Engine, container_id: str, request: Exec) -> SimDuplex:
    """A command: `cat`, one that exits, or one that runs until its container or its stream ends."""
    words = request.command
    if words == ("/bin/cat",):
        stream = SimDuplex(engine, _cat)
        if not request.stdin:
            stream.say(Piece(Channel.ERROR, exited(0), end=True), over=True)
    else:
        stream = SimDuplex(engine)
        if words[:2] == ("/bin/sh", "-c") and len(words) == 4:
            stream.say(Piece(Channel.ERROR, exited(int(words[3])), end=True), over=True)
    _ends_with(engine, container_id, stream, Piece(Channel.ERROR, exited(137), end=True))
    return stream


def attached(engine: Engine, container_id: str) -> SimDuplex:
    def hear(stream: SimDuplex, piece: Piece) -> None:
        """What a program that echoes is told stands in its log, too."""
        if piece.channel is Channel.STDIN and piece.data and words == ("/bin/cat",):
            stream.say(Piece(Channel.STDOUT, piece.data))
            engine.write(container_id, len(piece.data))

    spec = engine.containers[container_id].spec
    words = (*spec.command, *spec.args)
    stream = SimDuplex(engine, hear)
    _ends_with(engine, container_id, stream)
    return stream


def log(engine: Engine, container_id: str, follow: bool) -> SimDuplex:
    made = engine.containers[container_id]
    words = " ".join((*made.spec.command, *made.spec.args))
    text = words.partition("echo ")[2].partition(";")[0]
    stream = SimDuplex(engine)
    if text and made.seen.started_ns:
        stream.say(Piece(Channel.STDOUT, f"{text}\n".encode()))
    if follow and running(engine, container_id):
        _ends_with(engine, container_id, stream)
    else:
        stream.say(over=True)
    return stream


def echo(engine: Engine) -> SimDuplex:
    def hear(stream: SimDuplex, piece: Piece) -> None:
        stream.say(Piece(Channel.STDOUT, piece.data, end=piece.end), over=piece.end)

    return SimDuplex(engine, hear)


def listens(engine: Engine, sandbox_id: str, port: int) -> bool:
    """Whether a running container of the sandbox was told to."""
    here = (m for m in engine.containers.values() if m.seen.sandbox_id == sandbox_id)
    return any(running(engine, m.seen.id) and str(port) in m.spec.args and behaviour(m.spec) == "run" for m in here)


def running(engine: Engine, container_id: str) -> bool:
    made = engine.containers.get(container_id)
    return made is not None and made.seen.state is ContainerState.RUNNING


def _cat(stream: SimDuplex, piece: Piece) -> None:
    if piece.channel is Channel.STDIN:
        if piece.data:
            stream.say(Piece(Channel.STDOUT, piece.data))
        if piece.end:
            stream.say(Piece(Channel.ERROR, exited(0), end=True), over=True)


def _ends_with(engine: Engine, container_id: str, stream: SimDuplex, *last: Piece) -> None:
    uid = engine.containers[container_id].seen.pod_uid

    def listen(changed: str) -> None:
        if changed == uid and not running(engine, container_id):
            engine.listeners.remove(listen)
            stream.say(*last, over=True)

    engine.listeners.append(listen)
