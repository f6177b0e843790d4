"""The agent as skerry.service runs it: with its capabilities and filters only, on a real board. And `skerry doctor`."""

from __future__ import annotations

import ctypes.util
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet import Fleet, identities, pod, truth
from rig import Device, until
from rig.device import skerry_run
from unit.packaging.confined import command

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("systemd-analyze") is None or ctypes.util.find_library("seccomp") is None,
        reason="needs root, libseccomp and systemd's groups of system calls",
    ),
]
UNIT = Path(__file__).parents[2] / "agent/packaging/skerry.service"
VOLUMES: dict[str, Any] = {
    "containers": [
        {
            "name": "main",
            "image": "rig.local/hello:1",
            "env": [{"name": "PORT", "value": "0"}],
            "resources": {"limits": {"memory": "64Mi", "cpu": "500m"}},
            "volumeMounts": [
                {"name": "settings", "mountPath": "/settings"},
                {"name": "memory", "mountPath": "/memory"},
                {"name": "disk", "mountPath": "/disk"},
            ],
        }
    ],
    "volumes": [
        {"name": "settings", "configMap": {"name": "settings"}},
        {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "disk", "emptyDir": {}},
    ],
}


@pytest.fixture(scope="module")
def confined(fleet: Fleet) -> Iterator[Device]:
    device = fleet.join("confined", agent_argv=lambda device: command(UNIT, skerry_run(device)))
    device.boot(network=True)
    device.start_agent()
    fleet.kubectl("wait", "node/confined", "--for=condition=Ready", "--timeout=30s")
    yield device
    device.power_off()
    assert device.leftovers() == []


def mounts(device: Device) -> str:
    return device.nsenter(["grep", "skerry", "/proc/self/mounts"], check=False).stdout


def test_pods_with_every_kind_of_volume_run_outlive_the_agent_and_go_without_a_trace(
    fleet: Fleet, confined: Device
) -> None:
    agent = confined.agent
    assert agent is not None
    fleet.kubectl("create", "configmap", "settings", "--from-literal=colour=blue")
    fleet.apply(pod("whole", "confined", **VOLUMES))
    fleet.wait_phase("whole")
    until(lambda: "default/whole/main" in truth(confined), "the container")
    before = identities(confined)
    pods = sum("/pods/" in line for line in mounts(confined).splitlines())
    assert pods >= 1
    assert confined.stop_agent() == 0
    confined.start_agent()
    until(lambda: fleet.view(confined) == truth(confined), "hub and board to agree")
    assert identities(confined) == before
    fleet.kubectl("delete", "pod", "whole", "--timeout=60s")
    until(lambda: truth(confined) == {}, "the container to go")
    until(lambda: "/pods/" not in mounts(confined), "its mounts to go")
    fleet.kubectl("delete", "configmap", "settings")


def test_doctor_reads_the_running_board(confined: Device) -> None:
    skerry = skerry_run(confined)[0]
    argv = [skerry, "doctor", "--config", str(confined.config_path), "--output", "json"]
    done = confined.nsenter(argv, check=False)
    found = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert found["runtime"]["verdict"] == "ok", found["runtime"]
    assert found["runtime"]["why"].startswith("containerd://")
    assert found["broker"]["verdict"] == "ok", found["broker"]
    assert found["journal"]["verdict"] == "ok", found["journal"]
    assert "generation" in found["journal"]["why"]
    assert done.stderr == ""
