"""Where the hub's own listeners may be, and the plain ones beside its API. Decides nothing about what is served.

Loopback only, unless the operator says `--insecure`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass

from skerry.errors import ConfigInvalid, SkerryError
from skerry_hub.http import App, Connections, Reply, Request

TEXT = ("content-type", "text/plain; charset=utf-8")
PORT_MAX = 65_535


class ListenError(SkerryError):
    """An address cannot be listened on: nobody knows it, or it is taken."""


def parse_listen(option: str, text: str, insecure: bool) -> tuple[str, int]:
    """HOST and PORT of `HOST:PORT` or `[V6]:PORT`; port 0 is any free one. Raises ConfigInvalid, also for other than
    loopback unless `insecure`, and ListenError for a name that nobody knows now."""
    host, colon, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > PORT_MAX:
        raise ConfigInvalid(option, f"{text!r} is not HOST:PORT with a port from 0 to {PORT_MAX}")
    try:
        addresses = {info[4][0] for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        raise ListenError(f"{option}: {text!r}: no such host") from None
    loopback = all(ipaddress.ip_address(str(a).partition("%")[0]).is_loopback for a in addresses)
    if not loopback and not insecure:
        raise ConfigInvalid(option, f"{text!r} is not a loopback address; others need --insecure")
    return host, int(port)


@dataclass(frozen=True, slots=True)
class Listener:
    """A server that listens; `close` ends its connections too."""

    url: str
    server: asyncio.Server
    connections: Connections

    async def close(self) -> None:
        self.server.close()
        await self.connections.close()


async def listen(option: str, text: str, insecure: bool, app: App) -> Listener:
    """Serve `app`. Raises ConfigInvalid and ListenError, which name the option."""
    host, port = parse_listen(option, text, insecure)
    connections = Connections(app)
    try:
        server = await asyncio.get_running_loop().create_server(connections.new, host, port)
    except OSError as why:
        text = os.strerror(why.errno) if why.errno else str(why)
        raise ListenError(f"{option}: cannot listen on {host}:{port}: {text}") from None
    at = server.sockets[0].getsockname()[1]
    return Listener(f"http://{f'[{host}]' if ':' in host else host}:{at}", server, connections)


def metrics_app(text: Callable[[], bytes], content_type: str) -> App:
    """GET /metrics and nothing else; `text` is made anew for each request."""

    async def app(request: Request, reply: Reply) -> None:
        if request.path != "/metrics":
            reply.send(404, [TEXT], b"there is only /metrics\n")
        elif request.method not in ("GET", "HEAD"):
            reply.send(405, [TEXT, ("allow", "GET, HEAD")], b"only GET\n")
        else:
            reply.send(200, [("content-type", content_type)], text())

    return app
