"""What happened to one device's session, and to all: integers that only grow."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from operator import attrgetter


@dataclass(slots=True)
class SessionCounts:
    frames: int = 0  # received, dropped ones included
    wills: int = 0
    hellos: int = 0
    reports: int = 0  # Report frames taken
    sent: int = 0  # frames handed to the broker
    bytes_in: int = 0  # of frames, MQTT payload; streams are counted elsewhere
    bytes_out: int = 0
    dropped_queue: int = 0  # SESSION_QUEUE_FRAMES_MAX frames were waiting
    dropped_credit: int = 0  # Reports beyond the credit
    dropped_hello: int = 0  # Hellos closer together than HELLO_EACH_S
    malformed: int = 0
    refused: int = 0  # frames that the device did not make, or made for a session that this hub does not know
    replayed: int = 0  # frames that came before: a broker's repetition, or somebody's
    expelled: int = 0  # sessions that ended because the identity was revoked or replaced
    rejects: int = 0  # sent
    rejects_held: int = 0  # not sent, REJECT_PAUSE_S after another
    rejected: int = 0  # by the device
    hails: int = 0
    floods: int = 0  # the hub stopped to listen for a while
    lost: int = 0  # sessions that ended
    too_large: int = 0  # messages that fit no frame, or not the broker
    notes: int = 0
    crashes: int = 0  # the session's task failed: a bug
    queue_peak: int = 0  # most frames that ever waited

    def dict(self) -> dict[str, int]:
        return dict(zip(_NAMES, _values(self), strict=True))


_NAMES = tuple(f.name for f in fields(SessionCounts))
_values = attrgetter(*_NAMES)  # of 10,000 sessions at once: asdict takes ten times as long


@dataclass(slots=True)
class HubCounts:
    """Of the hub as a whole."""

    connects: int = 0
    disconnects: int = 0
    strays: int = 0  # messages on topics of no device

    def dict(self) -> dict[str, int]:
        return asdict(self)


def total(counts: list[SessionCounts]) -> dict[str, int]:
    """The sum of all sessions; of the peak, the highest."""
    columns = zip(*map(_values, counts), strict=True) if counts else [()] * len(_NAMES)
    out = {name: sum(column) for name, column in zip(_NAMES, columns, strict=True)}
    out["queue_peak"] = max((c.queue_peak for c in counts), default=0)
    return out
