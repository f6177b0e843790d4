"""The enrolment server's listener: HTTPS with a certificate that the devices' authority signs for it, in memory.

Decides how many connections there may be, in all and from one address, from the moment they are accepted: a handshake
counts too, and so does a peer that says nothing. Refuses to know what is served.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone

from skerry.limits import ENROL_BYTES_MAX
from skerry.ports import Clock, Entropy
from skerry_hub import pki, tls
from skerry_hub.enrolment.app import refusal
from skerry_hub.enrolment.authority import Authority, stale
from skerry_hub.http import App, Bounds, Connections
from skerry_hub.limits import (
    ENROL_ACCEPT_PAUSE_S,
    ENROL_ADDRESS_CONNECTIONS_MAX,
    ENROL_CONNECTION_S,
    ENROL_CONNECTIONS_MAX,
    OWN_LOOK_S,
    TLS_HANDSHAKE_S,
)
from skerry_hub.listener import ListenError, parse_listen

OPTION = "--enroll-listen"
BACKLOG = 128


class EnrolmentServer:
    """Use on the loop that serves. It listens from the beginning, and answers once `run` runs."""

    def __init__(
        self,
        listen: str,
        names: tuple[str, ...],
        authority: Authority,
        clock: Clock,
        entropy: Entropy,
        log: Callable[[str], None],
    ) -> None:
        """`listen` is HOST:PORT, port 0 any free one; `names` are the hosts and addresses that devices dial. Raises
        ConfigInvalid and ListenError, which name the option."""
        self._names, self._authority, self._clock, self._entropy, self._log = names, authority, clock, entropy, log
        host, port = parse_listen(OPTION, listen, insecure=True)  # TLS from the first byte, and nothing without a token
        self._sockets = _bound(host, port)
        self.port = int(self._sockets[0].getsockname()[1])
        self._pair, self._tls = self._certificate()
        self._connections: Connections | None = None
        self._counts: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self.turned_away = 0

    async def run(self, app: App) -> None:
        """Never returns; only a bug ends it."""
        bounds = Bounds(ENROL_CONNECTIONS_MAX, ENROL_BYTES_MAX, ENROL_CONNECTION_S)
        self._connections = Connections(app, bounds, refusal)
        loops = [asyncio.ensure_future(self._accept(one)) for one in self._sockets]
        loops.append(asyncio.ensure_future(self._renew()))
        try:
            await asyncio.gather(*loops)
        finally:
            for task in loops:
                task.cancel()
            await asyncio.gather(*loops, return_exceptions=True)

    async def close(self) -> None:
        """Raises nothing."""
        for one in self._sockets:
            one.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._connections is not None:
            await self._connections.close()

    @property
    def open(self) -> int:
        """Connections, those in their handshake among them."""
        return self._counts.total()

    # --- private ------------------------------------------------------------------------------------------------------

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, peer = await loop.sock_accept(listener)
            except OSError as why:  # no file descriptors, or a peer that is gone already
                self._log(f"enrolment: accept: {why.strerror}")
                await self._clock.sleep_until(self._clock.now() + ENROL_ACCEPT_PAUSE_S)
                continue
            address = str(peer[0])
            if self.open >= ENROL_CONNECTIONS_MAX or self._counts[address] >= ENROL_ADDRESS_CONNECTIONS_MAX:
                self.turned_away += 1
                sock.close()
                continue
            task = asyncio.ensure_future(self._shake(sock, self._admitted(address)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _shake(self, sock: socket.socket, ended: Callable[[], None]) -> None:
        """From accept to the end of the handshake; from there on the connection bounds itself."""
        connections = self._connections
        assert connections is not None
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connections.new(ended), sock, ssl=self._tls, ssl_handshake_timeout=TLS_HANDSHAKE_S
            )
        except BaseException as why:
            sock.close()
            ended()
            if not isinstance(why, (OSError, asyncio.TimeoutError)):  # not TLS, too slow, or gone
                raise

    def _admitted(self, address: str) -> Callable[[], None]:
        """Count one more connection; what is returned counts it no more, however often it is called."""
        self._counts[address] += 1
        over = False

        def ended() -> None:
            nonlocal over
            if not over:
                over = True
                self._counts[address] -= 1
                if not self._counts[address]:
                    del self._counts[address]

        return ended

    async def _renew(self) -> None:
        first, last = OWN_LOOK_S
        while True:
            await self._clock.sleep_until(self._clock.now() + first + (last - first) * self._entropy.uniform())
            if stale(self._pair.certificate, self._now()):
                self._pair, self._tls = self._certificate()

    def _certificate(self) -> tuple[pki.Pair, ssl.SSLContext]:
        pair = self._authority.server(self._names, self._now())
        return pair, tls.server_context(pair.certificate_pem, pair.key_pem)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.wall(), timezone.utc)


def _bound(host: str, port: int) -> list[socket.socket]:
    """A listening socket for each address of `host`, all with one port. Raises ListenError."""
    made: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            sock = socket.socket(family, kind, protocol)
            made.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((address[0], made[0].getsockname()[1] if len(made) > 1 else port, *address[2:]))
            sock.listen(BACKLOG)
            sock.setblocking(False)
    except OSError as why:
        for sock in made:
            with suppress(OSError):
                sock.close()
        text = os.strerror(why.errno) if why.errno and why.errno > 0 else str(why)
        raise ListenError(f"{OPTION}: cannot listen on {host}:{port}: {text}") from None
    return made
