"""Why an image cannot be made: which file, which key in it, and what cures it."""

from __future__ import annotations


class Refusal(Exception):
    """Wrong or missing input. `where` is a path below the repository, `key` a key, a path or an option in it."""

    def __init__(self, where: str, key: str, why: str, cure: str) -> None:
        super().__init__(f"{where}: {key}: {why}; {cure}" if key else f"{where}: {why}; {cure}")
        self.where, self.key, self.why, self.cure = where, key, why, cure


class ToolFailed(Exception):
    """A program that is needed is missing or ended with an error; the end of what it said is in the message."""
