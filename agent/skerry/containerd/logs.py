"""The files of a container's log: their folder made before containerd writes there, rotated, deleted in the end.

Touches nothing outside the folder of logs, whatever path the runtime names.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from skerry.errors import RuntimeFailed
from skerry.model.logs import file_name

FOLDER_MODE = 0o755


class Writes(Protocol):
    """Who hears of the next write to a file: world.first_writes.FirstWrites."""

    def watch(self, name: str, file: Path) -> None:
        """Raises WatchesSpent or OSError."""

    async def written(self) -> frozenset[str]: ...

    def close(self) -> None: ...


def make_folder(folder: Path) -> None:
    """Idempotent. A failure is left to the runtime, which cannot write there either and says it in its own error."""
    with contextlib.suppress(OSError):
        folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)


def inside(log_dir: Path, log: Path) -> bool:
    return ".." not in log.parts and log_dir in log.parents


def sizes(log: Path) -> dict[int, int]:
    """Bytes by number. Files that are not of the log's are not among them."""
    found = {}
    for file in log.parent.glob(f"{log.name}*"):
        number = file.name.removeprefix(log.name).removeprefix(".") or "0"
        if number.isascii() and number.isdigit() and file.name == file_name(log.name, int(number)):
            with contextlib.suppress(FileNotFoundError):
                found[int(number)] = file.lstat().st_size
    return found


def rename(log: Path, number: int, to: int) -> None:
    """Raises RuntimeFailed."""
    with _told("RenameLog"):
        Path(file_name(str(log), number)).replace(file_name(str(log), to))


def watch(writes: Writes, container_id: str, log: Path) -> None:
    """Raises WatchesSpent or RuntimeFailed."""
    with _told("WatchLog"):
        writes.watch(container_id, log)


def delete(log: Path, number: int) -> None:
    """Raises RuntimeFailed."""
    with _told("DeleteLog"):
        Path(file_name(str(log), number)).unlink(missing_ok=True)


def remove(log_dir: Path, log: Path) -> None:
    """Delete a log, rotated ones beside it, and the folders that are empty then, up to `log_dir`. Best effort."""
    if not inside(log_dir, log):
        return
    with contextlib.suppress(OSError):
        for file in log.parent.glob(f"{log.name}*"):
            file.unlink(missing_ok=True)
        for folder in log.parents:
            if folder == log_dir:
                break
            folder.rmdir()


@contextlib.contextmanager
def _told(call: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RuntimeFailed(call, "INTERNAL", f"{error.filename}: {error.strerror}") from error
