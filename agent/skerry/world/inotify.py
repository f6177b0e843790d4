"""Waiting for files to change, by inotify(7). The kernel's queue is bounded; what overflows it is one event.

Decides nothing: an event says that something happened to a name, whoever asked looks what.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from dataclasses import dataclass
from pathlib import Path

MODIFY, CLOSE_WRITE, MOVED_FROM, MOVED_TO, CREATE, DELETE = 0x2, 0x8, 0x40, 0x80, 0x100, 0x200
DELETE_SELF, OVERFLOW, IGNORED = 0x400, 0x4000, 0x8000
ONLYDIR, DONT_FOLLOW, ONESHOT = 0x1000000, 0x2000000, 0x80000000
_HEADER = struct.Struct("iIII")  # watch, mask, cookie, length of the name that follows
_READ_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Happened:
    mask: int
    name: str  # in the folder; empty when it is what is watched itself
    watch: int = -1  # as `add` gave it; -1 of an overflow


class Inotify:
    """One queue of events. Raises OSError, also when the kernel allows no more of these."""

    def __init__(self) -> None:
        self._ready = asyncio.Event()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = _checked(self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK), "inotify")

    def add(self, path: Path, mask: int) -> int:
        """Hear of `path` from now on; the number that its events bear, which is the same for the same file. Raises
        OSError."""
        return _checked(self._libc.inotify_add_watch(self._fd, os.fsencode(path), mask), str(path))

    def remove(self, watch: int) -> None:
        """One that is gone already is no error."""
        self._libc.inotify_rm_watch(self._fd, watch)

    async def changed(self, timeout_s: float | None = None) -> tuple[Happened, ...]:
        """What happened since the last call, as much as fits; waits until something has. Empty after `timeout_s`
        seconds, and once it is closed. Nothing is lost where it is cancelled."""
        loop = asyncio.get_running_loop()
        if self._fd < 0:
            return ()
        self._ready.clear()
        loop.add_reader(self._fd, self._ready.set)
        try:
            await asyncio.wait_for(self._ready.wait(), timeout_s)
            return happened(os.read(self._fd, _READ_BYTES)) if self._fd >= 0 else ()
        except (asyncio.TimeoutError, BlockingIOError):
            return ()
        finally:
            if self._fd >= 0:
                loop.remove_reader(self._fd)

    def close(self) -> None:
        """Idempotent; ends `changed`."""
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
            self._ready.set()


class Folder(Inotify):
    """Hears of the files of one folder from now on. Raises OSError, also when the kernel allows no more of these."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        try:
            self.add(folder, MODIFY | CLOSE_WRITE | MOVED_FROM | MOVED_TO | CREATE | DELETE | DELETE_SELF | ONLYDIR)
        except OSError:
            os.close(self._fd)
            raise


def happened(data: bytes) -> tuple[Happened, ...]:
    """The events in what inotify's descriptor gave."""
    found, at = [], 0
    while at < len(data):
        watch, mask, _, length = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        found.append(Happened(mask, os.fsdecode(data[at : at + length].rstrip(b"\0")), watch))
        at += length
    return tuple(found)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result
