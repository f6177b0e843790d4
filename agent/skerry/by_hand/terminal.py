"""A person's terminal joined to a process: raw mode, its size, standard input. Everything is put back at the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import termios
import threading
import tty
from collections.abc import Iterator

from skerry.errors import StreamBroken
from skerry.limits import STREAM_CHUNK_BYTES
from skerry.model.streams import Channel, Piece
from skerry.ports import Duplex

NO_TTY = "Unable to use a TTY - input is not a terminal or the right kind of file"  # kubectl's words


class Terminal:
    def __init__(self, stdin: bool, wants_tty: bool) -> None:
        self._stdin = stdin
        self.tty = wants_tty and stdin and os.isatty(0)
        if wants_tty and not self.tty:
            print(NO_TTY, file=sys.stderr)  # noqa: T201

    @contextlib.contextmanager
    def joined(self, process: Duplex) -> Iterator[None]:
        """Feed the process from standard input and tell it the terminal's size, until the end of the block."""
        loop = asyncio.get_running_loop()
        tasks: set[asyncio.Future[None]] = set()
        before = termios.tcgetattr(0) if self.tty else None
        try:
            if before is not None:
                tty.setraw(0)
                loop.add_signal_handler(signal.SIGWINCH, lambda: self._resize(process, tasks))
                self._resize(process, tasks)
            if self._stdin:
                threading.Thread(target=_feed, args=(process, loop), daemon=True).start()
            yield
        finally:
            for task in tasks:
                task.cancel()
            if before is not None:
                loop.remove_signal_handler(signal.SIGWINCH)
                termios.tcsetattr(0, termios.TCSADRAIN, before)

    @staticmethod
    def _resize(process: Duplex, tasks: set[asyncio.Future[None]]) -> None:
        size = os.get_terminal_size(0)
        said = json.dumps({"Width": size.columns, "Height": size.lines}).encode()
        task = asyncio.ensure_future(_write(process, Piece(Channel.RESIZE, said)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


def _feed(process: Duplex, loop: asyncio.AbstractEventLoop) -> None:
    """On a thread of its own, which ends with this program: reading a file, a pipe and a terminal all block."""
    with contextlib.suppress(RuntimeError, OSError):  # the loop has ended, or the terminal is gone
        while True:
            data = os.read(0, STREAM_CHUNK_BYTES)
            piece = Piece(Channel.STDIN, data, end=not data)
            asyncio.run_coroutine_threadsafe(_write(process, piece), loop).result()
            if not data:
                return


async def _write(process: Duplex, piece: Piece) -> None:
    with contextlib.suppress(StreamBroken):  # it has ended: reading says how
        await process.write(piece)
