"""The messages of streams, on their own topics and connection, and the request in an Open. Whole contract:
docs/wire-protocol.cddl; what each end does: docs/wire-protocol.md, Streams.

Every message names the epoch of its connection, so nothing of an earlier one is ever taken for new. Data counts bytes,
so a lost frame is seen; windows are absolute, so a repeated one changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from typing import Any

from skerry.errors import Malformed
from skerry.limits import (
    COMMAND_ARGS_MAX,
    COMMAND_BYTES_MAX,
    NONCE_BYTES,
    STREAM_CHUNK_TAKEN_BYTES_MAX,
    STREAMS_TOLD_MAX,
)
from skerry.model.streams import Attach, Channel, CloseCode, Exec, Logs, PortForward, Stats, StreamRequest
from skerry.wire.codec import ARRAY, BYTES, MAP, UNSIGNED, bytes_at, head, head_at
from skerry.wire.fields import (
    DETAIL,
    FLAG,
    NAME,
    NO_EXTRA,
    NONCE,
    UINT,
    Coder,
    Optional,
    Table,
    enum,
    items,
    pack,
    unpack,
)
from skerry.wire.frame import PLAIN, VERSION


class StreamKind(IntEnum):
    LOGS = 1
    EXEC = 2
    ATTACH = 3
    PORT_FORWARD = 4
    STATS = 5


@dataclass(frozen=True, slots=True)
class Ready:
    """Both ways, now and then: this end is there, it knows the streams up to `last`, and of these `open` are open:
    their numbers, each with all that this end has sent in it. The device's first one says that its connection is up."""

    epoch: bytes
    last: int = 0
    open: tuple[tuple[int, int], ...] = ()
    extra: Mapping[int, Any] = field(default_factory=lambda: NO_EXTRA)


@dataclass(frozen=True, slots=True)
class Open:
    """Hub → device: a stream. Answered by a Window (it is open) or a Close (it is refused). Which fields count depends
    on `kind`; `stream` is above every one before in this epoch."""

    epoch: bytes
    stream: int
    window: int  # bytes that the device may send before it is given more
    kind: StreamKind
    namespace: str = ""
    pod: str = ""
    container: str = ""
    command: tuple[str, ...] = ()
    port: int = 0
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    tty: bool = False
    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    limit_bytes: int | None = None
    since_unix_ns: int | None = None
    extra: Mapping[int, Any] = field(default_factory=lambda: NO_EXTRA)


@dataclass(frozen=True, slots=True)
class Data:
    """Both ways: bytes on a channel. `offset` counts what this end sent in the stream before, all channels together;
    `end`: nothing more will come on this channel."""

    epoch: bytes
    stream: int
    channel: Channel
    offset: int
    data: bytes
    end: bool = False
    extra: Mapping[int, Any] = field(default_factory=lambda: NO_EXTRA)


@dataclass(frozen=True, slots=True)
class Window:
    """Both ways: the other end may send up to this offset."""

    epoch: bytes
    stream: int
    until: int
    extra: Mapping[int, Any] = field(default_factory=lambda: NO_EXTRA)


@dataclass(frozen=True, slots=True)
class Close:
    """Both ways: the stream is over; stream 0: the connection is. `offset` is all that this end sent; after DONE the
    other end still hands on what came, with any other code it throws that away."""

    epoch: bytes
    stream: int
    code: CloseCode
    offset: int
    detail: str = ""
    extra: Mapping[int, Any] = field(default_factory=lambda: NO_EXTRA)


StreamMessage = Ready | Open | Data | Window | Close


def _command_in(value: Any, name: str) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > COMMAND_ARGS_MAX or not all(isinstance(v, str) for v in value):
        raise Malformed(f"{name}: a list of at most {COMMAND_ARGS_MAX} texts expected")
    if sum(len(v.encode()) for v in value) > COMMAND_BYTES_MAX:
        raise Malformed(f"{name}: more than COMMAND_BYTES_MAX {COMMAND_BYTES_MAX} bytes")
    return tuple(value)


def _chunk_in(value: Any, name: str) -> bytes:
    if not isinstance(value, bytes) or len(value) > STREAM_CHUNK_TAKEN_BYTES_MAX:
        raise Malformed(f"{name}: at most {STREAM_CHUNK_TAKEN_BYTES_MAX} bytes expected")
    return value


COMMAND: Coder = (list, _command_in)
CHUNK: Coder = (bytes, _chunk_in)
OPEN = items(STREAMS_TOLD_MAX, tuple, lambda *parts: parts, UINT, UINT)

