"""The fingerprint: what replaces a running container, and what never does (promise 3)."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from skerry.model.manifest import read_pod
from skerry.model.pod import Container, Pod, fingerprint
from unit.model.manifests import full, pod_object


def marks(manifest: dict[str, Any]) -> list[str]:
    pod = read_pod(pod_object(manifest), manifest, secret_env=True)
    assert isinstance(pod, Pod), pod
    return [fingerprint(c, pod.volumes) for c in pod.containers]


def changed(path: str, value: Any) -> dict[str, Any]:
    """The full manifest with one field set (or, with `...`, removed)."""
    manifest = copy.deepcopy(full())
    *way, last = path.split("/")
    at: Any = manifest
    for step in way:
        at = at[int(step)] if isinstance(at, list) else at.setdefault(step, {})
    if value is ...:
        del at[last]
    elif isinstance(at, list):
        at[int(last)] = value
    else:
        at[last] = value
    return manifest


C = "spec/containers/0/"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata/labels", {"app": "other"}),
        ("metadata/annotations", {"a": "b"}),
        ("metadata/resourceVersion", "99999"),
        ("metadata/generation", 7),
        ("metadata/managedFields", [{"manager": "kubectl"}]),
        ("metadata/deletionTimestamp", "2026-01-01T00:00:00Z"),
        ("status", {"phase": "Running"}),
        ("spec/tolerations", [{"key": "x"}]),
        ("spec/nodeName", "elsewhere"),
        ("spec/terminationGracePeriodSeconds", 5),
        (C + "resources", {"limits": {"cpu": "1", "memory": "1Gi"}}),
        (C + "imagePullPolicy", "Never"),
        ("spec/volumes/4", {"name": "unused", "hostPath": {"path": "/elsewhere"}}),  # that nothing mounts
    ],
)
def test_these_never_replace_a_container(path: str, value: Any) -> None:
    assert marks(changed(path, value)) == marks(full())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (C + "image", "example.com/app:2"),
        (C + "command", ["/bin/other"]),
        (C + "args", []),
        (C + "workingDir", "/"),
        (C + "env/0/value", "2"),
        (C + "env/1", ...),
        (C + "envFrom/0/prefix", "Q_"),
        (C + "ports", []),
        (C + "volumeMounts/0/mountPath", "/elsewhere"),
        (C + "volumeMounts/0/readOnly", False),
        ("spec/volumes/0/configMap/name", "other"),  # that it mounts
        ("spec/volumes/0/configMap/defaultMode", 0o600),
        ("spec/volumes/3/hostPath/path", "/elsewhere"),
    ],
)
def test_these_replace_the_container_that_they_are_about_and_no_other(path: str, value: Any) -> None:
    if value is ...:
        manifest = full()
        del manifest["spec"]["containers"][0]["env"][1]
    else:
        manifest = changed(path, value)
    before, after = marks(full()), marks(manifest)
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_absent_equals_default() -> None:
    short = {
        "metadata": {"namespace": "default", "name": "p"},
        "spec": {
            "containers": [
                {
                    "name": "a",
                    "image": "example.com/app:1",
                    "ports": [{"containerPort": 80}],
                    "env": [{"name": "A"}],
                    "volumeMounts": [{"name": "v", "mountPath": "/v"}, {"name": "c", "mountPath": "/c"}],
                }
            ],
            "volumes": [{"name": "v"}, {"name": "c", "configMap": {"name": "m"}}],
        },
    }
    long = copy.deepcopy(short)
    spec: Any = long["spec"]
    spec["volumes"][0]["emptyDir"] = {}
    spec["volumes"][1]["configMap"] |= {"defaultMode": 420, "optional": False, "items": []}
    spec["containers"][0] |= {
        "command": [], "args": None, "workingDir": "", "envFrom": [], "resources": {"limits": {}, "requests": None},
        "imagePullPolicy": "IfNotPresent", "terminationMessagePath": "/dev/termination-log", "stdin": False,
        "terminationMessagePolicy": "File", "tty": False, "securityContext": {},
    }  # fmt: skip
    spec["containers"][0]["ports"][0] |= {"protocol": "TCP", "hostPort": 0, "name": "", "hostIP": ""}
    spec["containers"][0]["env"][0]["value"] = ""
    spec["containers"][0]["volumeMounts"][0] |= {"readOnly": False, "mountPropagation": "None", "subPath": ""}
    spec |= {"restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst"}
    assert marks(short) == marks(long)


def test_how_a_container_is_attached_to_is_given_when_it_is_made() -> None:
    plain = Container("a", "example.com/app:1")
    asked = [replace(plain, stdin=True), replace(plain, stdin_once=True), replace(plain, tty=True)]
    assert len({fingerprint(one, ()) for one in (plain, *asked)}) == 4


def test_the_golden_fingerprints_of_the_first_release_still_hold() -> None:
    """A later skerry that computes others would restart every container of a fleet by its upgrade (promise 3)."""
    assert fingerprint(Container("a", "example.com/app:1"), ()) == "399ece6cfc719edc70b4fd7b65c0b073"
    assert marks(full()) == ["a45bfb094586300c307e950f19804694", "3b266d2804bea09c452ff09fb8d0527e"]
