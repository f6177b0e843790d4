"""A frame is one whole MQTT payload. Cut short or run together it is Malformed; a bomb stops at the bound."""

from __future__ import annotations

import zlib

import pytest

from skerry.errors import LimitExceeded, Malformed
from skerry.limits import FRAME_BYTES_MAX, FRAME_INFLATED_BYTES_MAX, OBJECT_BYTES_MAX
from skerry.wire import frame, message
from skerry.wire.dictionary import DICTIONARY
from unit.wire.examples import MESSAGES

FRAMES = [message.encode(m) for m in MESSAGES.values()]
PLAIN = bytes((frame.VERSION << 4,))
DEFLATED = bytes((frame.VERSION << 4 | 1,))


def test_small_frames_stay_plain_and_wordy_ones_are_deflated() -> None:
    assert frame.pack(8, b"")[:1] == PLAIN
    assert frame.pack(8, "metadata namespace labels")[:1] == DEFLATED


def test_a_frame_that_is_cut_anywhere_is_malformed() -> None:
    for whole in FRAMES:
        for end in range(len(whole)):
            with pytest.raises(Malformed):
                message.decode(whole[:end])


def test_two_frames_run_together_are_malformed() -> None:
    for first in FRAMES:
        for second in (FRAMES[0], FRAMES[-1], b"\0"):
            with pytest.raises(Malformed):
                message.decode(first + second)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "empty frame at byte 0"),
        (b"\x20\x82\x01\xa0", "protocol version 2, this end speaks 1 at byte 0"),
        (b"\x12\x82\x01\xa0", "unknown frame encoding 2 at byte 0"),
        (DEFLATED + b"\xff\xff", "damaged"),
        (PLAIN + b"\x01", "array of a type and a body"),
        (PLAIN + b"\x83\x01\xa0\x00", "array of a type and a body"),
        (PLAIN + b"\x82\xf5\xa0", "array of a type and a body"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, problem: str) -> None:
    with pytest.raises(Malformed, match=problem):
        frame.unpack(data)


def test_a_bomb_is_not_inflated_beyond_the_bound() -> None:
    squeeze = zlib.compressobj(9, zlib.DEFLATED, frame.WINDOW_BITS, zdict=DICTIONARY)
    bomb = squeeze.compress(bytes(64 * FRAME_INFLATED_BYTES_MAX)) + squeeze.flush()
    with pytest.raises(LimitExceeded) as caught:
        frame.unpack(DEFLATED + bomb)
    assert caught.value.limit == "FRAME_INFLATED_BYTES_MAX"
    assert caught.value.got == FRAME_INFLATED_BYTES_MAX + 1


def test_a_frame_at_the_inflated_bound_passes_and_one_byte_more_does_not() -> None:
    most = FRAME_INFLATED_BYTES_MAX - 7  # array head, type, five bytes of string head
    assert frame.unpack(frame.pack(8, bytes(most))) == (8, bytes(most))
    with pytest.raises(LimitExceeded):
        frame.pack(8, bytes(most + 1))


def test_a_frame_over_the_bound_is_neither_made_nor_read() -> None:
    from random import Random

    noise = Random(1).randbytes(FRAME_BYTES_MAX)
    with pytest.raises(LimitExceeded, match="FRAME_BYTES_MAX"):
        frame.pack(8, noise)
    with pytest.raises(LimitExceeded, match="FRAME_BYTES_MAX"):
        frame.unpack(PLAIN + noise)


def test_an_object_of_any_allowed_size_fits_a_frame() -> None:
    from random import Random

    body = Random(2).randbytes(OBJECT_BYTES_MAX)
    assert len(frame.pack(4, {8: [[1, "u" * 253, b"d" * 16, False, body]]})) <= FRAME_BYTES_MAX
