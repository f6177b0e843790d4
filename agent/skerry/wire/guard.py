"""Protected frames, sans-IO: what a session says becomes an MQTT payload that a broker can neither read nor make.

    device ──signed Hello, a fresh key──►  hub      SIGNED: COSE_Sign1 over the frame
    device ◄─signed answer, a fresh key──  hub      both now have the session's keys
    device ◄──────────everything─────────► hub      SEALED: COSE_Encrypt0, a counter for each direction

The keys come of both fresh ones and of the digest of the Hello as it travelled, so an answer fits one Hello only. Knows
no message but that a session begins with a Hello. A Hello proves who said it, and not that it was said now:
`HubGuard.confirmed` is true once a sealed frame of the device opened.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from skerry.errors import Malformed
from skerry.limits import (
    CHAIN_BYTES_MAX,
    DIGEST_BYTES,
    EXCHANGE_KEY_BYTES,
    FRAME_BYTES_MAX,
    GREETINGS_KEPT_MAX,
    KEY_ID_BYTES,
    REPLAY_WINDOW_MAX,
    STATEMENT_BYTES_MAX,
    WORD_SIGNERS_MAX,
)
from skerry.ports import Crypto
from skerry.wire import codec, cose
from skerry.wire.frame import VERSION

SIGNED, SEALED = bytes((VERSION << 4 | 2,)), bytes((VERSION << 4 | 3,))  # head bytes, beside those of wire.frame
ABOUT_HELLO, ABOUT_ANSWER, ABOUT_WORD, ABOUT_SET = b"skerry hello", b"skerry answer", b"skerry word", b"skerry set"
FRAME, EPHEMERAL, GREETING, SIGNER, DEVICE, STATEMENT, TRUST, WALL, NUMBER = range(1, 10)  # keys of a signed payload
UP, DOWN = "up", "down"
_LAST = (1 << 64) - 1  # a counter that no frame comes to


class Replayed(Malformed):
    """A frame that came before, or is too old to tell."""


class NoSession(Malformed):
    """A sealed frame, where there are no keys to open it."""


@dataclass(slots=True)
class Sender:
    """One direction of one pair of keys, at its beginning."""

    crypto: Crypto
    key: cose.Key
    counter: int = 0

    def seal(self, frame: bytes) -> bytes:
        self.counter += 1
        return SEALED + cose.encrypt(self.crypto, self.key, self.counter, frame)

    def last(self, frame: bytes) -> bytes:
        """Of a frame after which none counts, however many there will have been: a will, which the broker keeps."""
        return SEALED + cose.encrypt(self.crypto, self.key, _LAST, frame)


@dataclass(slots=True)
class Receiver:
    """The other end of a Sender. Frames may be lost, come twice, and overtake at most REPLAY_WINDOW_MAX others."""

    crypto: Crypto
    key: cose.Key
    highest: int = 0
    seen: int = 0  # bit n: highest - n came

    def open(self, payload: bytes) -> bytes:
        """Raises Malformed; Replayed when it opens and is not new."""
        if payload[:1] != SEALED:
            raise Malformed("a frame that is not sealed")
        counter, frame = cose.decrypt(self.crypto, self.key, payload[1:])
        age = self.highest - counter
        if age >= REPLAY_WINDOW_MAX or (age >= 0 and self.seen >> age & 1):
            raise Replayed(f"frame {counter} came before")
        if age < 0:
            self.seen = (self.seen << -age | 1) & ((1 << REPLAY_WINDOW_MAX) - 1) if -age < REPLAY_WINDOW_MAX else 1
            self.highest = counter
        else:
            self.seen |= 1 << age
        return frame


@dataclass(frozen=True, slots=True)
class Secrets:
    """What both ends of a session know, and never show."""

    crypto: Crypto
    secret: bytes
    greeting: bytes

    def sender(self, label: str) -> Sender:
        return Sender(self.crypto, cose.derive(self.secret, self.greeting, f"skerry {label}"))

    def receiver(self, label: str) -> Receiver:
        return Receiver(self.crypto, cose.derive(self.secret, self.greeting, f"skerry {label}"))

    def __repr__(self) -> str:
        return f"Secrets({self.greeting.hex()[:8]})"


def stream_label(epoch: bytes, direction: str) -> str:
    """Of one direction of an epoch's streams, for Secrets."""
    return f"streams {direction} {epoch.hex()}"


