"""A WebSocket on an upgraded connection, server side: message parts in, binary messages out. The frames are wsproto's.

Decides the handshake's answer and how a connection is closed so that clients do not warn. Knows no channels.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from wsproto import events
from wsproto.connection import Connection, ConnectionType
from wsproto.utilities import LocalProtocolError, RemoteProtocolError, generate_accept_token

from skerry.errors import Malformed
from skerry_hub.limits import KUBELET_CLOSE_S
from skerry_hub.transport import Transport

OWED_BYTES_MAX = 16 * 1024  # pongs that a client has not read: then it is not read either


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of one message, in order; a message that arrives in pieces is given on in pieces."""

    data: bytes
    first: bool


def accept_headers(key: str, protocol: str) -> list[tuple[str, str]]:
    """The headers of the 101. Raises Malformed when the key is none (RFC 6455, 4.2.1)."""
    try:
        if len(base64.b64decode(key, validate=True)) != 16:
            raise ValueError
    except (binascii.Error, ValueError):
        raise Malformed("Sec-WebSocket-Key is not 16 bytes in base64") from None
    return [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", generate_accept_token(key.encode()).decode()),
        ("Sec-WebSocket-Protocol", protocol),
    ]


class WebSocket:
    """One reader at a time."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._ws = Connection(ConnectionType.SERVER)
        self._parts: deque[Part] = deque()
        self._within = False  # a message has begun and not ended
        self._owed = 0
        self._closed = False  # by the client

    async def receive(self) -> Part | None:
        """None once the client has closed. Pings are answered. Raises Malformed."""
        while not self._parts:
            if self._closed:
                return None
            data = await self._transport.read()
            if not data:
                return None
            try:
                self._ws.receive_data(data)
                for event in self._ws.events():
                    self._take(event)
            except (RemoteProtocolError, LocalProtocolError, UnicodeDecodeError) as why:
                raise Malformed(f"WebSocket: {why}") from None
            if self._owed > OWED_BYTES_MAX:
                try:
                    await self._transport.drain()
                except ConnectionResetError:
                    return None
                self._owed = 0
        return self._parts.popleft()

    def send(self, data: bytes) -> None:
        """One binary message. Nothing once the connection is closing. To be followed by `drain`."""
        try:
            self._transport.write(self._ws.send(events.BytesMessage(data=data)))
        except LocalProtocolError:
            return

    async def drain(self) -> None:
        """Return once there is room for more. Raises ConnectionResetError."""
        await self._transport.drain()

    @property
    def gone(self) -> asyncio.Event:
        """Set once the connection is no more."""
        return self._transport.gone

    async def close(self, code: int = 1000) -> None:
        """Say so, and wait until the client has closed too; it warns if the connection goes before."""
        try:
            self._transport.write(self._ws.send(events.CloseConnection(code=code)))
            await asyncio.wait_for(self._until_closed(), KUBELET_CLOSE_S)
        except (LocalProtocolError, asyncio.TimeoutError, Malformed):
            pass
        self._transport.close()

    async def _until_closed(self) -> None:
        self._parts.clear()
        while await self.receive() is not None:
            self._parts.clear()

    def _take(self, event: events.Event) -> None:
        match event:
            case events.BytesMessage(data=data):
                self._part(bytes(data), event.message_finished)
            case events.TextMessage(data=text):
                self._part(text.encode(), event.message_finished)
            case events.Ping():
                out = self._ws.send(event.response())
                self._owed += len(out)
                self._transport.write(out)
            case events.CloseConnection(code=code, reason=reason):
                self._closed = True
                with suppress(LocalProtocolError):
                    self._transport.write(self._ws.send(event.response()))
                if code in (1002, 1003, 1007, 1009) and reason:  # made by wsproto of bytes that do not parse
                    raise Malformed(f"WebSocket: {reason}")
            case _:
                pass

    def _part(self, data: bytes, last: bool) -> None:
        if data:
            self._parts.append(Part(data, not self._within))
            self._within = True
        if last:
            self._within = False


class Messages:
    """spdy_session.Wire over the messages of a WebSocket; where one message ends means nothing."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    async def read(self) -> bytes:
        part = await self._socket.receive()
        return part.data if part is not None else b""

    def write(self, data: bytes) -> None:
        if data:
            self._socket.send(data)

    async def drain(self) -> None:
        await self._socket.drain()

    @property
    def gone(self) -> asyncio.Event:
        return self._socket.gone


def choose(offered: Sequence[str], served: Sequence[str]) -> str:
    """The first of the client's protocols that is served, "" if none is. Header lines come one for each protocol, or
    joined by commas; a joined or last one taken alone gives broken exit codes."""
    said = [part.strip() for line in offered for part in line.split(",")]
    return next((protocol for protocol in said if protocol in served), "")
