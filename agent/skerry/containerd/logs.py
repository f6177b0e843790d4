"""The folder of a pod's log files: made before containerd writes into it, emptied when a container is removed.

Deletes nothing outside the folder of logs, whatever path the runtime names.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

FOLDER_MODE = 0o755


def make_folder(folder: Path) -> None:
    """Idempotent. A failure is left to the runtime, which cannot write there either and says it in its own error."""
    with contextlib.suppress(OSError):
        folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)


def remove(log_dir: Path, log: Path) -> None:
    """Delete a log, rotated ones beside it, and the folders that are empty then, up to `log_dir`. Best effort."""
    if ".." in log.parts or log_dir not in log.parents:
        return
    with contextlib.suppress(OSError):
        for file in log.parent.glob(f"{log.name}*"):
            file.unlink(missing_ok=True)
        for folder in log.parents:
            if folder == log_dir:
                break
            folder.rmdir()
