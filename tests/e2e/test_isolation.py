"""One session per device: one that floods and then hangs does not delay another, with mosquitto's default limits."""

from __future__ import annotations

import json
import signal
from statistics import quantiles

import pytest

from fleet import BIN, MQTT_PORT, ROOT, Fleet, pod
from rig import Device, Process, until
from skerry.limits import SESSION_QUEUE_FRAMES_MAX

pytestmark = pytest.mark.e2e
SECURE = False  # the flooder is no device that was ever enrolled

CHANGES, RATE, FLOOD_S = 250, 2_000, 120  # changes in each of four parts; frames per second; the flood ends by itself
ROUNDS_MAX = 3


def test_a_flooding_and_then_hanging_device_does_not_delay_another(fleet: Fleet, board: Device) -> None:
    holder = {"name": "config", "configMap": {"name": "pace"}}
    fleet.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "pace"}, "data": {"turn": "0"}})
    fleet.apply(pod("pacer", "edge-1", volumes=[holder]))
    fleet.wait_phase("pacer")
    join(fleet, "edge-2")
    ratios: list[float] = []
    while not ratios or (ratios[-1] > 2 and len(ratios) < ROUNDS_MAX):
        ratios.append(ratio(fleet, board))
    assert ratios[-1] <= 2, f"p99 beside the flooder, by that alone, in {ROUNDS_MAX} rounds: {ratios}"
    fleet.kubectl("delete", "pod", "pacer", "--timeout=90s")


def ratio(fleet: Fleet, board: Device) -> float:
    """p99 beside a flooder that then hangs, by that alone before and after. A busy machine can spoil a round of it."""
    alone = changes(fleet, board)
    flooder = flood(fleet, "edge-2")
    beside = changes(fleet, board)
    until(lambda: fleet.sessions()["edge-2"]["dropped_queue"] > 0, "the flooder's drop counter to rise")
    seen = fleet.sessions()["edge-2"]
    flooder.signal(signal.SIGUSR1)
    flooder.wait_log("sent")
    beside += changes(fleet, board)
    flooder.kill()
    alone += changes(fleet, board)
    assert len(beside) == 2 * CHANGES
    assert seen["queue_peak"] == SESSION_QUEUE_FRAMES_MAX, "the flooder's queue stands at its bound"
    assert fleet.sessions()["edge-1"]["dropped_queue"] == 0
    print(f"p99 alone {p99(alone) * 1e3:.1f} ms, beside the flooder {p99(beside) * 1e3:.1f} ms")
    return p99(beside) / p99(alone)


def p99(seconds: list[float]) -> float:
    return quantiles(seconds, n=100)[98]


def join(fleet: Fleet, node: str) -> None:
    argv = [str(BIN / "skerry-hub"), "join", node, "--kubeconfig", str(fleet.site.kubeconfig)]
    fleet.site.run([*argv, "--broker", f"mqtt://127.0.0.1:{MQTT_PORT}"])


def flood(fleet: Fleet, node: str) -> Process:
    argv = [str(BIN / "python"), "-m", "fleet.flood", "127.0.0.1", str(MQTT_PORT), node, str(RATE), str(FLOOD_S)]
    process = fleet.site.spawn(argv, name="flood", cwd=ROOT / "tests")
    process.wait_log("flooding")
    return process


def changes(fleet: Fleet, board: Device) -> list[float]:
    """Seconds from the API to the board's journal, for CHANGES changes."""
    argv = [str(BIN / "python"), "-m", "fleet.pace", str(fleet.site.kubeconfig), str(board.journal_path), str(CHANGES)]
    took: list[float] = json.loads(fleet.site.run(["env", "-C", str(ROOT / "tests"), *argv], timeout_s=180).stdout)
    assert len(took) == CHANGES
    return took
