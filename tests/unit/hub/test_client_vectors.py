"""The hub's client before recorded replies of a real API server (tests/vectors): each becomes the value or the error
that ports.Cluster promises, and each request is the recorded one."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from skerry_hub.kube.client import KubeClient
from skerry_hub.kube.config import Access
from skerry_hub.ports import (
    ClusterBusy,
    ClusterError,
    Conflict,
    Expired,
    Forbidden,
    Invalid,
    Listing,
    NotFound,
    PatchForm,
    Resource,
)

VECTORS = Path(__file__).resolve().parents[2] / "vectors" / "kubernetes"
KINDS = {"pods", "nodes", "configmaps", "secrets", "events", "namespaces", "leases"}
ERRORS: dict[int, type[ClusterError]] = {
    400: Invalid, 401: Forbidden, 403: Forbidden, 404: NotFound, 405: Invalid, 409: Conflict, 410: Expired,
    415: Invalid, 422: Invalid, 500: ClusterBusy, 503: ClusterBusy, 504: ClusterBusy,
}  # fmt: skip
PATCHES = {form.value: form for form in PatchForm}
Step = dict[str, Any]


@dataclass
class Recorded:
    """Answers each request with the reply that is set, and keeps what was asked."""

    status: int = 200
    body: Any = None
    lines: list[Any] = field(default_factory=list)
    asked: tuple[str, str, str, Any] = ("", "", "", None)
    url: str = ""

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[KubeClient]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            async with KubeClient(Access(self.url)) as client:
                yield client
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        raw = await request.read()
        sent = json.loads(raw) if raw else None
        self.asked = (request.method, request.path, request.headers.get("Content-Type", ""), sent)
        if request.query.get("watch"):
            return web.Response(text="".join(json.dumps(line) + "\n" for line in self.lines))
        return web.json_response(self.body, status=self.status)


def filled(value: Any) -> Any:
    """The placeholders of a recording as values: versions are numbers that grow."""
    text = json.dumps(value)
    text = re.sub(r"<(?:list)?rv(?::(\d+))?>", lambda m: str(100 + int(m[1] or 0)), text)
    return json.loads(re.sub(r"<(\w+)(?::(\d+))?>", r"\1\2", text))


def steps() -> Iterator[tuple[str, Step]]:
    for file in sorted(VECTORS.glob("*.json")):
        for scenario in json.loads(file.read_text()).get("scenarios", []):
            for i, step in enumerate(scenario["steps"]):
                yield f"{file.stem}: {scenario['name']} [{i}]", step


def place(path: str) -> tuple[Resource, str, str, str] | None:
    """Resource, namespace, name and subresource of a path, if the hub uses the kind."""
    found = re.fullmatch(r"/(api/v1|apis/coordination\.k8s\.io/v1)/(.+)", path)
    parts = found[2].split("/") if found else []
    namespace = ""
    if len(parts) > 2 and parts[0] == "namespaces":
        namespace, parts = parts[1], parts[2:]
    if not found or not 0 < len(parts) <= 3 or parts[0] not in KINDS or (len(parts) == 3 and parts[2] != "status"):
        return None
    name, sub = (*parts[1:], "", "")[:2]
    return Resource(found[1], parts[0], namespaced=bool(namespace)), namespace, name, sub


async def played(client: KubeClient, request: Step) -> Any:
    """What the client makes of a recorded request; NotImplemented where the hub never asks so."""
    where = place(request["path"])
    kind = (request.get("headers") or {}).get("Content-Type", "")
    if where is None or request.get("query") or ("body" not in request and request["method"] in ("POST", "PATCH")):
        return NotImplemented
    resource, namespace, name, sub = where
    match request["method"]:
        case "GET" if name and not sub:
            return await client.get(resource, namespace, name)
        case "GET" if not name:
            return await client.list(resource, namespace=namespace)
        case "POST" if not name and kind == "application/json":
            return await client.create(resource, namespace, request["body"])
        case "PATCH" if name and kind in PATCHES and isinstance(request["body"], dict):
            return await client.patch(resource, namespace, name, request["body"], form=PATCHES[kind], subresource=sub)
        case "DELETE" if name and not sub and not request.get("body"):
            return await client.delete(resource, namespace, name)
    return NotImplemented


def promised(status: int, body: Any) -> type[ClusterError] | None:
    """What ports.Cluster says of a reply."""
    causes = ((body or {}).get("details") or {}).get("causes") or ()
    if any(cause.get("reason") == "NamespaceTerminating" for cause in causes):
        return Invalid  # it will never succeed
    return ERRORS.get(status)


async def outcome(client: KubeClient, request: Step) -> Any:
    try:
        return await played(client, request)
    except ClusterError as why:
        return why


async def test_every_recorded_reply_becomes_the_value_or_the_error_that_is_promised() -> None:
    seen: Counter[str] = Counter()
    recorded = Recorded()
    async with recorded.serve() as client:
        for name, step in steps():
            request, reply = filled(step.get("request") or {}), filled(step.get("response") or {})
            if not request or "watch" in step or "until" in step or not isinstance(reply, dict):
                continue
            if reply.get("status", 200) < 300 and "body" not in reply and request["method"] == "GET":
                continue
            recorded.status, recorded.body = reply.get("status", 200), reply.get("body", {})
            got = await outcome(client, request)
            if got is NotImplemented:
                continue
            want = promised(recorded.status, recorded.body)
            if isinstance(got, ClusterError):
                said = " ".join(str((recorded.body or {}).get("message") or "").split())
                assert type(got) is want, f"{name}: {got!r}"
                assert said in str(got), name
                assert "\n" not in str(got), name
            else:
                assert want is None, f"{name}: {recorded.status} is no error: {got}"
                value = {"items": list(got.items)} if isinstance(got, Listing) else got
                known = {"items": recorded.body.get("items") or []} if isinstance(got, Listing) else recorded.body
                assert request["method"] == "DELETE" or value == known, name
            seen["value" if want is None else want.__name__] += 1
            method, path, _, sent = recorded.asked
            assert (method, path) == (request["method"], request["path"]), name
            assert method == "DELETE" or sent == request.get("body"), name
    assert seen["value"] > 150, seen
    assert {"Invalid", "NotFound", "Conflict", "Forbidden"} <= set(seen), seen


async def followed(client: KubeClient) -> tuple[list[Step], bool]:
    """The events of a watch, and whether it ended because its version is gone."""
    got: list[Step] = []
    try:
        got += [
            {"type": event.type.value, "object": event.obj}
            async for event in client.watch(Resource("api/v1", "pods"), 1, timeout_s=5)
        ]
    except Expired:
        return got, True
    return got, False


async def test_every_recorded_watch_gives_its_events_or_says_that_its_version_is_gone() -> None:
    watches = expired = 0
    recorded = Recorded()
    async with recorded.serve() as client:
        for name, step in steps():
            if isinstance(step.get("events"), str):
                recorded.lines = filled(step.get("expect") or [])
                known = [event for event in recorded.lines if event["type"] != "ERROR"]
                got, gone = await followed(client)
                assert gone == (len(known) < len(recorded.lines)), name
                assert gone or got == known, name
                watches, expired = watches + 1, expired + gone
    assert watches > 10
    assert expired > 0


@pytest.mark.parametrize(
    ("status", "headers", "least"), [(429, {"Retry-After": "7"}, 7.0), (429, {}, 0.0), (503, {"Retry-After": "3"}, 3.0)]
)
async def test_a_busy_server_says_when_to_come_back(status: int, headers: dict[str, str], least: float) -> None:
    class Busy(Recorded):
        async def _answer(self, request: web.Request) -> web.Response:
            return web.json_response({"kind": "Status", "code": status}, status=status, headers=headers)

    async with Busy().serve() as client:
        with pytest.raises(ClusterBusy) as why:
            await client.list(Resource("api/v1", "pods"))
    assert why.value.retry_after_s == least
