"""GET /metrics on the device, for one Prometheus: enough of HTTP/1.1 for that, one reply per connection.

Decides where it may listen, how many ask at once and how long one may take. Refuses to know what is told. Imported only
where `metrics_listen` is set.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from skerry.limits import KIB, RECONNECT_BACKOFF_S
from skerry.plan.backoff import full_jitter
from skerry.ports import Clock, Entropy

REQUEST_BYTES_MAX = 8 * KIB
REQUEST_S = 10.0  # from the connection to the end of the reply
SCRAPES_MAX = 4  # at the same time; more are turned away


class Scrapes:
    """`text` is called for each request, on the loop."""

    def __init__(self, text: Callable[[], bytes], content_type: str) -> None:
        self._text, self._type = text, content_type
        self._open = 0

    async def serve(self, host: str, port: int, clock: Clock, entropy: Entropy, log: Callable[[str], None]) -> None:
        """Run for ever. An address that cannot be had is tried again with back-off."""
        failures = 0
        while True:
            try:
                server = await asyncio.start_server(self.answer, host, port, limit=REQUEST_BYTES_MAX)
            except OSError as why:
                failures += 1
                if failures == 1:
                    log(f"metrics: {host}:{port}: {why.strerror or why}; trying again")
                await clock.sleep_until(clock.now() + full_jitter(RECONNECT_BACKOFF_S, failures, entropy.uniform()))
                continue
            log(f"metrics: at http://{host}:{server.sockets[0].getsockname()[1]}/metrics")
            try:
                await server.serve_forever()
            finally:
                server.close()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection. Raises nothing."""
        if self._open >= SCRAPES_MAX:
            writer.close()
            return
        self._open += 1
        try:
            with suppress(OSError, ValueError, EOFError, asyncio.TimeoutError, asyncio.LimitOverrunError):
                await asyncio.wait_for(self._reply(reader, writer), REQUEST_S)
        finally:
            self._open -= 1
            writer.close()

    async def _reply(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, _version = head.split(b"\r\n", 1)[0].split(b" ")
        if target.split(b"?")[0] != b"/metrics":
            status, kind, body = "404 Not Found", "text/plain", b"there is only /metrics\n"
        elif method not in (b"GET", b"HEAD"):
            status, kind, body = "405 Method Not Allowed", "text/plain", b"only GET\n"
        else:
            status, kind, body = "200 OK", self._type, self._text()
        lines = (f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", "Connection: close")
        writer.write("\r\n".join([*lines, "", ""]).encode() + (b"" if method == b"HEAD" else body))
        await writer.drain()
