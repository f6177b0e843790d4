"""SPDY/3.1 as Kubernetes streams use it, sans-IO, for both ends: what a connection's bytes mean, and what to send.

Knows frames, streams and header blocks, nothing of channels, pods or sockets. No flow control of SPDY: neither kubectl,
nor a kubelet, nor containerd sends or needs a WINDOW_UPDATE (moby/spdystream); the transport's own back-pressure is
what there is. Source: SPDY Protocol Draft 3.1. Decision: docs/decisions/0008-spdy.md.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum, IntEnum

from skerry.errors import Malformed
from skerry.limits import SPDY_CONTROL_BYTES_MAX, SPDY_HEADERS_BYTES_MAX, SPDY_STREAMS_MAX
from skerry.wire.spdy_dictionary import DICTIONARY

Headers = tuple[tuple[str, str], ...]  # names in lower case; one that has several values stands there several times
DATA_BYTES_MAX = (1 << 24) - 1  # of one frame
_STREAM_ID = 0x7FFFFFFF
_HEAD, _FIN = 8, 1
_VERSION = 3
# 9 KiB instead of zlib's 256: the window need only hold the dictionary, and there is a compressor per connection.
_WINDOW_BITS, _MEMORY_LEVEL = 11, 1


class Reset(IntEnum):
    """Status of a RST_STREAM (draft 2.6.3)."""

    PROTOCOL_ERROR = 1
    INVALID_STREAM = 2
    REFUSED_STREAM = 3
    UNSUPPORTED_VERSION = 4
    CANCEL = 5
    INTERNAL_ERROR = 6


class Role(Enum):
    """Who opens streams with odd numbers: the one that connected."""

    CLIENT = 1
    SERVER = 2


@dataclass(frozen=True, slots=True)
class SynStream:
    """The other end opens a stream."""

    stream: int
    headers: Headers
    fin: bool = False


@dataclass(frozen=True, slots=True)
class SynReply:
    """The other end takes a stream that was opened here."""

    stream: int
    headers: Headers = ()
    fin: bool = False


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes of a stream. A frame that arrives in pieces is given on in pieces; `fin` comes with the last one."""

    stream: int
    data: bytes
    fin: bool = False


@dataclass(frozen=True, slots=True)
class RstStream:
    """A stream is over both ways, at once."""

    stream: int
    status: int


@dataclass(frozen=True, slots=True)
class Ping:
    id: int


@dataclass(frozen=True, slots=True)
class GoAway:
    """The other end opens and takes no further stream."""

    last: int
    status: int = 0


@dataclass(frozen=True, slots=True)
class Other:
    """A control frame that asks for nothing here: SETTINGS, WINDOW_UPDATE, HEADERS, or a type of another draft."""

    type: int


Frame = SynStream | SynReply | Data | RstStream | Ping | GoAway | Other
Event = SynStream | SynReply | Data | RstStream | GoAway  # what `Connection.receive` tells


def header(headers: Headers, name: str) -> str:
    """The first value of `name`, "" if there is none."""
    return next((value for key, value in headers if key == name), "")


