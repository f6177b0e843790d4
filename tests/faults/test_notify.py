"""A real agent process and the socket of its service manager, with neither hub nor runtime."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PATIENCE_S = 60.0


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(PATIENCE_S)
        yield sock


@pytest.fixture
def agent(request: pytest.FixtureRequest, tmp_path: Path, manager: socket.socket) -> Iterator[subprocess.Popen[bytes]]:
    del manager  # is there first
    config = tmp_path / "config.toml"
    nobody = tmp_path / "nobody.sock"
    broker = "" if "unjoined" in request.node.name else 'broker = "mqtt://127.0.0.1:1"\n'
    config.write_text(
        f'node = "pi"\n{broker}data_dir = "{tmp_path}/data"\nrun_dir = "{tmp_path}/run"\n'
        f'log_dir = "{tmp_path}/logs"\ncontainerd_socket = "{nobody}"\njournal_bytes_max = 8388608\n'
    )
    env = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000"}
    argv = [sys.executable, "-m", "skerry.cli", "run", "--config", str(config)]
    process = subprocess.Popen(argv, env=env, stderr=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def test_it_is_ready_without_hub_and_runtime_is_fed_and_says_when_it_stops(
    manager: socket.socket, agent: subprocess.Popen[bytes]
) -> None:
    ready = manager.recv(4096).decode()
    assert ready.splitlines()[0] == "READY=1"
    assert "the runtime is away, the hub is away" in ready
    assert [manager.recv(4096) for _ in range(3)] == [b"WATCHDOG=1"] * 3
    agent.send_signal(signal.SIGTERM)
    said = b""
    while said != b"STOPPING=1":
        said = manager.recv(4096)
        assert said in (b"WATCHDOG=1", b"STOPPING=1")
    assert agent.wait(PATIENCE_S) == 0


def test_an_unjoined_agent_is_ready_and_says_that_it_has_no_hub(
    manager: socket.socket, agent: subprocess.Popen[bytes]
) -> None:
    ready = manager.recv(4096).decode()
    assert ready.splitlines()[0] == "READY=1"
    assert "no hub is set" in ready
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(PATIENCE_S) == 0
    assert agent.stderr is not None
    assert b"it is not enrolled and no broker is set, so it has no hub" in agent.stderr.read()
