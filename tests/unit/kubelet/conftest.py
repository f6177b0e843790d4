"""One API with one node's endpoint for all tests of this folder that need them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from unit.apiserver.serving import Client, running
from unit.kubelet.site import NODE, Site, endpoint, register

PODS: dict[str, dict[str, Any]] = {
    "web": {"containers": [{"name": "a", "image": "busybox:1"}], "nodeName": NODE},
    "pair": {
        "containers": [{"name": "a", "image": "busybox:1"}, {"name": "stopped", "image": "busybox:1"}],
        "initContainers": [{"name": "first", "image": "busybox:1"}],
        "nodeName": NODE,
    },
    "tty": {"containers": [{"name": "a", "image": "busybox:1", "tty": True, "stdin": True}], "nodeName": NODE},
    "gone": {"containers": [{"name": "a", "image": "busybox:1"}], "nodeName": NODE},
    "nowhere": {"containers": [{"name": "a", "image": "busybox:1"}]},
    "astray": {"containers": [{"name": "a", "image": "busybox:1"}], "nodeName": "dev2"},
    "orphan": {"containers": [{"name": "a", "image": "busybox:1"}], "nodeName": "dev3"},
}


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with running(tmp_path_factory.mktemp("cluster")) as client:
        yield client


@pytest.fixture(scope="session")
def served(cluster: Client) -> Iterator[Site]:
    """The endpoint, registered, with pods on it."""
    with endpoint(cluster.data, uvloop.new_event_loop) as site:
        register(cluster, site)
        cluster.call("POST", "/api/v1/nodes", {"metadata": {"name": "dev2"}})
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 9}},  # discard: nobody listens
        }
        cluster.call("PATCH", "/api/v1/nodes/dev2/status", {"status": status})
        for name, spec in PODS.items():
            path = "/api/v1/namespaces/default/pods"
            code, said = cluster.call("POST", path, {"metadata": {"name": name}, "spec": spec})
            assert code == 201, said
            running_now = [
                {
                    "name": c["name"],
                    "ready": True,
                    "restartCount": 0,
                    "image": "",
                    "imageID": "",
                    "state": {"running": {}},
                }
                for c in spec["containers"]
            ]
            shown = {"status": {"phase": "Running", "containerStatuses": running_now}}
            assert cluster.call("PATCH", f"{path}/{name}/status", shown)[0] == 200
        yield site


@pytest.fixture
def site(served: Site) -> Iterator[Site]:
    """The same, with nothing left over by the test before and nothing open after this one."""
    streams = served.streams
    served.call(streams.lines.clear)
    served.call(streams.opened.clear)
    streams.away = streams.flood = False
    served.reviews.broken = False
    yield served
    streams.flood = False


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")
