"""Keep what this process knows out of core dumps and of other processes' sight. Decides nothing."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

_PR_SET_DUMPABLE = 4  # prctl(2)


def keep_private(log: Callable[[str], object]) -> None:
    """From now on this process leaves no core dump, whoever collects them (a limit of 0 does not stop a collector that
    core_pattern pipes to), and its memory and environment are for nobody but a debugger with CAP_SYS_PTRACE: prctl(2),
    PR_SET_DUMPABLE. Programs that it starts are not concerned. Raises nothing."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        log(f"core dumps of the agent cannot be turned off: errno {ctypes.get_errno()}")
