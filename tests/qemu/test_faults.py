"""Long form: what a board meets in the field. A frozen system, no memory cgroup, no clock, no room."""

from __future__ import annotations

import time

import pytest

from fleet import Fleet, pod
from qemu import guest
from qemu.card import Card
from qemu.figures import record
from qemu.machine import Machine
from rig import until

from .conftest import NODE

pytestmark = pytest.mark.slow
WATCHDOG_TIMEOUT_S = 300.0
FROZEN_FOR_S = 90.0
OLD = "base=1970-01-01T00:00:00"


def test_a_pod_runs_first(fleet: Fleet, machine: Machine) -> None:
    machine.boot()
    guest.wait_active(machine, "skerry")
    machine.console.run("ctr -n k8s.io images import /data/hello.tar", timeout_s=300)
    fleet.apply(pod("steady", NODE))
    guest.wait_phase(fleet, "steady")
    guest.wait_containers(machine)
    machine.console.run("sync")


def test_the_watchdog_resets_a_frozen_board(machine: Machine) -> None:
    """PID 1 crashes: systemd then freezes by design and feeds no watchdog. QEMU ends at the reset (-no-reboot)."""
    began = time.monotonic()
    machine.console.run("kill -SEGV 1", check=False)
    machine.wait_end(WATCHDOG_TIMEOUT_S)
    record(machine.ident, watchdog_reset_s=time.monotonic() - began)
    machine.boot()
    guest.wait_containers(machine)


def test_without_the_watchdog_it_stays_frozen(machine: Machine) -> None:
    """The control: it was the watchdog that reset the board above, nothing else."""
    machine.console.run("mkdir -p /run/systemd/system.conf.d")
    machine.console.run("printf '[Manager]\\nRuntimeWatchdogSec=0\\n' > /run/systemd/system.conf.d/99-off.conf")
    machine.console.run("systemctl daemon-reexec", timeout_s=300)
    until(lambda: "state=inactive" in machine.console.run(
        "echo state=$(cat /sys/class/watchdog/watchdog0/state)"), "the watchdog to be off")  # fmt: skip
    machine.console.run("kill -SEGV 1", check=False)
    time.sleep(FROZEN_FOR_S)  # nothing to wait for: that nothing happens is the result
    assert machine.running
    machine.power_cut()


def test_a_kernel_without_the_memory_cgroup_is_named_and_runs_pods(machine: Machine, card: Card) -> None:
    kept = card.get_boot("extlinux/extlinux.conf")
    card.kernel_line("cgroup_disable=memory")
    try:
        machine.boot()
        guest.wait_active(machine, "skerry")
        assert "memory" not in machine.console.run("cat /sys/fs/cgroup/cgroup.controllers").split()
        guest.wait_containers(machine)
        bad = [check for check in guest.doctor(machine) if check["verdict"] != "ok"]
        named = [check for check in bad if "memory" in str(check).lower() and "cgroup" in str(check).lower()]
        assert named, bad
        assert "cgroup_enable=memory" in str(named[0]) or "cgroup_disable" in str(named[0]), "the cure is named"
    finally:
        machine.power_cut()
        card.put_boot("extlinux/extlinux.conf", kept)


def test_a_board_that_thinks_it_is_1970_runs_its_pods(machine: Machine) -> None:
    machine.boot(link=False, extra=("-rtc", OLD))
    guest.wait_containers(machine)
    year = int(machine.console.run("date +%Y").strip())
    assert year >= 2026, "the time floor of the image holds"
    machine.power_cut()


def test_a_full_data_partition_stops_no_pod_and_is_named(fleet: Fleet, machine: Machine) -> None:
    machine.boot()
    run = machine.console.run
    before = guest.wait_containers(machine)
    run("fallocate -l $(df -B1 --output=avail /data | tail -1) /data/full || dd if=/dev/zero of=/data/full bs=1M; sync",
        timeout_s=600, check=False)  # fmt: skip
    assert int(run("df -BM --output=avail /data | tail -1").strip().rstrip("M")) <= 1
    disk = [check for check in guest.doctor(machine) if "disk" in check["name"] and check["verdict"] != "ok"]
    assert disk, guest.doctor(machine)
    run("systemctl restart skerry", timeout_s=300)
    guest.wait_active(machine, "skerry")
    assert guest.containers(machine) == before
    run("rm /data/full; sync")
    fleet.apply(pod("later", NODE))
    guest.wait_phase(fleet, "later")
    assert before.items() <= guest.wait_containers(machine, 2).items()
