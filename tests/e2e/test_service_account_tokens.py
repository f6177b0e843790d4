"""A pod's token: in its volume on a real board, another one in time, and there after a boot without a network."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet import ROOT, Fleet, pod, truth
from rig import Device, until

pytestmark = pytest.mark.e2e
POD = "default/robot/main"


class Issuing(Fleet):
    """Whose API gives tokens."""

    def hub_argv(self) -> list[str]:
        return ["env", f"PYTHONPATH={ROOT / 'tests'}", sys.executable, "-m", "fleet.issuer"]


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with Issuing() as made:
        made.start()
        yield made


@pytest.fixture(scope="module")
def board(fleet: Fleet) -> Device:
    board = fleet.join("edge-1")
    board.boot(network=True)
    board.start_agent()
    fleet.kubectl("wait", "node/edge-1", "--for=condition=Ready", "--timeout=90s")
    return board


def robot(board: Device) -> dict[str, Any]:
    token = {"serviceAccountToken": {"path": "token", "audience": "vault", "expirationSeconds": 600}}
    where = {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}
    main = {
        "name": "main", "image": "rig.local/hello:1", "command": ["/bin/sh", "-c", "sleep 10000"],
        "volumeMounts": [{"name": "id", "mountPath": "/id"}],
    }  # fmt: skip
    volumes = [{"name": "id", "projected": {"sources": [token, where]}}]
    return pod("robot", board.name, containers=[main], volumes=volumes)


def read(board: Device, path: str) -> str:
    """What the pod reads."""
    return board.ctr("tasks", "exec", "--exec-id", os.urandom(6).hex(), truth(board)[POD], "cat", path)


def holding(folder: Path) -> list[str]:
    """The files below it that hold such a token in clear."""
    argv = ["grep", "-raFl", "of-default/default/robot/vault", str(folder)]
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.splitlines()


def test_a_pod_has_its_token_sealed_on_the_way_and_changed_in_time(fleet: Fleet, board: Device) -> None:
    fleet.apply(robot(board))
    fleet.wait_phase("robot")
    first, container = read(board, "/id/token"), truth(board)[POD]
    assert first.startswith("token-")
    assert first.endswith("-of-default/default/robot/vault")
    assert read(board, "/id/namespace") == "default"
    assert holding(board.outside(board.run_dir) / "volumes"), "the search finds it where it is"
    assert holding(board.disk) == []
    until(lambda: read(board, "/id/token") != first, "the next token", 90)
    assert truth(board)[POD] == container, "nothing was started again"
    last = read(board, "/id/token")
    board.power_off()
    board.boot(network=False)
    board.start_agent()
    until(lambda: POD in truth(board), "the pod without a network", 90)
    assert read(board, "/id/token").partition("-of-")[2] == last.partition("-of-")[2]
