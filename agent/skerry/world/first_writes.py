"""The next write to each of some files, heard once: a file that is written without end costs one event, not one a line.

Knows files by the names that its user gives them, and nothing of what they are. By inotify(7), IN_ONESHOT.
"""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

from skerry.errors import WatchesSpent
from skerry.limits import LOG_WATCHES_MAX
from skerry.world.inotify import DONT_FOLLOW, IGNORED, MODIFY, ONESHOT, OVERFLOW, Inotify

SPENT = (errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # inotify_init(2), inotify_add_watch(2)


class FirstWrites:
    """Opens its queue with the first file. Until then, and while nothing is watched, it costs nothing."""

    def __init__(self) -> None:
        self._inotify: Inotify | None = None
        self._open = asyncio.Event()
        self._names: dict[int, str] = {}  # by the watch's number
        self._watches: dict[str, int] = {}

    def watch(self, name: str, file: Path) -> None:
        """`written` tells `name` once `file` is written. What else had that name is forgotten; a file that is not there
        is not watched. Raises WatchesSpent, and OSError for what else is wrong with it."""
        if name not in self._watches and len(self._watches) >= LOG_WATCHES_MAX:
            raise WatchesSpent(f"LOG_WATCHES_MAX ({LOG_WATCHES_MAX}) files are watched")
        try:
            if self._inotify is None:
                self._inotify = Inotify()
                self._open.set()
            number = self._inotify.add(file, MODIFY | ONESHOT | DONT_FOLLOW)
        except FileNotFoundError:
            self.forget(name)
            return
        except OSError as why:
            if why.errno in SPENT:
                raise WatchesSpent(f"the kernel watches no more files: {why.strerror}") from why
            raise
        if self._watches.get(name) != number:
            self.forget(name)
            self._watches[name], self._names[number] = number, name

    def forget(self, name: str) -> None:
        """Idempotent. What has happened is told nevertheless."""
        number = self._watches.pop(name, None)
        if number is not None and self._inotify is not None:
            self._inotify.remove(number)

    async def written(self) -> frozenset[str]:
        """Waits until one of the files has been written; those that have. They are not watched any more. Empty once it
        is closed. Nothing is lost where it is cancelled."""
        await self._open.wait()
        found: set[str] = set()
        while self._inotify is not None and not found:
            for one in await self._inotify.changed():
                name = self._names.get(one.watch)
                if name is not None and one.mask & MODIFY:
                    found.add(name)
                if name is not None and one.mask & IGNORED:  # the watch is no more: written, deleted or forgotten
                    del self._names[one.watch]
                    if self._watches.get(name) == one.watch:
                        del self._watches[name]
                if one.mask & OVERFLOW:  # what was lost nobody knows
                    found |= self._watches.keys()
                    for lost in found:
                        self.forget(lost)
                    self._names.clear()
        return frozenset(found)

    def close(self) -> None:
        """Idempotent; ends `written`."""
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None
        self._open.set()
