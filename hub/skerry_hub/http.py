"""HTTP/1.1 on one connection: h11 on a raw asyncio protocol, so that an upgrade can take the bare transport over.

Decides when a request is complete, too slow or too large (that ends this connection, nothing else), and how a reply,
a stream and a 101 leave. Refuses to know paths, objects and who asks. The embedded API and the kubelet endpoint share
it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import parse_qs

import h11

from skerry_hub import limits
from skerry_hub.transport import Transport, has_ended, keep_alive

Headers = Sequence[tuple[str, str]]
QUERY_FIELDS_MAX = 200


@dataclass(frozen=True)
class Request:
    """One complete request. `certificate` is the verified client certificate as `ssl.getpeercert` gives it."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: tuple[tuple[str, str], ...]
    body: bytes
    certificate: dict[str, Any] | None
    address: str = ""  # the peer's, without its port

    def header(self, name: str) -> str:
        """The first header called `name` (lower case), "" if there is none. Repeated ones are never joined."""
        return next((value for key, value in self.headers if key == name), "")

    def header_list(self, name: str) -> list[str]:
        """The values of every header line called `name`, in order."""
        return [value for key, value in self.headers if key == name]

    def param(self, name: str) -> str:
        """The first value of a query parameter, "" if there is none."""
        return (self.query.get(name) or [""])[0]


class BadRequest(Exception):
    """A request that cannot be served at the level of HTTP."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Bounds:
    """What one server allows; None is the bound of limits.py that all servers share."""

    connections: int | None = None
    body_bytes: int | None = None
    connection_s: float | None = None  # a connection's whole life; None: as long as it likes


App = Callable[[Request, "Reply"], Awaitable[None]]
Refusal = Callable[[BadRequest], tuple[str, bytes]]  # the content type and body that say it
# `factory` makes the protocol that owns the transport after a 101
ProtocolFactory = Callable[[], asyncio.Protocol]


class Reply:
    """How one request is answered: `send` once, or `start`, `write`…, `end`, or `upgrade`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.started = False

    def send(self, status: int, headers: Headers, body: bytes) -> None:
        """The whole reply."""
        self.started = True
        self._connection.respond(status, [*headers, ("content-length", str(len(body)))])
        self._connection.push(body)
        self._connection.finish()

    def start(self, status: int, headers: Headers) -> None:
        """Begins a chunked stream; when the client goes away the request's task is cancelled. Raises
        ConnectionResetError when it has gone already: no cancellation would come."""
        if self._connection.gone:
            raise ConnectionResetError("the client has gone")
        self.started = True
        self._connection.streaming = True
        self._connection.respond(status, list(headers))

    def write(self, data: bytes) -> None:
        self._connection.push(data)

    async def drain(self, stall_s: float | None = None) -> None:
        """Waits until the client has read enough. Raises asyncio.TimeoutError after `stall_s`, HTTP_WRITE_STALL_S if
        it is None, and ConnectionResetError when the client has gone: a cancellation at that very moment can get lost
        in `wait_for`."""
        if self._connection.unsettled_bytes > limits.WRITE_HIGH_BYTES:  # a loop that tells only later that it is full
            self._connection.unsettled_bytes = 0
            await asyncio.sleep(0)
        if not self._connection.writable.is_set():
            await asyncio.wait_for(self._connection.writable.wait(), stall_s or limits.HTTP_WRITE_STALL_S)
        if self._connection.gone:
            raise ConnectionResetError("the client has gone")

    def end(self) -> None:
        self._connection.finish()

    def abort(self) -> None:
        """Ends the connection without finishing the reply."""
        self._connection.abort()

    def upgrade(self, headers: Headers, factory: ProtocolFactory) -> None:
        """Answers 101 and gives the transport, with whatever the client already sent, to the protocol of `factory`."""
        self.started = True
        self._connection.hand_over(headers, factory)

    def take_over(self, headers: Headers) -> Transport:
        """The same, for a coroutine. If the client is gone already, what is returned says so at the first use."""
        transport = Transport()
        self.upgrade(headers, lambda: transport)
        return transport


def plain(why: BadRequest) -> tuple[str, bytes]:
    return "text/plain", f"{why}\n".encode()


