"""The short form: a flashed card joins, runs a pod, and runs it again after a reboot with the cable out."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from bench import opened, seals
from fleet import Fleet, pod
from qemu import guest
from qemu.card import Card
from qemu.figures import record
from qemu.machine import Machine
from rig import until

from .conftest import BOARDS, NODE

pytestmark = pytest.mark.parametrize("ident", BOARDS, indirect=True, scope="module")
ROUNDS = 300
TRUST = "trust"  # on the data partition: what bench.opened works on, and itself
PROGRAM = (
    "import runpy, sys; sys.path[:0] = ['/usr/lib/skerry', '/usr/lib/skerry/lib']; "
    f"runpy.run_path('/data/{TRUST}/opened.py', run_name='__main__')"
)


@pytest.fixture(scope="module", autouse=True)
def _trust(card: Card, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp(TRUST)
    seals.made(folder)
    (folder / "opened.py").write_bytes(Path(opened.__file__).read_bytes())
    card.put_data_folder(folder, TRUST)


def test_the_image_boots_to_a_joined_agent(fleet: Fleet, machine: Machine) -> None:
    machine.boot()
    record(machine.ident, power_to_shell_s=time.monotonic() - machine.started)
    guest.wait_active(machine, "skerry")
    record(machine.ident, kernel_to_agent_s=guest.reached(machine, "skerry"))
    guest.wait_ready(fleet, NODE)
    assert machine.console.run("hostname").strip() == NODE
    until(lambda: guest.active(machine, "multi-user.target") == "active", "multi-user.target", guest.READY_TIMEOUT_S)
    record(machine.ident, kernel_to_target_s=guest.reached(machine, "multi-user.target"))
    assert machine.console.run("systemctl --failed --plain --no-legend").strip() == ""


def test_the_root_is_read_only_and_the_data_partition_has_grown(machine: Machine, card: Card) -> None:
    run = machine.console.run
    assert run("touch /run/root/ro/x; echo $?").strip().endswith("1")
    assert "overlay" in run("findmnt -no FSTYPE /")
    for path in ("/var/lib/skerry", "/var/lib/containerd", "/etc/skerry", "/var/log/pods"):
        assert "/dev/" in run(f"findmnt -no SOURCE {path}"), path
    free_mb = (card.path.stat().st_size - card.plan.data.start) >> 20
    assert int(run("df -BM --output=size /data | tail -1").strip().rstrip("M")) > free_mb * 0.9
    assert run("cat /proc/swaps").count("/dev/zram0") == 1
    assert run("ls -d /run/log/journal").strip() == "/run/log/journal"


def test_a_pod_runs(fleet: Fleet, machine: Machine) -> None:
    machine.console.run("ctr -n k8s.io images import /data/hello.tar", timeout_s=300)
    fleet.apply(pod("hello", NODE))
    guest.wait_phase(fleet, "hello")
    assert len(guest.wait_containers(machine)) == 1
    record(machine.ident, agent_pss_kib=guest.agent_pss_kib(machine))
    record(machine.ident, available_mib=int(machine.console.run("free -m | awk '/^Mem/ {print $7}'")))


def test_after_a_reboot_with_the_cable_out_the_pod_runs_again(fleet: Fleet, machine: Machine) -> None:
    before = guest.containers(machine)
    machine.reboot(link=False)
    after = guest.wait_containers(machine)
    assert set(after) & set(before) == set(), "the container is a new one: there was a power-off between"
    assert machine.console.run("cat /sys/class/net/e*/carrier").strip() == "0"
    record(machine.ident, offline_kernel_to_pod_s=max(guest.start_times(machine, list(after.values())).values()))
    machine.qmp.link(True)
    guest.wait_ready(fleet, NODE)
    assert guest.wait_containers(machine) == after, "the cable restarted nothing"


@pytest.mark.slow
def test_what_protection_costs_there_is_measured(machine: Machine) -> None:
    """With the installed agent's own modules; the least of many rounds, while the agent and a pod are idle."""
    said = machine.console.run(f'python3 -IS -c "{PROGRAM}" /data/{TRUST} {ROUNDS}', timeout_s=300)
    found = json.loads(said)
    names = ("verify_us", "open_us", "unseal_us", "sha256_us")
    rows = (opened.VERIFY, opened.FRAME_OPENED, opened.SECRET_OPENED, opened.HASHED)
    record(machine.ident, **{name: found[row] for name, row in zip(names, rows, strict=True)})
    assert all(found[row] > 0 for row in rows)
