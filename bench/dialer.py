"""A client of the API as small as one can be: `python -m bench.dialer KUBECONFIG WHAT …`, in the site's network.

One TLS connection and one upgrade for each exec (WebSocket, v5.channel.k8s.io) or port-forward (SPDY/3.1), one GET for
a log. Prints what it measured as JSON. Decides nothing about figures.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import http.client
import json
import os
import select
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode, urlsplit

import uvloop
from wsproto import events
from wsproto.connection import Connection, ConnectionType

from bench import streams
from skerry.wire import spdy
from skerry.world.mqtt_values import MqttOptions
from skerry_hub import tls
from skerry_hub.cloudhub.sessions import UP, topic
from skerry_hub.enrolment.authority import STEM
from skerry_hub.kube.config import Access, load, tls_context
from skerry_hub.mosquitto import hub_names

TIMEOUT_S = 120.0
READ_BYTES = 256 * 1024
SEND_BYTES = 64 * 1024
BARE, BARE_DEVICE, BARE_HUB = "bare", "bare-device", "bare-hub"  # a node, and the files of its two ends
CLONE_NEWNET = 0x40000000
BUSY_BYTES = 256 * 1024  # a stream that has brought so many is under way


class Upgraded:
    """A connection to `path`; RuntimeError with the answer unless its status is `expected`. `rest` is what followed the
    head."""

    def __init__(self, access: Access, tls: ssl.SSLContext | None, method: str, path: str, *headers: str) -> None:
        where = urlsplit(access.server)
        assert where.hostname is not None
        plain = socket.create_connection((where.hostname, where.port or 443), TIMEOUT_S)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock: Any = tls.wrap_socket(plain, server_hostname=where.hostname) if tls is not None else plain
        lines = [f"{method} {path} HTTP/1.1", f"Host: {where.netloc}", *headers]
        if access.token:
            lines.append(f"Authorization: Bearer {access.token}")
        self.sock.sendall("\r\n".join([*lines, "", ""]).encode())
        got = b""
        while b"\r\n\r\n" not in got:
            got += self._some(got)
        self.head, _, self.rest = got.partition(b"\r\n\r\n")
        if self.head.split()[1] not in (b"101", b"200"):
            raise RuntimeError(f"{path}: {got.decode(errors='replace')[:500]}")

    def _some(self, got: bytes) -> bytes:
        data: bytes = self.sock.recv(READ_BYTES)
        if not data:
            raise RuntimeError(f"the server ended: {got.decode(errors='replace')[:500]}")
        return data


class Dialer:
    def __init__(self, kubeconfig: Path) -> None:
        self._access = load(kubeconfig)
        self._tls = tls_context(self._access)

    # --- exec ---------------------------------------------------------------------------------------------------------

    def exec(self, pod: str, container: str, count: int) -> list[float]:
        """Seconds of each round trip of `true`: from the dialling until its exit status is here."""
        return [self._true(pod, container) for _ in range(count)]

    def _true(self, pod: str, container: str) -> float:
        began = time.perf_counter()
        query = urlencode({"container": container, "command": "true", "stdout": 1, "stderr": 1})
        path = f"/api/v1/namespaces/default/pods/{pod}/exec?{query}"
        key = base64.b64encode(os.urandom(16)).decode()
        upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
        more = (f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Protocol: v5.channel.k8s.io")
        made = Upgraded(self._access, self._tls, "GET", path, *upgrade, *more)
        ws, data = Connection(ConnectionType.CLIENT), made.rest
        while True:
            ws.receive_data(data)
            for event in ws.events():
                if isinstance(event, events.BytesMessage) and event.data[:1] == b"\x03":
                    took = time.perf_counter() - began
                    assert json.loads(event.data[1:])["status"] == "Success", event.data
                    with contextlib.suppress(OSError):
                        made.sock.sendall(ws.send(events.CloseConnection(code=1000)))
                        made.sock.close()
                    return took
            data = made._some(b"")

    # --- port-forward -------------------------------------------------------------------------------------------------

    def down(self, pod: str, port: int, size: int) -> float:
        """MB/s of `size` bytes that the pod sends at once and then ends."""
        began = time.perf_counter()
        got = sum(len(data) for data in self._forward(pod, port, 0))
        assert got >= size, got
        return got / (time.perf_counter() - began) / 1e6

    def up(self, pod: str, port: int, size: int, whole: str) -> float:
        """MB/s of `size` bytes, sent and half-closed, until the pod has said `whole`."""
        began = time.perf_counter()
        told = b"".join(self._forward(pod, port, size)).split()
        assert whole.encode() in told, told
        return size / (time.perf_counter() - began) / 1e6

    def _forward(self, pod: str, port: int, send: int) -> Any:
        """Pieces that the pod sends, until its end; meanwhile `send` zero bytes go there, then a half-close."""
        path = f"/api/v1/namespaces/default/pods/{pod}/portforward"
        headers = ("Connection: Upgrade", "Upgrade: SPDY/3.1", "X-Stream-Protocol-Version: portforward.k8s.io")
        made = Upgraded(self._access, self._tls, "POST", path, *headers, "Content-Length: 0")
        session = spdy.Connection(spdy.Role.CLIENT)
        common = (("port", str(port)), ("requestid", "0"))
        error = session.open((("streamtype", "error"), *common), fin=True)
        data = session.open((("streamtype", "data"), *common))
        made.sock.sendall(session.take())
        feed, got = b"", made.rest or made.sock.recv(READ_BYTES)
        left = send if send else -1  # bytes to send before the half-close; none of it before the stream is taken
        made.sock.setblocking(False)
        while got:
            for event in session.receive(got):
                if isinstance(event, spdy.SynReply) and event.stream == data and left == send:
                    feed, left = self._frame(data, left)
                if isinstance(event, spdy.Data):
                    if event.stream == error and event.data:
                        raise RuntimeError(event.data.decode())
                    if event.stream == data:
                        yield event.data
                        if event.fin:
                            made.sock.close()
                            return
            got = b""
            while not got:  # one thread for both ways: an SSL socket is not made for two
                ready, room, _ = select.select([made.sock], [made.sock] if feed else [], [], TIMEOUT_S)
                if not (ready or room):
                    raise TimeoutError(f"{left} bytes were left to send")
                with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    feed = feed[made.sock.send(feed) :] if feed else feed
                if not feed and left > 0:
                    feed, left = self._frame(data, left)
                try:
                    got = made.sock.recv(READ_BYTES)
                    if not got:
                        return
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    continue

    @staticmethod
    def _frame(stream: int, left: int) -> tuple[bytes, int]:
        """The next frame of `left` zero bytes, and how many are left after it; the last one half-closes."""
        size = min(left, SEND_BYTES)
        return b"".join(spdy.encode_data(stream, bytes(size), size == left)), left - size

    def saturate(self, pod: str, port: int, count: int, stop: str) -> list[float]:
        """`count` endless downloads until there is a file `stop`; says `busy` once all are under way. MB/s of each."""
        got = [0] * count

        def one(number: int) -> None:
            for data in self._forward(pod, port, 0):
                got[number] += len(data)

        for number in range(count):  # one after the other: the pod's server has room for two that wait
            threading.Thread(target=one, args=(number,), daemon=True).start()
            deadline = time.monotonic() + TIMEOUT_S
            while got[number] < BUSY_BYTES:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"stream {number} brought {got} bytes")
                time.sleep(0.02)
        print("busy", flush=True)
        began, first = time.perf_counter(), list(got)
        while not Path(stop).exists():
            time.sleep(0.05)
        took = time.perf_counter() - began
        return [(now - before) / took / 1e6 for now, before in zip(got, first, strict=True)]

    # --- logs ---------------------------------------------------------------------------------------------------------

    def logs(self, pod: str, container: str, lines: int) -> float:
        """Lines per second of a followed log, from the request until `lines` are here."""
        began, where = time.perf_counter(), urlsplit(self._access.server)
        path = f"/api/v1/namespaces/default/pods/{pod}/log?{urlencode({'container': container, 'follow': 'true'})}"
        assert where.hostname is not None
        connection = http.client.HTTPSConnection(where.hostname, where.port, timeout=TIMEOUT_S, context=self._tls)
        connection.request("GET", path)
        answer, seen = connection.getresponse(), 0
        assert answer.status == 200, answer.read()
        while seen < lines:
            data = answer.read1(READ_BYTES)
            assert data, f"the log ended after {seen} lines"
            seen += data.count(b"\n")
        return lines / (time.perf_counter() - began)


async def bare(trust: Path, host: str, port: int, board: int, size: int) -> float:
    """MB/s of bare publishes through the fleet's broker: what a device of the name `BARE` says to a hub of that name,
    over the same TLS as everybody's. The device is in the network of the process `board`."""

    def options(stem: str, name: str, at: str) -> MqttOptions:
        authority, *pair = (trust / f"{STEM}.crt", trust / f"{stem}.crt", trust / f"{stem}.key")
        context = tls.client_context(authority.read_bytes(), pair[0].read_bytes(), pair[1].read_bytes())
        return MqttOptions(at, port, name, context)

    reader, writer = options(BARE_HUB, hub_names(BARE)[0], "127.0.0.1"), options(BARE_DEVICE, BARE, host)
    return await streams.published(reader, writer, topic(BARE, UP), size, lambda: network_of(board))


@contextlib.contextmanager
def network_of(process: int) -> Iterator[None]:
    """What this thread opens meanwhile, or a thread that it starts, is in the network of another process: setns(2)."""
    libc = ctypes.CDLL(None, use_errno=True)

    def enter(network: IO[str]) -> None:
        if libc.setns(network.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns: {network.name}")

    with Path("/proc/self/ns/net").open() as own, Path(f"/proc/{process}/ns/net").open() as other:
        enter(other)
        try:
            yield
        finally:
            enter(own)


def main() -> int:
    kubeconfig, what, *rest = sys.argv[1:]
    if what == "bare":
        trust, host, *numbers = rest
        print(json.dumps(uvloop.run(bare(Path(trust), host, *map(int, numbers)))))
        return 0
    dialer, args = Dialer(Path(kubeconfig)), [int(a) if a.isdigit() else a for a in rest]
    print(json.dumps(getattr(dialer, what)(*args)), flush=True)
    os._exit(0)  # threads that still read are of no interest


if __name__ == "__main__":
    sys.exit(main())