@dataclass(frozen=True, slots=True)
class Unknown:
    """A signed payload whose signer has to be certified first: give `chain`, a certificate in DER, to whoever knows the
    authority, and what it certifies to `DeviceGuard.trust`; then open the payload again."""

    kid: bytes
    chain: bytes


@dataclass(frozen=True, slots=True)
class Word:
    """A frame that the hub signed outside any session."""

    frame: bytes


@dataclass(frozen=True, slots=True)
class About:
    """What a hub says of itself in its signed answer: its time, in seconds since 1970, 0 if it does not say; and which
    authorities devices are to believe (wire.enrolment.trust_id), or nothing."""

    wall_s: int = 0
    trust: bytes = b""


class DeviceGuard:
    """The device's end."""

    def __init__(self, crypto: Crypto, seed: bytes, statement: bytes = b"", trust: bytes = b"") -> None:
        """`seed`: the device's Ed25519 key. `statement`: of the authority, whose key that is; for a hub whose API was
        restored from before this device was enrolled. `trust`: which authorities this device believes."""
        self._crypto, self._seed, self._statement, self._believes = crypto, seed, statement, trust
        self.about = About()  # of the hub that answered last
        self.kid = cose.key_id(crypto.public(seed))
        self._signers: dict[bytes, bytes] = {}
        self._words: dict[bytes, int] = {}  # kid → the number of the last word by it, the latest heard last
        self._ephemeral = self._greeting = b""
        self.signer = b""  # the public key that signed the answer
        self.secrets: Secrets | None = None
        self._send: Sender | None = None
        self._receive: Receiver | None = None

    def trust(self, public: bytes) -> None:
        """A hub's signing key that the authority certifies; the only one from now on, beside that of this session."""
        self._signers = {kid: key for kid, key in self._signers.items() if key == self.signer}
        self._signers[cose.key_id(public)] = public

    def forget_signers(self) -> None:
        """Who answers the next Hello shows its certificate, for it may have ended meanwhile."""
        self._signers, self.signer = {}, b""

    def greet(self, hello: bytes, ephemeral: bytes) -> bytes:
        """The payload of a Hello; `ephemeral` is EXCHANGE_KEY_BYTES of fresh randomness. The session before is over."""
        known = self.signer and cose.key_id(self.signer)
        said = {FRAME: hello, EPHEMERAL: self._crypto.exchange_public(ephemeral), SIGNER: known}
        said |= {STATEMENT: self._statement} if self._statement else {}
        said |= {TRUST: self._believes} if self._believes else {}
        payload = SIGNED + cose.sign(self._crypto, self._seed, self.kid, codec.encode(said), ABOUT_HELLO)
        self._ephemeral, self._greeting = ephemeral, hashlib.sha256(payload).digest()
        self.secrets = self._send = self._receive = None
        return payload

    def seal(self, frame: bytes) -> bytes | None:
        """The payload of any other frame; None before the answer, when nothing may be said."""
        return self._send.seal(frame) if self._send is not None else None

    def open(self, payload: bytes) -> bytes | Word | Unknown:
        """The frame in a payload. Raises Malformed; nothing of this end has changed then."""
        if payload[:1] == SEALED and self._receive is not None:
            return self._receive.open(payload)
        if payload[:1] != SIGNED:
            raise Malformed("a frame that nobody signed")
        found = cose.parse_sign1(payload[1:])
        public = self._signers.get(found.kid)
        if public is None:
            if not 0 < len(found.chain) <= CHAIN_BYTES_MAX:
                raise Malformed("a frame by a signer that nobody certified")
            return Unknown(found.kid, found.chain)
        try:
            said = _payload(cose.verified(self._crypto, found, public, ABOUT_ANSWER))
        except Malformed:
            word = _payload(cose.verified(self._crypto, found, public, ABOUT_WORD))
            if word.device not in (self.kid, b""):  # to a device that it does not know a hub can say only: say Hello
                raise Malformed("a word for another device") from None
            self._once(found.kid, word.number)
            return Word(word.frame)
        if said.greeting != self._greeting or not self._greeting:
            raise Malformed("an answer to another Hello")
        if self.secrets is not None:  # what was true then may not be now
            raise Replayed("the answer came before")
        secret = self._crypto.exchange(self._ephemeral, said.ephemeral)
        self.secrets = Secrets(self._crypto, secret, self._greeting)
        self._ephemeral, self.signer, self.about = b"", public, About(said.wall_s, said.trust)
        self._send, self._receive = self.secrets.sender(UP), self.secrets.receiver(DOWN)
        return said.frame

    def _once(self, kid: bytes, number: int) -> None:
        """A word counts if it is later than the last one by its signer. A hub of before this numbers none. Raises
        Replayed."""
        if number and number <= self._words.get(kid, 0):
            raise Replayed("a word that came before")
        if number:
            self._words.pop(kid, None)
            self._words[kid] = number
            if len(self._words) > WORD_SIGNERS_MAX:
                del self._words[next(iter(self._words))]

    def proves(self, proof: bytes, statement: bytes) -> bool:
        """Whether `proof` is the signature of this session's hub on `statement`, for ABOUT_SET."""
        try:
            cose.verified(self._crypto, cose.parse_sign1(proof), self.signer, ABOUT_SET, statement)
        except Malformed:
            return False
        return bool(self.signer)


