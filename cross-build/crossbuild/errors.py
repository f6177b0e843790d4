"""What can go wrong in a build, with whose fault it is: each error names file, key and cure."""

from __future__ import annotations

from pathlib import Path


class BuildError(Exception):
    """Something that a person has to mend. Raised before anything is written, unless a command itself failed."""

    def __init__(self, file: Path | str, key: str, what: str, cure: str) -> None:
        super().__init__(f"{file}: {key}: {what}. {cure}" if key else f"{file}: {what}. {cure}")
        self.file, self.key, self.what, self.cure = str(file), key, what, cure


class DeclarationInvalid(BuildError):
    """A build.toml or a target's file says something that cannot be."""


class InputMissing(BuildError):
    """A declared input is not there, or did not stay as it was."""


class ToolMissing(BuildError):
    """A declared tool is not on this machine, or is not what its package brought."""


class CommandFailed(BuildError):
    """A unit's command failed in the sandbox, or did not write what it declared."""


class FetchFailed(BuildError):
    """A pinned file cannot be had, or came with other bytes."""


class EntryRefused(Exception):
    """An entry of a store is absent, damaged or poisoned. Never shown alone: what it stood for is built again."""
