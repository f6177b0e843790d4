"""`skerry-hub up` as a process: comes up, keeps its children running, and leaves nothing behind however it ends."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from contract.broker import MOSQUITTO, free_port
from contract.certificates import credentials
from skerry.boot import log
from skerry.loops.protect import Protected, Protection
from skerry.loops.report import Counters
from skerry.wire import token as tokens
from skerry.wire.guard import DeviceGuard
from skerry.world.authority import OpensslAuthority
from skerry.world.clock import SystemClock, known_time
from skerry.world.device_key import KeysInFiles
from skerry.world.enrolment import enrol
from skerry.world.entropy import SystemEntropy
from skerry.world.link import MqttLink
from skerry.world.mqtt_values import MqttOptions
from skerry.world.sodium import Sodium
from skerry_hub import up as up_command
from skerry_hub.boot import with_cluster
from skerry_hub.cli import main
from skerry_hub.enrolment.records import NAMESPACE, Identity, identity_secret
from skerry_hub.enrolment.tokens import ensure_namespace
from skerry_hub.ports import SECRETS, Cluster
from unit.hub.session_site import hello

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
WAIT_S = 40.0
HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")


class Up:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log_path = folder.parent / "up.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str, ports: Sequence[str] = ("--mqtt-port", "0", "--enroll-port", "0")) -> None:
        argv = [sys.executable, "-m", "skerry_hub.cli", "up", "--data", str(self.folder)]
        argv += ["--listen", f"127.0.0.1:{free_port()}", *ports, *more]
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=log)
        self.until(lambda: "skerry-hub up: ready" in self.log(), "ready")

    def log(self) -> str:
        return self.log_path.read_text()

    def said(self, what: str) -> str:
        """What it printed of `kubectl`, `a device` and the like."""
        found = dict(re.findall(r"^skerry-hub up: ([a-z ]+): +(.*)$", self.log(), re.MULTILINE))
        return str(found[what])

    def token(self, node: str) -> str:
        """By the line that it printed."""
        program, *argv = self.said("a device").replace("NAME", node).split()
        assert program == "skerry-hub"
        done = subprocess.run([sys.executable, "-m", "skerry_hub.cli", *argv], capture_output=True, check=True)
        return done.stdout.decode().strip()

    def port(self, name: str) -> str:
        return (self.folder / name).read_text().strip()

    def device(self, node: str) -> dict[str, Any]:
        found: dict[str, Any] = (self.hub() or {}).get("devices", {}).get(node, {})
        return found

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
        port = self.port("mqtt-port")
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


def answers(host: str, port: str) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex((host, int(port))) == 0


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    up = Up(tmp_path / "hub")
    yield up
    if up.process is not None:
        up.process.kill()
        up.process.wait()


def test_it_comes_up_and_a_device_is_enrolled_as_it_says(up: Up) -> None:
    up.start()
    assert up.process is not None
    assert set(up.children()) == {"api", "run", "mosquitto"}
    asyncio.run(_converses(up, "127.0.0.1"))
    assert main(["adopt", "edge-1", "--kubeconfig", up.said("kubectl").partition("KUBECONFIG=")[2]]) == 0
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(WAIT_S) == 0
    assert up.children() == {}
    assert "Traceback" not in up.log()


async def _converses(up: Up, address: str) -> None:
    """A device of these parts, enrolled by the printed line, has a session that the hub believes."""
    folder = up.folder.parent / "device"
    enrolled = await asyncio.to_thread(enrol, folder, tokens.decode(up.token("edge-1")), KeysInFiles())
    assert enrolled.issued.broker == f"mqtts://{address}:{up.port('mqtt-port')}"
    assert enrolled.issued.url == f"https://{address}:{up.port('enroll-port')}"
    clock, dice, counters = SystemClock(), SystemEntropy(), Counters()
    link = MqttLink("edge-1", MqttOptions("", 0, "edge-1"), credentials(folder, "edge-1"))
    guard = DeviceGuard(Sodium(), bytes.fromhex(enrolled.keys.seed))
    protection = Protection(guard, OpensslAuthority(enrolled.issued.ca, known_time))
    await link.connect()
    try:
        frames = Protected(link, protection, clock, dice, log, counters)
        await frames.send(hello("edge-1"))
        while guard.secrets is None:
            got = await asyncio.wait_for(link.recv(), WAIT_S)
            await frames.opened(got.frame)
            link.ack(got.handle)
        await asyncio.to_thread(up.until, lambda: up.device("edge-1").get("live"), "the hub to believe the device")
    finally:
        await link.close()


def test_devices_come_to_the_address_that_is_said(up: Up) -> None:
    """Broker and enrolment listen there, beside loopback and nowhere else."""
    up.start("--address", "127.0.0.2")
    asyncio.run(_converses(up, "127.0.0.2"))
    heard = {(host, name) for name in ("mqtt-port", "enroll-port") for host in HOSTS if answers(host, up.port(name))}
    assert heard == {("127.0.0.1", "mqtt-port"), ("127.0.0.2", "mqtt-port"), ("127.0.0.2", "enroll-port")}


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.1", "no such host", "a" * 70])
def test_an_address_that_no_device_can_dial_is_refused(
    tmp_path: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["up", "--data", str(tmp_path / "hub"), "--address", address]) == 2
    said = capsys.readouterr().err
    assert "--address" in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "hub").exists()


def test_a_name_of_this_machine_is_an_address_too(up: Up) -> None:
    """One that is loopback's own is listened on once."""
    up.start("--address", "localhost")
    asyncio.run(_converses(up, "localhost"))


