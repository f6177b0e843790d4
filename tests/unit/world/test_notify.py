"""sd_notify on both kinds of socket, and whose watchdog it is."""

from __future__ import annotations

import os
import socket
import uuid
from pathlib import Path

import pytest

from skerry.world.notify import Supervisor

ME = str(os.getpid())


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_a_message_reaches_the_service_manager(tmp_path: Path, kind: str) -> None:
    name = f"@skerry-{uuid.uuid4()}" if kind == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:] if kind == "abstract" else name)
        manager.settimeout(2)
        Supervisor(name).notify("READY=1\nSTATUS=five pods")
        assert manager.recv(100) == b"READY=1\nSTATUS=five pods"


def test_a_message_never_waits_and_never_fails(tmp_path: Path) -> None:
    Supervisor().notify("WATCHDOG=1")
    Supervisor(str(tmp_path / "nobody")).notify("WATCHDOG=1")
    name = str(tmp_path / "full")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name)
        for _ in range(2_000):  # far more than the queue of a socket that nobody reads
            Supervisor(name).notify("WATCHDOG=1")


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ({}, 0.0),
        ({"WATCHDOG_USEC": "90000000"}, 90.0),
        ({"WATCHDOG_USEC": "90000000", "WATCHDOG_PID": ME}, 90.0),
        ({"WATCHDOG_USEC": "90000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
        ({"WATCHDOG_USEC": "-5"}, 0.0),
        ({"WATCHDOG_USEC": "²"}, 0.0),
        ({"WATCHDOG_USEC": "90000000", "NOTIFY_SOCKET": ""}, 0.0),
    ],
)
def test_a_watchdog_counts_when_it_is_meant_for_this_process(said: dict[str, str], seconds: float) -> None:
    manager = Supervisor.of_environment({"NOTIFY_SOCKET": "/run/notify", **said})
    assert manager.watchdog_s == seconds
