"""The files of a container's log, and what may be done with them. The runtime writes number 0 and never ends it."""

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


def file_name(log: str, number: int) -> str:
    """Of the file with this number, beside or instead of `log`: 0.log, 0.log.1, 0.log.2."""
    return f"{log}.{number}" if number else log
