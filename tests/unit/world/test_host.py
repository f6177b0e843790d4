"""Facts of boards that are not here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from skerry import ports
from skerry.world.facts import architecture, memory_bytes, memory_cgroup, node_facts, os_image
from skerry.world.host import Host


class NoVolumes:
    async def mount_volume(self, pod_uid: str, volume: ports.ResolvedVolume) -> str:
        return f"/volumes/{pod_uid}/{volume.name}"

    async def remove_volumes(self, pod_uid: str) -> None:
        del pod_uid

    def volume_pods(self) -> set[str]:
        return {"a"}


def board(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("machine", "wide", "name"),
    [
        ("x86_64", True, "amd64"),
        ("aarch64", True, "arm64"),
        ("aarch64", False, "arm"),
        ("armv7l", False, "arm"),
        ("armv6l", False, "arm"),
        ("i686", False, "386"),
        ("riscv64", True, "riscv64"),
        ("sparc64", True, "sparc64"),
    ],
)
def test_architectures_have_go_names(machine: str, wide: bool, name: str) -> None:
    assert architecture(machine, wide) == name


def test_memory_is_the_total_without_limits(tmp_path: Path) -> None:
    root = board(tmp_path, {"proc/meminfo": "MemTotal:       437952 kB\nMemFree: 1 kB\n"})
    assert memory_bytes(root) == 437_952 * 1024


def test_memory_is_bounded_by_an_enclosing_group_but_not_by_the_agents_own_unit(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": "MemTotal: 8000000 kB",
        "proc/self/cgroup": "0::/machine.slice/skerry.service",
        "sys/fs/cgroup/machine.slice/memory.max": "512000000",
        "sys/fs/cgroup/machine.slice/skerry.service/memory.max": "64000000",
    }
    assert memory_bytes(board(tmp_path, files)) == 512_000_000


def test_memory_limits_of_cgroup_v1_count_and_max_does_not(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": "MemTotal: 8000000 kB",
        "proc/self/cgroup": "4:cpu,memory:/box\n0::/",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
        "sys/fs/cgroup/memory/box/memory.limit_in_bytes": "100000000",
        "sys/fs/cgroup/memory.max": "max",
    }
    assert memory_bytes(board(tmp_path, files)) == 100_000_000


@pytest.mark.parametrize(
    ("files", "there"),
    [
        ({"cgroup.controllers": "cpuset cpu io memory pids"}, True),
        ({"cgroup.controllers": "cpuset cpu io pids"}, False),  # a Pi's kernel without cgroup_enable=memory
        ({"cgroup.controllers": ""}, False),
        ({"memory/memory.limit_in_bytes": "1", "unified/cgroup.controllers": ""}, True),  # v1, hybrid
        ({"cpu/cpu.shares": "1", "unified/cgroup.controllers": "memory"}, False),
        ({}, True),  # nothing is known
    ],
)
def test_a_memory_controller_is_there_or_not(tmp_path: Path, files: dict[str, str], there: bool) -> None:
    root = board(tmp_path, {f"sys/fs/cgroup/{name}": text for name, text in files.items()})
    assert memory_cgroup(root) is there
    assert Host(NoVolumes(), root=root).memory_cgroup is there


def test_os_image_is_the_pretty_name(tmp_path: Path) -> None:
    assert os_image(tmp_path) == ""
    root = board(tmp_path, {"usr/lib/os-release": 'ID=x\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n'})
    assert os_image(root) == "Debian GNU/Linux 12 (bookworm)"


def test_an_empty_machine_has_empty_facts(tmp_path: Path) -> None:
    facts = node_facts(tmp_path)
    assert (facts.memory_bytes, facts.boot_id, facts.machine_id, facts.os_image) == (0, "", "", "")


async def test_this_machine_has_facts_and_volumes_are_delegated() -> None:
    host: ports.Host = Host(NoVolumes())
    facts = host.facts()
    assert facts.cpu_millis == 1000 * len(os.sched_getaffinity(0))
    assert facts.memory_bytes > 64 << 20
    assert len(facts.boot_id) == 36
    assert facts.runtime == ""
    assert facts.kernel == os.uname().release
    assert host.volume_pods() == {"a"}
