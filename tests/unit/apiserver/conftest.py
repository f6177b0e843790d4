"""One API server for all tests of this folder that need a whole one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from skerry_hub.apiserver import limits
from unit.apiserver.serving import Client, running

CHANGES_MAX = 400  # so that the server soon forgets its first version


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A served, empty cluster that has forgotten its beginnings."""
    kept, limits.CHANGES_MAX = limits.CHANGES_MAX, CHANGES_MAX
    try:
        with running(tmp_path_factory.mktemp("api")) as client:
            for i in range(CHANGES_MAX // 2 + 20):
                path = "/api/v1/namespaces/kube-public/configmaps"
                assert client.call("POST", path, {"metadata": {"name": f"c{i}"}})[0] == 201
            assert client.call("DELETE", path)[0] == 200
            yield client
    finally:
        limits.CHANGES_MAX = kept
