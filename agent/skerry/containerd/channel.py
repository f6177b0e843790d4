"""One gRPC connection to the socket of containerd: calls with deadlines, and what their failures mean.

Decides which failures say that the runtime is away and which that it refused. Knows no Kubernetes; the connection is
made by the first call and again by the first call after it broke.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from socket import SO_PEERCRED, SOL_SOCKET
from struct import Struct
from typing import Any, TypeVar

from google.protobuf.message import Message
from grpclib.client import Channel, Stream
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError
from h2.exceptions import H2Error

from skerry.containerd.stubs import cri
from skerry.errors import RuntimeAway, RuntimeFailed
from skerry.limits import RUNTIME_CALL_TIMEOUT_S, TEXT_CHARS_MAX

M = TypeVar("M", bound=Message)

RUNTIME = "/runtime.v1.RuntimeService/"
IMAGES = "/runtime.v1.ImageService/"
_UCRED = Struct("iII")  # pid, uid, gid: unix(7)

# gRPC's own words for "cannot be reached or did not answer in time"; every other status is a refusal.
AWAY = frozenset({Status.UNAVAILABLE, Status.DEADLINE_EXCEEDED, Status.CANCELLED})

# What grpclib, h2 and the socket raise instead of a status. AttributeError: grpclib 0.4 deletes the transport of a
# connection that was lost, and uses it all the same when the loss comes between connecting and sending.
BROKEN = (OSError, asyncio.TimeoutError, StreamTerminatedError, ProtocolError, H2Error, AttributeError)


class Connection:
    """Calls raise RuntimeAway or RuntimeFailed and nothing else."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._channel: Channel | None = None

    async def call(
        self,
        service: str,
        method: str,
        request: Message,
        reply: type[M],
        timeout_s: float | None = RUNTIME_CALL_TIMEOUT_S,
        metadata: dict[str, str] | None = None,
    ) -> M:
        """One request, one answer, within `timeout_s` seconds including the connecting. None: whenever it comes."""
        kind = Cardinality.UNARY_UNARY
        try:
            async with self._open(service + method, kind, request, reply, timeout_s, metadata) as stream:
                await stream.send_message(request, end=True)
                answer = await stream.recv_message()
        except Exception as error:
            raise failure(method, error, self._socket) from error
        if not isinstance(answer, reply):
            raise nonsense(method, "it has no message")
        return answer

    async def cri(self, method: str, request: Message, reply: type[M], timeout_s: float = RUNTIME_CALL_TIMEOUT_S) -> M:
        return await self.call(RUNTIME, method, request, reply, timeout_s)

    async def peer_pid(self) -> int:
        """The process that serves the socket, as this process's pid namespace numbers it; 0 if it cannot be told."""
        try:
            _, writing = await asyncio.wait_for(asyncio.open_unix_connection(str(self._socket)), RUNTIME_CALL_TIMEOUT_S)
        except (OSError, asyncio.TimeoutError) as error:
            raise failure("connect", error, self._socket) from error
        try:
            peer = writing.get_extra_info("socket").getsockopt(SOL_SOCKET, SO_PEERCRED, _UCRED.size)
            return int(_UCRED.unpack(peer)[0])
        finally:
            writing.close()

    async def subscribe(
        self, path: str, request: Message, reply: type[M], metadata: dict[str, str] | None = None
    ) -> AsyncIterator[M | None]:
        """One request, then answers until RuntimeAway or RuntimeFailed. The first value is None: the request is sent
        and the other side has answered a call made after it."""
        name = path.rpartition("/")[2]
        try:
            async with self._open(path, Cardinality.UNARY_STREAM, request, reply, None, metadata) as stream:
                await asyncio.wait_for(stream.send_message(request, end=True), RUNTIME_CALL_TIMEOUT_S)
                await self.cri("Version", cri.VersionRequest(), cri.VersionResponse)
                yield None
                while True:
                    answer = await stream.recv_message()
                    if answer is None:
                        break
                    yield answer
        except (RuntimeAway, RuntimeFailed):
            raise
        except Exception as error:
            raise failure(name, error, self._socket) from error
        raise RuntimeAway(f"{name}: containerd ended the stream")

    def close(self) -> None:
        """Idempotent; a later call connects again."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _open(
        self,
        path: str,
        cardinality: Cardinality,
        request: Message,
        reply: type[M],
        timeout_s: float | None,
        metadata: dict[str, str] | None = None,
    ) -> Stream[Any, M]:
        if self._channel is None:
            self._channel = Channel(path=str(self._socket))
        return self._channel.request(path, cardinality, type(request), reply, timeout=timeout_s, metadata=metadata)


def failure(method: str, error: Exception, socket: Path) -> RuntimeAway | RuntimeFailed:
    """The one place where failures get their meaning."""
    if isinstance(error, (FileNotFoundError, ConnectionRefusedError)):
        return RuntimeAway(f"{method}: no containerd at {socket}: {error.strerror}")
    if isinstance(error, GRPCError):
        text = cut(error.message or "")
        if error.status in AWAY:
            return RuntimeAway(f"{method}: {error.status.name}: {text}")
        return RuntimeFailed(method, error.status.name, text)
    if isinstance(error, BROKEN):
        return RuntimeAway(f"{method}: {cut(str(error)) or type(error).__name__}")
    # DecodeError from protobuf, and whatever grpclib stumbles over when headers are not as they must be.
    return nonsense(method, "it does not parse")


def nonsense(method: str, problem: str) -> RuntimeFailed:
    """An answer that cannot be right. DATA_LOSS is gRPC's word for it."""
    return RuntimeFailed(method, Status.DATA_LOSS.name, f"the runtime's answer makes no sense: {problem}")


def cut(text: str) -> str:
    """One line of bounded length out of a text from outside."""
    return " ".join(text.split())[:TEXT_CHARS_MAX]
