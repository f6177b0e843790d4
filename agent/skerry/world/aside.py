"""Work that may block, one piece at a time, in a daemon thread: a look-up of a name may hang, and must neither stall
the event loop nor keep the process from ending."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from skerry.errors import LinkLost

T = TypeVar("T")


class Aside:
    """`what` is how the work is called when it fails."""

    def __init__(self, what: str, timeout_s: float) -> None:
        self._what, self._timeout_s = what, timeout_s
        self._over = threading.Event()  # the last piece is, which is set before anybody hears of it
        self._over.set()

    async def do(self, work: Callable[[], T]) -> T:
        """Raises what `work` raises, and LinkLost where it does not end."""
        if not self._over.is_set():
            raise LinkLost(f"the last attempt to {self._what} is still under way")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def run() -> None:
            try:
                outcome: T | Exception = work()
            except Exception as why:
                outcome = why
            over.set()
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_hand_over, answer, outcome)

        over = self._over = threading.Event()
        threading.Thread(target=run, name="skerry-aside", daemon=True).start()
        done, _ = await asyncio.wait({answer}, timeout=self._timeout_s)
        if not done:
            answer.cancel()
            raise LinkLost(f"the attempt to {self._what} does not end")
        return answer.result()


def _hand_over(answer: asyncio.Future[T], outcome: T | Exception) -> None:
    if answer.done():
        return
    if isinstance(outcome, Exception):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)
