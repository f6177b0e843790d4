"""The desired language on real parts: ConfigMaps and Secrets as variables and files, volumes, ports, resources."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fleet import BIN, Fleet, pod, truth
from rig import Device, until

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("clean")]

CONFIG = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "settings", "namespace": "default"},
    "data": {"LEVEL": "debug", "app.conf": "colour = blue\n"},
}
SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "keys", "namespace": "default"},
    "stringData": {"token": "s3cret"},
}


def shell(board: Device, pod_name: str, command: str) -> str:
    """Run in the pod's container, by containerd itself."""
    container_id = truth(board)[f"default/{pod_name}/main"]
    return board.ctr("tasks", "exec", "--exec-id", f"x{abs(hash(command))}", container_id, "/bin/sh", "-c", command)


def container(**fields: object) -> list[dict[str, object]]:
    return [{"name": "main", "image": "rig.local/hello:1", **fields}]


def test_variables_from_literals_and_config_maps(fleet: Fleet, board: Device) -> None:
    env = [
        {"name": "PORT", "value": "0"},
        {"name": "LEVEL", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "LEVEL"}}},
        {"name": "BOTH", "value": "$(LEVEL)-$(PORT)-$(NOBODY)-$$(LEVEL)"},
    ]
    source = [{"configMapRef": {"name": "settings"}, "prefix": "CFG_"}]
    fleet.apply(CONFIG, pod("vars", "edge-1", containers=container(env=env, envFrom=source)))
    fleet.wait_phase("vars")
    said = shell(board, "vars", "cat /proc/1/environ | tr '\\0' '\\n'").splitlines()
    assert "LEVEL=debug" in said
    assert "BOTH=debug-0-$(NOBODY)-$(LEVEL)" in said
    assert "CFG_LEVEL=debug" in said
    fleet.kubectl("delete", "pod", "vars", "--timeout=90s")


def test_config_maps_and_secrets_as_files(fleet: Fleet, board: Device) -> None:
    volumes = [
        {"name": "conf", "configMap": {"name": "settings", "items": [{"key": "app.conf", "path": "etc/app.conf"}]}},
        {"name": "keys", "secret": {"secretName": "keys", "defaultMode": 0o400}},
    ]
    mounts = [
        {"name": "conf", "mountPath": "/conf", "readOnly": True},
        {"name": "keys", "mountPath": "/keys", "readOnly": True},
    ]
    fleet.apply(CONFIG, SECRET, pod("files", "edge-1", containers=container(volumeMounts=mounts), volumes=volumes))
    fleet.wait_phase("files")
    assert shell(board, "files", "cat /conf/etc/app.conf") == "colour = blue\n"
    assert shell(board, "files", "cat /keys/token") == "s3cret"
    assert shell(board, "files", "stat -L -c %a /keys/token").strip() == "400"
    assert "tmpfs" in shell(board, "files", "grep ' /keys ' /proc/mounts")
    found = board.nsenter(["grep", "-rl", "s3cret", str(board.disk)], check=False).stdout.split()
    assert not [f for f in found if "/journal/" not in f], "a Secret's value lies on disk outside the journal"
    board.reboot(network=False, agent=True)
    until(lambda: "default/files/main" in truth(board), "the pod after an offline reboot")
    assert shell(board, "files", "cat /keys/token") == "s3cret"
    board.connect()
    fleet.kubectl("delete", "pod", "files", "--timeout=120s")
    until(lambda: "skerry" not in board.nsenter(["cat", "/proc/mounts"]).stdout.replace(str(board.folder), "")
          or truth(board) == {}, "the volumes to be gone")  # fmt: skip


def test_a_pod_waits_for_its_config_map_and_starts_when_it_comes(fleet: Fleet, board: Device) -> None:
    env = [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "late", "key": "x"}}}]
    fleet.apply(pod("patient", "edge-1", containers=container(env=env)))

    def waiting() -> bool:
        statuses = fleet.get("pod", "patient")["status"].get("containerStatuses") or [{}]
        return bool(statuses[0].get("state", {}).get("waiting", {}).get("reason") == "CreateContainerConfigError")

    until(waiting, "CreateContainerConfigError")
    late = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "late"}, "data": {"x": "1"}}
    fleet.apply(late)
    fleet.wait_phase("patient")
    fleet.kubectl("delete", "pod", "patient", "--timeout=90s")


