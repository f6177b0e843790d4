"""When a container's log is rotated, and what its files are called.

The runtime writes one file and never ends it: `0.log` is what it writes, `0.log.1` what was renamed last, `0.log.2`
what was renamed before. Numbers, not times as kubelet has them: a board's clock may go back. Nothing is compressed:
that costs more of a board's processor than it saves of its card. Touches no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from skerry.limits import CONTAINER_LOG_FILES_MAX


@dataclass(frozen=True, slots=True)
class Rename:
    """Files by number: 0 is the one that is written. What has the new number is replaced."""

    number: int
    to: int


@dataclass(frozen=True, slots=True)
class Delete:
    number: int


@dataclass(frozen=True, slots=True)
class Reopen:
    """The runtime has to write into a new file."""


LogStep = Rename | Delete | Reopen


def rotation(files: Mapping[int, int], bytes_max: int) -> tuple[LogStep, ...]:
    """The steps, in order, for the log of a running container. `files`: number to size in bytes. After a crash between
    two of them, or a failed Reopen, the next call gives what is missing."""
    steps: list[LogStep] = [Delete(n) for n in sorted(files) if n >= CONTAINER_LOG_FILES_MAX]
    if 0 not in files:
        return (*steps, Reopen()) if files else ()
    if files[0] >= bytes_max:
        free = next(n for n in range(1, CONTAINER_LOG_FILES_MAX) if n not in files or n + 1 == CONTAINER_LOG_FILES_MAX)
        steps += [Rename(n, n + 1) for n in range(free - 1, -1, -1)]
        steps.append(Reopen())
    return tuple(steps)


def file_name(log: str, number: int) -> str:
    """Of the file with this number, beside or instead of `log`."""
    return f"{log}.{number}" if number else log
