"""QEMU's control socket (QMP): one command, one answer; events in between are skipped."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from rig import RigError

ANSWER_TIMEOUT_S = 30.0


def dial(path: Path) -> socket.socket | None:
    """A connection to one of QEMU's sockets; None when it does not listen yet (the file is there a moment before)."""
    made = socket.socket(socket.AF_UNIX)
    try:
        made.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError):
        made.close()
        return None
    return made


class Qmp:
    """Speaks over a connected socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._socket.settimeout(ANSWER_TIMEOUT_S)
        self._file = self._socket.makefile("rw")
        self._answer("QMP")
        self.run("qmp_capabilities")

    def run(self, command: str, **arguments: Any) -> Any:
        """Run one command. RigError with QEMU's reason when it refuses."""
        self._file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._file.flush()
        return self._answer("return")

    def link(self, up: bool) -> None:
        """The cable in or out; the guest sees the carrier."""
        self.run("set_link", name="nic0", up=up)

    def close(self) -> None:
        self._socket.close()

    def _answer(self, key: str) -> Any:
        for line in self._file:
            said = json.loads(line)
            if "error" in said:
                raise RigError(f"QEMU refused: {said['error']}")
            if key in said:
                return said[key]
        raise RigError("QEMU closed its control socket")
