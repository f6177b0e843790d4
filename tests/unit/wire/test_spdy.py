"""SPDY between two ends, and against bytes that no honest end sends: frames or Malformed, whatever the split."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from properties.amount import examples
from skerry.errors import Malformed
from skerry.limits import SPDY_CONTROL_BYTES_MAX, SPDY_HEADERS_BYTES_MAX, SPDY_STREAMS_MAX
from skerry.wire import spdy
from skerry.wire.spdy import Connection, Data, Decoder, Encoder, Frame, GoAway, Other, Reset, Role, RstStream, SynReply
from skerry.wire.spdy_dictionary import DICTIONARY

QUICK = settings(max_examples=examples(300), deadline=None)
STDIN = (("streamtype", "stdin"), ("port", "80"))
SETTINGS = struct.pack(">HHIIII", 0x8003, 4, 12, 1, 7, 65536)
WINDOW = struct.pack(">HHIII", 0x8003, 9, 8, 1, 1024)
LATER = struct.pack(">HHI", 0x8003, 77, 3) + b"new"


def pair() -> tuple[Connection, Connection]:
    return Connection(Role.CLIENT), Connection(Role.SERVER)


def test_the_dictionary_is_that_of_the_draft() -> None:
    assert len(DICTIONARY) == 1423
    assert zlib.adler32(DICTIONARY) == 0xE3C6A7C2, "by this sum zlib knows it; every SPDY/3 stream begins with it"


def test_a_stream_is_opened_answered_used_and_closed_half_by_half() -> None:
    client, server = pair()
    stream = client.open(STDIN)
    assert server.receive(client.take()) == [spdy.SynStream(stream, STDIN)]
    server.reply(stream)
    assert client.receive(server.take()) == [SynReply(stream)]
    client.send(stream, b"in", fin=True)
    client.send(stream, b"too late")
    assert server.receive(client.take()) == [Data(stream, b"in", fin=True)]
    server.send(stream, b"out")
    server.send(stream, b"", fin=True)
    assert client.receive(server.take()) == [Data(stream, b"out"), Data(stream, b"", fin=True)]
    assert client.streams == server.streams == frozenset()


def test_many_streams_share_one_deflate_stream() -> None:
    client, server = pair()
    blocks = [(("streamtype", "data"), ("port", "80"), ("requestid", str(n))) for n in range(50)]
    opened = [client.open(block) for block in blocks]
    assert server.receive(client.take()) == [spdy.SynStream(n, b) for n, b in zip(opened, blocks, strict=True)]


def test_a_reader_with_gos_compression_and_several_values_is_understood() -> None:
    plain = struct.pack(">I", 1) + b"\0\0\0\x01v" + struct.pack(">I", 3) + b"a\0b"
    squeeze = zlib.compressobj(9, zdict=DICTIONARY)
    block = squeeze.compress(plain) + squeeze.flush(zlib.Z_SYNC_FLUSH)
    frame = struct.pack(">HHIIIH", 0x8003, 1, 10 + len(block), 1, 0, 0) + block
    (event,) = Connection(Role.SERVER).receive(frame)
    assert isinstance(event, spdy.SynStream)
    assert event.headers == (("v", "a"), ("v", "b"))
    assert spdy.header(event.headers, "v") == "a"


def test_pings_are_echoed_and_what_asks_for_nothing_is_passed_over() -> None:
    client, server = pair()
    ping = struct.pack(">HHII", 0x8003, 6, 4, 1)
    assert server.receive(SETTINGS + ping + WINDOW + LATER + ping[:-1] + b"\x02") == []
    assert server.take() == ping, "an even number would be the answer to a ping of the server"
    assert client.receive(ping) == []
    assert client.take() == b""


def test_after_goaway_or_over_the_bound_streams_are_refused_and_the_rest_goes_on() -> None:
    client, server = pair()
    for _ in range(SPDY_STREAMS_MAX + 1):
        client.open(())
    assert len(server.receive(client.take())) == SPDY_STREAMS_MAX
    assert client.receive(server.take()) == [RstStream(2 * SPDY_STREAMS_MAX + 1, Reset.REFUSED_STREAM)]
    server.reset(1, Reset.CANCEL)
    server.go_away()
    assert client.receive(server.take()) == [RstStream(1, Reset.CANCEL), GoAway(2 * SPDY_STREAMS_MAX + 1)]
    client.open(())
    assert server.receive(client.take()) == []
    assert server.refused == 2


def test_frames_of_a_stream_that_is_over_are_dropped() -> None:
    client, server = pair()
    stream = client.open(())
    server.receive(client.take())
    client.send(stream, b"a" * 10)
    server.reset(stream, Reset.CANCEL)
    assert server.receive(client.take()) == []
    assert client.receive(server.take()) == [RstStream(stream, Reset.CANCEL)]
    client.send(stream, b"b")
    assert client.take() == b""
    assert client.receive(struct.pack(">HHIII", 0x8003, 3, 8, stream, 5)) == []


def test_data_is_passed_on_as_it_arrives_and_the_largest_frame_is_not_held() -> None:
    _, server = pair()
    client = Connection(Role.CLIENT)
    client.open(())
    server.receive(client.take())
    head = struct.pack(">II", 1, 1 << 24 | 0xFFFFFF)
    assert server.receive(head) == []
    got = [server.receive(b"x" * 0xFFFF) for _ in range(0x100)] + [server.receive(b"y" * 0xFF)]
    assert all(len(events) == 1 for events in got)
    assert got[-1] == [Data(1, b"y" * 0xFF, fin=True)]
    assert not isinstance(got[0][0], GoAway)


def test_data_over_a_frames_size_goes_in_several() -> None:
    parts = list(spdy.encode_data(3, b"z" * (spdy.DATA_BYTES_MAX + 5), fin=True))
    frames = _joined(Decoder(), [b"".join(parts)])
    assert frames == [Data(3, b"z" * (spdy.DATA_BYTES_MAX + 5), True)]
    assert [len(p) for p in parts] == [8, spdy.DATA_BYTES_MAX, 8, 5]


def _bomb() -> bytes:
    squeeze = zlib.compressobj(9, zdict=DICTIONARY)
    return squeeze.compress(b"\0" * (SPDY_HEADERS_BYTES_MAX * 300)) + squeeze.flush(zlib.Z_SYNC_FLUSH)


def _block(plain: bytes, end: int = zlib.Z_SYNC_FLUSH) -> bytes:
    squeeze = zlib.compressobj(9, zdict=DICTIONARY)
    return squeeze.compress(plain) + squeeze.flush(end)


def _syn(block: bytes, stream: int = 1) -> bytes:
    return struct.pack(">HHIIIH", 0x8003, 1, 10 + len(block), stream, 0, 0) + block


def _name(*fields: bytes) -> bytes:
    return struct.pack(">I", len(fields) // 2) + b"".join(struct.pack(">I", len(f)) + f for f in fields)


HOSTILE = {
    "another version": struct.pack(">HHI", 0x8002, 1, 0),
    "a control frame over its bound": struct.pack(">HHI", 0x8003, 99, SPDY_CONTROL_BYTES_MAX + 1),
    "data of stream 0": struct.pack(">II", 0, 1),
    "data of a stream that nobody opened": struct.pack(">II", 1, 3) + b"abc",
    "another protocol": b"GET / HTTP/1.1\r\nHost: here\r\n\r\n",
    "stream 0": _syn(_block(_name()), 0),
    "an even stream of a client": _syn(_block(_name()), 2),
    "a SYN_STREAM without room for its fields": struct.pack(">HHI", 0x8003, 1, 9) + b"\0" * 9,
    "a RST_STREAM that is too long": struct.pack(">HHI", 0x8003, 3, 9) + b"\1" * 9,
    "a PING that is too short": struct.pack(">HHI", 0x8003, 6, 0),
    "a bomb": _syn(_bomb()),
    "a block without the dictionary": _syn(zlib.compress(_name())),
    "a block that is not deflated": _syn(b"plain text, no block"),
    "a block that ends the stream": _syn(_block(_name(), zlib.Z_FINISH)),
    "an empty block": _syn(b""),
    "a count that is a lie": _syn(_block(struct.pack(">I", 0xFFFFFFFF))),
    "a name that is cut short": _syn(_block(struct.pack(">IIII", 1, 9, 0, 0))),
    "bytes after the fields": _syn(_block(_name(b"a", b"b") + b"c")),
    "a repeated name": _syn(_block(_name(b"a", b"b", b"a", b"c"))),
    "a name in capitals": _syn(_block(_name(b"A", b"b"))),
    "a name without letters": _syn(_block(_name(b"", b"b"))),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_no_honest_end_sends_is_malformed_and_says_where(data: bytes) -> None:
    server = Connection(Role.SERVER)
    with pytest.raises(Malformed) as told:
        server.receive(SETTINGS + data)
    assert told.value.offset >= len(SETTINGS)


def test_a_stream_number_never_comes_back() -> None:
    client, server = pair()
    client.open(())
    first = client.take()
    server.receive(first)
    again = Encoder()
    server.reset(1, Reset.CANCEL)
    with pytest.raises(Malformed):
        server.receive(again.syn_stream(1, ()))


# --- properties -------------------------------------------------------------------------------------------------------

numbers = st.integers(1, 2**31 - 1)
names = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12).map(str.lower)
texts = st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=30)
blocks = st.dictionaries(names, texts, max_size=5).map(lambda d: tuple(d.items()))
sent = st.lists(
    st.one_of(
        st.builds(spdy.SynStream, numbers, blocks, st.booleans()),
        st.builds(SynReply, numbers, blocks, st.booleans()),
        st.builds(Data, numbers, st.binary(min_size=1, max_size=300), st.booleans()),
        st.builds(Data, numbers, st.just(b""), st.just(True)),
        st.builds(RstStream, numbers, st.integers(1, 20)),
    ),
    max_size=8,
)


def _wire(frames: Sequence[Frame]) -> bytes:
    encoder, out = Encoder(), b""
    for frame in frames:
        match frame:
            case spdy.SynStream(stream, headers, fin):
                out += encoder.syn_stream(stream, headers, fin)
            case SynReply(stream, headers, fin):
                out += encoder.syn_reply(stream, headers, fin)
            case Data(stream, data, fin):
                out += b"".join(spdy.encode_data(stream, data, fin))
            case RstStream(stream, status):
                out += spdy.encode_rst(stream, Reset.CANCEL)[:-4] + struct.pack(">I", status)
            case _:
                raise AssertionError(frame)
    return out


def _joined(decoder: Decoder, parts: list[bytes]) -> list[Frame]:
    """The frames, with a Data frame's pieces put together again."""
    out: list[Frame] = []
    going = False
    for part in parts:
        for frame in decoder.feed(part):
            last = out[-1] if out else None
            if isinstance(frame, Data) and going and isinstance(last, Data) and last.stream == frame.stream:
                out[-1] = Data(frame.stream, last.data + frame.data, frame.fin)
            else:
                out.append(frame)
            going = isinstance(frame, Data) and not frame.fin
    return out


