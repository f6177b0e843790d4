"""The files of a container's log, what was seen of them, and what may be done with them. The runtime writes number 0
and never ends it.
"""

from __future__ import annotations

from dataclasses import dataclass


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


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of the log of a running container, and when it is looked at again. Monotonic seconds."""

    at: float
    size: int | None  # bytes that are left in number 0; None before the first look
    soonest: float  # from when on it may be looked at together with others
    latest: float
    quiet: bool = False  # nothing was written since the look before: its next write is worth hearing


def file_name(log: str, number: int) -> str:
    """Of the file with this number, beside or instead of `log`: 0.log, 0.log.1, 0.log.2."""
    return f"{log}.{number}" if number else log