_ANY_SECRET = bytes(range(EXCHANGE_KEY_BYTES))


@dataclass(frozen=True, slots=True)
class Signer:
    """A hub's signing key: an Ed25519 seed, and the certificate of its public key in DER."""

    seed: bytes
    chain: bytes


class HubGuard:
    """The hub's end for one device."""

    def __init__(
        self,
        crypto: Crypto,
        signer: Callable[[], Signer],
        public: Callable[[bytes], bytes],
        about: Callable[[], About] = About,
        number: Callable[[], int] = int,
    ) -> None:
        """`signer`: the key of this moment. `public`: the device's Ed25519 key, or nothing where none is enrolled; it
        is given what the device shows of its authority's statement, or nothing. `about`: what each answer says.
        `number`: a greater one for each word by this signer, to whichever device; 0: words have none."""
        self._crypto, self._signer, self._public, self._about = crypto, signer, public, about
        self._number = number
        self.trust = b""  # which authorities the device said in its last Hello that it believes
        self._greetings: deque[bytes] = deque(maxlen=GREETINGS_KEPT_MAX)
        self._asked: _Payload | None = None  # the Hello that has no answer yet
        self._answered: Signer | None = None  # by whom the last one was answered: keys change between sessions
        self._greeting = b""
        self.device = b""  # the id of the key that signed the last Hello
        self.confirmed = False
        self.secrets: Secrets | None = None
        self._send: Sender | None = None
        self._receive: Receiver | None = None

    def open(self, payload: bytes) -> bytes:
        """The frame in a payload. Raises Malformed, Replayed for what came before; a new Hello ends the session."""
        if payload[:1] == SEALED and self._receive is not None:
            frame = self._receive.open(payload)
            self.confirmed = True
            return frame
        if payload[:1] == SEALED:
            raise NoSession("a sealed frame of no session")
        if payload[:1] != SIGNED:
            raise Malformed("a frame that nobody signed")
        greeting, found = hashlib.sha256(payload).digest(), cose.parse_sign1(payload[1:])
        public = self._public(_payload(found.payload or b"").statement)
        if not public:
            raise Malformed("a Hello of a device that is not enrolled")
        said = _payload(cose.verified(self._crypto, found, public, ABOUT_HELLO))
        if greeting in self._greetings:
            raise Replayed("a Hello that came before")
        self._crypto.exchange(_ANY_SECRET, said.ephemeral)  # a key that gives no secret is refused here, not in `close`
        self._greetings.append(greeting)
        self._asked, self._greeting, self.confirmed = said, greeting, False
        self.device, self.trust = cose.key_id(public), said.trust
        self.secrets = self._send = self._receive = None
        return said.frame

    @property
    def admitted(self) -> bool:
        """Whether the device of the last Hello is who is enrolled now; True before any."""
        return not self.device or cose.key_id(self._public(b"")) == self.device

    def forget(self) -> None:
        """The session is over, and its keys are gone."""
        self.device, self._asked, self.confirmed = b"", None, False
        self.secrets = self._send = self._receive = None

    def close(self, frame: bytes, ephemeral: bytes) -> bytes:
        """The payload of a session's frame: the first after a Hello is the signed answer, for which `ephemeral` is
        used, EXCHANGE_KEY_BYTES of fresh randomness; the others are sealed."""
        if self._send is not None:
            return self._send.seal(frame)
        if self._asked is None:
            return self.word(frame)
        signer = self._answered = self._signer()
        asked, self._asked = self._asked, None
        kid = cose.key_id(self._crypto.public(signer.seed))
        mine = self._crypto.exchange_public(ephemeral)
        about = self._about()
        more = {TRUST: about.trust, WALL: about.wall_s}
        said = codec.encode(
            {FRAME: frame, EPHEMERAL: mine, GREETING: self._greeting, **{k: v for k, v in more.items() if v}}
        )
        self.secrets = Secrets(self._crypto, self._crypto.exchange(ephemeral, asked.ephemeral), self._greeting)
        self._send, self._receive = self.secrets.sender(DOWN), self.secrets.receiver(UP)
        return self._signed(signer, said, ABOUT_ANSWER, b"" if asked.signer == kid else signer.chain)

    def word(self, frame: bytes) -> bytes:
        """The payload of a frame outside any session, only signed: a device that has other keys than this end, or
        none, understands it too."""
        signer, public = self._signer(), self._public(b"")
        device = cose.key_id(public) if public else self.device
        number = self._number()
        said = {FRAME: frame, DEVICE: device} | ({NUMBER: number} if number else {})
        return self._signed(signer, codec.encode(said), ABOUT_WORD, signer.chain)

    def prove(self, statement: bytes) -> bytes:
        """A COSE_Sign1 on `statement`, which travels elsewhere, by whom the session's Hello was answered."""
        signer = self._answered or self._signer()
        kid = cose.key_id(self._crypto.public(signer.seed))
        return cose.sign_detached(self._crypto, signer.seed, kid, statement, ABOUT_SET)

    def _signed(self, signer: Signer, said: bytes, about: bytes, chain: bytes) -> bytes:
        kid = cose.key_id(self._crypto.public(signer.seed))
        return SIGNED + cose.sign(self._crypto, signer.seed, kid, said, about, chain)