def _merged(frames: Sequence[Frame]) -> list[Frame]:
    out: list[Frame] = []
    for frame in frames:
        last = out[-1] if out else None
        if isinstance(frame, Data) and isinstance(last, Data) and last.stream == frame.stream and not last.fin:
            out[-1] = Data(frame.stream, last.data + frame.data, frame.fin)
        else:
            out.append(frame)
    return out


def _split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(places)]


@QUICK
@given(sent, st.lists(st.integers(0, 10_000), max_size=8))
def test_what_is_sent_arrives_whatever_the_split(frames: list[Frame], cuts: list[int]) -> None:
    data = _wire(frames)
    decoder = Decoder()
    assert _joined(decoder, _split(data, cuts)) == _merged(frames)
    assert decoder.offset == len(data)


heads = st.builds(
    lambda kind, flags, body: struct.pack(">HHI", 0x8003, kind, flags << 24 | len(body)) + body,
    st.integers(0, 12),
    st.integers(0, 3),
    st.binary(max_size=24) | blocks.map(lambda b: Encoder().syn_stream(1, b)[8:]),
)
rough = st.lists(heads | st.binary(max_size=20) | sent.map(_wire), max_size=6).map(b"".join)


def _told(data: bytes, cuts: list[int], role: Role) -> tuple[list[Frame], int]:
    """What a connection makes of the bytes, and the offset of what it did not understand."""
    end, out = Connection(role), list[Frame]()
    for part in _split(data, cuts):
        try:
            out += end.receive(part)
        except Malformed as why:
            return [], why.offset
        end.take()
    return _merged(out), -1


@QUICK
@given(rough, st.lists(st.integers(0, 10_000), max_size=6), st.sampled_from(Role))
def test_any_bytes_are_frames_or_malformed_the_same_way_whatever_the_split(
    data: bytes, cuts: list[int], role: Role
) -> None:
    whole, offset = _told(data, [], role)
    assert _told(data, cuts, role) == (whole, offset)
    if offset >= 0:
        assert offset <= len(data)


def test_other_frames_are_told_by_their_type() -> None:
    assert list(Decoder().feed(SETTINGS + WINDOW + LATER)) == [Other(4), Other(9), Other(77)]
