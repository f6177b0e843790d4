"""The journal's second copy: `desired.0` and `desired.1`, written in turn, each whole or not there.

A file is a header (magic, format, sequence, length, SHA-256) and the content; docs/journal-format.md describes it. It
is portable between 32 and 64 bit, which LMDB's file is not. What the content means is the journal's business.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import struct
from pathlib import Path

MAGIC = b"skerryD\0"
FORMAT = 1
HEAD = struct.Struct(">8sHHQQ")  # magic, format, zero, sequence, length; then 32 bytes SHA-256 of head and content
DIGEST_BYTES = 32
NAMES = ("desired.0", "desired.1")
TEMP = "desired.tmp"


def seal_copy(sequence: int, content: bytes) -> bytes:
    """The file's bytes."""
    head = HEAD.pack(MAGIC, FORMAT, 0, sequence, len(content))
    return head + hashlib.sha256(head + content).digest() + content


def open_copy(data: bytes) -> tuple[int, bytes] | None:
    """Sequence and content, or None if anything about the file is wrong."""
    start = HEAD.size + DIGEST_BYTES
    if len(data) < start:
        return None
    head = data[: HEAD.size]
    magic, form, zero, sequence, length = HEAD.unpack(head)
    content = data[start:]
    if magic != MAGIC or form != FORMAT or zero != 0 or length != len(content):
        return None
    if hashlib.sha256(head + content).digest() != data[HEAD.size : start]:
        return None
    return sequence, content


def read_copies(folder: Path) -> list[bytes]:
    """The valid contents, newest first."""
    found = sorted((copy for copy in map(_read, _paths(folder)) if copy is not None), reverse=True)
    return [content for _, content in found]


class CopyPair:
    """Writes the pair. One thread at a time; OSError goes to the caller, with the newest file untouched."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / TEMP).unlink(missing_ok=True)
        found = [_read(path) for path in _paths(folder)]
        self._sequences = [copy[0] if copy is not None else 0 for copy in found]
        self._unsettled: int | None = None  # the slot of a write that may still be undone

    def write(self, content: bytes, make_room: bool = False) -> int:
        """Replace the older file and return the bytes written. With `make_room` the older file goes first when the
        disk is full."""
        slot = 0 if self._sequences[0] <= self._sequences[1] else 1
        sequence = max(self._sequences) + 1
        data = seal_copy(sequence, content)
        temp, target = self._folder / TEMP, self._folder / NAMES[slot]
        try:
            _write(temp, data)
        except OSError as problem:
            temp.unlink(missing_ok=True)
            if not make_room or problem.errno != errno.ENOSPC:
                raise
            target.unlink(missing_ok=True)
            self._sequences[slot] = 0
            try:
                _write(temp, data)
            except OSError:
                temp.unlink(missing_ok=True)
                raise
        temp.replace(target)
        self._unsettled = slot
        self._sequences[slot] = sequence
        sync_folder(self._folder)
        return len(data)

    def settle(self) -> None:
        """The last write stays."""
        self._unsettled = None

    def undo(self) -> None:
        """Take an unsettled write back: what it replaced is gone, the other file is the newest again."""
        if self._unsettled is not None:
            with contextlib.suppress(OSError):
                (self._folder / NAMES[self._unsettled]).unlink(missing_ok=True)
                sync_folder(self._folder)
            self._sequences[self._unsettled] = 0
            self._unsettled = None


def sync_folder(folder: Path) -> None:
    """fsync a folder, so that names made or moved in it survive a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _paths(folder: Path) -> list[Path]:
    return [folder / name for name in NAMES]


def _read(path: Path) -> tuple[int, bytes] | None:
    try:
        return open_copy(path.read_bytes())
    except OSError:
        return None


def _write(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)
