"""A container's log as a Duplex: which files it is read from, where reading begins, and when it is over.

Decides nothing about pods; whether the container still runs is asked of whoever opened it. What a line means is in
log_lines.py. Reading what is already there happens on a worker thread; a follower sleeps in inotify.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path

from skerry.errors import RuntimeAway, RuntimeFailed, StreamBroken
from skerry.limits import (
    CONTAINER_LOG_FILES_MAX,
    LOG_AWAY_S,
    LOG_CHANGEOVER_S,
    LOG_ENDED_S,
    LOG_READ_BYTES,
    LOG_TAIL_READ_BYTES,
    STREAM_CHUNK_BYTES,
)
from skerry.model.logs import file_name
from skerry.model.streams import Channel, CloseCode, Logs, Piece
from skerry.world.inotify import CLOSE_WRITE, Folder
from skerry.world.log_lines import HEADER_BYTES_MAX, Lines, tag

Runs = Callable[[], Awaitable[bool]]


async def open_log(path: Path, request: Logs, runs: Runs) -> ContainerLog:
    """The log that lies at `path`, with what was rotated away beside it where `tail_lines` reaches back so far.
    `runs`: whether its container does; may raise RuntimeAway or RuntimeFailed. Raises StreamBroken."""
    folder = None
    try:
        folder = Folder(path.parent) if request.follow else None
        files, at = await asyncio.to_thread(_files, path, request.tail_lines)
    except OSError as error:
        if folder is not None:
            folder.close()
        gone = isinstance(error, FileNotFoundError)
        problem = f"no log at {path}" if gone else f"log {path}: {error.strerror or error}"
        raise StreamBroken(CloseCode.NOT_FOUND if gone else CloseCode.FAILED, problem) from error
    return ContainerLog(path, files, at, Lines(request), folder, runs)


class ContainerLog:
    """ports.Duplex. Everything comes on STDOUT, as from kubelet."""

    def __init__(self, path: Path, files: list[int], at: int, lines: Lines, folder: Folder | None, runs: Runs) -> None:
        """`files`: descriptors, oldest first, read from offset `at` of the first one; now ours to close."""
        self._path, self._lines, self._folder, self._runs = path, lines, folder, runs
        self._files, self._at = deque(files), at
        self._out = bytearray()
        self._over = False  # nothing more is read
        self._closed = False
        self._busy = 0  # threads that use a descriptor
        self._caught_up = False  # what comes now was just written
        self._asked = False  # whether the container runs, since the folder is watched
        self._let_go = False  # who wrote the log has closed it
        self._ended = False  # the container has

    async def read(self) -> Piece | None:
        while not self._out and not self._over:
            data = await self._next()
            self._out += self._lines.feed(data)
            self._over = not data or self._lines.full
        if not self._out or self._closed:
            return None
        piece = bytes(self._out[:STREAM_CHUNK_BYTES])
        del self._out[:STREAM_CHUNK_BYTES]
        return Piece(Channel.STDOUT, piece)

    async def write(self, piece: Piece) -> None:
        """A log listens to nobody."""

    async def close(self, code: CloseCode = CloseCode.DONE, detail: str = "") -> None:
        self._closed = self._over = True
        if self._folder is not None:
            self._folder.close()
        if not self._busy:
            self._drop()

    # --- private ------------------------------------------------------------------------------------------------------

    async def _next(self) -> bytes:
        """The next piece of the file; empty at the end of all."""
        while not self._closed:
            data = await self._read(self._files[0])
            if data:
                return data
            if len(self._files) > 1:
                os.close(self._files.popleft())
                self._at, self._let_go = 0, False
                self._lines.torn()
            elif not await self._more(self._files[0]):
                break
        return b""

    async def _read(self, file: int) -> bytes:
        if self._caught_up:
            data = os.pread(file, LOG_READ_BYTES, self._at)
        else:
            self._busy += 1
            reading = asyncio.ensure_future(asyncio.to_thread(os.pread, file, LOG_READ_BYTES, self._at))
            try:
                data = await asyncio.shield(reading)
            finally:
                reading.add_done_callback(self._idle)
        self._at += len(data)
        return data

    def _idle(self, reading: asyncio.Future[bytes]) -> None:
        self._busy -= 1
        if self._closed and not self._busy:
            self._drop()

    def _drop(self) -> None:
        while self._files:
            os.close(self._files.popleft())

    async def _more(self, file: int) -> bool:
        """At the end of the newest file: wait until there may be more. False: there will never be."""
        if self._folder is None:
            return False
        self._caught_up = True
        there = os.fstat(file)
        if there.st_size < self._at:  # somebody emptied it
            self._at = 0
            self._lines.torn()
            return True
        newer = _newer(self._path, there)
        if newer:
            self._files += newer
            if not (self._let_go or self._ended):
                await self._changeover(self._folder)
            return True
        if self._ended or not there.st_nlink:
            return False
        if self._let_go or not self._asked:
            patient, self._asked, self._let_go = self._let_go, True, False
            runs = await self._running(patient)
            if runs is False:
                self._ended = True
                return True  # it may have written more before it did
            self._asked = runs is not None
        happened = await self._folder.changed(None if self._asked else LOG_AWAY_S)
        # One that was rotated away is closed when the new one is there already: that says nothing of the new one.
        current = _lies_at(self._path, there)
        self._let_go = any(one.mask & CLOSE_WRITE and (one.name == self._path.name) == current for one in happened)
        return not self._closed

    async def _changeover(self, folder: Folder) -> None:
        """Until the file that was rotated away is closed: a runtime empties its buffers into it while the new one is
        in use."""
        loop = asyncio.get_running_loop()
        end = loop.time() + LOG_CHANGEOVER_S
        while (left := end - loop.time()) > 0:
            happened = await folder.changed(left)
            if not happened or any(one.mask & CLOSE_WRITE and one.name != self._path.name for one in happened):
                return

    async def _running(self, patient: bool) -> bool | None:
        """Whether the container runs; None: nobody can tell now. Who is patient knows that its log was closed, which
        comes a little before its end is shown, and asks until it is."""
        pause, longest = LOG_ENDED_S
        waited = 0.0
        while not self._closed:
            try:
                if not await self._runs():
                    return False
            except (RuntimeAway, RuntimeFailed):
                return None
            if not patient or waited >= longest:
                break
            await asyncio.sleep(pause)
            waited += pause
            pause *= 2
        return True


def tail_start(file: int, lines_max: int) -> tuple[int, int]:
    """Where the last `lines_max` lines of the program begin, and how many there are. Reads from the end."""
    after = at = os.fstat(file).st_size
    if lines_max <= 0:
        return at, 0
    found, rest, ends = 0, b"", False  # rest: how the line begins that goes on at `at`; ends: whether it is whole
    while at > 0:
        begin = max(0, at - LOG_TAIL_READ_BYTES)
        parts = os.pread(file, at - begin, begin).split(b"\n")
        while parts:
            part = parts.pop()
            at -= len(part)
            rest = (part[:HEADER_BYTES_MAX] + rest)[:HEADER_BYTES_MAX]
            if at == begin > 0:
                break  # it begins in the piece before
            if ends and tag(rest) == b"F":
                if found == lines_max:
                    return after, found
                found += 1
            after, rest, ends = at, b"", True
            at -= bool(parts)
    return 0, found


# --- private ----------------------------------------------------------------------------------------------------------


def _files(path: Path, tail: int | None) -> tuple[list[int], int]:
    """Descriptors, oldest first, and where to begin in the first of them. Raises OSError."""
    numbers = iter(range(CONTAINER_LOG_FILES_MAX))
    files: list[int] = []
    try:
        while not files:  # between rename and reopen there is none of number 0
            number = next(numbers, None)
            if number is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
            files += _opened(path, number)
        if tail is None:
            return files, 0
        at, found = tail_start(files[0], tail)
        for number in numbers:
            older = _opened(path, number) if found < tail else []
            if not older:
                break
            files[:0] = older
            at, more = tail_start(files[0], tail - found)
            found += more
    except OSError:
        for file in files:
            os.close(file)
        raise
    return files, at


def _opened(path: Path, number: int) -> list[int]:
    try:
        return [_open(Path(file_name(str(path), number)))]
    except FileNotFoundError:
        return []


def _open(path: Path) -> int:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "is not a regular file", str(path))
    return file


def _newer(path: Path, now: os.stat_result) -> list[int]:
    """What was made after the file that is read, oldest first: a slow reader may be behind by more than one rotation.
    Between rename and reopen there is nothing."""
    found: dict[tuple[int, int], int] = {}
    for number in range(CONTAINER_LOG_FILES_MAX):
        try:
            file = _open(Path(file_name(str(path), number)))
        except OSError:
            break
        inode = _inode(os.fstat(file))
        if inode == _inode(now) or inode in found:
            os.close(file)
        if inode == _inode(now):
            break
        found.setdefault(inode, file)  # it is there already when it was renamed meanwhile
    return list(reversed(found.values()))


def _lies_at(path: Path, now: os.stat_result) -> bool:
    try:
        return _inode(path.lstat()) == _inode(now)
    except OSError:
        return False


def _inode(of: os.stat_result) -> tuple[int, int]:
    return of.st_dev, of.st_ino
