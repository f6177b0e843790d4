"""The endpoint's certificate, key and client authorities where they are files that somebody renews.

Decides when they are read again: soon after one of them has changed, and until what they hold can be used. What cannot
changes nothing (a pair half written, a key of another certificate). Refuses to know who writes them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from skerry.errors import ConfigInvalid
from skerry.ports import Clock, Entropy
from skerry_hub.kubelet.options import KeyFile
from skerry_hub.kubelet.serve import ServingKeys
from skerry_hub.limits import KUBELET_FILES_S

Stamp = tuple[int, int, int]  # inode, bytes, nanoseconds since 1970 of the last change


class Renewable(Protocol):
    """What is served with keys, as `KubeletEndpoints`."""

    @property
    def keys(self) -> ServingKeys: ...

    def renew(self, keys: ServingKeys) -> None:
        """Raises ConfigInvalid and changes nothing."""


async def follow(
    files: Sequence[KeyFile], served: Renewable, clock: Clock, entropy: Entropy, log: Callable[[str], None]
) -> None:
    """Never returns, raises nothing. Each kind of trouble is one line in the log, however long it lasts."""
    good: list[Stamp | None] = []  # of the files as they were used last; a first look may be late for a change
    told = ""
    while True:
        first, last = KUBELET_FILES_S
        await clock.sleep_until(clock.now() + first + (last - first) * entropy.uniform())
        now = [_stamp(file.path) for file in files]  # before they are read: what changes meanwhile is seen next time
        if now == good:
            continue
        try:
            if _renewed(files, served):
                log("kubelet endpoint: has read its certificate, key and client authorities again")
            good, told = now, ""
        except ConfigInvalid as why:
            if told != str(why):
                log(f"kubelet endpoint: {why}; what was read before stays in use")
            told = str(why)


def _renewed(files: Sequence[KeyFile], served: Renewable) -> bool:
    """Whether the files held something else than what is served. Raises ConfigInvalid."""
    keys = replace(served.keys, **{file.field: file.read() for file in files})
    if keys == served.keys:
        return False
    served.renew(keys)
    return True


def _stamp(path: Path) -> Stamp | None:
    """None for a file that is not there: reading it tells why."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
