"""What the board and its pods use, read from boards made of files, and from this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from skerry.limits import STATS_INTERFACES_MAX
from skerry.model.observed import ContainerSeen, ContainerState, PodSeen, SandboxSeen
from skerry.model.streams import Channel
from skerry.world import stats
from skerry.world.stats import (
    Sample,
    Stats,
    Usage,
    boot_time,
    container_id,
    interfaces,
    pod_network,
    sample,
    summary,
)

BOX, EBB = "b" * 64, "e" * 64
POD = PodSeen(
    "u1",
    (SandboxSeen(BOX, "u1", "default", "tide", 0, True, 1_764_460_800_000_000_000),),
    (
        ContainerSeen(EBB, BOX, "u1", "ebb", 1, "m", ContainerState.RUNNING, started_ns=1_764_460_805_000_000_000),
        ContainerSeen("old", BOX, "u1", "ebb", 0, "m", ContainerState.EXITED),
    ),
)
PROC = {
    "proc/stat": "cpu  100 1 50 9000 7 2 3 4 0 0\ncpu0 1 1 1 1 1 1 1 1\nbtime 1764460000\n",
    "proc/meminfo": "MemTotal: 1000 kB\nMemFree: 300 kB\nInactive(file): 150 kB\nAnonPages: 200 kB\nHugeTLB: 0\n",
    "proc/net/route": "Iface\tDestination\tGateway\neth0\t0000A8C0\t0\neth0\t00000000\t0100A8C0\n",
    "proc/net/dev": "Inter-|\n face |bytes\n    lo: 9 9 9 9 9 9 9 9 9 9 9\n  eth0: 11 2 3 0 0 0 0 0 44 5 6 0 0 0 0 0\n",
}
RECORDED = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:   84210     812    0    0    0     0          0         0    84210     812    0    0    0     0       0          0
  eth0:18446744073 1398103    3    0    0     0          0        12  9911021   88120    1    0    0     0       0          0
 tunl0:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0
"""  # noqa: E501 # of a pod on a 6.18 kernel, with other numbers
ETH0 = {"name": "eth0", "rxBytes": 18_446_744_073, "rxErrors": 3, "txBytes": 9_911_021, "txErrors": 1}
TUNNEL = {"name": "tunl0", "rxBytes": 0, "rxErrors": 0, "txBytes": 0, "txErrors": 0}
V2 = {
    "sys/fs/cgroup/cgroup.controllers": "cpu memory\n",
    "sys/fs/cgroup/skerry/{id}/cpu.stat": "usage_usec {n}000\nuser_usec 1\n",
    "sys/fs/cgroup/skerry/{id}/memory.current": "{n}0000\n",
    "sys/fs/cgroup/skerry/{id}/memory.stat": "anon {n}0\ninactive_file 100\npgfault 7\npgmajfault 1\n",
}
V1 = {
    "sys/fs/cgroup/cpuacct/skerry/{id}/cpuacct.usage": "{n}000000\n",
    "sys/fs/cgroup/memory/skerry/{id}/memory.usage_in_bytes": "{n}0000\n",
    "sys/fs/cgroup/memory/skerry/{id}/memory.stat": (
        "rss 1\ntotal_rss {n}0\ntotal_inactive_file 100\ntotal_pgfault 7\ntotal_pgmajfault 1\n"
    ),
}


def board(folder: Path, files: dict[str, str]) -> Path:
    for own_id, number in ((BOX, "1"), (EBB, "2")):
        for name, text in (PROC | files).items():
            path = folder / name.replace("{id}", own_id)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("{n}", number))
    return folder


@pytest.mark.parametrize("files", [V2, V1], ids=["cgroup2", "cgroup1"])
def test_both_versions_of_control_groups_say_the_same(tmp_path: Path, files: dict[str, str]) -> None:
    seen = sample(board(tmp_path, files), "skerry")
    faults = {"pageFaults": 7, "majorPageFaults": 1}
    assert seen.groups == {
        BOX: Usage(1_000_000, {"usageBytes": 10_000, "workingSetBytes": 9_900, "rssBytes": 10, **faults}),
        EBB: Usage(2_000_000, {"usageBytes": 20_000, "workingSetBytes": 19_900, "rssBytes": 20, **faults}),
    }


def test_the_board_itself(tmp_path: Path) -> None:
    seen = sample(board(tmp_path, V2), "skerry")
    tick_ns = 10**9 // 100
    assert seen.node.cpu_ns == (100 + 1 + 50 + 2 + 3 + 4) * tick_ns
    kib = 1024
    assert seen.node.memory == {
        "availableBytes": 450 * kib, "usageBytes": 700 * kib, "workingSetBytes": 550 * kib, "rssBytes": 200 * kib,
    }  # fmt: skip
    assert (seen.network["name"], seen.network["rxBytes"], seen.network["txBytes"]) == ("eth0", 11, 44)
    assert boot_time(tmp_path) == 1_764_460_000


def test_the_share_of_cpu_is_what_was_used_between_two_samples() -> None:
    groups = ({BOX: Usage(100), EBB: Usage(1_000)}, {BOX: Usage(300), EBB: Usage(5_000)})
    first, second = (Sample(10.0 + 2 * n, 0, Usage(), groups[n], {}) for n in (0, 1))
    (pod,) = summary("n1", 0, [POD], first, second)["pods"]
    (container,) = pod["containers"]
    assert (container["cpu"]["usageNanoCores"], container["cpu"]["usageCoreNanoSeconds"]) == (2_000, 5_000)
    assert (pod["cpu"]["usageNanoCores"], pod["cpu"]["usageCoreNanoSeconds"]) == (2_100, 5_300)
    assert pod["podRef"] == {"name": "tide", "namespace": "default", "uid": "u1"}
    assert (pod["startTime"], container["startTime"]) == ("2025-11-30T00:00:00Z", "2025-11-30T00:00:05Z")


def test_a_container_that_started_in_between_has_no_share_yet() -> None:
    first = Sample(0.0, 0, Usage(), {BOX: Usage(1)}, {})
    second = Sample(2.0, 0, Usage(), {BOX: Usage(1), EBB: Usage(5)}, {})
    (pod,) = summary("n1", 0, [POD], first, second)["pods"]
    assert "usageNanoCores" not in pod["containers"][0]["cpu"]
    assert "usageNanoCores" not in pod["cpu"]


def test_what_does_not_run_is_not_told() -> None:
    nothing = Sample(0.0, 0, Usage(), {}, {})
    stopped = PodSeen("u2", (SandboxSeen("x", "u2", "default", "ebb", 0, False, 1),))
    said: Any = summary("n1", 0, [stopped, POD], nothing, nothing)
    assert [pod["podRef"]["name"] for pod in said["pods"]] == ["tide"]
    assert said["pods"][0]["containers"] == []
    assert set(said["node"]) == {"nodeName", "startTime"}


def test_interfaces_as_the_kernel_lists_them() -> None:
    lo = {"name": "lo", "rxBytes": 84_210, "rxErrors": 0, "txBytes": 84_210, "txErrors": 0}
    assert interfaces(RECORDED) == [lo, ETH0, TUNNEL]
    assert interfaces("eth0.5:1: 1 1 2 1 1 1 1 1 3 1 4\n")[0] == {
        "name": "eth0.5:1", "rxBytes": 1, "rxErrors": 2, "txBytes": 3, "txErrors": 4,
    }  # fmt: skip
    assert interfaces("") == interfaces("eth0: 1 2 3\n") == interfaces("eth0: x 1 1 1 1 1 1 1 1 1 1\n") == []


def pod_of(proc: Path, text: str, pids: str = "7\n8\n") -> Path:
    """A control group whose first process is 7, and what that one shows of its network."""
    group = proc / "group"
    for path, content in ((group / "cgroup.procs", pids), (proc / "7/net/dev", text), (proc / "self/net/dev", "own")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return group


def test_a_pods_network_is_that_of_its_sandbox_and_kubelets_form(tmp_path: Path) -> None:
    of_pod = pod_network(pod_of(tmp_path, RECORDED), tmp_path)
    assert of_pod == {**ETH0, "interfaces": [ETH0, TUNNEL]}
    second = Sample(2.0, 0, Usage(), {BOX: Usage(1), EBB: Usage(5)}, {}, {BOX: {"time": "then", **of_pod}})
    said = summary("n1", 0, [POD], second, second)
    assert said["pods"][0]["network"] == {"time": "then", **ETH0, "interfaces": [ETH0, TUNNEL]}
    assert "network" not in said["pods"][0]["containers"][0]


def test_a_pod_on_the_boards_own_network_tells_none(tmp_path: Path) -> None:
    group = pod_of(tmp_path, RECORDED)
    (tmp_path / "self/net/dev").unlink()
    (tmp_path / "self/net/dev").hardlink_to(tmp_path / "7/net/dev")  # one network, one file
    assert pod_network(group, tmp_path) == {}


@pytest.mark.parametrize("pids", ["", "0\n", "9\n", "../7\n"], ids=["empty", "not ours to see", "gone", "nonsense"])
def test_a_sandbox_that_is_gone_tells_none(tmp_path: Path, pids: str) -> None:
    assert pod_network(pod_of(tmp_path, RECORDED, pids), tmp_path) == {}


def test_a_pod_with_many_interfaces_or_without_eth0(tmp_path: Path) -> None:
    many = "".join(f"  tap{n}: {n} 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n" for n in range(1_000))
    of_pod = pod_network(pod_of(tmp_path, many), tmp_path)
    assert (of_pod["name"], len(of_pod["interfaces"])) == ("", STATS_INTERFACES_MAX)
    assert pod_network(pod_of(tmp_path, ""), tmp_path) == {}


def test_names_of_control_groups() -> None:
    assert container_id(EBB) == container_id(f"cri-containerd-{EBB}.scope") == EBB


async def test_somebody_asks_and_asks_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "STATS_WINDOW_S", (0.05, 60.0))
    root = board(tmp_path, V2)
    asked = Stats("n1", "/skerry", lambda: {"u1": POD}, root)
    for used_us in (2_000, 9_000):
        (root / f"sys/fs/cgroup/skerry/{EBB}/cpu.stat").write_text(f"usage_usec {used_us}\n")
        document = await asked.open()
        data = b""
        while (piece := await document.read()) is not None:
            assert piece.channel is Channel.STDOUT
            data += piece.data
        await document.close()
        cpu = json.loads(data)["pods"][0]["containers"][0]["cpu"]
        assert cpu["usageCoreNanoSeconds"] == used_us * 1000
        assert (cpu["usageNanoCores"] > 0) == (used_us == 9_000)


async def test_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "STATS_WINDOW_S", (0.2, 60.0))
    document = await Stats("n1", "/no/such", dict).open()
    piece = await document.read()
    assert piece is not None
    node = json.loads(piece.data)["node"]
    assert 0 < node["memory"]["workingSetBytes"] <= node["memory"]["usageBytes"]
    assert node["cpu"]["usageCoreNanoSeconds"] > node["cpu"]["usageNanoCores"] >= 0
