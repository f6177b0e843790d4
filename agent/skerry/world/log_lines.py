"""CRI's log format to what the program wrote: which bytes of a log file a person gets to see. Pure.

A line is `TIME STREAM TAGS TEXT`; the tag P says that the text goes on in the next line, F that it ends. What does not
look like that is left out, as by kubelet; a line of any length passes, in pieces. Source: kubernetes,
"CRI: Log management for container stdout/stderr streams", and kubelet's logs.go (parseCRILog, timeFormatOut).
"""

from __future__ import annotations

import re
from calendar import timegm
from datetime import datetime
from functools import lru_cache

from skerry.limits import LOG_LINE_BYTES_MAX
from skerry.model.streams import Logs

HEADER_BYTES_MAX = 96  # time with its zone, stream and tags; more of it is no header
_STREAMS = (b"stdout", b"stderr")
_TIME = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")  # RFC 3339
_PADDED_BYTES = 30  # a UTC time with nine digits after the point
_DROPPED = b""  # instead of a tag: the line is not one of a log


class Lines:
    """Fed with a file piece by piece, answers with what to show. Holds LOG_LINE_BYTES_MAX and one piece at most."""

    def __init__(self, request: Logs) -> None:
        self._timestamps, self._since, self._left = request.timestamps, request.since_unix_ns, request.limit_bytes
        self._rest = b""  # of a line that is not whole yet
        self._long: bytes | None = None  # the tag of a line that is too long to be kept, while it lasts
        self._fresh = True  # the next text is the first of the program's line

    @property
    def full(self) -> bool:
        """limit_bytes is reached: no more will come."""
        return self._left is not None and self._left <= 0

    def feed(self, data: bytes) -> bytes:
        out = []
        if self._long is not None:
            text, newline, data = data.partition(b"\n")
            out.append(self._more(text, bool(newline)))
        if self._long is None:
            lines = (self._rest + data).split(b"\n")
            self._rest = lines.pop()
            out += [self._line(line) for line in lines]
            if len(self._rest) > LOG_LINE_BYTES_MAX:
                self._long = tag(self._rest)
                out.append(self._line(self._rest, whole=False))
                self._rest = b""
        return self._cut(b"".join(out))

    def torn(self) -> None:
        """The file ends here and another goes on: what a power cut left of its last line is no line."""
        self._rest, self._long = b"", None

    # --- private ------------------------------------------------------------------------------------------------------

    def _line(self, line: bytes, whole: bool = True) -> bytes:
        parts = line.split(b" ", 3)
        kind = _kind(parts)
        if kind == _DROPPED:
            return b""
        stamp, text = parts[0], parts[3]
        if self._since is not None and unix_ns(stamp) < self._since:
            return b""
        if self._fresh and self._timestamps:
            text = padded(stamp) + b" " + text
        self._fresh = whole and kind == b"F"
        return text + b"\n" if self._fresh else text

    def _more(self, text: bytes, ends: bool) -> bytes:
        """Inside of a line that is too long."""
        kind = self._long
        if ends:
            self._long = None
        if kind == _DROPPED:
            return b""
        self._fresh = ends and kind == b"F"
        return text + b"\n" if self._fresh else text

    def _cut(self, out: bytes) -> bytes:
        if self._left is not None:
            out = out[: max(self._left, 0)]
            self._left -= len(out)
        return out


def tag(line: bytes) -> bytes:
    """F or P; empty for what is not a line of a log. Only its first HEADER_BYTES_MAX are looked at."""
    return _kind(line[:HEADER_BYTES_MAX].split(b" ", 3))


def unix_ns(stamp: bytes) -> int:
    """Nanoseconds since 1970 of an RFC 3339 time; 0 for what is none."""
    found = _TIME.fullmatch(stamp)
    if found is None:
        return 0
    second, fraction, zone = found.groups(default=b"")
    ahead = 0 if zone == b"Z" else (int(zone[1:3]) * 60 + int(zone[4:6])) * (-60 if zone[:1] == b"-" else 60)
    return (_second(second) - ahead) * 10**9 + int(fraction.ljust(9, b"0"))


def padded(stamp: bytes) -> bytes:
    """With nine digits after the point, as kubelet writes it; containerd leaves zeros at the end out."""
    if len(stamp) == _PADDED_BYTES and stamp.endswith(b"Z"):
        return stamp
    found = _TIME.fullmatch(stamp)
    if found is None:
        return stamp
    second, fraction, zone = found.groups(default=b"")
    return second + b"." + fraction.ljust(9, b"0") + zone


def _kind(parts: list[bytes]) -> bytes:
    if len(parts) < 4 or parts[1] not in _STREAMS or parts[0][10:11] != b"T":
        return _DROPPED
    kind = parts[2].partition(b":")[0]
    return kind if kind in (b"F", b"P") else _DROPPED


@lru_cache(maxsize=4)
def _second(text: bytes) -> int:
    try:
        return timegm(datetime.fromisoformat(text.decode()).timetuple())
    except ValueError:
        return 0
