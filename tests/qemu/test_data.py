"""A data partition that goes away while the board runs, as a card with a loose contact does, and comes back."""

from __future__ import annotations

import pytest

from rig import until

from . import guest
from .machine import Machine

BACK_TIMEOUT_S = 300.0
UNITS = ("data.mount", "var-lib-containerd.mount", "containerd.service", "skerry.service")


@pytest.mark.slow
def test_what_a_lost_data_partition_took_down_starts_when_it_is_there_again(machine: Machine) -> None:
    machine.boot()
    for unit in UNITS:
        guest.wait_active(machine, unit)
    device = machine.console.run("readlink -f /dev/disk/by-label/data").strip()
    machine.console.run(f"udevadm trigger --settle --action=remove {device}")
    until(
        lambda: {guest.active(machine, unit) for unit in UNITS}.isdisjoint({"active", "deactivating"}),
        "everything on the data partition to be down", BACK_TIMEOUT_S, machine.console.tail,
    )  # fmt: skip
    machine.console.run(f"udevadm trigger --settle --action=add {device}")
    for unit in UNITS:
        guest.wait_active(machine, unit)
