"""Sockets in another network namespace. The thread that goes there lives for one system call or two.

Decides nothing. setns(2) changes the calling thread only, so that thread is never one of a pool; a socket stays in the
namespace in which it was made, and may be connected from anywhere.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
from pathlib import Path

from skerry.limits import DIAL_TIMEOUT_S

CLONE_NEWNET = 0x40000000
LOOPBACKS = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))


async def dial(namespace: str, port: int) -> socket.socket:
    """A connection to the port on the loopback of a network, IPv4 before IPv6. `namespace`: the path of its file.
    Raises OSError: what the first of them met."""
    loop, first = asyncio.get_running_loop(), None
    for family, address in LOOPBACKS:
        sock = None
        try:
            sock = await socket_in(namespace, family)
            await asyncio.wait_for(loop.sock_connect(sock, (address, port)), DIAL_TIMEOUT_S)
            return sock
        except BaseException as error:
            if sock is not None:
                sock.close()
            if not isinstance(error, (OSError, asyncio.TimeoutError)):
                raise
            first = first or _plain(error)
    assert first is not None
    raise first


async def socket_in(namespace: str, family: int) -> socket.socket:
    """A TCP socket that does not block. Raises OSError, also when there is no such namespace (any more)."""
    loop = asyncio.get_running_loop()
    made: asyncio.Future[socket.socket] = loop.create_future()

    def tell(result: socket.socket | OSError) -> None:
        if made.done():  # nobody waits any more
            if isinstance(result, socket.socket):
                result.close()
        elif isinstance(result, OSError):
            made.set_exception(result)
        else:
            made.set_result(result)

    def go() -> None:
        try:
            result: socket.socket | OSError = _make(namespace, family)
        except OSError as error:
            result = error
        loop.call_soon_threadsafe(tell, result)

    threading.Thread(target=go, name="netns", daemon=True).start()
    return await made


def of_process(pid: int) -> str:
    """The namespace file of a process, or this one's own where it may not be looked at: reading another's needs
    CAP_SYS_PTRACE, and what is served on this board's socket is most likely served on this board."""
    theirs = f"/proc/{pid}/ns/net"
    return theirs if os.access(theirs, os.R_OK, effective_ids=True) else "/proc/self/ns/net"


def _plain(error: OSError | asyncio.TimeoutError) -> OSError:
    """In the kernel's words: asyncio puts its own there."""
    number = (error.errno if isinstance(error, OSError) else None) or errno.ETIMEDOUT
    return OSError(number, os.strerror(number))


def _make(namespace: str, family: int) -> socket.socket:
    file = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if not os.path.samestat(os.fstat(file), Path("/proc/thread-self/ns/net").stat()):
            _setns(file)
        return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    finally:
        os.close(file)


def _setns(file: int) -> None:
    """os.setns is there from Python 3.12 on."""
    import ctypes

    if ctypes.CDLL(None, use_errno=True).setns(file, CLONE_NEWNET) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")
