"""When a container's log is rotated, and when its size is looked at again: never so late that it could be more than
LOG_EXCESS_BYTES beyond its bound.

`0.log` is what the runtime writes, `0.log.1` what was renamed last, `0.log.2` what was renamed before. Numbers, not
times as kubelet has them: a board's clock may go back. Nothing is compressed: that costs more of a board's processor
than it saves of its card. Touches no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

from skerry.limits import (
    CONTAINER_LOG_FILES_MAX,
    LOG_CHECK_S,
    LOG_EXCESS_BYTES,
    LOG_GROWTH_CHECK_S,
    LOG_RATE_BYTES_S,
    LOG_RENAMED_PARTS_MAX,
    LOG_RETRY_S,
)
from skerry.model.logs import Delete, LogStep, Look, Rename, Reopen


def rotation(files: Mapping[int, int], bytes_max: int) -> tuple[LogStep, ...]:
    """The steps, in order, for the log of a running container. `files`: number to size in bytes. After a crash between
    two of them, or a failed Reopen, the next call gives what is missing.

    What grew while nobody looked is not kept for ever: the oldest of the renamed files go until LOG_RENAMED_PARTS_MAX
    times `bytes_max` is enough for them."""
    steps: list[LogStep] = [Delete(n) for n in sorted(files) if n >= CONTAINER_LOG_FILES_MAX]
    left = {n: size for n, size in files.items() if n < CONTAINER_LOG_FILES_MAX}
    reopen = 0 not in left and bool(files)
    if left.get(0, 0) >= bytes_max:
        free = next(n for n in range(1, CONTAINER_LOG_FILES_MAX) if n not in left or n + 1 == CONTAINER_LOG_FILES_MAX)
        for n in range(free - 1, -1, -1):
            steps.append(Rename(n, n + 1))
            left[n + 1] = left.pop(n)
        reopen = True
    if reopen:
        steps.append(Reopen())  # before anything is deleted: until then the runtime writes what was renamed
    renamed = sorted((n for n in left if n), reverse=True)
    while renamed and sum(left[n] for n in renamed) > LOG_RENAMED_PARTS_MAX * bytes_max:
        steps.append(Delete(renamed.pop(0)))
    return tuple(steps)


def first_look(now: float) -> Look:
    """Of a container that runs and whose log nobody has looked at: it may be full already, and grow."""
    return _again(now, None, unseen_s(None, 0))


def next_look(before: Look, now: float, seen: int, left: int, bytes_max: int) -> Look:
    """`seen`: bytes in number 0; `left`: those after a rotation. A quiet log waits for its next write (`written`) or
    LOG_CHECK_S. One that grows is looked at in half the time in which it will be full, and before it could be
    LOG_EXCESS_BYTES beyond its bound if it suddenly grew by LOG_RATE_BYTES_S: so a line in a slow log costs nothing by
    itself, the log costs one look each `unseen_s`."""
    if before.size == seen == left:
        return _again(now, left, LOG_CHECK_S, quiet=True)
    pause, seconds = unseen_s(left, bytes_max), now - before.at
    grown = 0 if before.size is None else seen - before.size
    if grown > 0 and seconds > 0:
        pause = min(pause, max(LOG_GROWTH_CHECK_S, max(0, bytes_max - left) * seconds / grown / 2))
    return _again(now, left, pause)


def written(before: Look, now: float, bytes_max: int) -> Look:
    """A quiet log was written to just now."""
    latest = min(before.latest, now + unseen_s(before.size, bytes_max))
    return Look(before.at, before.size, latest, latest)


def put_off(before: Look, now: float, uniform: float) -> Look:
    """It could not be looked at. `uniform`: of [0, 1)."""
    first, last = LOG_RETRY_S
    latest = now + first + (last - first) * uniform
    return Look(before.at, before.size, latest, latest)


def due(looks: Mapping[str, Look], now: float) -> list[str]:
    """The containers to look at now, those among them that can wait a little: a board wakes once for several."""
    if now < wake_at(looks):
        return []
    return [container for container, look in looks.items() if look.soonest <= now]


def wake_at(looks: Mapping[str, Look]) -> float:
    """When the next of them has to be looked at; infinity if there is none."""
    return min((look.latest for look in looks.values()), default=inf)


def unseen_s(size: int | None, bytes_max: int) -> float:
    """How long a log of this size may grow unseen. None: it may be full."""
    room = 0 if size is None else max(0, bytes_max - size)
    return (room + LOG_EXCESS_BYTES) / LOG_RATE_BYTES_S


def _again(now: float, size: int | None, pause: float, quiet: bool = False) -> Look:
    return Look(now, size, now + pause / 2, now + pause, quiet)
