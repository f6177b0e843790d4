"""Figures for kubectl top: who is asked, how often, and what of an answer is believed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from skerry_hub.apiserver import kinds
from skerry_hub.apiserver.requests import Target
from skerry_hub.apiserver.status import ApiError, internal
from skerry_hub.apiserver.store import Store, Write
from skerry_hub.apiserver.top import Top
from skerry_hub.http import Reply, Request
from skerry_hub.limits import TOP_AGE_S

Obj = dict[str, Any]
SAID: Obj = {"node": {"cpu": {"usageNanoCores": 10, "time": "t"}, "memory": {"workingSetBytes": 2048}}}


@dataclass
class Heard(Reply):
    """What was sent."""

    body: Obj = field(default_factory=dict)

    def send(self, status: int, headers: Any, body: bytes) -> None:
        self.body = json.loads(body)


class Site:
    def __init__(self, store: Store) -> None:
        self.store, self.now = store, 1000.0
        self.asked: list[str] = []
        self.answers: dict[str, Obj | ApiError] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.top = Top(store, self.fetch, lambda: self.now)

    async def fetch(self, node: Obj) -> Obj:
        name = str(node["metadata"]["name"])
        self.asked.append(name)
        await self.gate.wait()
        answer = self.answers.get(name, SAID)
        if isinstance(answer, ApiError):
            raise answer
        return answer

    async def node(self, name: str, ready: str = "True") -> None:
        status = {"conditions": [{"type": "Ready", "status": ready}]}
        await self.store.commit(Write(("nodes", "", name), None, {"metadata": {"name": name}, "status": status}))

    async def get(self, name: str = "") -> Obj:
        reply = Heard()
        request = Request("GET", "/", {}, (), b"", None)
        await self.top.serve(request, reply, Target(kinds.NODE_METRICS, "", name, ""))
        return reply.body

    async def names(self) -> list[str]:
        return [item["metadata"]["name"] for item in (await self.get())["items"]]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    store = Store(tmp_path / "api.db", kinds.index_of)
    yield Site(store)
    await store.close()


async def test_an_answer_serves_everybody_until_it_is_too_old(site: Site) -> None:
    await site.node("a")
    assert await site.names() == ["a"]
    site.now += TOP_AGE_S - 1
    assert (await site.get("a"))["window"] == "1s"
    assert site.asked == ["a"]
    site.now += 2
    assert (await site.get("a"))["window"] == f"{TOP_AGE_S + 1:.0f}s"
    assert site.asked == ["a", "a"]


async def test_those_who_ask_at_once_share_one_answer(site: Site) -> None:
    await site.node("a")
    site.gate.clear()
    both = [asyncio.ensure_future(site.names()) for _ in range(2)]
    while not site.asked:
        await asyncio.sleep(0)
    site.gate.set()
    assert await asyncio.gather(*both) == [["a"], ["a"]]
    assert site.asked == ["a"]


async def test_who_is_away_is_not_asked_and_who_fails_is_left_out(site: Site) -> None:
    for name, ready in (("a", "True"), ("b", "Unknown"), ("c", "True")):
        await site.node(name, ready)
    site.answers["c"] = internal("no")
    assert await site.names() == ["a"]
    assert sorted(site.asked) == ["a", "c"]
    assert site.top.failures == 1


async def test_a_node_that_is_slow_is_left_out(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skerry_hub.apiserver.top.TOP_FETCH_S", 0.05)
    await site.node("a")
    site.gate.clear()
    assert await site.names() == []


@pytest.mark.parametrize(
    "said",
    [
        {}, {"node": 3}, {"node": {"cpu": {"usageNanoCores": -1}, "memory": {"workingSetBytes": 1}}},
        {"node": {"cpu": {"usageNanoCores": "9"}, "memory": {"workingSetBytes": 1}}},
        {"node": {"cpu": {"usageNanoCores": True}, "memory": {"workingSetBytes": 1}}},
        {"node": {"cpu": [], "memory": {"workingSetBytes": 1}}, "pods": [3, {"podRef": []}]},
    ],
)  # fmt: skip
async def test_what_a_node_says_wrongly_is_left_out(site: Site, said: Obj) -> None:
    await site.node("a")
    site.answers["a"] = said
    assert await site.names() == []
