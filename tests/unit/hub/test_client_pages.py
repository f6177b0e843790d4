"""A collection that is larger than one reply may be, as the Secrets of a cluster with many Helm releases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from skerry_hub.kube import client
from skerry_hub.kube.client import KubeClient
from skerry_hub.kube.config import Access
from skerry_hub.ports import SECRETS, ClusterAway

REPLY_BYTES_MAX = 64 * 1024


class Api:
    """Lists `sizes`, one object of that many bytes each, in pages as it is asked."""

    def __init__(self, sizes: list[int]) -> None:
        self.sizes = sizes
        self.limits: list[int] = []

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[KubeClient]:
        app = web.Application()
        app.router.add_get("/api/v1/secrets", self._page)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            async with KubeClient(Access(f"http://127.0.0.1:{runner.addresses[0][1]}")) as hub:
                yield hub
        finally:
            await runner.cleanup()

    async def _page(self, request: web.Request) -> web.Response:
        limit, first = int(request.query["limit"]), int(request.query.get("continue", 0))
        assert request.query["fieldSelector"] == "type=Opaque"
        self.limits.append(limit)
        items = [
            {"metadata": {"name": str(n)}, "data": {"release": "x" * size}}
            for n, size in enumerate(self.sizes[first : first + limit], first)
        ]
        more = {"continue": str(first + limit)} if first + limit < len(self.sizes) else {}
        return web.json_response({"metadata": {"resourceVersion": "7", **more}, "items": items})


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "API_REPLY_BYTES_MAX", REPLY_BYTES_MAX)


async def test_a_page_that_is_too_large_is_asked_for_in_parts() -> None:
    api = Api([100] * 600 + [8_000] * 40)
    async with api.serve() as hub:
        found = await hub.list(SECRETS, fields="type=Opaque")
    assert [item["metadata"]["name"] for item in found.items] == [str(n) for n in range(640)]
    assert found.resource_version == 7
    assert api.limits[:3] == [500, 62, 62]
    assert set(api.limits[3:]) == {62, 7}


async def test_one_object_that_is_too_large_is_told() -> None:
    api = Api([100, 2 * REPLY_BYTES_MAX])
    async with api.serve() as hub:
        with pytest.raises(ClusterAway, match="API_REPLY_BYTES_MAX"):
            await hub.list(SECRETS, fields="type=Opaque")
    assert api.limits[-1] == 1