def test_what_it_keeps_is_the_operators_and_the_broker_sees_its_own_files_only(up: Up) -> None:
    up.start()
    assert up.folder.stat().st_mode & 0o777 == 0o700
    secret = ("device-ca.key", "broker.key", "mosquitto.acl", "mosquitto.conf")
    assert {name: (up.folder / name).stat().st_mode & 0o777 for name in secret} == dict.fromkeys(secret, 0o600)
    broker = up.children()["mosquitto"]
    held = {Path(os.readlink(fd)).name for fd in Path(f"/proc/{broker}/fd").iterdir()}  # noqa: PTH115
    assert {"device-ca.crt", "broker.crt", "broker.key", "mosquitto.acl", "mosquitto.conf"} <= held
    assert not {"device-ca.key", "admin.kubeconfig"} & held
    if os.getuid() == 0:
        user = Path(f"/proc/{broker}").stat()
        assert user.st_uid != 0
        for name in ("device-ca.key", "lock", "api/admin.kubeconfig", "broker.key"):
            argv = ["cat", str(up.folder / name)]
            done = subprocess.run(argv, user=user.st_uid, group=user.st_gid, extra_groups=[], capture_output=True)
            assert b"Permission denied" in done.stderr
        assert (up.folder / "device-ca.key").stat().st_uid == 0


def test_a_second_one_on_the_same_folder_is_refused_and_harms_nothing(
    up: Up, capsys: pytest.CaptureFixture[str]
) -> None:
    up.start()
    assert main(["up", "--data", str(up.folder), "--mqtt-port", "0", "--listen", "127.0.0.1:0"]) == 1
    assert capsys.readouterr().err == f"skerry-hub: {up.folder}: another skerry-hub up runs on this folder\n"
    assert up.hub() is not None


def test_a_child_that_dies_is_started_again(up: Up) -> None:
    up.start()
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
    up.start()
    assert up.process is not None
    up.process.kill()
    up.process.wait()
    deadline = time.monotonic() + WAIT_S
    while up.children():
        assert time.monotonic() < deadline, up.children()
        time.sleep(0.05)


