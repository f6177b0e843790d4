"""Long form: a restart and an upgrade of skerry leave containers alone, and what is deleted afterwards is gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet import Fleet, pod
from image.manifest import Board
from qemu import guest
from qemu.card import Card
from qemu.machine import Machine
from rig import until

from .conftest import BOARDS, NODE

DEBS = Path(__file__).parents[2] / "build" / "deb"
pytestmark = [pytest.mark.slow, pytest.mark.parametrize("ident", BOARDS, indirect=True, scope="module")]


def built(board: Board) -> Path:
    """Our own package for this board, from where `make deb` puts it."""
    name = f"skerry_*+{board.suite}_{board.arch}.deb"
    found = sorted(DEBS.glob(name), key=lambda p: p.stat().st_mtime)
    assert found, f"build/deb/{name} is not there: make deb TARGET={board.target}"
    return found[-1]


def test_restart_and_upgrade_keep_the_containers(fleet: Fleet, machine: Machine, card: Card) -> None:
    card.put_data(built(card.board), "skerry.deb")
    machine.boot()
    run = machine.console.run
    guest.wait_active(machine, "skerry")
    run("ctr -n k8s.io images import /data/hello.tar", timeout_s=300)
    fleet.apply(pod("one", NODE), pod("two", NODE))
    for name in ("one", "two"):
        guest.wait_phase(fleet, name)
    before = guest.wait_containers(machine, 2)
    agent = run("systemctl show -p MainPID --value skerry")
    run("systemctl restart skerry", timeout_s=300)
    assert run("systemctl show -p MainPID --value skerry") != agent
    assert guest.wait_containers(machine, 2) == before
    agent = run("systemctl show -p MainPID --value skerry")
    run("DEBIAN_FRONTEND=noninteractive dpkg --force-confold -i /data/skerry.deb", timeout_s=600)
    guest.wait_active(machine, "skerry")
    assert run("systemctl show -p MainPID --value skerry") != agent, "the upgrade restarted the agent"
    assert guest.wait_containers(machine, 2) == before


def test_exec_delete_and_unmount_work_afterwards(fleet: Fleet, machine: Machine) -> None:
    run = machine.console.run
    ident = next(iter(guest.containers(machine)))
    assert run(f"ctr -n k8s.io tasks exec --exec-id t1 {ident} /bin/echo in-there").strip() == "in-there"
    fleet.site.kubectl("delete", "pod", "one", "two", "--timeout=240s", timeout_s=270)
    until(lambda: guest.containers(machine) == {}, "the containers to be gone", guest.POD_TIMEOUT_S)
    until(
        lambda: run("findmnt -rno TARGET | grep -cE 'k8s.io|/run/skerry/.+' || true").strip() == "0",
        "their mounts to be gone", guest.POD_TIMEOUT_S, lambda: run("findmnt -rno TARGET"),
    )  # fmt: skip
