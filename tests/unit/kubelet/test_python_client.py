"""The Python client of Kubernetes: exec and port-forward by the channels of a WebSocket, through the API."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from kubernetes import client, config, stream

from unit.apiserver.serving import Client
from unit.kubelet.clients import DEADLINE_S
from unit.kubelet.site import Site
from unit.kubelet.test_kubectl_logs import until


@pytest.fixture
def core(cluster: Client, site: Site) -> client.CoreV1Api:
    made = config.new_client_from_config(str(cluster.at.kubeconfig))  # type: ignore[no-untyped-call]
    return client.CoreV1Api(made)


@contextlib.contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve_one(peer: socket.socket) -> None:
            with peer, contextlib.suppress(OSError):
                answer(peer)

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=serve_one, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def everything(wire: socket.socket) -> bytes:
    wire.setblocking(True)
    wire.settimeout(DEADLINE_S)
    got = bytearray()
    while part := wire.recv(1 << 20):
        got += part
    return bytes(got)


def exactly(wire: socket.socket, size: int) -> bytes:
    got = bytearray()
    while len(got) < size and (part := wire.recv(1 << 20)):
        got += part
    return bytes(got)


def echo(peer: socket.socket) -> None:
    while data := peer.recv(1 << 16):
        peer.sendall(data)


def test_bytes_go_there_and_back_on_two_ports_at_once(core: client.CoreV1Api, site: Site) -> None:
    data = os.urandom(1_000_000)
    with server(echo) as one, server(echo) as two:
        forward = stream.portforward(
            core.connect_get_namespaced_pod_portforward, "web", "default", ports=f"{one},{two}"
        )
        wires = [forward.socket(port) for port in (one, two)]
        for wire in wires:
            wire.settimeout(DEADLINE_S)
        with ThreadPoolExecutor(2 * len(wires)) as threads:
            sent = [threads.submit(wire.sendall, data) for wire in wires]
            # Both at once: the client's one thread waits for whoever does not read, and then moves neither port.
            got = [threads.submit(exactly, wire, len(data)) for wire in wires]
            assert [part.result() == data for part in got] == [True, True]
            assert [part.result() for part in sent] == [None, None]
        assert [forward.error(port) for port in (one, two)] == [None, None]
        forward.close()
        until(lambda: not site.streams.now)


def test_the_end_of_a_long_answer_is_not_lost(core: client.CoreV1Api, site: Site) -> None:
    data = os.urandom(20_000_000)
    with server(lambda peer: peer.sendall(data)) as port:
        forward = stream.portforward(core.connect_get_namespaced_pod_portforward, "web", "default", ports=str(port))
        assert hashlib.md5(everything(forward.socket(port))).digest() == hashlib.md5(data).digest()
        until(lambda: not site.streams.now)


def test_a_port_where_nobody_listens_is_told(core: client.CoreV1Api) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    forward = stream.portforward(core.connect_get_namespaced_pod_portforward, "web", "default", ports=str(port))
    assert everything(forward.socket(port)) == b""
    refused = f"dial tcp4 127.0.0.1:{port}: connect: connection refused"
    assert forward.error(port) == f"error forwarding port {port} to pod web, uid : {refused}"


def test_exec_tells_output_and_exit_code(core: client.CoreV1Api, site: Site) -> None:
    script = ["sh", "-c", "read line; echo out $line; echo err >&2; exit 3"]
    ran = stream.stream(
        core.connect_get_namespaced_pod_exec, "web", "default", command=script,
        stdin=True, stdout=True, stderr=True, tty=False, _preload_content=False,
    )  # fmt: skip
    ran.write_stdin("word\n")
    ran.run_forever(timeout=DEADLINE_S)
    assert (ran.read_stdout(), ran.read_stderr(), ran.returncode) == ("out word\n", "err\n", 3)
    until(lambda: not site.streams.now)
