"""Data is written and read by its bytes; it is the same as through values, for good frames and for bad ones."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from skerry.errors import SkerryError
from skerry.limits import NONCE_BYTES, STREAM_CHUNK_TAKEN_BYTES_MAX
from skerry.model.streams import Channel
from skerry.wire import fields
from skerry.wire.streams import OPTIONAL, TABLE, TYPE_OF, Data, decode, encode

NUMBERS = st.one_of(st.integers(0, 300), st.integers(0, (1 << 63) - 1))
DATA = st.builds(
    Data,
    epoch=st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES),
    stream=NUMBERS,
    channel=st.sampled_from(Channel),
    offset=NUMBERS,
    data=st.one_of(st.binary(max_size=300), st.sampled_from([0, 255, 256, STREAM_CHUNK_TAKEN_BYTES_MAX]).map(bytes)),
    end=st.booleans(),
)


def by_values(said: Data) -> bytes:
    kind = TYPE_OF[Data]
    return fields.pack(kind, TABLE[kind][1], OPTIONAL[Data], said, False)


def outcome(read: Any, frame: bytes) -> Any:
    try:
        return read(frame)
    except SkerryError as why:
        return type(why), str(why)


@given(DATA)
def test_it_is_written_as_through_values_and_read_back(said: Data) -> None:
    frame = encode(said)
    assert frame == by_values(said)
    assert decode(frame) == said


@given(DATA, st.data())
@example(Data(bytes(8), 1, Channel.STDOUT, 0, b"x"), None)
def test_any_other_bytes_are_what_they_are_through_values(said: Data, choose: st.DataObject | None) -> None:
    frame = bytearray(encode(said))
    if choose is not None:
        at = choose.draw(st.integers(0, min(len(frame), 64) - 1))
        frame[at : at + choose.draw(st.integers(0, 3))] = choose.draw(st.binary(max_size=3))
    changed = bytes(frame)
    assert outcome(decode, changed) == outcome(lambda f: fields.unpack(TABLE, OPTIONAL, f), changed)


@pytest.mark.parametrize("changed", [{"extra": {9: "new"}}, {"data": bytes(STREAM_CHUNK_TAKEN_BYTES_MAX + 1)}])
def test_what_a_newer_end_may_say_goes_the_usual_way(changed: dict[str, Any]) -> None:
    said = dataclasses.replace(Data(bytes(8), 1, Channel.STDOUT, 0, b"x"), **changed)
    assert encode(said) == by_values(said)
