"""New certificates for the keys that this device has, from the hub that it is enrolled at, also after the old ones have
ended. Blocks, and runs in a child of the agent for the reason that world.enrolment gives.

The identity is replaced once everything that the hub gave was tried.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from skerry import identity
from skerry.errors import EnrolmentRefused, SkerryError
from skerry.ports import DeviceKeys
from skerry.wire.enrolment import renewal, statement_of
from skerry.world.device_key import KeysInFiles
from skerry.world.enrolment import ANEW, REFUSED, Hub, check, current
from skerry.world.private_memory import keep_private
from skerry.world.sodium import Sodium

UNCHANGED = 3


def renew(folder: Path, keys: DeviceKeys) -> bool:
    """Whether the hub gave anything else than there is. `folder` is data_dir. Raises EnrolmentRefused, EnrolmentFailed,
    KeyFailed."""
    with identity.locked(folder):
        had = current(folder)
        if had is None:
            raise EnrolmentRefused(f"this device is not enrolled: {ANEW}")
        ours, key, hub = had.issued, keys.again(had.keys.key), Hub.at(had.issued.url)
        challenge = hub.challenge(ours.ca)
        csr = key.csr(ours.node)
        who = bytes.fromhex(had.keys.seed), ours.node, challenge.value, csr, statement_of(ours)
        issued = hub.renew(ours.ca, renewal(Sodium(), *who))
        check(issued, ours.node, key)
        if replace(issued, statement=ours.statement) == ours:  # which is signed anew each time
            return False
        identity.write(folder, replace(had, issued=issued))
        return True


def child(folder: str, say: Callable[[str], object] = sys.stderr.write) -> int:
    """`renew` as a process: 0 when there is a new identity, UNCHANGED, REFUSED, or 1 when asking again may help; why is
    one line."""
    keep_private(say)
    try:
        return 0 if renew(Path(folder), KeysInFiles()) else UNCHANGED
    except SkerryError as why:
        say(f"{why}\n")
        return REFUSED if isinstance(why, EnrolmentRefused) else 1
