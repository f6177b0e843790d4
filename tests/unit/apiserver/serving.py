"""A whole API server for tests: its own thread, its own loop, a folder that goes away."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import queue
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from skerry_hub.apiserver.serve import ServedAt, serve

READY_S = 20.0


class Client:
    """An administrator of one server, over plain http.client."""

    def __init__(self, at: ServedAt, data: Path) -> None:
        self.at, self.data = at, data
        self.token = (data / "admin.token").read_text().strip()
        self.tls = ssl.create_default_context(cafile=str(data / "ca.crt"))

    def connect(self, timeout: float = 20.0) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self.at.host, self.at.port, timeout=timeout, context=self.tls)

    def open(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[http.client.HTTPSConnection, http.client.HTTPResponse]:
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        sent = {"Authorization": f"Bearer {self.token}", "Content-Type": kind, **(headers or {})}
        connection = self.connect()
        raw = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        connection.request(method, path, raw, sent)
        return connection, connection.getresponse()

    def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        connection, reply = self.open(method, path, body, headers)
        try:
            raw = reply.read()
            return reply.status, json.loads(raw) if raw[:1] == b"{" else {"text": raw.decode()}
        finally:
            connection.close()


@contextlib.contextmanager
def running(data: Path, listen: str = "127.0.0.1:0", insecure: bool = False) -> Iterator[Client]:
    """A server on `data` while the block runs; what `serve` raises is raised here."""
    said: queue.Queue[ServedAt | BaseException] = queue.Queue()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    def main() -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(serve(data, listen, ready=said.put, stop=stop, insecure=insecure))
        except BaseException as why:
            said.put(why)
        finally:
            loop.close()

    thread = threading.Thread(target=main, name="apiserver")
    thread.start()
    try:
        first = said.get(timeout=READY_S)
        if isinstance(first, BaseException):
            raise first
        yield Client(first, data)
    finally:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(stop.set)
        thread.join(READY_S)
        assert not thread.is_alive(), "the server did not stop"
