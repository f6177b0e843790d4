"""Serves a store's `ac/` and `cas/` over plain HTTP: GET, and PUT when writable. Decides only what may be written.

A blob is taken when its bytes have its name, an entry when it reads as one of its key; the seal is the readers'
business, the server has no secret. Nothing else of the folder can be reached.
"""

from __future__ import annotations

import re
import tempfile
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from crossbuild.errors import EntryRefused
from crossbuild.keys import file_digest
from crossbuild.limits import BLOB_BYTES_MAX, CHUNK_BYTES, ENTRY_BYTES_MAX, REMOTE_TIMEOUT_S
from crossbuild.store import Folder, readable_entry

_PATH = re.compile(r"/(ac|cas)/([0-9a-f]{64})")


def server(folder: Path, host: str, port: int, *, writable: bool) -> ThreadingHTTPServer:
    """A server that is bound and not yet serving; port 0 takes a free one."""

    class Requests(_Requests):
        store, may_write = Folder(folder), writable

    return ThreadingHTTPServer((host, port), Requests)


class _Requests(BaseHTTPRequestHandler):
    store: Folder
    may_write: bool
    timeout = REMOTE_TIMEOUT_S  # of a silent connection

    def do_GET(self) -> None:
        found = _PATH.fullmatch(self.path)
        with self.store.open(*found.groups()) if found else nullcontext() as file:
            if file is None:
                self._answer(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(file.seek(0, 2)))
            self.end_headers()
            file.seek(0)
            while chunk := file.read(CHUNK_BYTES):
                self.wfile.write(chunk)

    def do_PUT(self) -> None:
        found, length = _PATH.fullmatch(self.path), self.headers.get("Content-Length", "")
        self.close_connection = True  # a body may be left unread
        if not found or not self.may_write:
            self._answer(404 if not found else 403)
        elif not length.isdecimal() or int(length) > (ENTRY_BYTES_MAX if found[1] == "ac" else BLOB_BYTES_MAX):
            self._answer(413)
        else:
            self._answer(self._take(found[1], found[2], int(length)))

    def _take(self, kind: str, name: str, length: int) -> int:
        with tempfile.NamedTemporaryFile(dir=self.store.root) as spare:
            left = length
            while left and (chunk := self.rfile.read(min(left, CHUNK_BYTES))):
                spare.write(chunk)
                left -= len(chunk)
            spare.flush()
            if left or not _may_keep(kind, name, Path(spare.name)):
                return 422
            self.store.put(kind, name, Path(spare.name))
        return 201

    def _answer(self, code: int) -> None:
        self.send_response(code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Silent: the builders say what they did."""


def _may_keep(kind: str, name: str, file: Path) -> bool:
    if kind == "cas":
        return file_digest(file) == name
    try:
        readable_entry(name, file.read_bytes())
    except EntryRefused:
        return False
    return True
