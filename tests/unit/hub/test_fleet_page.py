"""The page's server: who may look, what is told, and that one who does not read costs nothing."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from skerry_hub.cli import main
from skerry_hub.limits import FLEET_BATCH_ROWS, FLEET_VIEWERS_MAX
from skerry_hub.ports import NODES, PODS, ClusterAway
from skerry_hub.ui.app import PAGE
from unit.hub.fleet_site import TOKEN, Site

WAIT_S = 40.0
READY = ("Ready", "True", "SessionLive", "")
Events = AsyncIterator[tuple[str, dict[str, Any]]]


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    for name in ("pi-1", "pi-2"):
        site.node(name, READY)
        site.session(name, bytes_in=7)
    site.pod("web", "pi-1")
    await site.start()
    await until(lambda: site.fleet.feed()["api"])
    yield site
    await site.stop()


async def until(condition: Any) -> None:
    async def wait() -> None:
        while not condition():
            await asyncio.sleep(0.02)

    await asyncio.wait_for(wait(), WAIT_S)


class Page:
    """A client that reads events: what it knows by now."""

    def __init__(self, reply: aiohttp.ClientResponse) -> None:
        self._reply = reply
        self.rows: dict[str, dict[str, Any]] = {}
        self.feed: dict[str, Any] = {}
        self.kinds: list[str] = []

    async def read(self, *, to: str = "") -> None:
        """One event, or all up to one of this kind."""
        while True:
            kind = (await self._line()).removeprefix("event: ")
            data = json.loads((await self._line()).removeprefix("data: "))
            assert await self._line() == ""
            self.kinds.append(kind)
            if kind == "rows":
                self.rows |= {one["name"]: one for one in data["put"]}
                for name in data["gone"]:
                    del self.rows[name]
            elif kind == "feed":
                self.feed = data
            if kind == to or not to:
                return

    async def until(self, condition: Any) -> None:
        while not condition():
            await self.read()

    async def _line(self) -> str:
        return (await asyncio.wait_for(self._reply.content.readline(), WAIT_S)).decode().rstrip("\n")


@contextlib.asynccontextmanager
async def looking(site: Site) -> AsyncIterator[Page]:
    url = site.url.replace("/?", "/events?")
    async with aiohttp.ClientSession() as http, http.get(url, timeout=aiohttp.ClientTimeout(total=None)) as reply:
        assert reply.status == 200
        assert reply.headers["content-type"] == "text/event-stream"
        yield Page(reply)


async def get(url: str, method: str = "GET") -> tuple[int, Any, str]:
    async with aiohttp.ClientSession() as http, http.request(method, url) as reply:
        return reply.status, reply.headers, await reply.text()


async def test_only_who_has_the_token_may_look(site: Site) -> None:
    root = site.url.partition("?")[0]
    for wrong in ("", "?t=", "?t=x", f"?t={TOKEN}x", f"?t={TOKEN[:-1]}", "?t=%FF", f"?T={TOKEN}"):
        for path in ("", "events", "other"):
            status, _, text = await get(f"{root}{path}{wrong}")
            assert (status, "pi-1" in text) == (403, False)
    assert (await get(site.url, "POST"))[0] == 405
    assert (await get(site.url.replace("/?", "/other?")))[0] == 404


async def test_the_page_may_run_and_load_nothing_but_its_own(site: Site) -> None:
    status, headers, text = await get(site.url)
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    for tag in ("script", "style"):
        inside = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256("".join(inside).encode()).digest()).decode()
        assert len(inside) == 1
        assert policy[f"{tag}-src"] == f"'sha256-{digest}'"
    assert (policy["default-src"], policy["connect-src"], policy["frame-ancestors"]) == ("'none'", "'self'", "'none'")
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    code = PAGE.read_text()
    assert not re.search(r"https?://|innerHTML|insertAdjacentHTML|document\.write|eval\(|\son[a-z]+=\"|style=\"", code)


async def test_everything_then_what_changes(site: Site) -> None:
    async with looking(site) as page:
        await page.read(to="whole")
        assert page.kinds[0] == "begin"
        assert page.feed["api"] is True
        assert (page.rows["pi-1"]["ready"], page.rows["pi-1"]["pods"], page.rows["pi-2"]["pods"]) == (1, 1, 0)
        await page.until(lambda: page.feed["hub"] and page.rows["pi-1"]["received"] == 7)
        site.node("pi-2", ("Ready", "Unknown", "Holdover", "not connected"))
        await page.until(lambda: page.rows["pi-2"]["state"] == "holdover")
        site.pod("web", "pi-1", ready=False, waiting="CrashLoopBackOff")
        await page.until(lambda: page.rows["pi-1"]["error"].startswith("default/web: CrashLoopBackOff"))
        site.gone(PODS, "web")
        await page.until(lambda: page.rows["pi-1"]["pods"] == 0)
        site.gone(NODES, "pi-2")
        await page.until(lambda: "pi-2" not in page.rows)
        site.node("pi-3", READY)
        await page.until(lambda: "pi-3" in page.rows)


async def test_a_hub_or_an_api_that_is_away_is_told(site: Site) -> None:
    async with looking(site) as page:
        await page.until(lambda: page.feed.get("hub") is True)
        site.hub = None
        await page.until(lambda: page.feed["hub"] is False)
        assert page.rows["pi-1"]["received"] == 7, "what was known stays"
        site.cluster.list_failures += [ClusterAway("gone")] * 3
        for watch in site.cluster.watches:
            watch.queue.put_nowait(ClusterAway("gone"))
        await page.until(lambda: page.feed["api"] is False)
        await page.until(lambda: page.feed["api"] is True)


async def test_many_devices_come_in_parts(site: Site) -> None:
    for i in range(2 * FLEET_BATCH_ROWS):
        site.node(f"site-{i}", READY)
    await until(lambda: len(site.fleet._nodes.objects) > 2 * FLEET_BATCH_ROWS)
    async with looking(site) as page:
        await page.read(to="whole")
        assert len(page.rows) == 2 * FLEET_BATCH_ROWS + 2
        assert page.kinds.count("rows") == 3


async def test_one_who_does_not_read_is_owed_names_and_no_events(site: Site) -> None:
    async with looking(site):
        await until(lambda: site.fleet._viewers)
        (viewer,) = site.fleet._viewers
        await until(lambda: not viewer.owed)
        for i in range(3_000):
            site.node("pi-1", ("Ready", "False", "", f"{i} " + "x" * 200))
        await until(lambda: site.fleet.rows["pi-1"].error.startswith("2999"))
        assert len(viewer.owed) <= 1


async def test_pages_are_bounded_and_leave(site: Site) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(FLEET_VIEWERS_MAX):
            page = await stack.enter_async_context(looking(site))
            await page.read()
        assert (await get(site.url.replace("/?", "/events?")))[0] == 503
    await until(lambda: not site.fleet._viewers)
    async with looking(site) as page:
        await page.read(to="whole")


async def test_while_nobody_looks_nothing_is_computed(site: Site) -> None:
    site.hub = None  # would be told as soon as it is asked
    site.node("pi-1", ("Ready", "False", "", "down"))
    await until(lambda: site.fleet._dirty)
    await asyncio.sleep(0.5)
    assert site.fleet._dirty == {"pi-1", "pi-2"}
    assert site.log == []


@pytest.mark.parametrize("where", ["0.0.0.0:0", "10.0.0.1:80", "nonsense"])
def test_other_addresses_are_refused(where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ui", "--kubeconfig", str(tmp_path / "none"), "--listen", where]) == 2
    assert "--listen" in capsys.readouterr().err
