"""The folder where a hub keeps its keys and all else: made for its owner alone, or found so that nobody else can put
anything into it. Knows nothing of what is kept.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from skerry.errors import SkerryError

OWN = 0o700


class FolderError(SkerryError):
    """A folder cannot be used. `str()` begins with its path."""


def private(folder: Path) -> None:
    """Have it, mode 0700 if it is new. One that is there is left as it is: it may be /tmp, by mistake. Raises
    FolderError, also where somebody else owns it or may write to it, who could put a link in the place of a key."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=OWN)
        found = folder.stat()
    except OSError as why:
        raise FolderError(f"{folder}: {why.strerror}") from None
    if found.st_uid not in (0, os.geteuid()):
        raise FolderError(f"{folder}: belongs to another user (uid {found.st_uid})")
    ours = found.st_gid in (os.getegid(), *os.getgroups())  # a volume that a group is given, or a umask of 002
    if found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and not ours):
        raise FolderError(f"{folder}: others may write to it; name another folder, or chmod go-w")