TABLE: Table = {
    16: (Ready, ((1, "epoch", NONCE), (2, "last", UINT), (3, "open", OPEN))),
    17: (
        Open,
        (
            (1, "epoch", NONCE),
            (2, "stream", UINT),
            (3, "window", UINT),
            (4, "kind", enum(StreamKind)),
            (5, "namespace", NAME),
            (6, "pod", NAME),
            (7, "container", NAME),
            (8, "command", COMMAND),
            (9, "port", UINT),
            (10, "stdin", FLAG),
            (11, "stdout", FLAG),
            (12, "stderr", FLAG),
            (13, "tty", FLAG),
            (14, "follow", FLAG),
            (15, "previous", FLAG),
            (16, "timestamps", FLAG),
            (17, "tail_lines", UINT),
            (18, "limit_bytes", UINT),
            (19, "since_unix_ns", UINT),
        ),
    ),
    18: (
        Data,
        (
            (1, "epoch", NONCE),
            (2, "stream", UINT),
            (3, "channel", enum(Channel)),
            (4, "offset", UINT),
            (5, "data", CHUNK),
            (6, "end", FLAG),
        ),
    ),
    19: (Window, ((1, "epoch", NONCE), (2, "stream", UINT), (3, "until", UINT))),
    20: (
        Close,
        (
            (1, "epoch", NONCE),
            (2, "stream", UINT),
            (3, "code", enum(CloseCode)),
            (4, "offset", UINT),
            (5, "detail", DETAIL),
        ),
    ),
}
TYPE_OF = {cls: kind for kind, (cls, _) in TABLE.items()}
OPTIONAL: Optional = {
    Ready: {"last": 0, "open": ()},
    Open: {
        **dict.fromkeys(("namespace", "pod", "container"), ""),
        "command": (),
        "port": 0,
        **dict.fromkeys(("stdin", "stdout", "stderr", "tty", "follow", "previous", "timestamps"), False),
        **dict.fromkeys(("tail_lines", "limit_bytes", "since_unix_ns")),
    },
    Data: {"end": False},
    Close: {"detail": ""},
}


def encode(message: StreamMessage) -> bytes:
    """A message as a frame. Data is never deflated: what travels in it is large or already small."""
    if isinstance(message, Data) and not message.extra and len(message.data) <= STREAM_CHUNK_TAKEN_BYTES_MAX:
        return _data_out(message)
    kind = TYPE_OF[type(message)]
    return pack(kind, TABLE[kind][1], OPTIONAL.get(type(message), {}), message, not isinstance(message, Data))


def decode(frame: bytes) -> StreamMessage:
    """The message in a frame. Raises Malformed (with the field's name) or LimitExceeded."""
    message: StreamMessage = _data_in(frame) or unpack(TABLE, OPTIONAL, frame)
    return message


# --- Data by its bytes, because there is one for each 16 KiB of a stream ----------------------------------------------

_HEAD = bytes((VERSION << 4 | PLAIN,)) + head(ARRAY, 2) + head(UNSIGNED, TYPE_OF[Data])
_FRONT = tuple(  # up to the epoch; with one field more where it ends
    _HEAD + head(MAP, 5 + end) + head(UNSIGNED, 1) + head(BYTES, NONCE_BYTES) for end in (False, True)
)
_END = (b"", b"\6\xf5")


def _data_out(said: Data) -> bytes:
    numbers = (head(UNSIGNED, n) for n in (said.stream, said.channel, said.offset))
    keyed = b"".join(bytes((key,)) + number for key, number in enumerate(numbers, 2))
    size = head(BYTES, len(said.data))
    return b"".join((_FRONT[said.end], said.epoch, keyed, b"\5", size, said.data, _END[said.end]))


def _data_in(frame: bytes) -> Data | None:
    """None where it is anything else, or another spelling: `unpack` says what."""
    front = frame[: len(_FRONT[0])]
    if front not in _FRONT:
        return None
    end, at = front == _FRONT[True], len(front) + NONCE_BYTES
    epoch, numbers = frame[len(front) : at], []
    try:
        for key in (2, 3, 4):
            if frame[at] != key:
                return None
            number, at = head_at(frame, at + 1, UNSIGNED)
            numbers.append(number)
        if frame[at] != 5:
            return None
        data, at = bytes_at(frame, at + 1)
        stream, channel, offset = numbers
        if frame[at:] != _END[end] or len(data) > STREAM_CHUNK_TAKEN_BYTES_MAX or max(numbers) >= 1 << 63:
            return None
        return Data(epoch, stream, Channel(channel), offset, data, end)
    except (Malformed, IndexError, ValueError):
        return None


# --- requests ---------------------------------------------------------------------------------------------------------

KINDS: Mapping[type[Any], StreamKind] = {
    Logs: StreamKind.LOGS,
    Exec: StreamKind.EXEC,
    Attach: StreamKind.ATTACH,
    PortForward: StreamKind.PORT_FORWARD,
    Stats: StreamKind.STATS,
}
PORT_MAX = 65_535


def opening(request: StreamRequest, epoch: bytes, stream: int, window: int) -> Open:
    return Open(epoch, stream, window, KINDS[type(request)], **asdict(request))


def requested(said: Open) -> StreamRequest:
    """What an Open asks for. Raises Malformed where that makes no sense."""
    if said.kind is not StreamKind.STATS and not (said.namespace and said.pod):
        raise Malformed("Open: namespace and pod are needed")
    match said.kind:
        case StreamKind.LOGS:
            return Logs(
                said.namespace, said.pod, said.container, said.follow, said.previous, said.timestamps,
                said.tail_lines, said.limit_bytes, said.since_unix_ns,
            )  # fmt: skip
        case StreamKind.EXEC:
            if not said.command or not said.command[0]:
                raise Malformed("Open.command: you must specify at least one command for the container")
            return Exec(
                said.namespace, said.pod, said.container, said.command, said.stdin, said.stdout, said.stderr, said.tty
            )
        case StreamKind.ATTACH:
            return Attach(
                said.namespace, said.pod, said.container, said.stdin, said.stdout, said.stderr, said.tty
            )  # fmt: skip
        case StreamKind.PORT_FORWARD:
            if not 0 < said.port <= PORT_MAX:
                raise Malformed(f"Open.port: 1 to {PORT_MAX} expected, got {said.port}")
            return PortForward(said.namespace, said.pod, said.port)
        case StreamKind.STATS:
            return Stats()
