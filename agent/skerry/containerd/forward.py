"""A TCP connection as a Duplex: STDIN goes into it, STDOUT comes out of it, each with its own end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable
from typing import Any

from skerry.errors import StreamBroken
from skerry.limits import STREAM_PIECE_BYTES_MAX
from skerry.model.streams import Channel, CloseCode, Piece


class Forward:
    """ports.Duplex."""

    def __init__(self, sock: socket.socket) -> None:
        """`sock` is connected, does not block, and is now ours to close."""
        self._sock, self._over, self._closed = sock, False, False
        self._shut: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def read(self) -> Piece | None:
        if self._over:
            return None
        try:  # what is there already costs no task of its own
            data: bytes | None = self._sock.recv(STREAM_PIECE_BYTES_MAX)
            await asyncio.sleep(0)
        except BlockingIOError:
            data = await self._unless_closed(asyncio.get_running_loop().sock_recv(self._sock, STREAM_PIECE_BYTES_MAX))
        except OSError as error:
            raise _broken(error) from error
        self._over = self._over or not data
        return None if self._closed else Piece(Channel.STDOUT, data or b"", end=not data)

    async def write(self, piece: Piece) -> None:
        if piece.channel is not Channel.STDIN or self._closed:
            return
        if piece.data:
            try:
                sent = self._sock.send(piece.data)
                await asyncio.sleep(0)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                raise _broken(error) from error
            if sent < len(piece.data) and not self._closed:
                rest = memoryview(piece.data)[sent:]
                await self._unless_closed(asyncio.get_running_loop().sock_sendall(self._sock, rest))
        if piece.end and not self._closed:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)

    async def close(self, code: CloseCode = CloseCode.DONE, detail: str = "") -> None:
        if not self._closed:
            self._closed = self._over = True
            self._shut.set_result(None)
            await asyncio.sleep(0)  # whoever reads or writes lets go of it first
            if code is not CloseCode.DONE:
                with contextlib.suppress(OSError):  # the other end learns by a reset that this is no end
                    self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self._sock.close()

    async def _unless_closed(self, doing: Awaitable[bytes | None]) -> bytes | None:
        """None when it was closed meanwhile. Raises StreamBroken."""
        work: asyncio.Future[Any] = asyncio.ensure_future(doing)
        try:
            await asyncio.wait((work, self._shut), return_when=asyncio.FIRST_COMPLETED)
            return work.result() if work.done() and not self._closed else None
        except OSError as error:
            raise _broken(error) from error
        finally:
            work.cancel()


def _broken(error: OSError) -> StreamBroken:
    return StreamBroken(CloseCode.FAILED, f"the pod's connection: {error.strerror or error}")
