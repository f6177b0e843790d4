"""A connected socket within a deadline, without stalling the event loop.

Name look-up, TCP connect and TLS handshake block, and a look-up cannot be interrupted at all, so they run in one
short-lived daemon thread; a look-up that hangs past its deadline is waited out before another is started, so threads
never pile up. Knows nothing of MQTT.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from skerry.errors import ConfigInvalid, LinkLost
from skerry.limits import ACK_TIMEOUT_S

if TYPE_CHECKING:
    import ssl


def refuse_insecure(host: str, insecure: bool, field: str = "broker") -> None:
    """Plain MQTT stays on this machine: `host` must be `localhost` or a loopback address literal, unless `insecure`.

    Any other name is refused, even one that resolves to loopback now: it may resolve to something else tomorrow.
    Raises ConfigInvalid naming `field`.
    """
    if insecure or host == "localhost":
        return
    try:
        loopback = ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ConfigInvalid(field, f"{host} is not a loopback address; plain MQTT needs TLS or insecure = true")


class Dialer:
    """Opens sockets to one host and port. At most one attempt is under way."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None = None, insecure: bool = False) -> None:
        """Raises ConfigInvalid when plain and not on loopback."""
        if tls is None:
            refuse_insecure(host, insecure)
        self._host, self._port, self._tls, self._insecure = host, port, tls, insecure
        self._over: threading.Event | None = None  # of the attempt before
        self._session: ssl.SSLSession | None = None  # for the next handshake, once

    def use(self, tls: ssl.SSLContext) -> None:
        """Another context, for attempts from now on: certificates are renewed."""
        assert self._tls is not None, "plain stays plain"
        self._tls = tls

    async def dial(self, timeout_s: float, prepare: Callable[[], object] | None = None) -> socket.socket:
        """A connected, non-blocking socket, an `ssl.SSLSocket` with TLS. Raises LinkLost within `timeout_s`.
        `prepare` runs first, in the thread: what else would stall the loop, such as a large import."""
        if self._over is not None and not self._over.is_set():
            raise LinkLost(f"{self._host}: the last attempt to connect is still under way")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[socket.socket] = loop.create_future()
        over = threading.Event()
        args = (loop, answer, over, time.monotonic() + timeout_s, prepare)
        threading.Thread(target=self._work, args=args, name="skerry-dial", daemon=True).start()
        self._over = over
        try:
            done, _ = await asyncio.wait({answer}, timeout=timeout_s)
        except asyncio.CancelledError:
            _abandon(answer)
            raise
        if not done:
            _abandon(answer)
            raise LinkLost(f"{self._host}:{self._port}: no connection within {timeout_s:g} s")
        return answer.result()

    def remember(self, sock: socket.socket) -> bool:
        """Let the next handshake resume the session of this connection, which has been read from: half the bytes and no
        signatures (RFC 8446, 2.2). Gives whether this one was resumed."""
        self._session = getattr(sock, "session", None)
        return bool(getattr(sock, "session_reused", False))

    def _work(
        self,
        loop: asyncio.AbstractEventLoop,
        answer: asyncio.Future[socket.socket],
        over: threading.Event,
        deadline: float,
        prepare: Callable[[], object] | None,
    ) -> None:
        outcome: socket.socket | LinkLost
        try:
            if prepare is not None:
                prepare()
            outcome = self._open(deadline)
        except LinkLost as lost:
            outcome = lost
        except Exception as problem:  # a broken resolver module, an impossible name: all of it is a lost link
            outcome = LinkLost(f"{self._host}:{self._port}: {problem}")
        over.set()  # before the answer: who has it may dial again at once
        try:
            loop.call_soon_threadsafe(_hand_over, answer, outcome)
        except RuntimeError:  # the loop is closed: nobody waits any more
            if isinstance(outcome, socket.socket):
                outcome.close()

    def _open(self, deadline: float) -> socket.socket:
        found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        problem = LinkLost(f"{self._host}:{self._port}: no address answered in time")
        for number, (family, kind, protocol, _, address) in enumerate(found):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            try:
                if self._tls is None:
                    refuse_insecure(str(address[0]), self._insecure)
                sock = socket.socket(family, kind, protocol)
                with contextlib.ExitStack() as undo:
                    undo.callback(sock.close)
                    sock.settimeout(left / (len(found) - number))
                    sock.connect(address)
                    ready = self._secured(sock, deadline)
                    undo.pop_all()
                    return ready
            except (OSError, ConfigInvalid) as failed:
                problem = LinkLost(f"{self._host}:{self._port}: {failed}")
        raise problem

    def _secured(self, sock: socket.socket, deadline: float) -> socket.socket:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a PUBACK must not wait for a delayed ACK
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(ACK_TIMEOUT_S * 1000))
        if self._tls is not None:
            sock.settimeout(max(deadline - time.monotonic(), 0.001))
            session, self._session = self._session, None  # a peer that fails on it gets a full handshake next time
            sock = self._tls.wrap_socket(sock, server_hostname=self._host, session=session)
        sock.setblocking(False)
        return sock


def _hand_over(answer: asyncio.Future[socket.socket], outcome: socket.socket | LinkLost) -> None:
    if answer.done():
        if isinstance(outcome, socket.socket):
            outcome.close()
    elif isinstance(outcome, LinkLost):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)


def _abandon(answer: asyncio.Future[socket.socket]) -> None:
    """From now on whatever the worker brings is closed."""
    if answer.done():
        if not answer.cancelled() and answer.exception() is None:
            answer.result().close()
    else:
        answer.cancel()
