"""Debian's Chromium without a window, driven by its DevTools protocol: open a page, evaluate, take a picture.

Decides nothing about the page. Source: Chrome DevTools Protocol, domains Target, Page, Runtime, Emulation, Network.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

START_S = 60.0
WAIT_S = 60.0
CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run",
    "--disable-extensions", "--disable-background-networking", "--disable-component-update", "--lang=en-GB",
    "--disable-features=OptimizationHints,MediaRouter,Translate", "--remote-debugging-port=0",
)  # fmt: skip


class Tab:
    """One page. `trouble` is what its console and its policy complained about."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session
        self.trouble: list[str] = []

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        return await self._browser.call(method, params, self._session)

    async def go(self, url: str) -> None:
        await self.call("Page.navigate", url=url)

    async def size(self, width: int, height: int, phone: bool = False) -> None:
        scale = 2 if phone else 1
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone
        )

    async def scheme(self, name: str) -> None:
        """light or dark."""
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    async def key(self, key: str) -> None:
        """One key, down and up."""
        more = {"text": key} if len(key) == 1 else {}
        await self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **more)
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    async def eval(self, expression: str) -> Any:
        """The value of an expression, awaited if it is a promise. Raises AssertionError for an exception."""
        done = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    async def until(self, expression: str, what: str) -> Any:
        """Wait until it is true."""
        end = asyncio.get_running_loop().time() + WAIT_S
        while not (found := await self.eval(expression)):
            assert asyncio.get_running_loop().time() < end, f"not in time: {what}; {await self.eval(TEXT)}"
            await asyncio.sleep(0.05)
        return found

    async def picture(self, file: Path) -> None:
        done = await self.call("Page.captureScreenshot", format="png")
        file.write_bytes(base64.b64decode(done["data"]))


TEXT = "document.body.innerText.slice(0, 400)"


class Browser:
    def __init__(self, socket: Any) -> None:
        """`socket`: aiohttp's WebSocket to the DevTools."""
        self._socket, self._ids = socket, itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._tabs: dict[str, Tab] = {}

    async def tab(self) -> Tab:
        target = await self.call("Target.createTarget", {"url": "about:blank"})
        attached = await self.call("Target.attachToTarget", {"targetId": target["targetId"], "flatten": True})
        tab = self._tabs[attached["sessionId"]] = Tab(self, attached["sessionId"])
        for domain in ("Page", "Runtime", "Log", "Network"):
            await tab.call(f"{domain}.enable")
        return tab

    async def call(self, method: str, params: dict[str, Any], session: str = "") -> dict[str, Any]:
        number = next(self._ids)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        said = {"id": number, "method": method, "params": params}
        await self._socket.send_str(json.dumps(said | ({"sessionId": session} if session else {})))
        return await asyncio.wait_for(answer, WAIT_S)

    async def read(self) -> None:
        async for message in self._socket:
            said = json.loads(message.data)
            if "id" in said:
                waiting = self._waiting.pop(said["id"])
                if "error" in said:
                    waiting.set_exception(AssertionError(f"DevTools: {said['error']}"))
                elif not waiting.done():
                    waiting.set_result(said["result"])
            elif (tab := self._tabs.get(said.get("sessionId", ""))) is not None:
                _listen(tab, said["method"], said["params"])


def _listen(tab: Tab, method: str, params: dict[str, Any]) -> None:
    if method == "Runtime.exceptionThrown":
        details = params["exceptionDetails"]
        tab.trouble.append(str(details.get("exception", {}).get("description") or details.get("text")))
    elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
        tab.trouble.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
    elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
        tab.trouble.append(str(params["args"]))


@contextlib.asynccontextmanager
async def browser(folder: Path) -> AsyncIterator[Browser]:
    """A Chromium of its own, with its profile in `folder`."""
    assert CHROMIUM is not None
    process = await asyncio.create_subprocess_exec(
        CHROMIUM, *FLAGS, f"--user-data-dir={folder}", "about:blank",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL, env={"HOME": str(folder), "TZ": "UTC"},
    )  # fmt: skip
    try:
        port, path = await asyncio.wait_for(_address(folder / "DevToolsActivePort", process), START_S)
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(f"ws://127.0.0.1:{port}{path}", max_msg_size=0) as socket,
        ):
            made = Browser(socket)
            reading = asyncio.ensure_future(made.read())
            try:
                yield made
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _address(file: Path, process: asyncio.subprocess.Process) -> tuple[int, str]:
    while True:
        assert process.returncode is None, f"chromium ended with {process.returncode}"
        lines = file.read_text().splitlines() if file.exists() else []
        if len(lines) == 2:
            return int(lines[0]), lines[1]
        await asyncio.sleep(0.05)
