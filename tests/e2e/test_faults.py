"""Things that break under a running board: a full disk, killed and stopped processes, bad cables, silent brokers.

Each test ends with the same question: does everything agree, was nothing restarted that need not be, and did nobody
have to print a traceback?
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet import Fleet, agent_config, identities, pod, status, truth
from rig import Device, until
from rig.process import parent_of

pytestmark = pytest.mark.e2e

BIG = 150_000


@pytest.fixture(autouse=True)
def no_traceback(fleet: Fleet, clean: None) -> Iterator[None]:
    """No log of agent, hub or API ever holds a traceback."""
    yield
    logs = [*fleet.site.folder.glob("logs/*.log"), *fleet.site.folder.glob("*/logs/*.log")]
    assert [str(log) for log in logs if b"Traceback" in log.read_bytes()] == []


def condition(fleet: Fleet, node: str, kind: str) -> dict[str, Any]:
    shown = fleet.get("node", node).get("status", {}).get("conditions", [])
    found: dict[str, Any] = next((c for c in shown if c["type"] == kind), {})
    return found


def session(fleet: Fleet, node: str) -> dict[str, Any]:
    """What skerry-hub status says of a device."""
    shown: dict[str, Any] = fleet.sessions().get(node, {})
    return shown


def agree(fleet: Fleet, board: Device, *names: str, timeout_s: float = 120.0) -> None:
    """The board runs exactly these pods, and the hub shows exactly that."""
    want = {f"default/{name}/main" for name in names}
    until(lambda: set(truth(board)) == want, f"{board.name} to run {sorted(names)}", timeout_s)
    until(lambda: fleet.view(board) == truth(board), "hub and board to agree", timeout_s)


# --- a full disk ------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(fleet: Fleet) -> Iterator[Device]:
    """A board whose journal lies on a filesystem of 8 MiB."""
    board = fleet.join("edge-small", journal_bytes=8 << 20)
    board.boot(network=True)
    board.start_agent()
    fleet.kubectl("wait", "node/edge-small", "--for=condition=Ready", "--timeout=90s")
    yield board
    board.power_off()
    assert board.leftovers() == []


def fill(board: Device) -> None:
    """Not a byte is left where the journal lies."""
    board.nsenter(["sh", "-c", f"cat /dev/zero >> {board.journal_path}/filler"], check=False)


def test_a_full_disk_stops_no_pod_kills_no_agent_and_is_told(fleet: Fleet, small: Device) -> None:
    fleet.apply(pod("rock", "edge-small"), pod("goes", "edge-small"))
    agree(fleet, small, "rock", "goes")
    before = identities(small)["default/rock/main"]
    generation = status(small)["generation"]
    fill(small)
    data = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "big"}, "data": {"x": "a" * BIG}}
    volume = {"name": "v", "configMap": {"name": "big"}}
    container = {"name": "main", "image": "rig.local/hello:1", "env": [{"name": "PORT", "value": "0"}]}
    mounted = [{**container, "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]
    fleet.apply(data, pod("late", "edge-small", containers=mounted, volumes=[volume]))
    until(lambda: condition(fleet, "edge-small", "DiskPressure").get("status") == "True", "DiskPressure")
    assert condition(fleet, "edge-small", "DiskPressure")["reason"] == "JournalFull"
    fleet.kubectl("delete", "pod", "goes", "--timeout=120s")  # does not wait for room that others need
    assert "default/goes/main" not in truth(small)
    fill(small)  # the journal gave up its ballast for that
    assert fleet.hub is not None
    fleet.hub.kill()
    fleet.start_hub()  # a new hub asks for every status anew, and there is no room for them
    until(lambda: session(fleet, "edge-small").get("hellos"), "the device at the new hub")
    time.sleep(3)
    assert small.agent is not None
    assert small.agent.running
    small.kill_agent()
    small.start_agent()
    assert identities(small)["default/rock/main"] == before
    small.reboot(network=True, agent=True)
    until(lambda: "default/rock/main" in truth(small), "the pod after a reboot")
    assert "default/goes/main" not in truth(small)
    assert small.agent.running
    assert status(small)["generation"] >= generation
    after = identities(small)["default/rock/main"]
    small.nsenter(["rm", "-f", f"{small.journal_path}/filler"])
    agree(fleet, small, "rock", "late", timeout_s=180)
    until(lambda: condition(fleet, "edge-small", "DiskPressure").get("status") == "False", "its end")
    assert identities(small)["default/rock/main"] == after


# --- killed and stopped processes -------------------------------------------------------------------------------------


def test_each_process_killed_in_turn_restarts_no_pod(fleet: Fleet, board: Device) -> None:
    fleet.apply(pod("rock", "edge-1"))
    agree(fleet, board, "rock")
    rock = identities(board)["default/rock/main"]
    seen = ["rock"]
    for number, killed in enumerate((_containerd, _broker, _api, _hub, _agent, _all_at_once)):
        killed(fleet, board)
        seen.append(f"after-{number}")
        fleet.apply(pod(seen[-1], "edge-1"))
        agree(fleet, board, *seen)
        assert identities(board)["default/rock/main"] == rock, killed.__name__
    fleet.kubectl("delete", "pod", "--all", "--timeout=120s")
    agree(fleet, board)


def _containerd(_fleet: Fleet, board: Device) -> None:
    board.kill_containerd()
    board.start_containerd()


def _broker(fleet: Fleet, _board: Device) -> None:
    assert fleet.broker is not None
    fleet.broker.kill()
    fleet.start_broker()


def _api(fleet: Fleet, _board: Device) -> None:
    assert fleet.api is not None
    fleet.api.kill()
    fleet.start_api()


def _hub(fleet: Fleet, _board: Device) -> None:
    assert fleet.hub is not None
    fleet.hub.kill()
    fleet.start_hub()


def _agent(_fleet: Fleet, board: Device) -> None:
    board.kill_agent()
    board.start_agent()


def _all_at_once(fleet: Fleet, board: Device) -> None:
    fleet.stop_hub_side()
    board.kill_agent()
    board.kill_containerd()
    board.start_agent()
    board.start_containerd()
    fleet.start()


def test_processes_that_stop_for_a_while_go_on_where_they_were(fleet: Fleet, board: Device) -> None:
    fleet.apply(pod("rock", "edge-1"))
    agree(fleet, board, "rock")
    rock = identities(board)["default/rock/main"]
    seen = ["rock"]
    for name in ("agent", "containerd", "broker", "api", "hub"):
        process = getattr(fleet, name, None) or getattr(board, name)
        process.signal(signal.SIGSTOP)
        time.sleep(2)
        seen.append(f"after-{name}")
        try:
            if name != "api":
                fleet.apply(pod(seen[-1], "edge-1"))
        finally:
            process.signal(signal.SIGCONT)
        if name == "api":
            fleet.apply(pod(seen[-1], "edge-1"))
        agree(fleet, board, *seen)
        assert identities(board)["default/rock/main"] == rock, name
    fleet.kubectl("delete", "pod", "--all", "--timeout=120s")
    agree(fleet, board)


def test_a_runtime_that_is_away_is_told_and_stops_no_pod(fleet: Fleet, board: Device) -> None:
    fleet.apply(pod("rock", "edge-1"))
    agree(fleet, board, "rock")
    rock = identities(board)["default/rock/main"]
    board.kill_containerd()
    until(lambda: condition(fleet, "edge-1", "Ready").get("status") == "False", "the node to be not ready")
    said = condition(fleet, "edge-1", "Ready")
    assert said["reason"] == "KubeletNotReady"
    assert said["message"].startswith("container runtime is down: ")
    assert "NotReady" in fleet.kubectl("get", "node", "edge-1")
    _hub(fleet, board)
    until(lambda: session(fleet, "edge-1").get("state") == "live", "the new hub's session")
    _agent(fleet, board)
    fleet.apply(pod("meanwhile", "edge-1"))
    until(lambda: status(board)["objects"] == 2, "the change to be journaled")
    assert condition(fleet, "edge-1", "Ready")["status"] == "False"  # told by another process, to another process
    assert fleet.get("pod", "rock")["status"]["phase"] == "Running"
    assert Path(f"/proc/{rock[1]}").exists()
    board.start_containerd()
    until(lambda: condition(fleet, "edge-1", "Ready").get("status") == "True", "the node to be ready again")
    agree(fleet, board, "rock", "meanwhile")
    assert identities(board)["default/rock/main"] == rock
    fleet.kubectl("delete", "pod", "--all", "--timeout=120s")
    agree(fleet, board)


def test_a_killed_shim_costs_its_own_pod_a_restart_and_no_other(fleet: Fleet, board: Device) -> None:
    fleet.apply(pod("rock", "edge-1"), pod("hit", "edge-1"))
    agree(fleet, board, "rock", "hit")
    before = identities(board)
    (victim,) = [c for c in board.containers() if c.pod == "hit"]
    shim = parent_of(victim.pid)
    assert shim is not None
    os.kill(shim, signal.SIGKILL)
    until(lambda: identities(board).get("default/hit/main", before["default/hit/main"]) != before["default/hit/main"],
          "the pod to run again")  # fmt: skip
    agree(fleet, board, "rock", "hit")
    assert identities(board)["default/rock/main"] == before["default/rock/main"]
    fleet.kubectl("delete", "pod", "--all", "--timeout=120s")
    agree(fleet, board)


# --- cables and brokers -----------------------------------------------------------------------------------------------


@pytest.fixture
def attentive(fleet: Fleet) -> Iterator[Device]:
    """A board with the shortest keepalive that may be set."""
    board = fleet.join("edge-5s")
    plain = board.agent_config
    assert plain is not None
    board.agent_config = lambda device: f"{plain(device)}keepalive_s = 5\n"
    board.boot(network=True)
    board.start_agent()
    fleet.kubectl("wait", "node/edge-5s", "--for=condition=Ready", "--timeout=90s")
    yield board
    board.power_off()
    assert board.leftovers() == []


def test_a_black_hole_is_noticed_and_a_flapping_cable_is_survived(fleet: Fleet, attentive: Device) -> None:
    fleet.apply(pod("rock", "edge-5s"))
    agree(fleet, attentive, "rock")
    rock = identities(attentive)["default/rock/main"]
    attentive.blackhole(True)
    assert attentive.agent is not None
    lines = len(attentive.agent.log().splitlines())
    fleet.apply(pod("hole", "edge-5s"))
    attentive.agent.wait_log("(?s)connected.*link: ", 120)
    attentive.blackhole(False)
    agree(fleet, attentive, "rock", "hole", timeout_s=180)
    for second in range(20):
        attentive.cut() if second % 2 == 0 else attentive.connect()
        time.sleep(1)
        if second == 10:
            fleet.apply(pod("flap", "edge-5s"))
    agree(fleet, attentive, "rock", "hole", "flap", timeout_s=180)
    assert identities(attentive)["default/rock/main"] == rock
    assert len(attentive.agent.log().splitlines()) - lines < 60, "a flood of words"
    fleet.kubectl("delete", "pod", "--all", "--timeout=120s")


def test_two_agents_of_one_name_break_no_pod_and_when_one_goes_all_is_well(fleet: Fleet, board: Device) -> None:
    fleet.apply(pod("rock", "edge-1"))
    agree(fleet, board, "rock")
    rock = identities(board)["default/rock/main"]
    twin = fleet.site.device("twin", agent_config=lambda b: agent_config(b, _joined(fleet)))
    twin.boot(network=True)
    twin.start_agent()
    time.sleep(8)
    assert identities(board)["default/rock/main"] == rock
    twin.power_off()
    fleet.apply(pod("later", "edge-1"))
    agree(fleet, board, "rock", "later", timeout_s=180)
    assert identities(board)["default/rock/main"] == rock
    assert board.agent is not None
    assert len(board.agent.log().splitlines()) < 300, "a flood of words"
    fleet.kubectl("delete", "pod", "--all", "--timeout=120s")


def _joined(fleet: Fleet) -> str:
    return f'node = "edge-1"\nbroker = "mqtt://{fleet.site.address}:1883"\n'
