"""How an event loop and one thread wake each other: a deque and an eventfd in each direction.

A thread that sleeps in read() is awake as soon as the kernel says so. queue.SimpleQueue and call_soon_threadsafe wake
it while the waker still holds the interpreter lock, to sleep again at once. Knows nothing of what is passed on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
ONE = (1).to_bytes(8, sys.byteorder)  # what an eventfd adds to its count
COUNT_BYTES = 8


class Inbox(Generic[T]):
    """From any thread to one. That one sleeps in `get` without a timeout."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._fd = os.eventfd(0, os.EFD_CLOEXEC)

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> None:
        self._items.append(item)
        os.write(self._fd, ONE)

    def get(self) -> T:
        while not self._items:
            os.read(self._fd, COUNT_BYTES)  # unlike os.eventfd_read it goes on after a signal
        return self._items.popleft()

    def close(self) -> None:
        """Once nobody puts or gets any more."""
        os.close(self._fd)


class Callbacks:
    """From any thread to one event loop: calls that the loop makes soon. Made on that loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: deque[Callable[[], None]] = deque()
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        loop.add_reader(self._fd, self._run)

    def add(self, call: Callable[[], None]) -> None:
        """To be made after the next `ring`."""
        self._calls.append(call)

    def ring(self) -> None:
        os.write(self._fd, ONE)

    def close(self) -> None:
        """On the loop's thread, once nobody rings any more; what waits is called now, unless the loop is closed."""
        if not self._loop.is_closed():
            self._run()
            self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _run(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, COUNT_BYTES)
        while self._calls:
            self._calls.popleft()()
