"""Two guards and whatever a broker between them may do: read, keep, repeat, reorder, drop, forge."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.errors import Malformed
from skerry.limits import GREETINGS_KEPT_MAX, GUARD_BYTES_MAX, REPLAY_WINDOW_MAX, WORD_SIGNERS_MAX
from skerry.wire import codec, cose, guard
from skerry.wire.guard import About, DeviceGuard, HubGuard, Receiver, Replayed, Sender, Signer, Unknown, Word
from skerry.world.sodium import Sodium
from skerry_hub.crypto import OpenSsl

DEVICE, HUB, NEXT, STRANGER = (bytes((n,)) * 32 for n in (1, 2, 3, 4))
CHAIN = b"certificate of the hub's signing key"
SODIUM, OPENSSL = Sodium(), OpenSsl()


class Pair:
    """A device and a hub that trusts it."""

    def __init__(self) -> None:
        self.signer = Signer(HUB, CHAIN)
        self.device = DeviceGuard(SODIUM, DEVICE)
        self.hub = HubGuard(OPENSSL, lambda: self.signer, lambda _: OPENSSL.public(DEVICE))
        self._fresh = 10

    def fresh(self) -> bytes:
        self._fresh += 1
        return self._fresh.to_bytes(2, "big") * 16

    def greet(self, hello: bytes = b"hello") -> bytes:
        return self.device.greet(hello, self.fresh())

    def answer(self, frame: bytes = b"welcome") -> bytes:
        return self.hub.close(frame, self.fresh())

    def open(self, payload: bytes) -> bytes | Word:
        """At the device, which has every signer certified."""
        found = self.device.open(payload)
        if isinstance(found, Unknown):
            assert found.chain == self.signer.chain
            self.device.trust(OPENSSL.public(self.signer.seed))
            found = self.device.open(payload)
        assert not isinstance(found, Unknown)
        return found

    def live(self) -> None:
        assert self.hub.open(self.greet()) == b"hello"
        assert self.open(self.answer()) == b"welcome"

    def up(self, frame: bytes) -> bytes:
        payload = self.device.seal(frame)
        assert payload is not None
        return payload

    def down(self, frame: bytes) -> bytes:
        return self.hub.close(frame, self.fresh())


@pytest.fixture
def pair() -> Pair:
    return Pair()


def test_after_hello_and_answer_everything_is_sealed_both_ways(pair: Pair) -> None:
    assert pair.device.seal(b"too early") is None
    pair.live()
    for number in range(300):
        frame = b"frame %d" % number
        for payload in (pair.up(frame), pair.down(frame)):
            assert payload[:1] == guard.SEALED
            assert frame not in payload
            assert len(payload) - len(frame) <= 40
        payload_up = pair.up(frame)
        assert pair.hub.open(payload_up) == frame
        assert pair.open(pair.down(frame)) == frame
        with pytest.raises(Replayed):
            pair.hub.open(payload_up)


def test_a_hello_alone_proves_nothing_and_a_sealed_frame_does(pair: Pair) -> None:
    """A broker may have kept the Hello of a device that is gone."""
    pair.hub.open(pair.greet())
    assert not pair.hub.confirmed
    pair.open(pair.answer())
    assert not pair.hub.confirmed
    pair.hub.open(pair.up(b""))
    assert pair.hub.confirmed
    pair.hub.open(pair.greet())
    assert not pair.hub.confirmed


def test_a_repeated_hello_is_known_and_ends_nothing(pair: Pair) -> None:
    old = pair.greet()
    pair.hub.open(old)
    pair.open(pair.answer())
    with pytest.raises(Replayed):
        pair.hub.open(old)
    assert pair.hub.open(pair.up(b"on we go")) == b"on we go"
    for _ in range(GREETINGS_KEPT_MAX + 5):
        pair.live()
    pair.live()
    assert pair.hub.open(pair.up(b"and on")) == b"and on"


def test_an_answer_fits_one_hello_only(pair: Pair) -> None:
    pair.hub.open(pair.greet())
    late = pair.answer()
    pair.device.trust(OPENSSL.public(HUB))
    pair.greet()
    with pytest.raises(Malformed, match="another Hello"):
        pair.device.open(late)


def test_an_answer_that_comes_twice_is_heard_once(pair: Pair) -> None:
    """It says what was true then: a Welcome that asks for every report, an Ack of a set that is another by now."""
    pair.hub.open(pair.greet())
    answer = pair.answer()
    pair.open(answer)
    first = pair.up(b"1")
    with pytest.raises(Replayed):
        pair.open(answer)
    second = pair.up(b"1")
    assert second != first
    assert (pair.hub.open(first), pair.hub.open(second)) == (b"1", b"1")


def test_a_hub_that_nobody_certified_is_not_believed(pair: Pair) -> None:
    forger = HubGuard(OPENSSL, lambda: Signer(STRANGER, b""), lambda _: OPENSSL.public(DEVICE))
    forger.open(pair.greet())
    pair.device.trust(OPENSSL.public(HUB))
    with pytest.raises(Malformed, match="nobody certified"):
        pair.device.open(forger.close(b"welcome", pair.fresh()))
    pretender = HubGuard(OPENSSL, lambda: Signer(STRANGER, CHAIN), lambda _: OPENSSL.public(DEVICE))
    pretender.open(pair.greet())
    assert isinstance(pair.device.open(pretender.close(b"welcome", pair.fresh())), Unknown)


def test_a_device_that_is_not_enrolled_or_another_is_refused(pair: Pair) -> None:
    nobody = HubGuard(OPENSSL, lambda: pair.signer, lambda _: b"")
    with pytest.raises(Malformed, match="not enrolled"):
        nobody.open(pair.greet())
    thief = DeviceGuard(SODIUM, STRANGER)
    with pytest.raises(Malformed, match="signature"):
        pair.hub.open(thief.greet(b"hello", pair.fresh()))
    pair.live()


def test_the_signing_key_rotates_between_two_sessions(pair: Pair) -> None:
    pair.live()
    answer_short = len(_answered(pair))
    pair.signer = Signer(NEXT, CHAIN)
    assert pair.device.proves(pair.hub.prove(b"statement"), b"statement"), "the session's own key, to its end"
    assert len(_answered(pair)) > answer_short, "with the certificate, for the device knows the old one only"
    assert pair.device.signer == OPENSSL.public(NEXT)
    assert len(_answered(pair)) == answer_short
    assert pair.hub.open(pair.up(b"ok")) == b"ok"


def _answered(pair: Pair) -> bytes:
    pair.hub.open(pair.greet())
    answer = pair.answer()
    pair.open(answer)
    return answer


def test_without_a_session_the_hub_only_signs(pair: Pair) -> None:
    assert pair.open(pair.down(b"say Hello")) == Word(b"say Hello")
    kept = Pair()
    word = kept.down(b"say Hello")
    other = DeviceGuard(SODIUM, STRANGER)
    other.trust(OPENSSL.public(HUB))
    with pytest.raises(Malformed, match="another device"):
        other.open(word)
    pair.live()
    with pytest.raises(Malformed, match="no session"):
        Pair().hub.open(pair.up(b"x"))


def test_two_ends_with_other_keys_still_understand_a_word(pair: Pair) -> None:
    """A Hello that was kept back and came late: the hub answers it, and the device has gone on."""
    late = pair.greet(b"late")
    pair.live()
    pair.hub.open(late)
    answer = pair.answer()
    with pytest.raises(Malformed, match="another Hello"):
        pair.device.open(answer)
    with pytest.raises(Malformed):
        pair.device.open(pair.down(b"sealed"))
    assert pair.open(pair.hub.word(b"say Hello")) == Word(b"say Hello")


def numbered(seed: bytes, numbers: Iterator[int]) -> HubGuard:
    return HubGuard(OPENSSL, lambda: Signer(seed, CHAIN), lambda _: OPENSSL.public(DEVICE), number=numbers.__next__)


def test_a_word_is_heard_once_and_none_that_is_older(pair: Pair) -> None:
    """A broker may keep a hail and say it again each time the device has a session."""
    hub = numbered(HUB, count(1))
    words = [hub.word(b"say Hello") for _ in range(3)]
    assert pair.open(words[1]) == Word(b"say Hello")
    for old in (words[1], words[0]):
        with pytest.raises(Replayed):
            pair.device.open(old)
    assert pair.open(words[2]) == Word(b"say Hello")
    pair.live()
    with pytest.raises(Replayed):
        pair.device.open(words[2])
    assert pair.hub.open(pair.up(b"on we go")) == b"on we go"


def test_each_hub_has_numbers_of_its_own_and_some_hubs_are_remembered(pair: Pair) -> None:
    seeds = [bytes((n,)) * 32 for n in range(10, 10 + WORD_SIGNERS_MAX)]
    words = [numbered(seed, count(1)).word(b"say Hello") for seed in seeds]
    for seed, word in zip(seeds, words, strict=True):
        pair.device.trust(OPENSSL.public(seed))
        assert pair.device.open(word) == Word(b"say Hello")
    for seed, word in zip(seeds, words, strict=True):
        pair.device.trust(OPENSSL.public(seed))
        with pytest.raises(Replayed):
            pair.device.open(word)


def test_the_words_of_a_hub_that_numbers_none_are_heard(pair: Pair) -> None:
    for _ in range(2):
        assert pair.open(pair.hub.word(b"say Hello")) == Word(b"say Hello")


def test_a_signer_that_was_forgotten_shows_its_certificate_again(pair: Pair) -> None:
    pair.live()
    pair.device.forget_signers()
    assert not pair.device.proves(pair.hub.prove(b"statement"), b"statement")
    pair.hub.open(pair.greet())
    found = pair.device.open(pair.answer())
    assert isinstance(found, Unknown)
    assert found.chain == CHAIN


def test_a_signature_is_good_for_one_purpose(pair: Pair) -> None:
    """What the hub signed as a word is no answer, and no proof of a set."""
    pair.live()
    word = pair.hub.prove(b"statement")
    assert pair.device.proves(word, b"statement")
    assert not pair.device.proves(word, b"another statement")
    assert not pair.device.proves(b"", b"statement")
    kid = cose.key_id(OPENSSL.public(HUB))
    for about in (guard.ABOUT_ANSWER, guard.ABOUT_WORD, guard.ABOUT_HELLO, b""):
        assert not pair.device.proves(cose.sign_detached(OPENSSL, HUB, kid, b"statement", about), b"statement")
    assert not DeviceGuard(SODIUM, DEVICE).proves(word, b"statement"), "no session, no proof"


def test_a_fresh_key_that_gives_no_secret_is_refused_before_anything_changes(pair: Pair) -> None:
    pair.live()
    said = codec.encode({guard.FRAME: b"hello", guard.EPHEMERAL: bytes(32), guard.SIGNER: b""})
    forged = guard.SIGNED + cose.sign(SODIUM, DEVICE, pair.device.kid, said, guard.ABOUT_HELLO)
    with pytest.raises(Malformed, match="no secret"):
        pair.hub.open(forged)
    assert pair.hub.open(pair.up(b"still here")) == b"still here"


def test_streams_have_keys_of_their_own_for_each_epoch_and_direction(pair: Pair) -> None:
    pair.live()
    here, there = pair.device.secrets, pair.hub.secrets
    assert here is not None
    assert there is not None
    up, other = (guard.stream_label(epoch, guard.UP) for epoch in (b"epoch-1", b"epoch-2"))
    sealed = here.sender(up).seal(b"piece")
    assert there.receiver(up).open(sealed) == b"piece"
    for label in (other, guard.stream_label(b"epoch-1", guard.DOWN), guard.UP):
        with pytest.raises(Malformed):
            there.receiver(label).open(sealed)
    assert here.secret.hex() not in repr(here)
    assert repr(here.secret) not in repr(here)


def test_what_protection_adds_has_its_bound(pair: Pair) -> None:
    pair.signer = Signer(HUB, bytes(2000))
    greeting = pair.greet(b"x" * 100)
    pair.hub.open(greeting)
    assert len(greeting) < 100 + GUARD_BYTES_MAX
    assert len(pair.answer(b"x" * 100)) < 100 + GUARD_BYTES_MAX


# --- counters ---------------------------------------------------------------------------------------------------------


def ways() -> tuple[Sender, Receiver]:
    key = cose.Key(bytes(32), bytes(12))
    return Sender(SODIUM, key), Receiver(SODIUM, key)


@given(st.lists(st.integers(0, 59), max_size=200))
def test_whatever_the_order_each_frame_opens_once(order: list[int]) -> None:
    sender, receiver = ways()
    payloads, seen = [sender.seal(b"%d" % n) for n in range(60)], set()
    for number in order:
        if number in seen:
            with pytest.raises(Replayed):
                receiver.open(payloads[number])
        else:
            assert receiver.open(payloads[number]) == b"%d" % number
            seen.add(number)


def test_what_is_too_old_counts_as_a_replay() -> None:
    sender, receiver = ways()
    payloads = [sender.seal(b"%d" % n) for n in range(REPLAY_WINDOW_MAX + 2)]
    assert receiver.open(payloads[-1])
    with pytest.raises(Replayed):
        receiver.open(payloads[0])
    assert receiver.open(payloads[2])
    assert receiver.seen.bit_length() <= REPLAY_WINDOW_MAX


def test_a_will_opens_after_any_number_of_frames_and_nothing_after_it() -> None:
    """It was sealed before the first of them, when the broker got it to keep."""
    sender, receiver = ways()
    will, late = sender.last(b"gone"), sender.seal(b"late")
    for number in range(REPLAY_WINDOW_MAX + 2):
        receiver.open(sender.seal(b"%d" % number))
    assert receiver.open(will) == b"gone"
    for payload in (will, late, sender.seal(b"more")):
        with pytest.raises(Replayed):
            receiver.open(payload)


def test_a_frame_that_does_not_open_moves_no_counter() -> None:
    sender, receiver = ways()
    good = sender.seal(b"good")
    sender.counter += 5
    bad = bytearray(sender.seal(b"bad"))
    bad[-1] ^= 1
    with pytest.raises(Malformed):
        receiver.open(bytes(bad))
    assert receiver.open(good) == b"good"


@given(st.binary(max_size=300).map(lambda rest: guard.SIGNED + rest) | st.binary(max_size=300))
def test_any_bytes_open_or_are_malformed_and_harm_nothing(payload: bytes) -> None:
    pair = Pair()
    pair.live()
    for end in (pair.device, pair.hub):
        with pytest.raises(Malformed):
            end.open(payload)
    assert pair.hub.open(pair.up(b"up")) == b"up"
    assert pair.open(pair.down(b"down")) == b"down"


# --- what a hub says of itself ----------------------------------------------------------------------------------------


def test_the_answer_tells_time_and_authorities_signed_and_for_this_hello_only() -> None:
    wall = [1_800_000_000]
    hub = HubGuard(
        OPENSSL, lambda: Signer(HUB, CHAIN), lambda _statement: OPENSSL.public(DEVICE),
        lambda: About(wall[0], b"wanted!!"),
    )  # fmt: skip
    device = DeviceGuard(SODIUM, DEVICE, trust=b"believed")
    device.trust(OPENSSL.public(HUB))
    assert device.about == About()
    assert hub.open(device.greet(b"hello", bytes(range(32)))) == b"hello"
    assert hub.trust == b"believed"
    old = hub.close(b"welcome", bytes(range(1, 33)))
    assert device.open(old) == b"welcome"
    assert device.about == About(1_800_000_000, b"wanted!!")
    wall[0] += 60
    hub.open(device.greet(b"hello", bytes(range(2, 34))))
    with pytest.raises(Malformed):
        device.open(old)
    assert device.about.wall_s == 1_800_000_000, "an old answer moves no clock"
    device.open(hub.close(b"welcome", bytes(range(3, 35))))
    assert device.about.wall_s == 1_800_000_060


def test_a_hub_and_a_device_that_say_nothing_of_it_understand_each_other(pair: Pair) -> None:
    pair.live()
    assert pair.device.about == About()
    assert pair.hub.trust == b""
