"""The listeners: one port per node, all with one certificate. Decides which node has which port, the same after a
restart. Refuses to know what is served.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import zlib
from collections.abc import Callable, Set
from dataclasses import dataclass

from skerry.errors import ConfigInvalid, SkerryError
from skerry_hub.http import Connections, Reply, Request
from skerry_hub.kubelet.app import NodeEndpoint, Parts
from skerry_hub.limits import TLS_HANDSHAKE_S

BACKLOG = 128
Shown = Callable[[str], int | None]  # the port that a node's status names


class EndpointError(SkerryError):
    """No port could be had."""


@dataclass(frozen=True, slots=True)
class ServingKeys:
    """PEM texts: what the endpoint shows, and the authorities whose client certificates it believes."""

    certificate: str
    key: str
    client_authorities: str


def serving_context(keys: ServingKeys) -> ssl.SSLContext:
    """TLS of the listeners: client certificates are asked for, not demanded, for there are tokens too. Raises
    ConfigInvalid."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_OPTIONAL
    context.num_tickets = 0  # a session that is resumed brings its client along, whoever is believed by then
    context.set_alpn_protocols(["http/1.1"])
    _load(context, keys)
    try:
        if keys.client_authorities:
            context.load_verify_locations(cadata=keys.client_authorities)
    except (ssl.SSLError, ValueError) as why:
        raise ConfigInvalid("kubelet client authorities", f"cannot be used: {why}") from None
    return context


def _load(context: ssl.SSLContext, keys: ServingKeys) -> None:
    try:
        with os.fdopen(os.memfd_create("kubelet", os.MFD_CLOEXEC), "w") as file:  # the key lies in no folder
            file.write(f"{keys.certificate.rstrip()}\n{keys.key}")
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
    except (ssl.SSLError, OSError, ValueError) as why:
        raise ConfigInvalid("kubelet certificate", f"cannot be used: {why}") from None


class KubeletEndpoints:
    """Use on the loop that serves. `endpoint_of` is what the edge controller asks."""

    def __init__(
        self,
        parts: Parts,
        keys: ServingKeys,
        *,
        listen: str,
        advertise: str,
        ports: tuple[int, int],
        shown: Shown,
        log: Callable[[str], None] = lambda _line: None,
    ) -> None:
        """`listen` is an address of this host, `advertise` the one that nodes show; `ports` first and last. Raises
        ConfigInvalid."""
        self._parts, self._listen, self._advertise, self._shown, self._log = parts, listen, advertise, shown, log
        self._first, self._count = ports[0], ports[1] - ports[0] + 1
        self._keys, self._tls = keys, serving_context(keys)
        self._shown_tls = self._tls
        self._tls.sni_callback = self._choose
        self._connections = Connections(_nowhere)
        self._ports: dict[str, int] = {}
        self._servers: dict[str, asyncio.Server] = {}
        self._starting: dict[asyncio.Task[None], socket.socket] = {}

    def endpoint_of(self, node: str) -> tuple[str, int] | None:
        """Address and port of a node; from then on it is served there. None, and a line in the log, when no port can be
        had; the next call tries again."""
        if node not in self._ports:
            try:
                listener, port = self._bind(node)
            except EndpointError as why:
                self._log(f"{why}")
                return None
            self._ports[node] = port
            task = asyncio.ensure_future(self._start(node, port, listener))
            self._starting[task] = listener
            task.add_done_callback(self._started)
        return self._advertise, self._ports[node]

    @property
    def keys(self) -> ServingKeys:
        """What is shown and believed now."""
        return self._keys

    def renew(self, keys: ServingKeys) -> None:
        """Another certificate or other client authorities, for connections from now on. Raises ConfigInvalid and
        changes nothing."""
        self._shown_tls = serving_context(keys)
        self._keys = keys

    def retain(self, nodes: Set[str]) -> None:
        """Only these are served here from now on."""
        for node in self._ports.keys() - nodes:
            self.forget(node)

    def forget(self, node: str) -> None:
        """The node is served elsewhere, or is no more. Streams that are open go on."""
        self._ports.pop(node, None)
        server = self._servers.pop(node, None)
        if server is not None:
            server.close()

    def snapshot(self) -> dict[str, int]:
        """Counters of this moment."""
        open_now = len(self._connections.open)
        return {**self._parts.counts.snapshot(), "nodes": len(self._ports), "connections": open_now}

    async def close(self) -> None:
        """Ends everything. Raises nothing."""
        for task in list(self._starting):
            task.cancel()
        await asyncio.gather(*self._starting, return_exceptions=True)
        for server in self._servers.values():
            server.close()
        await self._connections.close()

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _listener: ssl.SSLContext) -> None:
        """Asked in every handshake, with a server name or without. A context that listeners use cannot be changed in
        one step: a key that does not fit would leave it without any, and an authority cannot be taken out of it."""
        connection.context = self._shown_tls

    def _bind(self, node: str) -> tuple[socket.socket, int]:
        """A listening socket at the port that the node had, or at one that follows from its name, or at the next."""
        taken = set(self._ports.values())
        start = zlib.crc32(node.encode()) % self._count
        known = self._shown(node)
        wanted = [known] if known is not None and self._first <= known < self._first + self._count else []
        wanted += [self._first + (start + step) % self._count for step in range(self._count)]
        for port in wanted:
            if port in taken:
                continue
            family = socket.AF_INET6 if ":" in self._listen else socket.AF_INET
            listener = socket.socket(family, socket.SOCK_STREAM)
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((self._listen, port))
                listener.listen(BACKLOG)
                listener.setblocking(False)
            except OSError as why:
                listener.close()
                if why.errno in (errno.EADDRINUSE, errno.EACCES):
                    continue
                raise EndpointError(f"kubelet endpoint: {self._listen}:{port}: {why.strerror}") from None
            return listener, port
        last = self._first + self._count - 1
        raise EndpointError(f"kubelet endpoint: no port from {self._first} to {last} is free for node {node}")

    def _started(self, task: asyncio.Task[None]) -> None:
        listener = self._starting.pop(task)
        if task.cancelled() or task.exception() is not None:
            listener.close()

    async def _start(self, node: str, port: int, listener: socket.socket) -> None:
        factory = self._connections.serving(NodeEndpoint(node, self._parts))
        server = await asyncio.get_running_loop().create_server(
            factory, sock=listener, ssl=self._tls, ssl_handshake_timeout=TLS_HANDSHAKE_S
        )
        if self._ports.get(node) == port:
            self._servers[node] = server
        else:  # forgotten meanwhile, and perhaps bound again elsewhere
            server.close()


async def _nowhere(_request: Request, reply: Reply) -> None:
    """Connections without a node of their own; there are none."""
    reply.abort()
