"""A process of the rig: its real pid on this machine, its log file, and how it is ended and waited for.

Also `until`, the one way the rig waits: for a condition, up to a deadline, never for a fixed time.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

# How long a slow and busy machine may take; a quick one waits for none of it.
START_TIMEOUT_S = 30.0
WAIT_TIMEOUT_S = 60.0
POLL_FIRST_S = 0.002
POLL_LAST_S = 0.1
LOG_TAIL_LINES = 20


class RigError(Exception):
    """Something of the rig did not come up, did not end or did not happen in time; says what, with the log's end."""


def until(
    condition: Callable[[], T], what: str, timeout_s: float = WAIT_TIMEOUT_S, explain: Callable[[], str] | None = None
) -> T:
    """Call `condition` until it returns something true, and return that; RigError names `what` when time is up."""
    deadline = time.monotonic() + timeout_s
    pause = POLL_FIRST_S
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise RigError(f"not within {timeout_s:g} s: {what}" + (f"\n{explain()}" if explain else ""))
        time.sleep(pause)
        pause = min(pause * 1.5, POLL_LAST_S)


class Process:
    """A process started in a namespace. `pid` is its pid on this machine, so /proc/PID and signals work from here."""

    def __init__(
        self, name: str, argv: list[str], launcher: subprocess.Popen[bytes], log: Path, log_start: int = 0
    ) -> None:
        self.name = name
        self.argv = argv
        self.log_path = log
        self._log_start = log_start
        self._launcher = launcher
        self.pid = until(self._find, f"{name} to start", START_TIMEOUT_S, self._explain) or 0

    def _find(self) -> int | None:
        """The launcher (nsenter) forks the process into the pid namespace and waits for it."""
        if self._launcher.poll() is not None:
            return -1  # it ran and ended, which is not for us to judge
        return next(iter(children(self._launcher.pid)), None)

    @property
    def running(self) -> bool:
        return self._launcher.poll() is None

    @property
    def returncode(self) -> int | None:
        """As of subprocess: None while it runs, negative for a signal."""
        return self._launcher.poll()

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._signal(signal.SIGKILL)
        self.wait()

    def stop(self, timeout_s: float = WAIT_TIMEOUT_S) -> int:
        """SIGTERM, wait; RigError if it does not end in time. Returns its exit status."""
        self._signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def signal(self, number: int) -> None:
        self._signal(number)
        if number == signal.SIGCONT and self.running:
            self._launcher.send_signal(number)  # nsenter stopped itself when it saw its child stop

    def wait(self, timeout_s: float = WAIT_TIMEOUT_S) -> int:
        try:
            return self._launcher.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise RigError(f"{self.name} did not end within {timeout_s:g} s\n{self._explain()}") from None

    def log(self) -> str:
        """All that it has printed, standard output and error as one; earlier processes of that name not included."""
        return self.log_path.read_bytes()[self._log_start :].decode(errors="replace")

    def wait_log(self, pattern: str, timeout_s: float = WAIT_TIMEOUT_S) -> re.Match[str]:
        """Wait until the log has a match of `pattern`; RigError at once when the process has ended without one."""

        def found() -> re.Match[str] | None:
            ended = not self.running
            match = re.search(pattern, self.log(), re.MULTILINE)
            if ended and match is None:
                what = f"{self.name} ended ({self.returncode}) before it printed {pattern!r}"
                raise RigError(f"{what}\n{self._explain()}")
            return match

        match = until(found, f"{self.name} to print {pattern!r}", timeout_s, self._explain)
        assert match is not None
        return match

    def _signal(self, number: int) -> None:
        if self.running and self.pid > 0:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return

    def _explain(self) -> str:
        tail = self.log().splitlines()[-LOG_TAIL_LINES:]
        return "\n".join([f"-- end of {self.log_path}", *tail])


def children(parent: int) -> list[int]:
    """The processes whose parent is `parent` (not every kernel offers /proc/PID/task/TID/children)."""
    return [pid for pid in pids() if parent_of(pid) == parent]


def pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - 5x faster than iterdir


def parent_of(pid: int) -> int | None:
    stat = stat_fields(pid)
    return int(stat[1]) if stat else None


def start_time(pid: int) -> int | None:
    """When the process started, in clock ticks since boot (proc(5) starttime); with the pid it names one process."""
    stat = stat_fields(pid)
    return int(stat[19]) if stat else None


def stat_fields(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from `state` on; None when the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
