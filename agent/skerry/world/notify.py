"""The service manager's socket and its watchdog: sd_notify(3), sd_watchdog_enabled(3). Decides nothing."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Supervisor:
    """`socket_name` is a path or, with @, an abstract name; empty: there is none, and every message is lost."""

    socket_name: str = ""
    watchdog_s: float = 0.0  # 0: it watches nobody

    @staticmethod
    def of_environment(env: Mapping[str, str] = os.environ) -> Supervisor:
        """$NOTIFY_SOCKET, $WATCHDOG_USEC and $WATCHDOG_PID. A watchdog meant for another process, or for nobody, is
        none."""
        name, usec, pid = (env.get(key, "") for key in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"))
        mine = usec.isascii() and usec.isdigit() and pid in ("", str(os.getpid()))
        return Supervisor(name, int(usec) / 1_000_000 if name and mine else 0.0)

    def notify(self, state: str) -> None:
        """Never waits: a message that the manager has no room for is lost, and the next one tells it."""
        name = self.socket_name
        if not name:
            return
        address = "\0" + name[1:] if name.startswith("@") else name  # abstract, unix(7)
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto(state.encode(), address)
