"""The three ways to see a fleet, as processes on real parts: a hub's metrics, a device's metrics, the page's URL."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.broker import MOSQUITTO, Broker, free_port
from skerry import metrics as device
from skerry_hub import metrics as hub
from skerry_hub.boot import read_snapshot
from skerry_hub.cli import main
from unit.apiserver.serving import Client, running
from unit.prometheus import Found, read

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
WAIT_S = 60.0


def until(condition: Callable[[], Any], explain: Callable[[], str]) -> Any:
    deadline = time.monotonic() + WAIT_S
    while not (found := condition()):
        assert time.monotonic() < deadline, explain()
        time.sleep(0.05)
    return found


class Processes:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.all: list[subprocess.Popen[bytes]] = []

    def start(self, *argv: str) -> Path:
        """Its output, both kinds."""
        out = self.folder / f"{len(self.all)}.log"
        with out.open("wb") as log:
            self.all.append(subprocess.Popen([sys.executable, "-m", *argv], stdout=log, stderr=log))
        return out

    def stop(self) -> None:
        for one in self.all:
            one.terminate()
        for one in self.all:
            one.wait(30)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    found = Processes(tmp_path)
    yield found
    found.stop()


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Client]:
    with running(tmp_path / "api") as client:
        yield client


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    (tmp_path / "broker").mkdir()
    found = Broker(tmp_path / "broker")
    yield found
    found.stop()


def said(log: Path, word: str) -> str:
    """The first word of a process's output that begins so."""
    return next((w for w in log.read_text().split() if w.startswith(word)), "")


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=30) as reply:
        body: bytes = reply.read()
        return body


def test_a_hub_and_its_page(api: Client, broker: Broker, processes: Processes, tmp_path: Path) -> None:
    config, url = str(api.at.kubeconfig), f"mqtt://127.0.0.1:{broker.port}"
    assert main(["join", "pi", "--kubeconfig", config, "--broker", url]) == 0
    socket = tmp_path / "hub.sock"
    run = processes.start(
        "skerry_hub.cli", "run", "--kubeconfig", config, "--broker", url, "--status-socket", str(socket),
        "--metrics-listen", "127.0.0.1:0",
    )  # fmt: skip
    where = until(lambda: said(run, "http://"), run.read_text)

    def scrape() -> Found:
        return read(fetch(where), hub.METRICS)

    until(lambda: scrape()["skerry_hub_devices"] == {(): 1}, run.read_text)
    found = scrape()
    assert found["skerry_hub_device_live"] == {("pi",): 0}
    assert found["skerry_hub_api_requests_total"][("list", "200")] >= 4
    away = {"skerry_hub_device_drift", "skerry_hub_device_outbox_age_seconds"}  # of a device that is there only
    missing = {m.name for m in hub.METRICS} - set(found) - away
    absent = ("skerry_hub_endpoint_", "skerry_hub_enrolment", "skerry_hub_certificate")
    assert all(name.startswith(absent) for name in missing), "this hub has no endpoint and enrols nobody"
    ui = processes.start("skerry_hub.cli", "ui", "--kubeconfig", config, "--socket", str(socket))
    page = until(lambda: said(ui, "http://"), ui.read_text)
    assert b"<title>Fleet" in fetch(page)
    with urllib.request.urlopen(page.replace("/?", "/events?"), timeout=WAIT_S) as events:
        row = until(lambda: _row(events.readline()), ui.read_text)
        assert (row["name"], row["state"]) == ("pi", "new")
        until(lambda: (_row(events.readline()) or {}).get("received") == 0, ui.read_text)


def test_a_hub_that_asks_the_cluster_for_its_certificate(
    api: Client, broker: Broker, processes: Processes, tmp_path: Path
) -> None:
    """Until somebody approves and signs it, it says so and serves with its own."""
    config, url = str(api.at.kubeconfig), f"mqtt://127.0.0.1:{broker.port}"
    assert main(["join", "pi", "--kubeconfig", config, "--broker", url]) == 0
    run = processes.start(
        "skerry_hub.cli", "run", "--kubeconfig", config, "--broker", url, "--kubelet-server-tls-bootstrap",
        "--kubelet-client-ca", str(api.data / "ca.crt"), "--status-socket", str(tmp_path / "hub.sock"),
    )  # fmt: skip
    until(lambda: "waits for an administrator: kubectl certificate approve" in run.read_text(), run.read_text)
    until(lambda: "ready, 1 devices" in run.read_text(), run.read_text)
    until(lambda: read_snapshot(tmp_path / "hub.sock")["kubelet"]["nodes"] == 1, run.read_text)


def _row(line: bytes) -> dict[str, Any] | None:
    """The first row that an event puts."""
    put = json.loads(line[6:]).get("put") if line.startswith(b"data: ") else None
    return put[0] if put else None


def test_a_device(broker: Broker, processes: Processes, tmp_path: Path) -> None:
    """It tells of itself while its runtime and its hub are away, and what the loss of the broker is."""
    port = free_port()
    config = tmp_path / "config.toml"
    keys = {
        "node": "pi",
        "broker": f"mqtt://127.0.0.1:{broker.port}",
        "metrics_listen": f"127.0.0.1:{port}",
        "containerd_socket": str(tmp_path / "none.sock"),
        **{f"{name}_dir": str(tmp_path / name) for name in ("data", "run", "log", "manifests")},
    }
    config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in keys.items()))
    log = processes.start("skerry.cli", "run", "--config", str(config))
    until(lambda: said(log, "http://"), log.read_text)

    def scrape() -> Found:
        return read(fetch(f"http://127.0.0.1:{port}/metrics"), device.METRICS)

    until(lambda: scrape()["skerry_link_connects_total"][()] == 1, log.read_text)
    found = scrape()
    assert set(found) == {m.name for m in device.METRICS} - {"skerry_certificate_end_seconds"}  # it is not enrolled
    assert (found["skerry_session_live"], found["skerry_runtime_up"]) == ({(): 0}, {(): 0})
    assert found["skerry_journal_written_bytes_total"][()] > 0
    broker.stop()
    until(lambda: scrape()["skerry_link_losses_total"][()] >= 1, log.read_text)
