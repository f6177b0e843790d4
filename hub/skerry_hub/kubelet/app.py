"""One node's kubelet endpoint: who asks, what for, and the device's stream that answers.

Every request is checked first. A device's refusal is told before the upgrade, in the words and codes of a kubelet, so
that kubectl prints one clear line; whatever goes wrong ends that one connection and is counted.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from skerry.errors import Malformed, StreamBroken
from skerry.limits import STREAM_IDLE_S, TEXT_CHARS_MAX
from skerry.model.streams import Attach, Channel, CloseCode, Exec, Logs, PortForward, Stats, StreamRequest
from skerry.ports import Duplex
from skerry_hub.http import Reply, Request
from skerry_hub.kubelet import metrics
from skerry_hub.kubelet.access import Access
from skerry_hub.kubelet.counts import Counts
from skerry_hub.kubelet.forward_channels import CHANNEL_PROTOCOL, ChannelForwards
from skerry_hub.kubelet.portforward import PROTOCOL, TUNNEL_PROTOCOL, Forwards
from skerry_hub.kubelet.process import (
    SPDY_PROTOCOLS,
    WEBSOCKET_PROTOCOLS,
    Process,
    ProcessClient,
    SpdyProcess,
    WebSocketProcess,
    wait_streams,
)
from skerry_hub.kubelet.relay import relay
from skerry_hub.kubelet.routes import Document, Forward, Route, Wrong, forward_ports, now_ns, right, route
from skerry_hub.kubelet.spdy_session import SpdySession, Wire
from skerry_hub.kubelet.websocket import Messages, WebSocket, accept_headers, choose
from skerry_hub.limits import SUMMARY_BYTES_MAX
from skerry_hub.ports import ClusterError, Obj, Streams
from skerry_hub.transport import Transport

SPDY = "SPDY/3.1"
PodsOf = Callable[[str], Sequence[Obj]]  # the pods of a node, as the API has them
_TEXT, _JSON = ("content-type", "text/plain; charset=utf-8"), ("content-type", "application/json")
# What a refused stream is in HTTP. For logs an API server shows its clients the text of a 400 and a 500 only.
_STATUS = {CloseCode.NOT_FOUND: 404, CloseCode.INVALID: 400, CloseCode.FORBIDDEN: 403, CloseCode.BUSY: 429}
_LOG_STATUS = {CloseCode.NOT_FOUND: 400, CloseCode.INVALID: 400, CloseCode.UNAVAILABLE: 400, CloseCode.FORBIDDEN: 403}


@dataclass(slots=True)
class Parts:
    """What the endpoints of all nodes share."""

    streams: Streams
    access: Access
    pods_of: PodsOf = lambda _node: ()
    counts: Counts = field(default_factory=Counts)


@dataclass(frozen=True, slots=True)
class _Upgrade:
    """A handshake that can be answered: which form, which protocol, with which headers."""

    websocket: bool
    protocol: str
    headers: list[tuple[str, str]]


class NodeEndpoint:
    """An `http.App`."""

    def __init__(self, node: str, parts: Parts) -> None:
        self._node, self._parts, self._counts = node, parts, parts.counts

    async def __call__(self, request: Request, reply: Reply) -> None:
        self._counts.requests += 1
        try:
            await self._check(request)
            await self._serve(self._route(request), request, reply)
        except Wrong as why:
            more = [("www-authenticate", "Bearer")] if why.status == 401 else []
            reply.send(why.status, [_TEXT, *more], str(why).encode())
        except ConnectionError:
            reply.abort()

    async def _check(self, request: Request) -> None:
        """Raises Wrong with the kubelet's own texts."""
        who = await self._parts.access.identify(request.certificate, request.header("authorization"))
        if who is None:
            self._counts.unauthorized += 1
            raise Wrong(401, "Unauthorized")
        verb, below = right(request.method, request.path)
        what = f"(user={who.user}, verb={verb}, resource=nodes, subresource={','.join(below)})"
        try:
            for subresource in below if verb else ():
                if await self._parts.access.allowed(who, verb, subresource, self._node):
                    return
        except ClusterError as why:
            raise Wrong(500, f"Authorization error {what}: {why}") from None
        self._counts.forbidden += 1
        raise Wrong(403, f"Forbidden {what}")

    def _route(self, request: Request) -> Route:
        """Raises Wrong."""
        try:
            return route(request.method, request.path, request.query, now_ns())
        except Wrong:
            self._counts.wrong += 1
            raise

    async def _serve(self, asked: Route, request: Request, reply: Reply) -> None:
        match asked:
            case Document(name):
                await self._document(name, reply)
            case Logs() as logs:
                await self._logs(logs, reply)
            case Forward(namespace, pod):
                await self._forward(namespace, pod, request, reply)
            case Exec() | Attach() as what:
                await self._process(what, request, reply)

    async def _open(self, request: StreamRequest, status: dict[CloseCode, int]) -> Duplex:
        """Raises Wrong with the device's refusal."""
        try:
            device = await self._parts.streams.open(self._node, request)
        except StreamBroken as why:
            self._counts.refused += 1
            text = " ".join(str(why).split())[:TEXT_CHARS_MAX]
            raise Wrong(status.get(CloseCode(why.code), 500), text or CloseCode(why.code).name) from None
        self._counts.streams += 1
        return device

    # --- documents ----------------------------------------------------------------------------------------------------

    async def _document(self, name: str, reply: Reply) -> None:
        if name == "healthz":
            reply.send(200, [_TEXT], b"ok")
        elif name == "pods":
            found = {
                "kind": "PodList",
                "apiVersion": "v1",
                "metadata": {},
                "items": list(self._parts.pods_of(self._node)),
            }
            reply.send(200, [_JSON], json.dumps(found, separators=(",", ":")).encode())
        else:
            raw = await self._summary()
            if name == "stats":
                reply.send(200, [_JSON], raw)
            else:
                reply.send(200, [("content-type", metrics.TYPE)], metrics.text(json.loads(raw)))

    async def _summary(self) -> bytes:
        """The device's stats, a JSON object. Raises Wrong."""
        device, raw = await self._open(Stats(), _STATUS), b""
        try:
            while (piece := await device.read()) is not None and len(raw) <= SUMMARY_BYTES_MAX:
                raw += piece.data if piece.channel is Channel.STDOUT else b""
            if len(raw) > SUMMARY_BYTES_MAX or not isinstance(json.loads(raw), dict):
                raise ValueError
        except StreamBroken as why:
            self._counts.broken += 1
            raise Wrong(500, str(why)) from None
        except (ValueError, RecursionError):
            raise Wrong(500, f"the device's stats are no JSON object of at most {SUMMARY_BYTES_MAX} bytes") from None
        finally:
            await device.close()
        return raw

    # --- streams ------------------------------------------------------------------------------------------------------

    async def _logs(self, logs: Logs, reply: Reply) -> None:
        device = await self._open(logs, {**_STATUS, **_LOG_STATUS})
        code = CloseCode.CANCELLED
        try:
            reply.start(200, [("content-type", "text/plain"), ("transfer-encoding", "chunked")])
            while (piece := await device.read()) is not None:
                if piece.data:
                    reply.write(piece.data)
                    await reply.drain(STREAM_IDLE_S)
            code = CloseCode.DONE
            reply.end()
        except (StreamBroken, asyncio.TimeoutError):
            self._counts.broken += 1
            reply.abort()  # a reply that is cut says that it is not the whole log
        finally:
            await device.close(code)

    async def _process(self, what: Process, request: Request, reply: Reply) -> None:
        way = _handshake(request, SPDY_PROTOCOLS, WEBSOCKET_PROTOCOLS)
        device = await self._open(what, _STATUS)
        code = CloseCode.CANCELLED
        transport = reply.take_over(way.headers)
        try:
            async with _Reading(transport, self._counts) as reading:
                client = await self._client(what, way, transport, reading)
                if client is not None:
                    ended = await relay(client, device, transport.gone)
                    if not ended.client_gone:
                        code = CloseCode.DONE if ended.device is None else CloseCode.CANCELLED
                        await self._finish(what, client, ended.device)
        finally:
            await device.close(code)

    async def _client(
        self, what: Process, way: _Upgrade, transport: Transport, reading: _Reading
    ) -> ProcessClient | None:
        """None when the client did not do its part."""
        if way.websocket:
            socket = WebSocketProcess(transport, what, way.protocol, self._counts)
            await socket.greet()
            return socket
        session = reading.start(transport)
        try:
            return SpdyProcess(session, await wait_streams(session, what, way.protocol), way.protocol, self._counts)
        except StreamBroken as why:
            if why.code == CloseCode.UNAVAILABLE:
                self._counts.slow += 1
            elif why.code == CloseCode.INVALID and session.over is None:
                self._counts.malformed += 1
            return None

    async def _finish(self, what: Process, client: ProcessClient, why: StreamBroken | None) -> None:
        status = client.status
        if why is not None or not status:
            self._counts.broken += 1
            doing = "executing command in" if isinstance(what, Exec) else "attaching to"
            status = _internal(f"error {doing} container: {why or 'the device told no exit status'}")
        await client.finish(status)

    async def _forward(self, namespace: str, pod: str, request: Request, reply: Reply) -> None:
        way = _handshake(request, (PROTOCOL,), (TUNNEL_PROTOCOL, CHANNEL_PROTOCOL))
        ports = forward_ports(request.query) if way.protocol == CHANNEL_PROTOCOL else ()

        async def open_port(port: int) -> Duplex:
            return await self._parts.streams.open(self._node, PortForward(namespace, pod, port))

        transport = reply.take_over(way.headers)
        async with _Reading(transport, self._counts) as reading:
            if ports:
                await ChannelForwards(WebSocket(transport), ports, open_port, pod, self._counts).run()
                return
            wire: Wire = Messages(WebSocket(transport)) if way.websocket else transport
            await Forwards(reading.start(wire), open_port, pod, self._counts).run()


