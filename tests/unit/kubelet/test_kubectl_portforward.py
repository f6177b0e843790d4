"""`kubectl port-forward` of every version that is here: SPDY up to 1.30, SPDY inside a WebSocket from 1.31."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from unit.apiserver.serving import Client
from unit.kubelet.clients import DEADLINE_S, FOUND, Kubectl
from unit.kubelet.site import Site
from unit.kubelet.test_kubectl_logs import until

pytestmark = pytest.mark.skipif(not FOUND, reason="no kubectl here")


@pytest.fixture(params=list(FOUND.values()), ids=list(FOUND))
def kubectl(request: pytest.FixtureRequest, cluster: Client, home: Path, site: Site) -> Kubectl:
    return Kubectl(request.param, cluster.at.kubeconfig, home)


@contextlib.contextmanager
def echo_server() -> Iterator[int]:
    """Sends back all that it got, once the client has half-closed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer(peer: socket.socket) -> None:
            with peer:
                got = bytearray()
                while data := peer.recv(1 << 20):
                    got += data
                with contextlib.suppress(OSError):
                    peer.sendall(got)

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def forwarding(kubectl: Kubectl, port: int) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """kubectl's local port."""
    with kubectl.start("port-forward", "web", f":{port}") as running:
        assert running.stdout is not None
        line = running.stdout.readline().decode()
        assert line.startswith("Forwarding from 127.0.0.1:"), line
        try:
            yield int(line.split("127.0.0.1:")[1].split()[0]), running
        finally:
            running.terminate()


def talk(port: int, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as wire:

        def send() -> None:
            wire.sendall(data)
            wire.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        got = bytearray()
        while part := wire.recv(1 << 20):
            got += part
        sender.join()
        return bytes(got)


def test_fifty_megabytes_go_there_and_back(kubectl: Kubectl, site: Site) -> None:
    data = os.urandom(5_000_000) * 10
    with echo_server() as port, forwarding(kubectl, port) as (local, _):
        assert hashlib.md5(talk(local, data)).digest() == hashlib.md5(data).digest()
    until(lambda: not site.streams.now)


def test_several_connections_at_once_and_one_after_the_other(kubectl: Kubectl, site: Site) -> None:
    words = [f"word {n} ".encode() * 20_000 for n in range(8)]
    with echo_server() as port, forwarding(kubectl, port) as (local, _):
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(lambda word: talk(local, word), words)) == words
        assert talk(local, b"again") == b"again"
        assert len(site.streams.opened) == 9
    until(lambda: not site.streams.now)


def test_a_port_where_nobody_listens_is_told(kubectl: Kubectl) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with forwarding(kubectl, port) as (local, running):
        with contextlib.suppress(OSError):
            assert talk(local, b"hello") == b""
        running.terminate()
        assert running.stderr is not None
        said = running.stderr.read().decode()
    assert (
        f"error forwarding port {port} to pod web, uid : dial tcp4 127.0.0.1:{port}: connect: connection refused"
        in said
    )


def test_a_client_that_goes_leaves_nothing_behind(kubectl: Kubectl, site: Site) -> None:
    with echo_server() as port, forwarding(kubectl, port) as (local, running):
        with socket.create_connection(("127.0.0.1", local)) as wire:
            wire.sendall(b"half a word")
            until(lambda: bool(site.streams.now))
            running.kill()
        until(lambda: not site.streams.now)


def test_a_pod_that_is_not_there_is_told(kubectl: Kubectl) -> None:
    done = kubectl.run("port-forward", "none", ":80")
    assert done.returncode == 1
    assert 'pods "none" not found' in done.stderr.decode()
