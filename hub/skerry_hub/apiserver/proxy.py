"""Dials a pod's node and carries bytes both ways: logs as a streamed reply, upgrades untouched. Decides what a client
hears when the node cannot be reached; what is asked for stands in `pod_connect`.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import ssl
from typing import Any

import h11

from skerry.limits import STREAM_IDLE_S, STREAM_OPEN_S
from skerry.turns import Turns
from skerry_hub.http import Reply, Request
from skerry_hub.transport import Transport

from . import pod_connect
from .pod_connect import Backend, plain_error
from .requests import Target
from .status import method_not_allowed, not_found
from .store import Store

Obj = dict[str, Any]
SUBRESOURCES = ("attach", "exec", "log", "portforward")
REFUSAL_BYTES_MAX = 64 * 1024
HEAD_BYTES_MAX = 64 * 1024
ANSWER_S = 3 * STREAM_OPEN_S  # a node may dial a device, wait for it, and try again
# What of an upgrade's headers belongs to the two ends and not to this hop.
_FORWARDED = ("upgrade", "x-stream-protocol-version")
_FORWARDED_PREFIX = "sec-websocket-"


class NodeProxy:
    """The subresources of pods that their node serves. `tls` shows the API server's own client certificate."""

    def __init__(self, store: Store, tls: ssl.SSLContext) -> None:
        self._store, self._tls, self._turns = store, tls, Turns()
        self.opened = self.failed = 0

    async def serve(self, request: Request, reply: Reply, where: Target) -> None:
        """Raises ApiError."""
        if request.method != "GET" and (where.subresource == "log" or request.method != "POST"):
            raise method_not_allowed()
        pod = self._object(where.key, where)
        if where.subresource == "log":
            await self._log(request, reply, pod)
        else:
            await self._upgrade(request, reply, pod, where.subresource)

    async def document(self, node: Obj, path: str, bytes_max: int) -> Obj:
        """A JSON object that a node serves at `path`. Raises ApiError."""
        to = pod_connect.backend(node)
        doing = f'Get "https://{to.authority}{path}": '
        async with _Upstream(self, to, doing) as upstream:
            head = await upstream.ask("GET", path, [])
            raw = await upstream.body(bytes_max)
        try:
            found = json.loads(raw)
        except (ValueError, RecursionError):
            found = None
        if head.status_code != 200 or not isinstance(found, dict):
            raise pod_connect.plain_error(f"{doing}status {head.status_code} and no JSON object")
        return found

    def _object(self, key: tuple[str, str, str], where: Target) -> Obj:
        stored = self._store.get(key)
        if stored is None:
            raise not_found(where.resource.plural, where.resource.group, where.name)
        found: Obj = json.loads(stored.raw)
        return found

    def _node(self, name: str) -> Backend:
        stored = self._store.get(("nodes", "", name))
        if stored is None:
            raise not_found("nodes", "", name)
        return pod_connect.backend(json.loads(stored.raw))

    async def _log(self, request: Request, reply: Reply, pod: Obj) -> None:
        path = pod_connect.log_path(request, pod)
        node = (pod.get("spec") or {}).get("nodeName")
        if not node:  # nothing has run yet
            reply.send(200, [("content-type", "text/plain")], b"")
            return
        to = self._node(node)
        async with _Upstream(self, to, f'Get "https://{to.authority}{path}": ') as upstream:
            head = await upstream.ask("GET", path, [])
            if head.status_code != 200:
                text = (await upstream.body(REFUSAL_BYTES_MAX)).decode("utf-8", "replace")
                raise pod_connect.node_refused(head.status_code, text, pod["metadata"]["name"])
            reply.start(200, [("content-type", "text/plain"), ("transfer-encoding", "chunked")])
            if await upstream.copy_to(reply):
                reply.end()
            else:
                reply.abort()

    async def _upgrade(self, request: Request, reply: Reply, pod: Obj, subresource: str) -> None:
        path = pod_connect.stream_path(request, pod, subresource)
        node = (pod.get("spec") or {}).get("nodeName")
        if not node:
            raise pod_connect.no_host(pod)
        headers = [(k, v) for k, v in request.headers if k in _FORWARDED or k.startswith(_FORWARDED_PREFIX)]
        async with _Upstream(self, self._node(node), "error dialing backend: ") as upstream:
            head = await upstream.ask(request.method, path, [*headers, ("connection", "Upgrade")])
            shown = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in head.headers]
            if head.status_code != 101:
                kinds = [(k, v) for k, v in shown if k in ("content-type", "retry-after")]
                reply.send(head.status_code, kinds, await upstream.body(REFUSAL_BYTES_MAX))
                return
            passed = [(k, v) for k, v in shown if k in _FORWARDED or k.startswith(_FORWARDED_PREFIX)]
            client = reply.take_over([("Connection", "Upgrade"), *passed])
            client.write(b"")
            await _splice(client, upstream.transport, upstream.rest(), self._turns)


