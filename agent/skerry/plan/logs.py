"""When a container's log is rotated, and when its size is looked at again.

`0.log` is what the runtime writes, `0.log.1` what was renamed last, `0.log.2` what was renamed before. Numbers, not
times as kubelet has them: a board's clock may go back. Nothing is compressed: that costs more of a board's processor
than it saves of its card. Touches no file.
"""

from __future__ import annotations

from collections.abc import Mapping

from skerry.limits import CONTAINER_LOG_FILES_MAX, LOG_CHECK_S, LOG_RENAMED_PARTS_MAX
from skerry.model.logs import Delete, LogStep, Rename, Reopen


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


def next_check(before: Mapping[str, int], now: Mapping[str, int], seconds: float, bytes_max: int) -> float:
    """Seconds until the sizes are looked at again. `before` and `now`: bytes by container, `seconds` apart. Half of the
    time in which the fastest will be full, but not more than twice as long as the last time."""
    first, last = LOG_CHECK_S
    pause = min(2 * seconds, last)
    for container, size in now.items():
        grown = size - before.get(container, 0)
        if grown > 0:
            pause = min(pause, max(0, bytes_max - size) * seconds / grown / 2)
    return max(first, pause)