class Connection:
    """One connection's streams. After Malformed it is of no further use. What is to be sent waits in `take`.

    A client must have a stream's SynReply before it sends Data on it: spdystream drops what comes earlier.
    """

    def __init__(self, role: Role) -> None:
        self._decoder, self._encoder = Decoder(), Encoder()
        self._ours = 1 if role is Role.CLIENT else 0  # parity of the streams that are opened here
        self._next = 1 if role is Role.CLIENT else 2
        self._last = 0  # the other end's newest stream
        self._open: dict[int, _Halves] = {}
        self._out: list[bytes] = []
        self._closing = False
        self.refused = 0  # streams of the other end over SPDY_STREAMS_MAX

    @property
    def streams(self) -> frozenset[int]:
        """The streams that are not over."""
        return frozenset(self._open)

    def receive(self, data: bytes) -> list[Event]:
        """What the bytes tell. Pings are answered, frames of streams that are over are dropped. Raises Malformed."""
        return [event for frame in self._decoder.feed(data) if (event := self._take(frame)) is not None]

    def take(self) -> bytes:
        """The bytes to send now; asked for after every other call."""
        out, self._out = b"".join(self._out), []
        return out

    def open(self, headers: Headers, fin: bool = False) -> int:
        """The number of a new stream."""
        number, self._next = self._next, self._next + 2
        assert number <= _STREAM_ID
        self._open[number] = _Halves(sent=fin)
        self._out.append(self._encoder.syn_stream(number, headers, fin))
        return number

    def reply(self, stream: int, headers: Headers = (), fin: bool = False) -> None:
        """Take a stream of the other end. Nothing if it is over."""
        if stream in self._open:
            self._out.append(self._encoder.syn_reply(stream, headers, fin))
            self._end(stream, sent=fin)

    def send(self, stream: int, data: bytes, fin: bool = False) -> None:
        """Data, in as many frames as it takes. Nothing if the stream is over or was half-closed from here."""
        halves = self._open.get(stream)
        if halves is not None and not halves.sent:
            self._out.extend(encode_data(stream, data, fin))
            self._end(stream, sent=fin)

    def reset(self, stream: int, status: Reset) -> None:
        """End a stream at once. Nothing if it is over."""
        if self._open.pop(stream, None) is not None:
            self._out.append(encode_rst(stream, status))

    def go_away(self) -> None:
        """Say that no further stream is taken."""
        if not self._closing:
            self._closing = True
            self._out.append(_control(7, 0, struct.pack(">II", self._last, 0)))

    def _take(self, frame: Frame) -> Event | None:
        match frame:
            case SynStream():
                return self._opened(frame)
            case SynReply(stream, _, fin):
                return frame if self._end(stream, got=fin) else None
            case Data(stream, _, fin):
                halves = self._open.get(stream)
                if stream >= self._next if stream & 1 == self._ours else stream > self._last:
                    raise Malformed(f"data of stream {stream}, which nobody opened", self._decoder.data_at)
                if halves is None or halves.got:
                    return None
                self._end(stream, got=fin)
                return frame
            case RstStream(stream, _):
                return frame if self._open.pop(stream, None) is not None else None
            case Ping(number):
                if number & 1 != self._ours:
                    self._out.append(_control(6, 0, struct.pack(">I", number)))
                return None
            case GoAway():
                return frame
            case Other():
                return None

    def _opened(self, frame: SynStream) -> SynStream | None:
        number = frame.stream
        if number & 1 == self._ours or number <= self._last:
            raise Malformed(f"stream {number} cannot be opened after {self._last}", self._decoder.offset)
        self._last = number
        if len(self._open) >= SPDY_STREAMS_MAX or self._closing:
            self.refused += 1
            self._out.append(encode_rst(number, Reset.REFUSED_STREAM))
            return None
        self._open[number] = _Halves(got=frame.fin)
        return frame

    def _end(self, stream: int, sent: bool = False, got: bool = False) -> bool:
        """Whether the stream was open; it is forgotten once both halves are closed."""
        halves = self._open.get(stream)
        if halves is None:
            return False
        halves.sent, halves.got = halves.sent or sent, halves.got or got
        if halves.sent and halves.got:
            del self._open[stream]
        return True


@dataclass(slots=True)
class _Halves:
    sent: bool = False  # this end has sent its last
    got: bool = False  # the other end has