def test_a_secret_as_a_variable_is_refused_by_name_unless_allowed(fleet: Fleet, board: Device) -> None:
    env = [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}}]
    fleet.apply(SECRET, pod("leaky", "edge-1", containers=container(env=env)))
    fleet.wait_phase("leaky", "Failed")
    assert "spec.containers[0].env[0].valueFrom.secretKeyRef" in fleet.get("pod", "leaky")["status"]["message"]
    fleet.kubectl("delete", "pod", "leaky", "--timeout=90s")


def test_empty_dirs_and_host_paths(fleet: Fleet, board: Device) -> None:
    host = board.disk / "shared"
    volumes = [
        {"name": "scratch", "emptyDir": {}},
        {"name": "ram", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "host", "hostPath": {"path": str(host), "type": "DirectoryOrCreate"}},
    ]
    mounts = [{"name": v["name"], "mountPath": f"/{v['name']}"} for v in volumes]
    fleet.apply(pod("disks", "edge-1", containers=container(volumeMounts=mounts), volumes=volumes))
    fleet.wait_phase("disks")
    shell(board, "disks", "echo kept > /host/file; echo gone > /scratch/file; df -k /ram | tail -1")
    assert "tmpfs" in shell(board, "disks", "grep ' /ram ' /proc/mounts")
    fleet.kubectl("delete", "pod", "disks", "--timeout=90s")
    until(lambda: not list(Path(board.disk).glob("volumes/*/*")), "emptyDirs to be gone")
    assert (host / "file").read_text() == "kept\n"


def test_a_host_port_reaches_the_pod(fleet: Fleet, board: Device) -> None:
    ports = [{"containerPort": 8080, "hostPort": 18080}]
    fleet.apply(pod("web", "edge-1", containers=container(ports=ports)))
    fleet.wait_phase("web")
    page = f"from urllib.request import urlopen; print(urlopen('http://{board.address}:18080/', timeout=5).read())"
    argv = [str(BIN / "python"), "-c", page]
    until(lambda: "hello" in fleet.site.run(argv, check=False).stdout, "the page")
    fleet.kubectl("delete", "pod", "web", "--timeout=90s")


def test_of_two_pods_with_one_host_port_the_later_waits_until_it_is_free(fleet: Fleet, board: Device) -> None:
    ports = [{"containerPort": 8080, "hostPort": 18081}]
    fleet.apply(pod("holder", "edge-1", containers=container(ports=ports)))
    fleet.wait_phase("holder")
    fleet.apply(pod("waiter", "edge-1", containers=container(ports=ports)))
    until(lambda: fleet.get("pod", "waiter")["status"].get("reason") == "NodePorts", "the waiting pod's reason")
    status = fleet.get("pod", "waiter")["status"]
    assert status["phase"] == "Pending"
    assert status["message"] == "hostPort 18081/TCP is taken by pod default/holder"
    assert set(truth(board)) == {"default/holder/main"}
    fleet.kubectl("delete", "pod", "holder", "--timeout=90s")
    fleet.wait_phase("waiter")
    assert not fleet.get("pod", "waiter")["status"].get("reason")
    fleet.kubectl("delete", "pod", "waiter", "--timeout=90s")


def test_limits_reach_the_cgroup(fleet: Fleet, board: Device) -> None:
    limits = {"limits": {"cpu": "250m", "memory": "32Mi"}}
    fleet.apply(pod("bounded", "edge-1", containers=container(resources=limits)))
    fleet.wait_phase("bounded")
    info = json.loads(board.ctr("containers", "info", truth(board)["default/bounded/main"]))
    resources = info["Spec"]["linux"]["resources"]
    assert resources["memory"]["limit"] == 32 << 20
    assert resources["cpu"]["quota"] * 4 == resources["cpu"]["period"]
    (real,) = [c for c in board.containers() if not c.sandbox]
    assert 32 << 20 in memory_limits(real.pid)
    fleet.kubectl("delete", "pod", "bounded", "--timeout=90s")


def memory_limits(pid: int) -> list[int]:
    """The memory limits that the kernel holds for a process, from cgroup v1 or v2."""
    lines = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
    files = [Path(f"/sys/fs/cgroup/memory{path}/memory.limit_in_bytes") for _, c, path in lines if c == "memory"]
    files += [Path(f"/sys/fs/cgroup{path}/memory.max") for _, c, path in lines if not c]
    texts = [file.read_text().strip() for file in files if file.exists()]
    return [int(text) for text in texts if text.isdigit()]
