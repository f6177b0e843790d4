"""The file of `run --revoked-file`: names of nodes that a broker should hear no more, one on a line.

The hub keeps it and who runs the broker makes rules of it: `skerry-hub up` by itself. The hub hears those nodes no more
whatever the broker does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from skerry.errors import ConfigInvalid
from skerry.plan.backoff import full_jitter
from skerry.ports import Clock, Entropy
from skerry_hub import pki
from skerry_hub.enrolment.revoke import revoked_nodes
from skerry_hub.limits import REVOKED_FILE_S
from skerry_hub.ports import Obj

OPTION = "--revoked-file"
HEAD = "# Kept by skerry-hub run: nodes that were revoked.\n"


def read(path: Path) -> set[str]:
    """The names; none where there is no file. Raises OSError, UnicodeDecodeError."""
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return set()
    return {line for line in lines if line and not line.startswith("#")}


class RevokedFile:
    def __init__(
        self,
        path: Path,
        secrets: Callable[[], Mapping[tuple[str, str], Obj]],
        clock: Clock,
        entropy: Entropy,
        log: Callable[[str], None],
    ) -> None:
        """`secrets`: all that the hub follows, by namespace and name. Raises ConfigInvalid."""
        self._path, self._secrets, self._clock, self._entropy, self._log = path, secrets, clock, entropy, log
        if path.is_dir():
            raise ConfigInvalid(OPTION, f"{path}: is a directory")
        self._written: set[str] | None = None
        self._bell = asyncio.Event()

    def look(self) -> None:
        """An identity may be another."""
        self._bell.set()

    async def run(self, ready: asyncio.Event) -> None:
        """Never returns; raises nothing. `ready`: every Secret is known."""
        failures = 0
        while True:
            await ready.wait()
            self._bell.clear()
            try:
                self._keep()
                failures = 0
            except pki.PkiError as why:
                failures += 1
                self._log(f"{OPTION}: {why}") if failures == 1 else None
                wait_s = full_jitter(REVOKED_FILE_S, failures, self._entropy.uniform())
                await self._clock.sleep_until(self._clock.now() + wait_s)
                continue
            await self._bell.wait()

    def _keep(self) -> None:
        """Raises PkiError."""
        names = revoked_nodes(self._secrets())
        if names != self._written:
            text = HEAD + "".join(f"{name}\n" for name in sorted(names))
            pki.write_private(self._path, text.encode(), 0o644)
            self._written = names
