"""Two replicas of the hub share the devices; one dies at once, and its devices notice nothing but another greeting."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from fleet import BIN, MQTT_PORT, READY_TIMEOUT_S, ROOT, Fleet, identities, pod, truth
from rig import Device, Process, images, until
from skerry_hub.edgecontroller.replicas import owner

pytestmark = pytest.mark.e2e
REPLICAS = ("east", "west")
NODES = {name: next(n for n in (f"edge-{i}" for i in range(99)) if owner(n, REPLICAS) == name) for name in REPLICAS}
TAKEOVER_S = 60.0  # a deadline on a loaded machine; what it took is printed


class Replica:
    def __init__(self, fleet: Fleet, name: str) -> None:
        self.fleet, self.name = fleet, name
        self.socket = fleet.site.folder / f"{name}.sock"
        argv = [
            str(BIN / "skerry-hub"), "run", "--kubeconfig", str(fleet.site.kubeconfig), "--replica", name,
            "--broker", f"mqtt://127.0.0.1:{MQTT_PORT}", "--status-socket", str(self.socket),
        ]  # fmt: skip
        self.process: Process = fleet.site.spawn(argv, name=f"hub-{name}", cwd=ROOT)
        self.process.wait_log("ready", READY_TIMEOUT_S)

    def says(self) -> dict[str, Any]:
        argv = [str(BIN / "skerry-hub"), "status", "--socket", str(self.socket), "--output", "json"]
        value: dict[str, Any] = json.loads(self.fleet.site.run(argv).stdout)
        return value

    def live(self) -> set[str]:
        """The devices whose session is here and lives."""
        return {name for name, shown in self.says()["devices"].items() if shown["state"] == "live"}

    def until_live(self, nodes: set[str]) -> None:
        """Until the sessions here are those of these devices."""
        until(lambda: self.live() == nodes, f"{', '.join(nodes)} at replica {self.name}", TAKEOVER_S)


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with Fleet(secure=False) as whole:
        whole.start_broker()
        whole.start_api()
        yield whole


@pytest.fixture(scope="module")
def replicas(fleet: Fleet) -> dict[str, Replica]:
    return {name: Replica(fleet, name) for name in REPLICAS}


@pytest.fixture(scope="module")
def boards(fleet: Fleet, replicas: dict[str, Replica]) -> Iterator[dict[str, Device]]:
    """One board for each replica, by the replica's name."""
    boards = {name: fleet.join(node, images=[images.hello()]) for name, node in NODES.items()}
    for board in boards.values():
        board.boot(network=True)
        board.start_agent()
    for node in NODES.values():
        fleet.kubectl("wait", f"node/{node}", "--for=condition=Ready", "--timeout=90s")
    yield boards
    for board in boards.values():
        board.power_off()
        assert board.leftovers() == []


def since(fleet: Fleet, node: str) -> tuple[str, str]:
    """Ready, and since when."""
    (ready,) = [c for c in fleet.get("node", node)["status"]["conditions"] if c["type"] == "Ready"]
    return ready["status"], ready["lastTransitionTime"]


def renewed(fleet: Fleet, node: str) -> str:
    return str(fleet.get("lease", node, "-n", "kube-node-lease")["spec"]["renewTime"])


def test_each_replica_has_its_share(fleet: Fleet, replicas: dict[str, Replica], boards: dict[str, Device]) -> None:
    for name, node in NODES.items():
        replicas[name].until_live({node})
        assert renewed(fleet, node)


def test_a_replica_dies_and_the_other_goes_on_with_its_devices(
    fleet: Fleet, replicas: dict[str, Replica], boards: dict[str, Device]
) -> None:
    dead, heir = replicas["east"], replicas["west"]
    for node in NODES.values():
        fleet.apply(pod(f"stays-{node}", node))
        fleet.wait_phase(f"stays-{node}")
    until(lambda: all(len(truth(board)) == 1 for board in boards.values()), "both containers")
    before = {name: identities(board) for name, board in boards.items()}
    ready = {node: since(fleet, node) for node in NODES.values()}
    orphan = NODES["east"]
    dead.process.kill()
    died, told = time.monotonic(), renewed(fleet, orphan)
    heir.until_live(set(NODES.values()))
    print(f"taken over {time.monotonic() - died:.1f} s after the death")
    fleet.apply(pod("later", orphan))
    fleet.wait_phase("later")
    after = {name: identities(board) for name, board in boards.items()}
    assert {name: {k: v for k, v in pods.items() if "stays" in k} for name, pods in after.items()} == before
    assert {node: since(fleet, node) for node in NODES.values()} == ready, "a node flapped"
    until(lambda: renewed(fleet, orphan) > told, "its Lease to be renewed by the heir", TAKEOVER_S)


def test_a_replica_that_comes_back_has_its_share_again_and_one_that_ends_well_hands_it_over(
    fleet: Fleet, replicas: dict[str, Replica], boards: dict[str, Device]
) -> None:
    before = {name: identities(board) for name, board in boards.items()}
    back = replicas["east"] = Replica(fleet, "east")
    back.until_live({NODES["east"]})
    replicas["west"].until_live({NODES["west"]})
    back.process.stop()
    leases = fleet.get("lease", "-n", "kube-system", "-l", "skerry.dev/hub-replica=true")["items"]
    assert [lease["metadata"]["name"] for lease in leases] == ["skerry-hub-west"]
    replicas["west"].until_live(set(NODES.values()))
    assert {name: identities(board) for name, board in boards.items()} == before