class Connections:
    """All connections of one server: their number is bounded, and they end together."""

    def __init__(self, app: App, bounds: Bounds = Bounds(), refusal: Refusal = plain) -> None:
        self.app, self.bounds, self.refusal = app, bounds, refusal
        self.open: set[Connection] = set()
        self.upgraded: set[asyncio.Transport] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.refused = 0

    def new(self, ended: Callable[[], None] | None = None) -> asyncio.Protocol:
        """`ended` is called once, when the connection that was made is no more."""
        return Connection(self, self.app, ended)

    def serving(self, app: App) -> Callable[[], asyncio.Protocol]:
        """Like `new`, for a listener that has its own application."""
        return lambda: Connection(self, app)

    def full(self) -> bool:
        """Whether there is no room for one more; upgraded connections count."""
        most = self.bounds.connections or limits.HTTP_CONNECTIONS_MAX
        if len(self.open) + len(self.upgraded) >= most:
            self.upgraded = {t for t in self.upgraded if not has_ended(t)}
        return len(self.open) + len(self.upgraded) >= most

    async def close(self) -> None:
        """Ends streams and idle connections at once, gives running requests SHUTDOWN_S, then cuts the rest."""
        for connection in list(self.open):
            connection.shut()
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=limits.HTTP_SHUTDOWN_S)
        for connection in list(self.open):
            connection.abort()
        for transport in self.upgraded:
            transport.abort()
        for task in list(self.tasks):
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=limits.HTTP_SHUTDOWN_S)