class _Upstream:
    """One request to a node. Entering dials; failures are ApiErrors that begin with `doing`."""

    def __init__(self, owner: NodeProxy, to: Backend, doing: str) -> None:
        self._owner, self._to, self._doing = owner, to, doing
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES_MAX)
        self.transport = Transport()

    async def __aenter__(self) -> _Upstream:
        dialled = f"{self._doing}dial tcp {self._to.authority}: "
        try:
            self.transport = await Transport.dial(self._to.host, self._to.port, self._owner._tls)
        except asyncio.TimeoutError:
            self._owner.failed += 1
            raise plain_error(f"{dialled}i/o timeout") from None
        except ssl.SSLError as why:
            self._owner.failed += 1
            said = getattr(why, "verify_message", "") or why.reason or str(why)
            raise plain_error(f"{self._doing}tls: {said}") from None
        except OSError as why:
            self._owner.failed += 1
            raise plain_error(f"{dialled}connect: {_words(why)}") from None
        self._owner.opened += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self.transport.close()

    async def ask(
        self, method: str, path: str, headers: list[tuple[str, str]]
    ) -> h11.Response | h11.InformationalResponse:
        """Send the request, return the head of the answer."""
        more = [("content-length", "0")] if method == "POST" else []
        wire = [("host", self._to.authority), ("user-agent", "skerry-hub-api"), *headers, *more]
        request = h11.Request(method=method, target=path, headers=wire)
        self.transport.write(self._h11.send(request) or b"")
        self.transport.write(self._h11.send(h11.EndOfMessage()) or b"")
        try:
            event = await asyncio.wait_for(self._event(), ANSWER_S)
        except asyncio.TimeoutError:
            raise plain_error(f"{self._doing}no answer within {ANSWER_S:.0f} s") from None
        if not isinstance(event, h11.Response | h11.InformationalResponse):
            raise plain_error(f"{self._doing}EOF")
        return event

    async def body(self, bytes_max: int) -> bytes:
        """The answer's body, cut at a bound."""
        out = b""
        while len(out) < bytes_max and isinstance(event := await self._event(), h11.Data):
            out += event.data
        return out[:bytes_max]

    async def copy_to(self, reply: Reply) -> bool:
        """Whether the body was whole."""
        while isinstance(event := await self._event(), h11.Data):
            reply.write(bytes(event.data))
            await reply.drain(STREAM_IDLE_S)
        return isinstance(event, h11.EndOfMessage)

    def rest(self) -> bytes:
        """What came after a 101."""
        return self._h11.trailing_data[0]

    async def _event(self) -> Any:
        """None when the node ended otherwise than well."""
        try:
            while (event := self._h11.next_event()) is h11.NEED_DATA:
                self._h11.receive_data(await self.transport.read())
        except h11.RemoteProtocolError:
            return None
        return event


async def _splice(client: Transport, node: Transport, first: bytes, turns: Turns) -> None:
    """Bytes both ways, as they are, until either side ends. What the node said last is still delivered; a client that
    has gone wants nothing any more, and its node hears of it though it may not be reading."""

    async def copy(source: Transport, sink: Transport) -> None:
        while data := await source.read():
            await turns.next()
            sink.write(data)
            await sink.drain()

    client.write(first)
    tasks = [asyncio.ensure_future(copy(client, node)), asyncio.ensure_future(copy(node, client))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[1].done():
            node.abort()
        client.close()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _words(why: OSError) -> str:
    """As Go says it: `connection refused`."""
    code = why.errno if isinstance(why.errno, int) else 0
    return os.strerror(code).lower() if code > 0 and code in errno.errorcode else str(why)