def test_a_child_whose_parent_was_killed_before_it_could_ask_to_end_with_it_ends() -> None:
    """Between fork(2) and prctl(2). A broker that is left over keeps its port, so that no other start comes up."""
    ours, theirs = os.pipe()
    parent = os.fork()
    if parent == 0:
        gone = partial(up_command._die_too, os.getpid())
        if os.fork() == 0:
            while os.getppid() == gone.args[0]:
                time.sleep(0.01)
            gone()
            os.write(theirs, b"it lives")
        os._exit(0)
    os.waitpid(parent, 0)
    os.close(theirs)
    assert os.read(ours, 100) == b""
    os.close(ours)


def test_a_second_start_keeps_what_devices_were_told(up: Up) -> None:
    """Ports and authority: who was enrolled comes again, without a visit."""
    up.start()
    asyncio.run(_converses(up, "127.0.0.1"))
    assert up.process is not None
    kept = ("mqtt-port", "enroll-port", "device-ca.crt", "device-ca.key", "broker.crt")
    before = {name: (up.folder / name).read_bytes() for name in kept}
    up.process.terminate()
    up.process.wait(WAIT_S)
    up.start(ports=())
    assert {name: (up.folder / name).read_bytes() for name in kept} == before

    async def again() -> None:
        folder = up.folder.parent / "device"
        link = MqttLink("edge-1", MqttOptions("", 0, "edge-1"), credentials(folder, "edge-1"))
        await link.connect()
        await link.close()

    asyncio.run(again())


@pytest.mark.parametrize("name", ["mosquitto.conf", "mqtt-port", "hub.sock"])
def test_a_file_of_its_folder_that_cannot_be_written_is_one_line(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).mkdir()
    assert main(["up", "--data", str(tmp_path), "--mqtt-port", "0", "--listen", "127.0.0.1:0"]) == 2
    said = capsys.readouterr().err
    assert "--data" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("kept", ["", "99999", "-1", "8 8", "\x00", "0"])
def test_a_port_that_is_not_whole_in_its_file_is_chosen_anew(
    tmp_path: Path, kept: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_args, **_more: None)
    (tmp_path / "mqtt-port").write_text(kept)
    ports = []
    for _ in range(2):
        assert main(["up", "--data", str(tmp_path)]) == 1
        assert capsys.readouterr().err == "skerry-hub: mosquitto is not installed (Debian: apt install mosquitto)\n"
        ports.append(int((tmp_path / "mqtt-port").read_text()))
    assert 0 < ports[0] == ports[1] < 1 << 16


def test_what_an_operator_may_do_wrong_is_one_line_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port, shared = str(free_port()), tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    wrong = {
        ("--data", str(tmp_path / "hub"), "--mqtt-port", port, "--enroll-port", port): f"{port} is for the broker",
        ("--data", str(tmp_path / "hub"), "--mqtt-port", "65536"): "must be between 0 and 65535",
        ("--data", str(shared)): "others may write to it",
    }
    for argv, said in wrong.items():
        assert main(["up", *argv]) == 2
        err = capsys.readouterr().err
        assert said in err
        assert len(err.splitlines()) == 1
    assert list(shared.iterdir()) == []
    assert not (tmp_path / "hub" / "enroll-port").exists()


def test_one_that_was_killed_is_started_again_at_once_on_the_ports_of_before(up: Up) -> None:
    up.start()
    assert up.process is not None
    kept = [up.port(name) for name in ("mqtt-port", "enroll-port")]
    up.process.kill()
    up.process.wait()
    up.start(ports=())
    assert [up.port(name) for name in ("mqtt-port", "enroll-port")] == kept
    assert (up.hub() or {}).get("connected") is not None


def test_a_revoked_device_is_turned_away_at_its_broker(up: Up, capsys: pytest.CaptureFixture[str]) -> None:
    up.start("--mqtt-port", "0")
    kubeconfig = up.folder / "api" / "admin.kubeconfig"
    known = Identity("edge-1", "00" * 32, ("1", "2"), 4e9, 1e9, "abcdef", "11" * 32, "22" * 32)

    async def enrol(cluster: Cluster) -> None:
        await ensure_namespace(cluster)
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
    assert "there is no node nobody" in capsys.readouterr().err
