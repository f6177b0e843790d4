"""One run of the rig: its random id, its temp folder, and what is left of earlier runs whose owner is gone.

A run holds a lock on a file in its folder for as long as its process lives; a folder whose lock can be had is stale.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import signal
import tempfile
from pathlib import Path

from . import cgroups

PREFIX = "skerry-"
LOCK = "lock"


class Run:
    """The id (8 hex digits, in every name), the folder, and the control group `skerry-ID` above all others."""

    def __init__(self, keep: bool | None = None) -> None:
        sweep()
        self.id = secrets.token_hex(4)
        self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{self.id}-"))
        self.folder.chmod(0o755)  # mosquitto and others give up root and must still reach their files
        self.cgroup = f"{PREFIX}{self.id}"
        self._keep = bool(os.environ.get("RIG_KEEP")) if keep is None else keep
        self._lock = os.open(self.folder / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def close(self) -> None:
        """Remove the control group and the folder (kept when RIG_KEEP is set, to look at the logs)."""
        cgroups.remove(self.cgroup)
        if not self._keep:
            shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)


def sweep() -> list[Path]:
    """Remove what runs have left whose owner was killed; return their folders. Never touches a run that lives."""
    swept = []
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}????????-*"):
        lock = folder / LOCK
        if not lock.exists() or lock.stat().st_uid != os.getuid():
            continue
        with lock.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            run_id = folder.name[len(PREFIX) :].partition("-")[0]
            for pid in cgroups.processes(f"{PREFIX}{run_id}"):
                os.kill(pid, signal.SIGKILL)
            cgroups.remove(f"{PREFIX}{run_id}")
            shutil.rmtree(folder, ignore_errors=True)
            swept.append(folder)
    return swept
