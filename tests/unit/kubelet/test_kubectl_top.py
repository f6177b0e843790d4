"""`kubectl top` of every version that is here: the API asks the node's endpoint, which asks the device."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skerry.model.streams import Stats
from unit.apiserver.serving import Client
from unit.kubelet import local_streams
from unit.kubelet.clients import FOUND, Kubectl
from unit.kubelet.site import NODE, Site

pytestmark = pytest.mark.skipif(not FOUND, reason="no kubectl here")
MIB = 1024 * 1024
GROUP = "/apis/metrics.k8s.io/v1beta1"


@pytest.fixture(params=list(FOUND.values()), ids=list(FOUND))
def kubectl(request: pytest.FixtureRequest, cluster: Client, home: Path, site: Site) -> Kubectl:
    return Kubectl(request.param, cluster.at.kubeconfig, home)


@pytest.fixture(autouse=True)
def figures(monkeypatch: pytest.MonkeyPatch, cluster: Client, site: Site) -> Iterator[None]:
    """A summary as a device tells it, of a node that is Ready."""
    said: dict[str, Any] = copy.deepcopy(local_streams.SUMMARY)
    said["node"]["cpu"]["usageNanoCores"], said["node"]["memory"]["workingSetBytes"] = 123_000_000, 200 * MIB
    container = said["pods"][0]["containers"][0]
    container["cpu"]["usageNanoCores"], container["memory"]["workingSetBytes"] = 7_500_000, 12 * MIB
    monkeypatch.setattr(local_streams, "SUMMARY", said)
    status = {
        "conditions": [{"type": "Ready", "status": "True"}],
        "capacity": {"cpu": "4", "memory": "400Mi"},
        "allocatable": {"cpu": "4", "memory": "400Mi"},
    }
    path = f"/api/v1/nodes/{NODE}/status"
    assert cluster.call("PATCH", path, {"status": status})[0] == 200
    yield
    away = {"conditions": [{"type": "Ready", "status": "Unknown"}]}
    assert cluster.call("PATCH", path, {"status": away})[0] == 200


def cells(out: bytes) -> list[list[str]]:
    return [line.split() for line in out.decode().splitlines()[1:]]


def test_top_nodes(kubectl: Kubectl) -> None:
    """What is asked twice within TOP_AGE_S costs the device one answer; a node that is away is not asked at all."""
    rows = cells(kubectl("top", "nodes"))
    assert [NODE, "123m", "3%", "200Mi", "50%"] in rows
    assert not any(row[0] in ("dev2", "dev3") and row[1] != "<unknown>" for row in rows)


def test_top_pods(kubectl: Kubectl) -> None:
    assert cells(kubectl("top", "pods")) == [["web", "8m", "12Mi"]]
    assert cells(kubectl("top", "pod", "web", "--containers"))[0][-3:] == ["a", "8m", "12Mi"]
    assert ["default", "web", "8m", "12Mi"] in cells(kubectl("top", "pods", "--all-namespaces"))
    assert cells(kubectl("top", "pods", "-l", "app=none")) == []


def test_what_is_not_there(kubectl: Kubectl) -> None:
    done = kubectl.run("top", "pod", "nobody")
    assert done.returncode == 1
    assert b"not found" in done.stderr.lower()


def test_documents_and_wrong_requests(cluster: Client, site: Site) -> None:
    code, node = cluster.call("GET", f"{GROUP}/nodes/{NODE}")
    assert (code, node["kind"], node["usage"]) == (200, "NodeMetrics", {"cpu": "123000000n", "memory": "204800Ki"})
    assert node["window"].endswith("s")
    assert node["timestamp"] == "2026-01-01T00:00:00Z"
    assert site.call(lambda: sum(isinstance(one, Stats) for one in site.streams.opened)) <= 1
    assert cluster.call("GET", f"{GROUP}/nodes/dev2")[1]["message"] == 'nodes.metrics.k8s.io "dev2" not found'
    assert cluster.call("GET", f"{GROUP}/namespaces/default/pods/pair")[0] == 404
    assert cluster.call("GET", f"{GROUP}/nodes?watch=true")[0] == 405
    assert cluster.call("POST", f"{GROUP}/nodes", {"metadata": {"name": "x"}})[0] == 405
    assert cluster.call("DELETE", f"{GROUP}/nodes/{NODE}")[0] == 405
    listed = cluster.call("GET", f"{GROUP}/pods?fieldSelector=metadata.name=web")[1]
    assert [(listed["kind"], item["metadata"]["name"]) for item in listed["items"]] == [("PodMetricsList", "web")]
    groups = [group["name"] for group in cluster.call("GET", "/apis")[1]["groups"]]
    assert "metrics.k8s.io" in groups
