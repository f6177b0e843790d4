"""How often a device may greet, and whether it makes the hub drop so much that it is not listened to for a while. Pure
but for its own counts; time is an argument, in seconds."""

from __future__ import annotations

from collections.abc import Callable

from skerry.limits import FLOOD_DROPS_MAX, FLOOD_PAUSE_S, FLOOD_WINDOW_S
from skerry.plan.backoff import full_jitter
from skerry_hub.limits import HELLO_EACH_S, HELLOS_MAX


class Flood:
    def __init__(self) -> None:
        self._window, self._drops, self._floods, self._ended = 0.0, 0, 0, 0.0
        self.until: float | None = None  # when the hub listens again

    def over(self, now: float) -> bool:
        """Whether the hub listens, or does so from now on."""
        if self.until is not None and now >= self.until:
            self.until, self._drops, self._window, self._ended = None, 0, now, now
        return self.until is None

    def dropped(self, now: float, jitter: Callable[[], float]) -> bool:
        """One more; whether that was too many within the window, and the hub stops to listen."""
        if now - self._window > FLOOD_WINDOW_S:
            self._window, self._drops = now, 0
        self._drops += 1
        if self._drops <= FLOOD_DROPS_MAX or self.until is not None:
            return False
        self._floods = self._floods + 1 if now - self._ended < FLOOD_PAUSE_S[1] else 1
        self.until = now + full_jitter(FLOOD_PAUSE_S, self._floods, jitter())
        return True


class Hellos:
    """A Hello costs the hub milliseconds: signatures, an answer, the set once more. Whoever has a device's keys makes
    any number, and a broker may have kept thousands."""

    def __init__(self) -> None:
        self._left, self._at = float(HELLOS_MAX), 0.0

    def allowed(self, now: float) -> bool:
        """Whether one more is heard; then it counts."""
        self._left = min(HELLOS_MAX, self._left + max(0.0, now - self._at) / HELLO_EACH_S)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
