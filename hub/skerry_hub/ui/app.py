"""The page and its events over HTTP. Decides who may look: whoever has the token of the printed URL.

Server-Sent Events, because they go one way and need no library at either end (WHATWG HTML, section 9.2). The page
carries its script and style inside, and the policy that is sent with it allows these two by their hash, and a
connection to where it came from; nothing else can be loaded or run.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from skerry.ports import Clock
from skerry_hub.http import Reply, Request
from skerry_hub.limits import FLEET_BATCH_ROWS, FLEET_PING_S
from skerry_hub.listener import TEXT
from skerry_hub.ui.fleet import Fleet, Viewer

PAGE = Path(__file__).with_name("fleet.html")
_SAFE = (
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cache-control", "no-store"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
)


class FleetPage:
    """An `http.App`."""

    def __init__(self, fleet: Fleet, token: str, clock: Clock) -> None:
        self._fleet, self._token, self._clock = fleet, token.encode(), clock
        self._page = PAGE.read_bytes()
        self._policy = policy(self._page.decode())

    async def __call__(self, request: Request, reply: Reply) -> None:
        if not hmac.compare_digest(request.param("t").encode(), self._token):
            reply.send(403, [TEXT, *_SAFE], b"Open the URL that skerry-hub ui prints: it ends in a token.\n")
        elif request.path not in ("/", "/events"):
            reply.send(404, [TEXT, *_SAFE], b"there is only one page\n")
        elif request.method not in ("GET", "HEAD"):
            reply.send(405, [TEXT, *_SAFE, ("allow", "GET, HEAD")], b"this page only reads\n")
        elif request.path == "/":
            kind = ("content-type", "text/html; charset=utf-8")
            reply.send(200, [kind, ("content-security-policy", self._policy), *_SAFE], self._page)
        elif self._fleet.full:
            reply.send(503, [TEXT, *_SAFE, ("retry-after", "10")], b"too many pages are open\n")
        else:
            await self._events(reply)

    async def _events(self, reply: Reply) -> None:
        """Everything, then whatever changes, until the page is closed or does not read."""
        viewer = self._fleet.look()
        try:
            reply.start(200, [("content-type", "text/event-stream"), ("transfer-encoding", "chunked"), *_SAFE])
            reply.write(event("begin", {"now": int(self._clock.wall())}))
            await self._owed(viewer, reply)
            reply.write(event("whole", {}))
            while True:
                try:
                    await asyncio.wait_for(viewer.bell.wait(), FLEET_PING_S)
                except asyncio.TimeoutError:
                    reply.write(event("ping", {}))
                viewer.bell.clear()
                await self._owed(viewer, reply)
        except asyncio.TimeoutError:
            reply.abort()
        finally:
            self._fleet.leave(viewer)

    async def _owed(self, viewer: Viewer, reply: Reply) -> None:
        """Raises asyncio.TimeoutError when the page does not read."""
        if viewer.feed_changed:
            viewer.feed_changed = False
            reply.write(event("feed", self._fleet.feed()))
        while viewer.owed:
            names = list(islice(viewer.owed, FLEET_BATCH_ROWS))
            for name in names:
                del viewer.owed[name]
            found = [self._fleet.rows.get(name) for name in names]
            rows = [asdict(row) for row in found if row is not None]
            gone = [name for name, row in zip(names, found, strict=True) if row is None]
            reply.write(event("rows", {"put": rows, "gone": gone}))
            await reply.drain()
        await reply.drain()


def event(kind: str, data: Mapping[str, Any]) -> bytes:
    """One Server-Sent Event."""
    return f"event: {kind}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def policy(page: str) -> str:
    """The Content-Security-Policy of the page (CSP Level 3)."""

    def hashes(tag: str) -> str:
        found = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in found)
        return " ".join(f"'sha256-{digest}'" for digest in digests)

    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {hashes('script')}",
            f"style-src {hashes('style')}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )
