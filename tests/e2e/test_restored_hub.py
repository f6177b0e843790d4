"""An empty, old or foreign hub deletes and changes nothing on a device until an operator adopts it (promise 3)."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from fleet import BIN, Fleet, identities, pod, status, truth
from rig import Device, until

pytestmark = pytest.mark.e2e


def condition(fleet: Fleet, node: str, kind: str) -> dict[str, Any]:
    conditions = fleet.get("node", node).get("status", {}).get("conditions", [])
    found: dict[str, Any] = next((c for c in conditions if c["type"] == kind), {})
    return found


def adopt(fleet: Fleet, node: str) -> None:
    fleet.site.run([str(BIN / "skerry-hub"), "adopt", node, "--kubeconfig", str(fleet.site.kubeconfig)])


def test_an_empty_hub_in_the_old_ones_place_wipes_nothing_until_adopted(fleet: Fleet, board: Device) -> None:
    fleet.apply(pod("precious", "edge-1"))
    fleet.wait_phase("precious")
    until(lambda: "default/precious/main" in truth(board), "the container")
    before = identities(board)
    another_api(fleet, "hub-empty")
    fleet.start_hub()
    until(lambda: condition(fleet, "edge-1", "RestoredHub").get("status") == "True", "RestoredHub", 60)
    fleet.apply(pod("newcomer", "edge-1"))
    fleet.wait_phase("newcomer")
    assert identities(board)["default/precious/main"] == before["default/precious/main"]
    adopt(fleet, "edge-1")
    until(lambda: set(truth(board)) == {"default/newcomer/main"}, "the board to follow its adopted hub", 60)
    until(lambda: condition(fleet, "edge-1", "RestoredHub").get("status") != "True", "RestoredHub to end", 30)
    fleet.kubectl("delete", "pod", "--all", "--timeout=30s")


def test_a_hub_restored_from_an_old_backup_takes_nothing_back_until_adopted(fleet: Fleet, board: Device) -> None:
    data = fleet.data.with_name("hub-empty")
    backup = fleet.data.with_name("backup")
    stop_api(fleet)
    shutil.copytree(data, backup)
    fleet.start_api(data)
    fleet.start_hub()
    fleet.apply(pod("since-backup", "edge-1"))
    fleet.wait_phase("since-backup")
    until(lambda: "default/since-backup/main" in truth(board), "the container")
    before, generation = identities(board), status(board)["generation"]
    stop_api(fleet)
    shutil.rmtree(data)
    shutil.copytree(backup, data)
    fleet.start_api(data)
    fleet.start_hub()
    until(lambda: condition(fleet, "edge-1", "RestoredHub").get("status") == "True", "RestoredHub", 120)
    assert identities(board) == before
    assert status(board)["generation"] == generation
    adopt(fleet, "edge-1")
    until(lambda: truth(board) == {}, "the board to follow its adopted hub", 60)


def stop_api(fleet: Fleet) -> None:
    for process in (fleet.hub, fleet.api):
        assert process is not None
        process.stop()


def another_api(fleet: Fleet, folder: str) -> None:
    """In the place of the hub's side: a broker and an empty API, where the node exists too. The device keeps what it
    is; of its enrolment that API knows nothing. The hub is still to be started."""
    fleet.stop_hub_side()
    fleet.start_broker()
    fleet.start_api(fleet.data.with_name(folder))
    argv = [str(BIN / "skerry-hub"), "join", "edge-1", "--kubeconfig", str(fleet.site.kubeconfig)]
    fleet.site.run([*argv, "--broker", "mqtt://127.0.0.1:1883"])


def test_a_foreign_hub_with_pods_of_its_own_changes_nothing_until_adopted(fleet: Fleet, board: Device) -> None:
    fleet.apply(pod("mine", "edge-1"))
    fleet.wait_phase("mine")
    until(lambda: "default/mine/main" in truth(board), "the container")
    before = identities(board)
    another_api(fleet, "hub-foreign")
    other = [{"name": "main", "image": "rig.local/hello:2", "env": [{"name": "PORT", "value": "0"}]}]
    fleet.apply(pod("mine", "edge-1", containers=other), pod("theirs", "edge-1"))
    fleet.start_hub()
    until(lambda: condition(fleet, "edge-1", "RestoredHub").get("status") == "True", "RestoredHub", 60)
    fleet.wait_phase("theirs")
    until(lambda: "default/theirs/main" in truth(board), "the container of the new pod")
    running = [c.identity for c in board.containers() if not c.sandbox and c.pod == "mine"]
    assert running == list(before.values()), "the foreign hub touched a pod of the old one, or runs another beside it"
    adopt(fleet, "edge-1")
    until(lambda: before["default/mine/main"] not in identities(board).values(), "the adopted hub to replace it", 60)
    until(lambda: set(truth(board)) == {"default/mine/main", "default/theirs/main"}, "the adopted hub's pods", 60)
    fleet.kubectl("delete", "pod", "--all", "--timeout=30s")
