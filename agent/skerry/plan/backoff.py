"""How long to wait before trying again. `jitter` is in [0, 1)."""

from __future__ import annotations

from skerry.limits import RESTART_BACKOFF_S, RESTART_RESET_S, RUNTIME_OUTAGE_S


def full_jitter(bounds_s: tuple[float, float], failures: int, jitter: float) -> float:
    """Between half of the first delay and the doubled-per-failure delay, so that a fleet never steps in time."""
    first, last = bounds_s
    return first / 2 + jitter * min(last, first * 2.0 ** min(max(failures - 1, 0), 32))


def restart_delay(failures: int) -> float:
    """Seconds between a container's exit and its restart: 0, 10, 20, 40 … 300, as kubelet's crash loop back-off.

    Not jittered: it concerns one container on one device, and users know these numbers.
    """
    first, last = RESTART_BACKOFF_S
    return 0.0 if failures <= 1 else min(last, first * 2.0 ** min(failures - 2, 32))


def outage_delay(told: int) -> float:
    """Seconds that the runtime must be away before the hub is told, after so many outages told in a row: 10, 20 … 300.

    The first is longer than a restart of the runtime takes; the last keeps one that crashes in a loop from wearing out
    the flash.
    """
    first, last = RUNTIME_OUTAGE_S
    return min(last, first * 2.0 ** min(told, 32))


def failures_after(failures: int, ran_s: float) -> int:
    """Exits in a row that came too early, after one more that ran for `ran_s`."""
    return 1 if ran_s >= RESTART_RESET_S else failures + 1
