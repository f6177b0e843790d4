"""What a real API server's admission plugins refuse of a pod, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from unit.apiserver.serving import Client

MIRROR = {"kubernetes.io/config.mirror": "own-1"}


def created(api: Client, mirror: bool, **spec: Any) -> tuple[int, str]:
    """HTTP status and the message of a refusal."""
    meta = {"name": "picture", "annotations": MIRROR if mirror else {}}
    whole = {"nodeName": "pi", "containers": [{"name": "main", "image": "busybox:1"}], **spec}
    path = "/api/v1/namespaces/default/pods"
    code, said = api.call("POST", path, {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": whole})
    if code == 201:
        api.call("DELETE", f"{path}/picture", {"gracePeriodSeconds": 0})
    return code, str(said.get("message", ""))


def with_source(**source: Any) -> dict[str, Any]:
    return {"volumes": [{"name": "v", "projected": {"sources": [source]}}]}


def container(**more: Any) -> list[dict[str, Any]]:
    return [{"name": "main", "image": "busybox:1", **more}]


SECRETS: list[dict[str, Any]] = [
    {"imagePullSecrets": [{"name": "s"}]},
    {"volumes": [{"name": "v", "secret": {"secretName": "s"}}]},
    with_source(secret={"name": "s"}),
    {"containers": container(envFrom=[{"secretRef": {"name": "s"}}])},
    {"containers": container(env=[{"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}])},
    {"initContainers": [{"name": "first", "image": "busybox:1", "envFrom": [{"secretRef": {"name": "s"}}]}]},
]


@pytest.mark.parametrize("spec", SECRETS, ids=lambda spec: next(iter(spec)))
def test_a_mirror_pod_names_no_secret(api: Client, spec: dict[str, Any]) -> None:
    code, why = created(api, mirror=True, **spec)
    assert code == 403
    assert why.endswith("a mirror pod may not reference secrets")
    assert created(api, mirror=False, **spec)[0] == 201


def test_a_mirror_pod_has_no_account_and_no_token(api: Client) -> None:
    assert created(api, mirror=True)[0] == 201
    code, why = created(api, mirror=True, serviceAccountName="default")
    assert (code, why.rpartition(": ")[2]) == (403, "a mirror pod may not reference service accounts")
    code, why = created(api, mirror=True, **with_source(serviceAccountToken={"path": "token"}))
    assert (code, why.rpartition(": ")[2]) == (403, "a mirror pod may not use ServiceAccountToken volume projections")


@pytest.mark.parametrize("spec", [{"priority": 7}, {"priority": 7, "priorityClassName": "system-node-critical"}])
def test_a_priority_comes_from_a_class(api: Client, spec: dict[str, Any]) -> None:
    code, why = created(api, mirror=False, **spec)
    assert code == 403
    assert "the integer value of priority (7) must not be provided in pod spec" in why
    assert created(api, mirror=False, priority=0)[0] == 201
