"""kubectl top through the whole chain: API, kubelet endpoint, broker, agent, control groups of a real container."""

from __future__ import annotations

import re

import pytest

from fleet import Fleet, pod
from rig import Device, until

pytestmark = [pytest.mark.e2e]
BUSY = "while :; do i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; sleep 0.2; done"


def cells(out: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split()[1:] for line in out.splitlines()[1:]}


def test_a_busy_pod_is_seen(fleet: Fleet, board: Device, clean: None) -> None:
    """It uses CPU and memory, and so does its board."""
    main = {"name": "main", "image": "rig.local/hello:1", "command": ["sh", "-c", BUSY]}
    fleet.apply(pod("busy", board.name, containers=[main]))
    fleet.wait_phase("busy")

    def busy() -> list[str]:
        found = cells(fleet.kubectl("top", "pods", check=False)).get("busy", ["0m"])
        return found if found[0] != "0m" else []

    cpu, memory = until(busy, "figures of the pod")
    assert re.fullmatch(r"[1-9]\d*m", cpu)
    assert re.fullmatch(r"\d+Mi", memory)
    node = cells(fleet.kubectl("top", "nodes"))[board.name]
    assert re.fullmatch(r"[1-9]\d*m", node[0])
    assert re.fullmatch(r"[1-9]\d*Mi", node[2])
    assert int(node[0][:-1]) >= int(cpu[:-1]) // 2, "the board's figure includes the pod's, give or take their windows"
