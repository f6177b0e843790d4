"""The rig against the real parts: a board runs pods, loses its power, its cable and its disk, and leaves nothing."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig import Device, RigError, Site, images, sweep, until
from rig.cri import Cri

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("containerd"), reason="needs root and tools/setup"),
]
TESTS = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site() as made:
        yield made


@pytest.fixture(scope="module")
def board(site: Site) -> Device:
    return site.device("board")


@pytest.fixture
def powered(board: Device) -> Iterator[Device]:
    """The one board of most tests, on and without a cable; its disk is that of the test before."""
    board.power_off()
    board.boot()
    yield board
    board.power_off()


def ping(device: Device, address: str) -> bool:
    return device.nsenter(["busybox", "ping", "-c1", "-W1", address], check=False).returncode == 0


def test_a_pod_made_by_hand_runs_is_seen_and_leaves_nothing_at_a_power_cut(powered: Device) -> None:
    logs = powered.disk / "pod-logs"
    with Cri(powered.outside(powered.cri_socket)) as cri:
        sandbox, container = cri.run_pod("web", images.HELLO, {"GREETING": "servus"}, logs=str(logs))
        address = cri.pod_ip(sandbox)
    log = logs / "main.log"
    until(lambda: log.exists() and "stdout F servus" in log.read_text(), "the container's log")

    def served() -> bool:
        page = powered.nsenter(["busybox", "wget", "-qO-", f"http://{address}:8080/"], check=False)
        return page.stdout == "hello from web\n"

    until(served, "the container to serve")

    [seen] = powered.containers()
    assert (seen.id, seen.pod, seen.name, seen.image) == (container, "web", "main", images.HELLO)
    assert b"/bin/hello" in Path(f"/proc/{seen.pid}/cmdline").read_bytes()
    assert [s.id for s in powered.sandboxes()] == [sandbox]
    assert powered.containers() == [seen]

    powered.power_off()
    assert powered.leftovers() == []
    assert not Path(f"/proc/{seen.pid}").exists()


def test_after_a_reboot_the_disk_is_as_it_was_and_run_is_empty(powered: Device) -> None:
    (powered.journal_path / "note").write_text("kept")
    powered.outside(powered.run_dir / "note").write_text("lost")
    boot_id = powered.nsenter(["cat", "/proc/sys/kernel/random/boot_id"]).stdout
    with Cri(powered.outside(powered.cri_socket)) as cri:
        sandbox, container = cri.run_pod("rebooted", images.HELLO)

    powered.reboot()

    assert (powered.journal_path / "note").read_text() == "kept"
    assert not powered.outside(powered.run_dir / "note").exists()
    assert powered.nsenter(["cat", "/proc/sys/kernel/random/boot_id"]).stdout != boot_id
    assert powered.containers() == powered.sandboxes() == []
    assert container in powered.ctr("containers", "list")  # containerd remembers what it had, and runs none of it
    with Cri(powered.outside(powered.cri_socket)) as cri:
        cri.remove_pod(sandbox)
        _, container = cri.run_pod("rebooted", images.HELLO)  # with the image of the first boot
    assert [c.id for c in powered.containers()] == [container]


def test_containers_outlive_containerd(powered: Device) -> None:
    with Cri(powered.outside(powered.cri_socket)) as cri:
        cri.run_pod("outlives", images.HELLO)
    before = [c.identity for c in powered.containers()]
    powered.kill_containerd()
    powered.start_containerd()
    assert [c.identity for c in powered.containers()] == before != []


def test_the_cable_comes_goes_and_goes_silent(site: Site, powered: Device) -> None:
    assert "eth0" not in powered.nsenter(["ip", "-brief", "link"]).stdout
    powered.connect()
    assert ping(powered, site.address)
    powered.blackhole(True)
    assert not ping(powered, site.address)
    assert "LOWER_UP" in powered.nsenter(["ip", "link", "show", "eth0"]).stdout
    powered.blackhole(False)
    assert ping(powered, site.address)
    powered.cut()
    assert "eth0" not in powered.nsenter(["ip", "-brief", "link"]).stdout
    powered.connect()
    assert ping(powered, site.address)


def test_the_broker_is_reached_by_boards_and_by_the_test_and_comes_back(site: Site, powered: Device) -> None:
    powered.connect()
    dial = f"import socket; socket.create_connection(('{site.address}', {site.mqtt_port}), 5)"
    knock = [sys.executable, "-c", dial]
    broker = site.mosquitto()
    assert powered.nsenter(knock, check=False).returncode == 0
    broker.kill()
    assert not site.listens(site.mqtt_port)
    assert powered.nsenter(knock, check=False).returncode != 0
    broker = site.mosquitto()
    assert powered.nsenter(knock, check=False).returncode == 0
    assert broker.stop() == 0


def test_an_agent_is_given_its_configuration_stopped_killed_and_started_again_by_a_reboot(site: Site) -> None:
    script = 'trap "echo bye; exit 3" TERM; cat "$1"; hostname; while :; do sleep 0.05; done'
    device = site.device(
        "with-agent",
        images=[],
        agent_argv=lambda d: ["sh", "-c", script, "agent", str(d.config_path)],
        agent_config=lambda d: f"name = {d.name}\naddress = {d.address}\n",
    )
    device.boot(runtime=False)
    agent = device.start_agent()
    agent.wait_log("^with-agent$")
    assert f"address = {device.address}" in agent.log()
    assert device.stop_agent() == 3
    assert agent.log().endswith("bye\n")

    agent = device.start_agent()
    agent.wait_log("^with-agent$")
    device.kill_agent()
    assert agent.returncode == -signal.SIGKILL
    assert "bye" not in agent.log()

    agent = device.start_agent()
    device.reboot()
    assert agent.returncode not in (None, 0)
    assert device.agent is not None
    device.agent.wait_log("^with-agent$")
    device.power_off()
    assert device.leftovers() == []


def test_a_process_that_does_not_say_what_it_should_is_an_error_that_shows_its_log(powered: Device) -> None:
    process = powered.spawn(["sh", "-c", "echo cannot start; exit 7"], "bad")
    with pytest.raises(RigError, match="cannot start"):
        process.wait_log("ready")
    with pytest.raises(RigError, match="no such thing"):
        powered.nsenter(["sh", "-c", "echo no such thing >&2; exit 1"])


def test_a_small_journal_disk_fills_lasts_and_leaves_no_loop_device(site: Site) -> None:
    device = site.device("small", images=[], journal_bytes=2 << 20)
    device.boot(runtime=False)
    fill = ["dd", "if=/dev/zero", f"of={device.journal_path}/ballast", "bs=4096"]
    assert os.strerror(errno.ENOSPC) in device.nsenter([*fill], check=False).stderr
    size = device.outside(device.journal_path / "ballast").stat().st_size
    assert 1 << 20 < size < 2 << 20
    device.reboot()
    assert device.outside(device.journal_path / "ballast").stat().st_size == size
    device.power_off()
    assert device.leftovers() == []


def test_boards_and_sites_do_not_disturb_each_other(site: Site, powered: Device) -> None:
    powered.connect()
    neighbour = site.device("neighbour")
    neighbour.boot(network=True)
    with Site() as elsewhere:
        far = elsewhere.device("board")
        far.boot(network=True)
        for device in (powered, neighbour, far):
            with Cri(device.outside(device.cri_socket)) as cri:
                cri.run_pod("beside", images.HELLO)
        kept = [c.identity for c in powered.containers()]
        assert len(kept) == len(neighbour.containers()) == len(far.containers()) == 1
        assert ping(powered, neighbour.address)
        assert site.mosquitto().running
        assert elsewhere.mosquitto().running  # the same address and port, in another network

        neighbour.power_off()
        assert neighbour.leftovers() == []
        assert [c.identity for c in powered.containers()] == kept
        assert far.address == powered.address
        far.power_off()
        assert far.leftovers() == []
    assert not elsewhere.folder.exists()
    assert [c.identity for c in powered.containers()] == kept
    assert ping(powered, site.address)


def test_an_owner_killed_by_force_takes_all_along_and_its_folder_is_swept(tmp_path: Path) -> None:
    story = (
        "import sys, signal; from rig import Site; site = Site().__enter__(); device = site.device('orphan'); "
        "device.boot(network=True); print(site.folder, device.ns.init_pid, flush=True); signal.pause()"
    )
    owner = subprocess.Popen([sys.executable, "-c", story], cwd=TESTS, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    folder, init = owner.stdout.readline().split()
    assert Path(folder) not in sweep(), "a run that lives is never swept"
    assert Path(f"/proc/{init}").exists()
    owner.kill()
    owner.wait()
    until(lambda: not Path(f"/proc/{init}").exists(), "the board's init to end")
    assert Path(folder).is_relative_to(tempfile.gettempdir())
    sweep()
    assert not Path(folder).exists()
