"""One device's frames, protected where devices are enrolled: wire.guard's decisions on the hub's side.

Without a guard (a broker in clear: loopback, or `--insecure`) frames pass as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from skerry.errors import Malformed
from skerry.limits import EXCHANGE_KEY_BYTES
from skerry.ports import Entropy
from skerry.wire import message
from skerry.wire.delta import statement
from skerry.wire.guard import DOWN, SIGNED, UP, HubGuard, Receiver, Secrets, Sender, stream_label
from skerry.wire.message import Delta, Dial, Hello, Message, Reject


class Frames:
    def __init__(self, guard: HubGuard | None, entropy: Entropy) -> None:
        self._guard, self._entropy = guard, entropy
        self._dialled: tuple[bytes, Secrets | None] = (b"", None)

    def greets(self, payload: bytes) -> bool:
        """Whether it can only be a Hello, before anything is done for it."""
        return self._guard is not None and payload[:1] == SIGNED

    @property
    def proven(self) -> bool:
        """Whether the device of this session is there now: a Hello may be a copy."""
        return self._guard is None or self._guard.confirmed

    def secrets(self, epoch: bytes) -> Secrets | None:
        """Of the session in which the epoch was asked for; None where it was not."""
        return self._dialled[1] if self._dialled[0] == epoch else None

    @property
    def trust(self) -> bytes:
        """Which authorities the device believes, as it said last; nothing where that is not known."""
        return self._guard.trust if self._guard is not None else b""

    @property
    def admitted(self) -> bool:
        """Whether the device of this session is one still: its identity may be revoked, or another board's by now."""
        return self._guard is None or self._guard.admitted

    def forget(self) -> None:
        """Neither this session's keys nor those of its streams are any good from now on."""
        self._dialled = (b"", None)
        if self._guard is not None:
            self._guard.forget()

    def opened(self, payload: bytes) -> Message | None:
        """What the device says; None where it only shows that it is there. Raises guard.Replayed, guard.NoSession and
        other Malformed for what the device did not say now; Garbled and LimitExceeded for what it should not have."""
        if self._guard is None:
            return _decoded(payload)
        frame = self._guard.open(payload)
        said = _decoded(frame) if frame else None
        if isinstance(said, Hello) != (payload[:1] == SIGNED):
            raise Garbled("a Hello that is sealed, or something else that is not")
        return said

    def closed(self, said: Message) -> bytes:
        """Its payload. Raises LimitExceeded."""
        if self._guard is None:
            return message.encode(said)
        if isinstance(said, Delta):
            said = replace(said, proof=self._guard.prove(statement(said, self._guard.device)))
        frame = message.encode(said)
        if isinstance(said, Reject) and not said.nonce:
            return self._guard.word(frame)  # the two ends may not have the same keys
        if isinstance(said, Dial):
            self._dialled = (said.epoch, self._guard.secrets)
        return self._guard.close(frame, self._entropy.token(EXCHANGE_KEY_BYTES))


class StreamFrames:
    """One epoch's, under keys of their own, which there are once the Dial was sent."""

    def __init__(self, epoch: bytes, secrets: Callable[[], Secrets | None]) -> None:
        self._epoch, self._secrets = epoch, secrets
        self._ways: tuple[Sender, Receiver] | None = None

    def opened(self, payload: bytes) -> bytes:
        """Raises Malformed."""
        return self._found()[1].open(payload)

    def closed(self, frame: bytes) -> bytes:
        """Raises Malformed before the Dial, when there is nothing to say."""
        return self._found()[0].seal(frame)

    def _found(self) -> tuple[Sender, Receiver]:
        if self._ways is None:
            known = self._secrets()
            if known is None:
                raise Malformed("a frame of streams that nobody asked for")
            down, up = (stream_label(self._epoch, way) for way in (DOWN, UP))
            self._ways = known.sender(down), known.receiver(up)
        return self._ways


class Garbled(Malformed):
    """The device itself said what does not parse."""


def _decoded(frame: bytes) -> Message:
    try:
        return message.decode(frame)
    except Malformed as why:
        raise Garbled(str(why)) from None
