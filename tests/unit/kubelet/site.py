"""An embedded API and the kubelet endpoint of one node, each with its own thread and loop, for clients of any kind."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from skerry.world.clock import SystemClock
from skerry_hub.kubelet.access import Reviews
from skerry_hub.kubelet.app import Parts
from skerry_hub.kubelet.serve import KubeletEndpoints, ServingKeys
from skerry_hub.ports import ClusterError, Forbidden, Obj, Resource
from unit.apiserver.serving import Client
from unit.kubelet.local_streams import LocalStreams

T = TypeVar("T")
PORTS = (21_000, 21_399)
NODE = "dev1"


@dataclass
class ReviewApi:
    """The two reviews of an API server: who a token is, and what they may."""

    tokens: dict[str, Obj] = field(default_factory=dict)  # token → UserInfo
    rights: set[tuple[str, str, str, str]] = field(default_factory=set)  # user, verb, subresource, node
    asked: list[Obj] = field(default_factory=list)
    broken: bool = False

    async def create(
        self, resource: Resource, namespace: str, obj: Obj, *, name: str = "", subresource: str = ""
    ) -> Obj:
        self.asked.append(obj)
        if self.broken:
            raise Forbidden("the hub may not create reviews")
        if obj["kind"] == "TokenReview":
            user = self.tokens.get(obj["spec"]["token"])
            return {**obj, "status": {"authenticated": True, "user": user} if user else {"error": "no such token"}}
        wanted = obj["spec"]["resourceAttributes"]
        key = (obj["spec"]["user"], wanted["verb"], wanted["subresource"], wanted["name"])
        return {**obj, "status": {"allowed": key in self.rights}}


@dataclass
class Site:
    """`run` calls a coroutine on the endpoint's loop."""

    endpoints: KubeletEndpoints
    streams: LocalStreams
    reviews: ReviewApi
    parts: Parts
    address: tuple[str, int]
    data: Path
    loop: asyncio.AbstractEventLoop

    def run(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return asyncio.run_coroutine_threadsafe(make(), self.loop).result(60)

    def call(self, function: Callable[[], T]) -> T:
        async def inside() -> T:
            return function()

        return self.run(inside)


def keys_of(data: Path) -> ServingKeys:
    """The pair that `skerry-hub api` keeps for an endpoint on its machine."""
    return ServingKeys(
        (data / "kubelet.crt").read_text(), (data / "kubelet.key").read_text(), (data / "ca.crt").read_text()
    )


@contextlib.contextmanager
def endpoint(data: Path, loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> Iterator[Site]:
    """The endpoint of NODE, with the certificates in `data`."""
    loop = loop_factory()
    thread = threading.Thread(target=loop.run_forever, name="kubelet")
    thread.start()
    streams, reviews = LocalStreams(), ReviewApi()

    async def begin() -> tuple[KubeletEndpoints, Parts, tuple[str, int]]:
        streams.grown = asyncio.Event()
        parts = Parts(streams, Reviews(reviews, SystemClock()))  # type: ignore[arg-type]
        made = KubeletEndpoints(
            parts, keys_of(data), listen="127.0.0.1", advertise="127.0.0.1", ports=PORTS, shown=lambda _: None
        )
        address = made.endpoint_of(NODE)
        assert address is not None
        return made, parts, address

    try:
        endpoints, parts, address = asyncio.run_coroutine_threadsafe(begin(), loop).result(30)
        site = Site(endpoints, streams, reviews, parts, address, data, loop)
        yield site
        site.run(endpoints.close)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


def register(api: Client, site: Site) -> None:
    """The node, and the pod `web` on it, as the edge controller and a device would show them."""
    api.call("POST", "/api/v1/nodes", {"metadata": {"name": NODE}})
    status = {
        "addresses": [{"type": "InternalIP", "address": site.address[0]}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": site.address[1]}},
    }
    merge = {"Content-Type": "application/merge-patch+json"}
    assert api.call("PATCH", f"/api/v1/nodes/{NODE}/status", {"status": status}, merge)[0] == 200


__all__ = ["NODE", "PORTS", "ClusterError", "ReviewApi", "Site", "endpoint", "keys_of", "register"]