@dataclass(slots=True)
class Decoder:
    """Bytes of one direction to frames. Holds at most SPDY_CONTROL_BYTES_MAX of a control frame, nothing of Data."""

    offset: int = 0  # of the first byte that is not yet understood
    data_at: int = 0  # of the newest data frame
    _rest: bytearray = field(default_factory=bytearray)
    _data: tuple[int, int, bool] | None = None  # stream, bytes still to come, fin: of a data frame under way
    _inflate: zlib._Decompress = field(default_factory=lambda: zlib.decompressobj(zdict=DICTIONARY))

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that these bytes complete, and what there is of a Data frame. Raises Malformed."""
        self._rest += data
        while True:
            if self._data is not None:
                if not self._rest and self._data[1]:
                    return
                yield self._piece(*self._data)
                continue
            if len(self._rest) < _HEAD:
                return
            first, second = struct.unpack_from(">II", self._rest)
            flags, length = second >> 24, second & 0xFFFFFF
            if not first >> 31:
                self._data_head(first, flags, length)
                continue
            if length > SPDY_CONTROL_BYTES_MAX:
                raise Malformed(f"a control frame of {length} bytes, SPDY_CONTROL_BYTES_MAX is less", self.offset)
            if first >> 16 & 0x7FFF != _VERSION:
                raise Malformed(f"SPDY version {first >> 16 & 0x7FFF}, this end speaks {_VERSION}", self.offset)
            if len(self._rest) < _HEAD + length:
                return
            body = bytes(self._rest[_HEAD : _HEAD + length])
            frame = self._control(first & 0xFFFF, flags, body)
            self._skip(_HEAD + length)
            yield frame

    def _data_head(self, stream: int, flags: int, length: int) -> None:
        if stream == 0:
            raise Malformed("data of stream 0", self.offset)
        self.data_at = self.offset
        self._skip(_HEAD)
        if length or flags & _FIN:  # an empty frame that ends nothing says nothing
            self._data = (stream, length, bool(flags & _FIN))

    def _piece(self, stream: int, length: int, fin: bool) -> Data:
        data = bytes(self._rest[:length])
        self._skip(len(data))
        left = length - len(data)
        self._data = (stream, left, fin) if left else None
        return Data(stream, data, fin and not left)

    def _skip(self, count: int) -> None:
        del self._rest[:count]
        self.offset += count

    def _control(self, kind: int, flags: int, body: bytes) -> Frame:
        match kind:
            case 1:
                (stream,) = self._words(body, ">I", at_least=10)
                return SynStream(self._stream(stream), self._headers(body[10:]), bool(flags & _FIN))
            case 2:
                (stream,) = self._words(body, ">I", at_least=4)
                return SynReply(self._stream(stream), self._headers(body[4:]), bool(flags & _FIN))
            case 3:
                stream, status = self._words(body, ">II")
                return RstStream(self._stream(stream), status)
            case 6:
                return Ping(*self._words(body, ">I"))
            case 7:
                last, status = self._words(body, ">II")
                return GoAway(last & _STREAM_ID, status)
            case 8:  # read, because the header blocks of a direction are one deflate stream
                self._words(body, ">I", at_least=4)
                self._headers(body[4:])
                return Other(kind)
            case _:
                return Other(kind)

    def _words(self, body: bytes, form: str, at_least: int = 0) -> tuple[int, ...]:
        """The integers of a body that has exactly their size, or at least so many bytes."""
        size = struct.calcsize(form)
        if len(body) < at_least or (not at_least and len(body) != size):
            raise Malformed(f"a control frame with {len(body)} bytes, {at_least or size} are needed", self.offset)
        return struct.unpack_from(form, body)

    def _stream(self, number: int) -> int:
        if not number & _STREAM_ID:
            raise Malformed("stream 0", self.offset)
        return number & _STREAM_ID

    def _headers(self, block: bytes) -> Headers:
        try:
            plain = self._inflate.decompress(block, SPDY_HEADERS_BYTES_MAX + 1)
        except zlib.error:
            raise Malformed("a header block that does not inflate", self.offset) from None
        if len(plain) > SPDY_HEADERS_BYTES_MAX or self._inflate.unconsumed_tail or self._inflate.eof:
            raise Malformed("a header block beyond SPDY_HEADERS_BYTES_MAX, or the last of its stream", self.offset)
        at, fields = 0, list[str]()

        def length() -> int:
            nonlocal at
            if len(plain) - at < 4:
                raise Malformed("a header block that is cut short", self.offset)
            (value,) = struct.unpack_from(">I", plain, at)
            at += 4
            return int(value)

        count = length()
        if count > len(plain) // 8:
            raise Malformed("a header block that promises more than it has", self.offset)
        for _ in range(2 * count):
            size = length()
            if size > len(plain) - at:
                raise Malformed("a header that is cut short", self.offset)
            fields.append(plain[at : at + size].decode("latin-1"))
            at += size
        names = fields[::2]
        if at != len(plain) or len(set(names)) < count or any(not n or n != n.lower() for n in names):
            problem = "a header block with a rest, or with a name that is empty, repeated or not lower case"
            raise Malformed(problem, self.offset)
        return tuple((name, one) for name, value in zip(names, fields[1::2], strict=True) for one in value.split("\0"))


class Encoder:
    """The frames of one direction that carry headers; the others need no state."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(
            6, zlib.DEFLATED, _WINDOW_BITS, _MEMORY_LEVEL, zlib.Z_DEFAULT_STRATEGY, DICTIONARY
        )

    def syn_stream(self, stream: int, headers: Headers, fin: bool = False) -> bytes:
        return _control(1, fin, struct.pack(">IIH", stream, 0, 0) + self._block(headers))

    def syn_reply(self, stream: int, headers: Headers, fin: bool = False) -> bytes:
        return _control(2, fin, struct.pack(">I", stream) + self._block(headers))

    def _block(self, headers: Headers) -> bytes:
        joined: dict[str, list[str]] = {}
        for name, value in headers:
            joined.setdefault(name.lower(), []).append(value)
        fields = [part.encode("latin-1") for name, values in joined.items() for part in (name, "\0".join(values))]
        plain = struct.pack(">I", len(joined)) + b"".join(struct.pack(">I", len(f)) + f for f in fields)
        assert len(plain) <= SPDY_HEADERS_BYTES_MAX
        return self._deflate.compress(plain) + self._deflate.flush(zlib.Z_SYNC_FLUSH)


def encode_data(stream: int, data: bytes, fin: bool = False) -> Iterable[bytes]:
    """Data frames, head and body apart so that nothing is copied."""
    while True:
        part, data = data[:DATA_BYTES_MAX], data[DATA_BYTES_MAX:]
        yield struct.pack(">II", stream, (fin and not data) << 24 | len(part))
        if part:
            yield part
        if not data:
            return


def encode_rst(stream: int, status: Reset) -> bytes:
    return _control(3, 0, struct.pack(">II", stream, status))


def _control(kind: int, flags: int, body: bytes) -> bytes:
    return struct.pack(">HHI", 0x8000 | _VERSION, kind, int(flags) << 24 | len(body)) + body