class _Reading:
    """An upgraded connection while it is served: its SPDY session is read, and it is closed and counted at the end."""

    def __init__(self, transport: Transport, counts: Counts) -> None:
        self._transport, self._counts = transport, counts
        self._task: asyncio.Task[None] | None = None

    def start(self, wire: Wire) -> SpdySession:
        session = SpdySession(wire, self._counts)
        self._task = asyncio.ensure_future(session.run())
        return session

    async def __aenter__(self) -> _Reading:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._transport.close()
        self._counts.bytes_in += self._transport.read_bytes
        self._counts.bytes_out += self._transport.written_bytes
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


def _handshake(request: Request, spdy: Sequence[str], websocket: Sequence[str]) -> _Upgrade:
    """Raises Wrong."""
    tokens = {token.strip().lower() for line in request.header_list("connection") for token in line.split(",")}
    wanted = request.header("upgrade").lower() if "upgrade" in tokens else ""
    if wanted == SPDY.lower():
        offered = request.header_list("x-stream-protocol-version")
        chosen = choose(offered, spdy)
        if not chosen:
            text = f"unable to negotiate protocol: client supports {offered}, server accepts {list(spdy)}"
            raise Wrong(403, f"unable to upgrade: {text}")
        headers = [("Connection", "Upgrade"), ("Upgrade", SPDY), ("X-Stream-Protocol-Version", chosen)]
        return _Upgrade(False, chosen, headers)
    if wanted == "websocket":
        chosen = choose(request.header_list("sec-websocket-protocol"), websocket)
        if request.method != "GET" or request.header("sec-websocket-version") != "13":
            raise Wrong(400, "unable to upgrade: a WebSocket begins with GET and Sec-WebSocket-Version 13")
        if not chosen:
            raise Wrong(400, f"unable to upgrade: the server accepts the WebSocket protocols {list(websocket)}")
        try:
            return _Upgrade(True, chosen, accept_headers(request.header("sec-websocket-key"), chosen))
        except Malformed as why:
            raise Wrong(400, f"unable to upgrade: {why}") from None
    raise Wrong(400, "unable to upgrade: missing upgrade headers in request")


def _internal(message: str) -> bytes:
    """metav1.Status of an internal error, as apimachinery's NewInternalError words it."""
    status = {
        "metadata": {},
        "status": "Failure",
        "message": f"Internal error occurred: {message}",
        "reason": "InternalError",
        "details": {"causes": [{"message": message}]},
        "code": 500,
    }
    return json.dumps(status, separators=(",", ":")).encode()
