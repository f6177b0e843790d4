"""Starts the embedded API server on a data folder and stops it again: the one entry point of this package.

Decides the order: lock, keys, database, namespaces, listener, kubeconfig. Refuses to know signals and logging set-up.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from skerry_hub import folders, pki
from skerry_hub.http import Connections
from skerry_hub.limits import TLS_HANDSHAKE_S, TOP_BYTES_MAX
from skerry_hub.listener import ListenError, parse_listen

from . import credentials, events, kinds
from .api import Api
from .errors import DatabaseError, DataError, DataInUse
from .namespaces import NamespaceDrain, bootstrap
from .proxy import NodeProxy
from .status import ApiError
from .store import Store
from .top import Top
from .watch import Watchers

DATABASE = "api.db"


@dataclass(frozen=True)
class ServedAt:
    """Where the server listens, and the kubeconfig of its administrator."""

    url: str
    host: str
    port: int
    kubeconfig: Path


async def serve(
    data: Path, listen: str, *, ready: Callable[[ServedAt], None], stop: asyncio.Event, insecure: bool = False
) -> None:
    """Serves the Kubernetes API from `data` on `listen` (HOST:PORT, port 0 picks one) until `stop` is set.

    Writes `data/admin.kubeconfig` once it serves, then calls `ready`. Listens on loopback only unless `insecure`.
    Raises SkerryError (ConfigInvalid, ListenError, DataError, DataInUse, DatabaseError, PkiError): one line each.
    """
    host, port = parse_listen("--listen", listen, insecure)
    _make_folder(data)
    with _locked(data):
        found = await asyncio.get_running_loop().run_in_executor(None, credentials.prepare, data, host)
        store = Store(data / DATABASE, kinds.index_of)
        try:
            await _serve(data, host, port, found, store, ready, stop)
        finally:
            await store.close()


async def _serve(
    data: Path,
    host: str,
    port: int,
    found: credentials.Credentials,
    store: Store,
    ready: Callable[[ServedAt], None],
    stop: asyncio.Event,
) -> None:
    try:
        await bootstrap(store)
    except ApiError as why:
        raise DatabaseError(f"{data / DATABASE}: cannot be written: {why}") from None
    nodes = NodeProxy(store, credentials.node_context(data))
    figures = Top(store, lambda node: nodes.document(node, "/stats/summary", TOP_BYTES_MAX))
    connections = Connections(Api(store, Watchers(store), found.token, nodes, figures))
    loop = asyncio.get_running_loop()
    try:
        server = await loop.create_server(
            connections.new,
            host,
            port,
            ssl=credentials.tls_context(data),
            ssl_handshake_timeout=TLS_HANDSHAKE_S,
            backlog=1024,
        )
    except (OSError, OverflowError) as why:
        text = os.strerror(why.errno) if isinstance(why, OSError) and why.errno else str(why)
        raise ListenError(f"--listen: cannot listen on {host}:{port}: {text}") from None
    chores = [loop.create_task(NamespaceDrain(store).run()), loop.create_task(events.run(store))]
    try:
        real_port = server.sockets[0].getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        url = f"https://{shown}:{real_port}"
        pki.write_private(data / "admin.kubeconfig", credentials.kubeconfig(found, url))
        ready(ServedAt(url, host, real_port, data / "admin.kubeconfig"))
        await stop.wait()
    finally:
        server.close()
        await connections.close()
        for chore in chores:
            chore.cancel()
        await asyncio.gather(*chores, return_exceptions=True)


def _make_folder(data: Path) -> None:
    try:
        folders.private(data)
    except folders.FolderError as why:
        raise DataError(f"{why}: cannot be used as a data folder") from None


@contextlib.contextmanager
def _locked(data: Path) -> Iterator[None]:
    """Holds the folder for this process; the lock goes with the process, however it ends."""
    try:
        lock = os.open(data / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as why:
        raise DataError(f"{data / 'lock'}: {why.strerror}") from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DataInUse(f"{data}: another process serves this data folder") from None
        try:
            (data / "admin.kubeconfig").unlink(missing_ok=True)  # it says that the server serves
        except OSError as why:
            raise DataError(f"{data / 'admin.kubeconfig'}: {why.strerror}") from None
        yield
    finally:
        os.close(lock)
