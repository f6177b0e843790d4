"""What a stream is opened for, and the pieces that travel in it. Frozen values; nothing here is ever journaled.

Channels carry the numbers that Kubernetes gives them in its WebSocket protocol (`v5.channel.k8s.io`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

STREAMS_SUFFIX = ".streams"  # no node's name ends so


def streams_name(node: str) -> str:
    """Who a device's connection for streams is to the broker: a client, a certificate and topics of its own."""
    return node + STREAMS_SUFFIX


class Channel(IntEnum):
    """The lanes of a stream. A port-forward uses STDIN towards the pod and STDOUT from it."""

    STDIN = 0
    STDOUT = 1
    STDERR = 2
    ERROR = 3  # a metav1.Status as JSON, once, at the end of exec and attach: the exit code is in it
    RESIZE = 4  # {"Width": columns, "Height": rows} as JSON


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes on one channel, at most STREAM_PIECE_BYTES_MAX; with `end` no more will come on that channel."""

    channel: Channel
    data: bytes
    end: bool = False


class CloseCode(IntEnum):
    """Why a stream is over. All but DONE are failures; NOT_FOUND to FORBIDDEN also refuse an Open."""

    DONE = 0  # all that there was has been sent
    NOT_FOUND = 1  # no such pod, container or log on this device
    INVALID = 2  # the request makes no sense, such as a command that is empty
    UNAVAILABLE = 3  # it exists and cannot do this now: not started yet, or nothing listens on the port
    FORBIDDEN = 4  # this device does not allow it, and says which setting would
    BUSY = 5  # STREAMS_MAX are open
    LOST = 6  # the connection went away, or frames are missing
    CANCELLED = 7  # the other end has no use for it any more
    FAILED = 8  # something broke under way; the detail says what


@dataclass(frozen=True, slots=True)
class Logs:
    """A container's log, as `kubectl logs` asks for it (v1.PodLogOptions)."""

    namespace: str
    pod: str
    container: str = ""  # may be empty where the pod has one container
    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    limit_bytes: int | None = None
    since_unix_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Exec:
    """A new process in a running container."""

    namespace: str
    pod: str
    container: str
    command: tuple[str, ...]
    stdin: bool = False
    stdout: bool = True
    stderr: bool = True
    tty: bool = False


@dataclass(frozen=True, slots=True)
class Attach:
    """The container's own process. `tty` must be the container's own."""

    namespace: str
    pod: str
    container: str
    stdin: bool = False
    stdout: bool = True
    stderr: bool = True
    tty: bool = False


@dataclass(frozen=True, slots=True)
class PortForward:
    """One TCP connection to a port on the loopback of the pod's network."""

    namespace: str
    pod: str
    port: int  # 1 to 65535


@dataclass(frozen=True, slots=True)
class Stats:
    """CPU and memory of the node and its pods, once, as JSON in the form of kubelet's /stats/summary."""


StreamRequest = Logs | Exec | Attach | PortForward | Stats
