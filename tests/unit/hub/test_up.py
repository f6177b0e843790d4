"""`skerry-hub up` as a process: comes up, keeps its children running, and leaves nothing behind however it ends."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.broker import MOSQUITTO, free_port
from skerry_hub.boot import with_cluster
from skerry_hub.cli import main
from skerry_hub.enrolment import tokens
from skerry_hub.enrolment.records import NAMESPACE, Identity, identity_secret
from skerry_hub.ports import SECRETS, Cluster

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
WAIT_S = 40.0


class Up:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log_path = folder.parent / "up.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> None:
        argv = [sys.executable, "-m", "skerry_hub.cli", "up", "--data", str(self.folder)]
        argv += ["--listen", f"127.0.0.1:{free_port()}", *more]
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=log)
        self.until(lambda: "skerry-hub up: ready" in self.log(), "ready")

    def log(self) -> str:
        return self.log_path.read_text()

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        deadline = time.monotonic() + WAIT_S
        while not (found := condition()):
            assert time.monotonic() < deadline, f"not in time: {what}\n{self.log()}"
            assert self.process is None or self.process.poll() is None, self.log()
            time.sleep(0.05)
        return found

    def children(self) -> dict[str, int]:
        """What part → pid, of every process that belongs to this data folder, whoever its parent is now."""
        assert self.process is not None
        port = (self.folder / "mqtt-port").read_text().strip()
        found: dict[str, int] = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == self.process.pid:
                continue
            try:
                argv = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                status = (entry / "status").read_text()
            except OSError:
                continue
            if re.search(r"^State:\s+Z", status, re.MULTILINE):
                continue
            whole = " ".join(argv)
            if "skerry_hub.cli" in whole and str(self.folder) in whole:
                found[argv[argv.index("skerry_hub.cli") + 1]] = int(entry.name)
            elif "mosquitto" in argv[0] and self._serves(int(entry.name), port):
                found["mosquitto"] = int(entry.name)
        return found

    def _serves(self, pid: int, port: str) -> bool:
        """Whether a mosquitto reads the configuration of this folder."""
        try:
            return any(os.readlink(fd).startswith(str(self.folder)) for fd in Path(f"/proc/{pid}/fd").iterdir())  # noqa: PTH115
        except OSError:
            return False

    def hub(self) -> dict[str, Any] | None:
        """skerry-hub status, once the hub answers."""
        argv = [sys.executable, "-m", "skerry_hub.cli", "status", "--socket", str(self.folder / "hub.sock")]
        done = subprocess.run([*argv, "--output", "json"], capture_output=True, check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    up = Up(tmp_path / "hub")
    yield up
    if up.process is not None:
        up.process.kill()
        up.process.wait()


def test_it_comes_up_serves_a_device_to_be_and_ends_cleanly(up: Up, capsys: pytest.CaptureFixture[str]) -> None:
    up.start("--mqtt-port", "0")
    assert up.process is not None
    said = dict(re.findall(r"^skerry-hub up: (kubectl|a device): +(.*)$", up.log(), re.MULTILINE))
    kubeconfig = said["kubectl"].partition("KUBECONFIG=")[2]
    argv = said["a device"].replace("NAME", "edge-1").partition(" > ")[0].split()
    assert argv[:2] == ["skerry-hub", "join"]
    assert main(argv[1:]) == 0
    port = (up.folder / "mqtt-port").read_text().strip()
    assert capsys.readouterr().out == f'node = "edge-1"\nbroker = "mqtt://127.0.0.1:{port}"\n'
    up.until(lambda: (up.hub() or {}).get("devices", {}).get("edge-1"), "the hub to know the device")
    assert main(["adopt", "edge-1", "--kubeconfig", kubeconfig]) == 0
    assert capsys.readouterr().out == "adopted edge-1\n"
    assert set(up.children()) == {"api", "run", "mosquitto"}
    if os.getuid() == 0:
        assert Path(f"/proc/{up.children()['mosquitto']}").stat().st_uid != 0
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(WAIT_S) == 0
    assert up.children() == {}
    assert "Traceback" not in up.log()


def test_a_second_one_on_the_same_folder_is_refused_and_harms_nothing(
    up: Up, capsys: pytest.CaptureFixture[str]
) -> None:
    up.start("--mqtt-port", "0")
    assert main(["up", "--data", str(up.folder), "--mqtt-port", "0", "--listen", "127.0.0.1:0"]) == 1
    assert capsys.readouterr().err == f"skerry-hub: {up.folder}: another skerry-hub up runs on this folder\n"
    assert up.hub() is not None


def test_a_child_that_dies_is_started_again(up: Up) -> None:
    up.start("--mqtt-port", "0")
    before = up.children()
    assert len(before) == 3
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)

    def whole() -> bool:
        now = up.children()
        fresh = len(now) == 3 and not set(now.values()) & set(before.values())
        return fresh and bool((up.hub() or {}).get("connected"))

    up.until(whole, "three new children")


def test_nothing_is_left_when_it_is_killed_itself(up: Up) -> None:
    up.start("--mqtt-port", "0")
    assert up.process is not None
    up.process.kill()
    up.process.wait()
    deadline = time.monotonic() + WAIT_S
    while up.children():
        assert time.monotonic() < deadline, up.children()
        time.sleep(0.05)


def test_the_port_of_the_broker_stays(up: Up) -> None:
    up.start("--mqtt-port", "0")
    assert up.process is not None
    port = (up.folder / "mqtt-port").read_text()
    up.process.terminate()
    up.process.wait(WAIT_S)
    up.start()
    assert (up.folder / "mqtt-port").read_text() == port


@pytest.mark.parametrize("name", ["mosquitto.conf", "mqtt-port", "hub.sock"])
def test_a_file_of_its_folder_that_cannot_be_written_is_one_line(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).mkdir()
    assert main(["up", "--data", str(tmp_path), "--mqtt-port", "0", "--listen", "127.0.0.1:0"]) == 2
    said = capsys.readouterr().err
    assert "--data" in said
    assert len(said.splitlines()) == 1


def test_a_revoked_device_is_turned_away_at_its_broker(up: Up, capsys: pytest.CaptureFixture[str]) -> None:
    up.start("--mqtt-port", "0")
    kubeconfig = up.folder / "api" / "admin.kubeconfig"
    known = Identity("edge-1", "00" * 32, ("1", "2"), 4e9, 1e9, "abcdef", "11" * 32)

    async def enrol(cluster: Cluster) -> None:
        await tokens.ensure_namespace(cluster)
        await cluster.create(SECRETS, NAMESPACE, identity_secret(known))

    asyncio.run(with_cluster(kubeconfig, enrol))
    assert "deny" not in (up.folder / "mosquitto.acl").read_text()
    assert main(["revoke", "edge-1", "--kubeconfig", str(kubeconfig)]) == 0
    assert capsys.readouterr().out == "revoked edge-1\n"
    up.until(lambda: "the broker hears 1 revoked nodes no more" in up.log(), "the broker to be told")
    assert "user edge-1\ntopic deny #\nuser edge-1.streams\ntopic deny #\n" in (up.folder / "mosquitto.acl").read_text()
    before = up.children()["mosquitto"]
    os.kill(before, signal.SIGKILL)
    up.until(lambda: up.children().get("mosquitto", before) != before, "another broker")
    assert "deny" in (up.folder / "mosquitto.acl").read_text()
    assert main(["revoke", "nobody", "--kubeconfig", str(kubeconfig)]) == 1
    assert "node nobody has no identity" in capsys.readouterr().err
