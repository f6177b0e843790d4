"""`skerry get|logs|exec|restart`: what a person at the box does by hand, without hub and without the agent.

`known` reads the journal, `rows` says what kubectl would show, `streams` and `terminal` talk to the container runtime.
Nothing here writes the journal: what is changed in the runtime the agent finds out, as it would any accident.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable

from skerry.config import Config
from skerry.errors import RuntimeAway, RuntimeFailed, SkerryError, StreamBroken

INTERRUPTED = 130  # as a shell says of ^C


def run(config: Config, args: argparse.Namespace) -> int:
    """The exit code of logs, exec or restart: the command's own of exec. Raises SkerryError."""
    from skerry.by_hand import streams

    commands: dict[str, Callable[..., int]] = {
        "logs": lambda: asyncio.run(streams.logs(config, args)),
        "exec": lambda: asyncio.run(streams.execute(config, args)),
        "restart": lambda: asyncio.run(streams.restart(config, args)),
    }
    try:
        return commands[args.command]()
    except (KeyboardInterrupt, asyncio.CancelledError):
        return INTERRUPTED
    except RuntimeAway as why:
        raise SkerryError(f"the container runtime is away ({config.containerd_socket}): {why}") from None
    except RuntimeFailed as why:
        raise SkerryError(why.message) from None
    except StreamBroken as why:
        sys.stdout.flush()
        raise SkerryError(str(why)) from None