class Connection(asyncio.Protocol):
    """One client. A state at a time: waiting, reading a head, reading a body, answering."""

    def __init__(self, owner: Connections, app: App, ended: Callable[[], None] | None = None) -> None:
        self._owner, self._app, self._ended = owner, app, ended
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.HTTP_HEAD_BYTES_MAX)
        self._head: h11.Request | None = None
        self._body = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self._life: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._waiting_bytes = 0
        self._closing = False
        self._last = False  # the server ends: no request after this one
        self.streaming = False
        self.unsettled_bytes = 0  # written since the event loop last had its turn
        self.writable = asyncio.Event()
        self.writable.set()

    @property
    def gone(self) -> bool:
        """Nothing more can be sent."""
        return self._closing

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._owner.full():
            self._owner.refused += 1
            self._transport.abort()
            return
        self._transport.set_write_buffer_limits(high=limits.WRITE_HIGH_BYTES)
        keep_alive(self._transport)
        self._owner.open.add(self)
        self._arm(limits.HTTP_HEAD_S)
        if self._owner.bounds.connection_s is not None:
            self._life = asyncio.get_running_loop().call_later(self._owner.bounds.connection_s, self.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.open.discard(self)
        self._disarm()
        if self._life is not None:
            self._life.cancel()
        if self._ended is not None:
            self._ended()
        self._closing = True
        self.writable.set()
        if self._task is not None and self.streaming:
            self._task.cancel()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        if self._task is not None:  # the next request, early: it waits, and not without bound
            self._waiting_bytes += len(data)
            if self._waiting_bytes > limits.HTTP_HEAD_BYTES_MAX:
                self._transport.pause_reading()
        elif self._head is None:
            self._arm(limits.HTTP_HEAD_S, keep=self._waiting_bytes > 0)
            self._waiting_bytes += len(data)
        self._h11.receive_data(data)
        self._advance()

    def eof_received(self) -> bool:
        return False

    def _advance(self) -> None:
        """Takes events from h11 while no request is being answered."""
        try:
            while self._task is None and not self._closing:
                event = self._h11.next_event()
                if event is h11.NEED_DATA:
                    if self._h11.they_are_waiting_for_100_continue:
                        self._transport.write(
                            self._h11.send(h11.InformationalResponse(status_code=100, headers=[])) or b""
                        )
                    return
                if event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                    if isinstance(event, h11.ConnectionClosed):
                        self.abort()
                    return
                self._take(event)
        except h11.RemoteProtocolError as why:
            self._refuse(BadRequest(why.error_status_hint, str(why)))
        except BadRequest as why:
            self._refuse(why)

    def _take(self, event: object) -> None:
        if isinstance(event, h11.Request):
            self._head = event
            self._arm(limits.HTTP_BODY_S)
            length = next((value for key, value in event.headers if key == b"content-length"), b"0")
            self._bound_body(int(length))
            if _upgrade_with_body(event):  # what follows is the other protocol, whatever the head says of a body
                self._start()
        elif isinstance(event, h11.Data):
            self._body += event.data
            self._bound_body(len(self._body))
        elif isinstance(event, h11.EndOfMessage):
            self._start()

    def _bound_body(self, size: int) -> None:
        most = self._owner.bounds.body_bytes or limits.HTTP_BODY_BYTES_MAX
        if size > most:
            raise BadRequest(413, f"request body of more than {most} bytes")

    def _start(self) -> None:
        self._disarm()
        request = self._request()
        self._waiting_bytes = 0
        self._task = asyncio.get_running_loop().create_task(self._answer(request))
        self._owner.tasks.add(self._task)
        self._task.add_done_callback(self._owner.tasks.discard)

    def _request(self) -> Request:
        assert self._head is not None
        target = self._head.target.decode("latin-1")
        path, _, query = target.partition("?")
        try:
            params = parse_qs(query, keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX)
        except ValueError:
            raise BadRequest(400, "malformed query") from None
        headers = tuple((key.decode("latin-1"), value.decode("latin-1")) for key, value in self._head.headers)
        method = self._head.method.decode("latin-1")
        certificate = self._transport.get_extra_info("peercert")
        peer = self._transport.get_extra_info("peername")
        address = str(peer[0]) if isinstance(peer, tuple) else ""
        return Request(method, path, params, headers, bytes(self._body), certificate or None, address)

    async def _answer(self, request: Request) -> None:
        reply = Reply(self)
        try:
            await self._app(request, reply)
        except asyncio.CancelledError:
            if self.streaming:  # the server ends: the stream ends well
                self.finish()
            elif not self._closing:
                self.abort()
            raise
        except Exception:
            if self._closing:  # the client went away while we wrote
                return
            self.abort()
            raise

    def respond(self, status: int, headers: list[tuple[str, str]]) -> None:
        if self._closing:
            return
        if self._last:
            headers.append(("connection", "close"))
        wire = [(k.encode("latin-1"), v.encode("latin-1", "replace")) for k, v in headers]
        self._transport.write(self._h11.send(h11.Response(status_code=status, headers=wire)) or b"")

    def push(self, data: bytes) -> None:
        self.unsettled_bytes += len(data)
        if data and not self._closing and (self._head is None or self._head.method != b"HEAD"):
            self._transport.write(self._h11.send(h11.Data(data=data)) or b"")

    def finish(self) -> None:
        """The reply is complete: the next request may come, or the connection ends."""
        if self._closing:
            return
        self._transport.write(self._h11.send(h11.EndOfMessage()) or b"")
        self.streaming = False
        self._task = None
        self._head = None
        self._body.clear()
        if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE and not self._last:
            self._h11.start_next_cycle()
            self._transport.resume_reading()
            self._arm(limits.HTTP_IDLE_S if self.writable.is_set() else limits.HTTP_WRITE_STALL_S)
            asyncio.get_running_loop().call_soon(self._advance)
        else:
            self._close()

    def _refuse(self, why: BadRequest) -> None:
        """Answers a request that h11 or a bound refused, if an answer is still possible, and ends the connection."""
        if self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            kind, body = self._owner.refusal(why)
            headers = [(b"content-type", kind.encode()), (b"connection", b"close")]
            headers.append((b"content-length", str(len(body)).encode()))
            out = self._h11.send(h11.Response(status_code=why.status, headers=headers)) or b""
            out += self._h11.send(h11.Data(data=body)) or b""
            self._transport.write(out + (self._h11.send(h11.EndOfMessage()) or b""))
            self._closing = True  # what still comes is thrown away, so that the answer is not lost to a reset
            self._disarm()
            self._timer = asyncio.get_running_loop().call_later(limits.HTTP_LINGER_S, self._close)
            return
        self._close()

    def hand_over(self, headers: Headers, factory: ProtocolFactory) -> None:
        if self._closing or has_ended(self._transport):
            return
        head = ["HTTP/1.1 101 Switching Protocols", *(f"{key}: {value}" for key, value in headers), "", ""]
        assert not any("\r" in line or "\n" in line for line in head)
        self._transport.write("\r\n".join(head).encode("latin-1"))  # not by h11: it may still wait for a body
        rest = self._h11.trailing_data[0]
        self._disarm()
        self._closing = True
        self._owner.open.discard(self)
        self._owner.upgraded.add(self._transport)
        protocol = factory()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        self._transport.resume_reading()
        if rest:
            protocol.data_received(rest)

    def shut(self) -> None:
        """The server ends: a stream is cancelled, an idle connection closed, a running request answered first."""
        self._last = True
        if self._task is None:
            self._close()
        elif self.streaming:
            self._task.cancel()

    def _close(self) -> None:
        self._closing = True
        self._arm(limits.HTTP_HEAD_S)  # until what was written is read, and no longer
        if not self._transport.is_closing():  # asyncio of Python 3.11.2 cannot abort after a second close
            self._transport.close()

    def abort(self) -> None:
        self._closing = True
        self._disarm()
        self._transport.abort()

    def _arm(self, seconds: float, keep: bool = False) -> None:
        if keep and self._timer is not None:
            return
        self._disarm()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.abort)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _upgrade_with_body(head: h11.Request) -> bool:
    """Whether a request for an upgrade also announces a body, which h11 would wait for."""
    lines = [(name, value.strip().lower()) for name, value in head.headers]
    wanted = any(name == b"upgrade" for name, _ in lines) and any(
        b"upgrade" in (token.strip() for token in value.split(b",")) for name, value in lines if name == b"connection"
    )
    return wanted and any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0") for name, value in lines
    )
