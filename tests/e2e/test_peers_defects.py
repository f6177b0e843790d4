"""The five defects that were measured in KubeEdge 1.23.1, each as a test that skerry must pass."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator

import pytest

from fleet import BIN, Fleet, kill, pod, status, truth
from rig import Device, until

pytestmark = pytest.mark.e2e
SECURE = False  # what stands in for the hub here speaks no TLS

PODS = [f"pod-{i}" for i in range(10)]
# Connects to a closed port, paced by full jitter between 0.25 s and 60 s: in 20 s there is room for few.
WINDOW_S, ATTEMPTS_MAX = 20.0, 30


@pytest.fixture
def alone() -> Iterator[Fleet]:
    """A fleet whose hub is not started yet."""
    with Fleet(secure=False) as whole:
        whole.start_broker()
        whole.start_api()
        yield whole


def test_1_a_device_that_never_met_its_hub_stays_up_and_joins_when_the_hub_comes(alone: Fleet) -> None:
    board = alone.join("edge-1")
    alone.stop_hub_side()
    board.boot(network=True)
    agent = board.start_agent()
    time.sleep(30)  # edgecore gave up after 27 s
    assert agent.running
    alone.start()
    alone.apply(pod("late", "edge-1"))
    alone.wait_phase("late", timeout_s=180)
    assert set(truth(board)) == {"default/late/main"}
    board.power_off()


@pytest.fixture(scope="module")
def ten(fleet: Fleet) -> Iterator[Device]:
    """A board with ten running pods."""
    board = fleet.join("edge-10")
    board.boot(network=True)
    board.start_agent()
    fleet.apply(*(pod(name, "edge-10") for name in PODS))
    for name in PODS:
        fleet.wait_phase(name)
    until(lambda: len(truth(board)) == len(PODS), "ten containers")
    yield board
    board.power_off()


def test_2_offline_a_killed_container_is_restarted_whatever_an_earlier_hub_left_behind(
    fleet: Fleet, ten: Device
) -> None:
    ten.cut()
    ten.kill_agent()
    ten.start_agent()  # everything it knows comes from the journal now
    victim = next(c for c in ten.containers() if not c.sandbox and c.pod == "pod-3")
    kill(ten, victim.id)
    key = "default/pod-3/main"
    until(lambda: truth(ten).get(key) not in (None, victim.id), "the restart, offline")
    ten.connect()


def test_3_a_hub_that_accepts_and_never_answers_keeps_no_pod_from_starting(fleet: Fleet, ten: Device) -> None:
    fleet.stop_hub_side()
    silent = fleet.site.spawn(
        [str(BIN / "python"), "-c", _SILENT, fleet.site.address, "1883"], name="silent"
    )
    silent.wait_log("listening")
    ten.reboot(network=True, agent=True)
    until(lambda: len(truth(ten)) == len(PODS), "all ten pods to run beside a silent hub")
    silent.wait_log("accepted", 120)
    silent.kill()
    fleet.start()
    fleet.kubectl("wait", "node/edge-10", "--for=condition=Ready", "--timeout=170s")


def test_4_the_true_cause_of_an_offline_failure_is_told(fleet: Fleet, ten: Device) -> None:
    bad = [{"name": "main", "image": "registry.invalid/nothing:1"}]
    fleet.apply(pod("no-image", "edge-10", containers=bad))
    until(lambda: status(ten)["objects"] == len(PODS) + 1, "the pod to be journaled")
    ten.cut()
    ten.kill_agent()
    ten.start_agent()
    argv = [str(BIN / "skerry"), "explain", "no-image", "--config", str(ten.config_path), "--output", "json"]

    def cause() -> str:
        (known,) = json.loads(ten.nsenter(argv).stdout)
        return next((d["outcome"] for d in reversed(known["decisions"]) if d["outcome"]), "")

    until(lambda: "registry.invalid" in cause(), "the cause in skerry explain")
    ten.connect()
    until(lambda: "ImagePull" in _waiting(fleet, "no-image"), "the cause at the hub")
    fleet.kubectl("delete", "pod", "no-image", "--timeout=90s")


def test_5_offline_retries_back_off(fleet: Fleet, ten: Device) -> None:
    fleet.stop_hub_side()
    counter = fleet.site.spawn([str(BIN / "python"), "-c", _REFUSING, fleet.site.address, "1883"], name="refusing")
    counter.wait_log("accepted", 120)
    time.sleep(WINDOW_S)
    attempts = len(re.findall("accepted", counter.log()))
    counter.kill()
    assert attempts <= ATTEMPTS_MAX
    fleet.start()


def _waiting(fleet: Fleet, name: str) -> str:
    statuses = fleet.get("pod", name)["status"].get("containerStatuses") or [{}]
    return str(statuses[0].get("state", {}).get("waiting", {}).get("reason", ""))


_SILENT = """
import socket, sys
s = socket.create_server((sys.argv[1], int(sys.argv[2])), reuse_port=False)
print("listening", flush=True)
kept = []
while True:
    kept.append(s.accept()); print("accepted", flush=True)
"""
_REFUSING = _SILENT.replace("kept.append(s.accept())", "s.accept()[0].close()")
