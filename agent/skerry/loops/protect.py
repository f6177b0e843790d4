"""A session's frames on a link, protected where the device is enrolled: wire.guard's decisions carried out.

Without a guard (a broker in clear: loopback, or `insecure`) frames pass as they are. What is not good is counted, said
sparingly and dropped; it ends neither the session nor the connection, for any broker could send it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from skerry.errors import LimitExceeded, Malformed, SkerryError
from skerry.limits import CERTIFY_LOOKS_MAX, CERTIFY_LOOKS_S, CERTIFY_PACE_S, EXCHANGE_KEY_BYTES, SIGNER_KEPT_S
from skerry.loops.report import Counters, Log
from skerry.ports import Authority, Clock, Entropy, Link, StreamLink
from skerry.wire.cose import key_id
from skerry.wire.delta import statement
from skerry.wire.guard import DOWN, UP, About, DeviceGuard, Replayed, Secrets, Unknown, Word, stream_label
from skerry.wire.message import Delta, Hello, Message, Reject, decode, encode


@dataclass(slots=True)
class Looks:
    """When a signer that is not known may be looked at: each look is a child process, and any broker can ask for one,
    by a signature of its own or by words of hubs that are no more. Outlives connections, which a broker ends too."""

    certified_at: float = 0.0  # the last one
    _not_before: float = 0.0
    _at: deque[float] = field(default_factory=lambda: deque(maxlen=CERTIFY_LOOKS_MAX))

    def allowed(self, now: float) -> bool:
        """Whether there may be one now; then it counts."""
        full = len(self._at) == CERTIFY_LOOKS_MAX and now - self._at[0] < CERTIFY_LOOKS_S
        if full or now < self._not_before:
            return False
        self._at.append(now)
        return True

    def failed(self, now: float) -> None:
        self._not_before = now + CERTIFY_PACE_S


@dataclass(frozen=True, slots=True)
class Protection:
    """What a device that is enrolled protects its frames with."""

    guard: DeviceGuard
    authority: Authority
    told: Callable[[About], None] = lambda _about: None  # hears what the hub of a new session says of itself
    looks: Looks = field(default_factory=Looks)

    def proves(self, delta: Delta) -> bool:
        """Whether the hub of this session signed it for this device."""
        return self.guard.proves(delta.proof, statement(delta, self.guard.kid))


class Protected:
    """One connection's frames."""

    def __init__(
        self, link: Link, protection: Protection | None, clock: Clock, entropy: Entropy, log: Log, counters: Counters
    ) -> None:
        self._link, self._protection = link, protection
        self._clock, self._entropy, self._log, self._counters = clock, entropy, log, counters

    @property
    def secrets(self) -> Secrets | None:
        """Those of the present session; None where frames are in clear."""
        if self._protection is None:
            return None
        found = self._protection.guard.secrets
        assert found is not None, "a session has an answer"
        return found

    async def send(self, message: Message) -> None:
        """Raises LinkLost. Before the hub's answer nothing but a Hello is said."""
        frame = encode(message)
        if self._protection is None:
            await self._link.send(frame)
        elif isinstance(message, Hello):
            guard, looks = self._protection.guard, self._protection.looks
            if self._clock.now() - looks.certified_at >= SIGNER_KEPT_S:
                guard.forget_signers()
            await self._link.send(guard.greet(frame, self._entropy.token(EXCHANGE_KEY_BYTES)))
        else:
            await self._seal(self._protection.guard, frame)

    async def opened(self, payload: bytes) -> bytes | None:
        """The frame in a payload, or None: it was dropped. Raises LinkLost."""
        if self._protection is None:
            return payload
        guard = self._protection.guard
        greeting = guard.secrets is None
        try:
            found = guard.open(payload)
            if isinstance(found, Unknown):
                await self._certify(found)
                found = guard.open(payload)
            frame = _word(found) if isinstance(found, Word) else found
        except Replayed:
            self._counters["frames_replayed"] += 1
            return None
        except (Malformed, LimitExceeded) as why:
            self._counters["frames_refused"] += 1
            self._log(f"link: dropped {why}")
            return None
        assert isinstance(frame, bytes)
        if greeting and guard.secrets is not None:
            self._protection.told(guard.about)
            await self._seal(guard, b"")  # so the hub sees that the Hello was no copy
        return frame

    async def _seal(self, guard: DeviceGuard, frame: bytes) -> None:
        payload = guard.seal(frame)
        if payload is not None:
            await self._link.send(payload)

    async def _certify(self, unknown: Unknown) -> None:
        """Trust the signer if the authority does. Raises Malformed."""
        assert self._protection is not None
        looks = self._protection.looks
        if not looks.allowed(self._clock.now()):
            raise Malformed("a signer that I do not know, too soon after another one")
        try:
            public = await self._protection.authority.certified(unknown.chain)
            if key_id(public) != unknown.kid:
                raise Malformed("a signer whose certificate is of another key")
        except SkerryError:
            looks.failed(self._clock.now())
            raise
        looks.certified_at = self._clock.now()
        self._protection.guard.trust(public)


def _word(word: Word) -> bytes:
    """Outside a session the hub asks for a Hello and says nothing else. Raises Malformed and LimitExceeded."""
    said = decode(word.frame)
    if not isinstance(said, Reject) or said.nonce:
        raise Malformed(f"a {type(said).__name__} outside any session")
    return word.frame


class SealedStreamLink:
    """ports.StreamLink: one epoch's frames under keys of their own."""

    def __init__(self, link: StreamLink, secrets: Secrets, epoch: bytes, counters: Counters) -> None:
        self._link, self._counters = link, counters
        self._sender = secrets.sender(stream_label(epoch, UP))
        self._receiver = secrets.receiver(stream_label(epoch, DOWN))

    async def connect(self, gone: bytes) -> None:
        await self._link.connect(self._sender.last(gone))

    async def recv(self) -> bytes:
        while True:
            try:
                return self._receiver.open(await self._link.recv())
            except Malformed:
                self._counters["frames_refused"] += 1  # its stream sees the gap

    async def send(self, frame: bytes, bulk: bool) -> None:
        await self._link.send(self._sender.seal(frame), bulk)

    async def close(self) -> None:
        await self._link.close()