@dataclass(frozen=True, slots=True)
class _Payload:
    frame: bytes
    ephemeral: bytes
    greeting: bytes
    signer: bytes
    device: bytes
    statement: bytes
    trust: bytes
    wall_s: int
    number: int


def _payload(signed: bytes) -> _Payload:
    """Raises Malformed. Unknown keys are of no account."""
    said = codec.decode(signed)
    if not isinstance(said, dict):
        raise Malformed("a signed payload that is no map")
    ids = {SIGNER: KEY_ID_BYTES, DEVICE: KEY_ID_BYTES}
    sizes = {FRAME: FRAME_BYTES_MAX, EPHEMERAL: EXCHANGE_KEY_BYTES, GREETING: DIGEST_BYTES, **ids}
    sizes |= {STATEMENT: STATEMENT_BYTES_MAX, TRUST: KEY_ID_BYTES}
    found = {key: said.get(key, b"") for key in sizes}
    for key, size in sizes.items():
        if not isinstance(found[key], bytes) or len(found[key]) > size:
            raise Malformed(f"a signed payload whose part {key} is no {size} bytes")
    wall_s, number = said.get(WALL, 0), said.get(NUMBER, 0)
    if not isinstance(wall_s, int) or not 0 <= wall_s < 1 << 40:
        raise Malformed("a signed payload whose time is none")
    if not isinstance(number, int) or number < 0:
        raise Malformed("a signed payload whose number is none")
    frame, ephemeral, greeting, signer, device, statement, trust = found.values()
    return _Payload(frame, ephemeral, greeting, signer, device, statement, trust, wall_s, number)
