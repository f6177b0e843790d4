"""Unmodified kubectl on the server: what an operator does with pods, configuration and events.

`SKERRY_KUBECTL` names the binaries to try (separated by colons); without it, the kubectl on the PATH.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from unit.apiserver.serving import Client

# What tools/setup has unpacked, else the one on PATH; several by SKERRY_KUBECTL=a:b.
OWN = Path(__file__).resolve().parents[3] / ".cache" / "kubectl" / "kubectl"
DEFAULT = str(OWN) if OWN.exists() else shutil.which("kubectl") or ""
FOUND = [path for path in os.environ.get("SKERRY_KUBECTL", DEFAULT).split(":") if path]
MANIFEST = """
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  nodeName: dev1
  terminationGracePeriodSeconds: 7
  containers:
  - {name: a, image: "busybox:1", env: [{name: A, value: b}], ports: [{containerPort: 80}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: cfg}
data: {a: one}
"""
RUNNING = {
    "status": {
        "phase": "Running",
        "podIP": "192.0.2.7",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [
            {
                "name": "a",
                "ready": True,
                "restartCount": 1,
                "image": "busybox:2",
                "imageID": "",
                "state": {"running": {}},
            }
        ],
    }
}
EVENT = """
apiVersion: v1
kind: Event
metadata: {name: started}
involvedObject: {kind: Pod, name: web, namespace: NS, apiVersion: v1}
reason: Started
message: it runs
type: Normal
lastTimestamp: "2026-01-01T00:00:00Z"
source: {component: skerry}
"""


class Kubectl:
    """One binary in one namespace."""

    def __init__(self, binary: str, client: Client, folder: Path) -> None:
        self.binary, self.client, self.folder = binary, client, folder
        self.namespace = "k" + uuid.uuid4().hex[:7]
        self.env = {"HOME": str(folder), "PATH": os.environ["PATH"], "KUBECONFIG": str(client.at.kubeconfig)}

    def __call__(
        self, *args: str, stdin: str | None = None, fails: bool = False, env: dict[str, str] | None = None
    ) -> str:
        done = subprocess.run(
            [self.binary, "-n", self.namespace, *args],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=30,
            env={**self.env, **(env or {})},
        )
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr if fails else done.stdout

    def start(self, *args: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.binary, "-n", self.namespace, *args], stdout=subprocess.PIPE, text=True, env=self.env
        )


@pytest.fixture(params=FOUND or ["none"])
def kubectl(request: pytest.FixtureRequest, api: Client, tmp_path: Path) -> Iterator[Kubectl]:
    if not FOUND:
        pytest.skip("no kubectl here")
    tool = Kubectl(request.param, api, tmp_path)
    tool("create", "namespace", tool.namespace)
    yield tool
    api.call("DELETE", f"/api/v1/namespaces/{tool.namespace}/pods?gracePeriodSeconds=0")
    assert "deleted" in tool("delete", "namespace", tool.namespace)


def test_apply_twice_with_a_change_in_between(kubectl: Kubectl) -> None:
    assert kubectl("apply", "-f", "-", stdin=MANIFEST).splitlines() == ["pod/web created", "configmap/cfg created"]
    assert kubectl("apply", "-f", "-", stdin=MANIFEST).splitlines() == ["pod/web unchanged", "configmap/cfg unchanged"]
    changed = MANIFEST.replace("busybox:1", "busybox:2").replace("a: one", "b: two")
    diff = kubectl("diff", "-f", "-", stdin=changed, fails=True)
    assert "busybox:2" in diff
    assert "unchanged" not in kubectl("apply", "--dry-run=server", "-f", "-", stdin=changed)
    assert kubectl("apply", "-f", "-", stdin=changed).splitlines() == ["pod/web configured", "configmap/cfg configured"]
    assert kubectl("get", "pod", "web", "-o", "jsonpath={.spec.containers[0].image}") == "busybox:2"
    assert json.loads(kubectl("get", "cm", "cfg", "-o", "json"))["data"] == {"b": "two"}


def test_create_get_and_select(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "c", "--from-literal=k=v")
    kubectl("create", "secret", "generic", "s", "--from-literal=k=v")
    kubectl("apply", "-f", "-", stdin=MANIFEST)
    assert "Opaque   1" in kubectl("get", "secret", "s")
    assert "dev1" in kubectl("get", "pods", "-o", "wide")
    assert "name: web" in kubectl("get", "pod", "web", "-o", "yaml")
    assert "web" in kubectl("get", "pods", "-A", "-l", "app=web", "--field-selector", "spec.nodeName=dev1")
    assert kubectl("get", "pods", "--field-selector", "spec.nodeName=other") == ""
    assert 'pods "none" not found' in kubectl("get", "pod", "none", fails=True)
    assert "already exists" in kubectl("create", "configmap", "c", fails=True)


def test_status_wait_describe_and_a_graceful_end(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=MANIFEST)
    kubectl("create", "-f", "-", stdin=EVENT.replace("NS", kubectl.namespace))
    waiting = kubectl.start("wait", "--for=condition=Ready", "pod/web", "--timeout=20s")
    time.sleep(0.5)
    path = f"/api/v1/namespaces/{kubectl.namespace}/pods/web"
    assert kubectl.client.call("PATCH", f"{path}/status", RUNNING)[0] == 200
    assert "condition met" in waiting.communicate(timeout=25)[0]
    row = kubectl("get", "pod", "web", "--no-headers").split()
    assert row[:4] == ["web", "1/1", "Running", "1"]
    described = kubectl("describe", "pod", "web")
    assert "192.0.2.7" in described
    assert "Started" in kubectl("get", "events")
    kubectl("delete", "pod", "web", "--wait=false")
    assert kubectl("get", "pod", "web", "--no-headers").split()[2] == "Terminating"
    assert kubectl.client.call("GET", path)[1]["metadata"]["deletionGracePeriodSeconds"] == 7
    gone = kubectl.start("wait", "--for=delete", "pod/web", "--timeout=20s")
    time.sleep(0.5)
    assert kubectl.client.call("DELETE", f"{path}?gracePeriodSeconds=0")[0] == 200
    gone.communicate(timeout=25)
    assert gone.returncode == 0


def test_force_delete_is_at_once(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=MANIFEST)
    kubectl("delete", "pod", "web", "--force", "--grace-period=0")
    assert "NotFound" in kubectl("get", "pod", "web", fails=True)


def test_a_watch_prints_each_change(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=MANIFEST)
    watching = kubectl.start("get", "pods", "-w", "--no-headers")
    assert watching.stdout is not None
    assert watching.stdout.readline().split()[2] == "Pending"
    path = f"/api/v1/namespaces/{kubectl.namespace}/pods/web"
    kubectl.client.call("PATCH", f"{path}/status", RUNNING)
    assert watching.stdout.readline().split()[2] == "Running"
    kubectl.client.call("DELETE", path)
    assert watching.stdout.readline().split()[2] == "Terminating"
    watching.kill()
    watching.communicate()


def test_label_annotate_patch_and_edit(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "c", "--from-literal=k=v")
    kubectl("label", "cm", "c", "a=b")
    kubectl("annotate", "cm", "c", "x=y")
    kubectl("patch", "cm", "c", "--type=json", "-p", '[{"op":"add","path":"/data/j","value":"1"}]')
    kubectl("patch", "cm", "c", "--type=merge", "-p", '{"data":{"m":"2"}}')
    kubectl("patch", "cm", "c", "-p", '{"data":{"k":null,"s":"3"}}')
    kubectl("edit", "cm", "c", env={"EDITOR": 'sed -i \'s/m: "2"/m: "4"/\''})
    found = json.loads(kubectl("get", "cm", "c", "-o", "json"))
    assert found["data"] == {"j": "1", "m": "4", "s": "3"}
    assert found["metadata"]["labels"] == {"a": "b"}
    assert found["metadata"]["annotations"]["x"] == "y"


def test_a_bad_manifest_is_refused_by_its_field(kubectl: Kubectl) -> None:
    misspelt = MANIFEST.replace("ports:", "prots:")
    assert "prots" in kubectl("create", "-f", "-", stdin=misspelt, fails=True)
    unnamed = MANIFEST.replace("containerPort: 80", "containerPort: 99999")
    assert "spec.containers[0].ports[0].containerPort" in kubectl("apply", "-f", "-", stdin=unnamed, fails=True)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("api-resources",), "leases"),
        (("api-versions",), "coordination.k8s.io/v1"),
        (("version", "-o", "json"), "v1.36"),
        (("explain", "pod.spec.containers.image"), "image"),
        (("get", "--raw", "/readyz"), "ok"),
        (("get", "namespaces"), "kube-system"),
    ],
)
def test_a_question_is_answered(kubectl: Kubectl, args: tuple[str, ...], said: str) -> None:
    assert said in kubectl(*args)
