"""The bytes of one connection for a coroutine, both ways, with back-pressure: after an upgrade, or dialled.

Decides when to stop reading a peer, and that one which has gone is noticed though it is not read. Knows no protocol.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from typing import cast

from skerry_hub import limits

# tcpi_state of linux/tcp.h for a connection whose peer has closed or reset it.
_GONE = frozenset([7, 8, 9])  # CLOSE, CLOSE_WAIT, LAST_ACK
_KEEPALIVE = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)


def keep_alive(transport: asyncio.BaseTransport) -> None:
    """Ask a silent peer now and then whether it is still there. It also finds one that died with its send buffer full:
    its FIN cannot come while we read nothing, its reset can."""
    peer = transport.get_extra_info("socket")
    if peer is not None and peer.family in (socket.AF_INET, socket.AF_INET6):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in zip(_KEEPALIVE, limits.TCP_KEEPALIVE, strict=True):
            peer.setsockopt(socket.IPPROTO_TCP, option, value)


def has_ended(wire: asyncio.BaseTransport) -> bool:
    """Whether no protocol given to it now would hear of its end. TLS calls the old protocol's `connection_lost`, a turn
    of the event loop after it let its socket go; on Python 3.10 the wire does not say `is_closing` in between."""
    return wire.is_closing() or wire.get_extra_info("socket") is None


class Transport(asyncio.Protocol):
    """One reader at a time; any number of writers. Before `connection_made` and after the end it reads as ended."""

    def __init__(self) -> None:
        self._wire: asyncio.Transport | None = None
        self._received = bytearray()
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._paused = False
        self._check: asyncio.TimerHandle | None = None
        self.gone = asyncio.Event()  # the connection is no more, or not yet
        self.gone.set()
        self.ended = True  # the peer sends no more, or the connection is gone
        self.lost = True
        self.read_bytes = self.written_bytes = 0
        self._unsettled = 0  # bytes written since the event loop last had its turn

    @classmethod
    async def dial(cls, host: str, port: int, tls: ssl.SSLContext | None, server_name: str | None = None) -> Transport:
        """Raises OSError (ssl.SSLError among them) and asyncio.TimeoutError."""
        loop = asyncio.get_running_loop()
        name = (server_name or host) if tls is not None else None
        dialling = loop.create_connection(cls, host, port, ssl=tls, server_hostname=name)
        wire, made = await asyncio.wait_for(dialling, limits.API_CONNECT_TIMEOUT_S)
        keep_alive(wire)
        return made

    # --- for the coroutine --------------------------------------------------------------------------------------------

    async def read(self) -> bytes:
        """What has arrived, at least one byte; b"" once there will be no more."""
        while not self._received:
            if self.ended:
                return b""
            self._arrived.clear()
            await self._arrived.wait()
        data = bytes(self._received)
        self._received.clear()
        self._resume()
        return data

    def write(self, data: bytes) -> None:
        """Queue bytes, in call order. Nothing once the connection is gone. To be followed by `drain`."""
        if self._wire is not None and not self.lost and data:
            self.written_bytes += len(data)
            self._unsettled += len(data)
            self._wire.write(data)

    async def drain(self) -> None:
        """Return once there is room for more. Raises ConnectionResetError when the connection is gone."""
        if self._unsettled > limits.WRITE_HIGH_BYTES:  # a loop that tells only later that it is full
            self._unsettled = 0
            await asyncio.sleep(0)
        await self._writable.wait()
        if self.lost:
            raise ConnectionResetError("the connection is gone")

    def close(self) -> None:
        """End it after what was written has been sent; cut it if that takes longer than HTTP_WRITE_STALL_S."""
        if self._wire is not None and not self._wire.is_closing():
            self._wire.close()
            asyncio.get_running_loop().call_later(limits.HTTP_WRITE_STALL_S, self.abort)

    def abort(self) -> None:
        """End it at once. The peer hears it by a reset, which comes through though it has stopped to read."""
        if self._wire is not None and not self.lost:
            peer = self._wire.get_extra_info("socket")
            if peer is not None and not self._wire.is_closing():
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._wire.abort()

    # --- for asyncio --------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast(asyncio.Transport, transport)
        self._wire.set_write_buffer_limits(high=limits.WRITE_HIGH_BYTES)
        self.ended = self.lost = False
        self.gone.clear()

    def data_received(self, data: bytes) -> None:
        self._received += data
        self.read_bytes += len(data)
        self._arrived.set()
        if len(self._received) > limits.READ_HIGH_BYTES and not self._paused:
            assert self._wire is not None
            self._paused = True
            self._wire.pause_reading()
            self._watch()

    def eof_received(self) -> bool:
        self.ended = True
        self._arrived.set()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = self.lost = True
        self.gone.set()
        self._arrived.set()
        self._writable.set()
        if self._check is not None:
            self._check.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def _resume(self) -> None:
        if self._paused and not self.lost:
            assert self._wire is not None
            self._paused = False
            self._wire.resume_reading()

    def _watch(self) -> None:
        """A connection that is not read says nothing of its end: ask the kernel about the peer now and then."""
        self._check = asyncio.get_running_loop().call_later(limits.PEER_CHECK_S, self._ask)

    def _ask(self) -> None:
        if not self._paused or self.lost:
            return
        assert self._wire is not None
        peer = self._wire.get_extra_info("socket")
        if peer is not None and peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in _GONE:
            self.abort()
        else:
            self._watch()
