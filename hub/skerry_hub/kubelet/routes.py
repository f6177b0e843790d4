"""What a request to a node asks for, and which right it needs. Pure; knows no connection and no stream.

Paths and query names are the kubelet's (pkg/kubelet/server), and for exec and attach also those of the API itself.
"""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from skerry.limits import COMMAND_ARGS_MAX, COMMAND_BYTES_MAX, NAME_CHARS_MAX
from skerry.model.streams import Attach, Exec, Logs
from skerry_hub.limits import PORT_CHANNELS_MAX

Query = Mapping[str, Sequence[str]]
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_RFC3339 = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")
NS = 1_000_000_000
_FIXED = {"/healthz": "healthz", "/pods": "pods", "/stats/summary": "stats", "/metrics/resource": "metrics"}
_RIGHTS: Mapping[str, tuple[str, ...]] = {  # fine-grained ones since Kubernetes 1.32 (KubeletFineGrainedAuthz)
    "stats": ("stats",),
    "metrics": ("metrics",),
    "logs": ("log",),
    "pods": ("pods", "proxy"),
    "healthz": ("healthz", "proxy"),
}
_VERBS = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class Wrong(Exception):
    """A request that no node can serve; `status` is that of HTTP."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Document:
    """healthz, pods, stats or metrics."""

    name: str


@dataclass(frozen=True, slots=True)
class Forward:
    """A connection for any number of port-forwards into one pod."""

    namespace: str
    pod: str


Route = Document | Logs | Exec | Attach | Forward


def right(method: str, path: str) -> tuple[str, tuple[str, ...]]:
    """Verb and subresources of `nodes`, one of which a request needs, as the kubelet's authoriser has it, with one
    difference: what runs or reaches into a container needs `create` by GET too (a kubelet lets a WebSocket pass with
    `get`)."""
    first = path.strip("/").partition("/")[0]
    verb = "create" if first in ("exec", "attach", "portForward") else _VERBS.get(method, "")
    return verb, _RIGHTS.get(first, ("proxy",))


def route(method: str, path: str, query: Query, now_unix_ns: int) -> Route:
    """Raises Wrong."""
    if path in _FIXED:
        _only(method, "GET", "HEAD")
        return Document(_FIXED[path])
    kind, *names = [unquote(part) for part in path.strip("/").split("/")]
    wanted = {"containerLogs": 3, "exec": 3, "attach": 3, "portForward": 2}.get(kind)
    if wanted is None or len(names) != wanted:
        raise Wrong(404, "404 page not found")
    if any(len(name) > NAME_CHARS_MAX or not _NAME.fullmatch(name) for name in names):
        raise Wrong(400, "no namespace, pod or container has such a name")
    if kind == "containerLogs":
        _only(method, "GET")
        return _logs(names, query, now_unix_ns)
    _only(method, "GET", "POST")
    if kind == "portForward":
        return Forward(names[0], names[1])
    return _process(kind, names, query)


def forward_ports(query: Query) -> tuple[int, ...]:
    """The ports of a port-forward by channels, each by itself or joined by commas. Raises Wrong."""
    texts = [text for joined in query.get("port") or () for text in joined.split(",")]
    if not texts:
        raise Wrong(400, 'query parameter "port" is required')
    for text in texts:
        if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 0xFFFF:
            raise Wrong(400, f"unable to parse {text[:40]!r} as a port")
    if len(texts) > PORT_CHANNELS_MAX:
        raise Wrong(400, f"at most {PORT_CHANNELS_MAX} ports by one connection, not {len(texts)}")
    return tuple(int(text) for text in texts)


def _only(method: str, *allowed: str) -> None:
    if method not in allowed:
        raise Wrong(405, "405 method not allowed")


def _logs(names: Sequence[str], query: Query, now_unix_ns: int) -> Logs:
    seconds = _number(query, "sinceSeconds", 1)
    moment = _first(query, "sinceTime")
    if seconds is not None and moment:
        raise Wrong(400, "at most one of `sinceTime` or `sinceSeconds` may be specified")
    since = now_unix_ns - seconds * NS if seconds is not None else None
    namespace, pod, container = names
    return Logs(
        namespace,
        pod,
        container,
        follow=_truth(query, "follow"),
        previous=_truth(query, "previous"),
        timestamps=_truth(query, "timestamps"),
        tail_lines=_number(query, "tailLines", 0),
        limit_bytes=_number(query, "limitBytes", 1),
        since_unix_ns=unix_ns(moment) if moment else since,
    )


def _process(kind: str, names: Sequence[str], query: Query) -> Exec | Attach:
    tty = _truth(query, "tty")
    stdin = _truth(query, "input", "stdin")
    stdout = _truth(query, "output", "stdout")
    stderr = _truth(query, "error", "stderr") and not tty  # a terminal has one output
    if not (stdin or stdout or stderr):
        raise Wrong(400, "you must specify at least 1 of stdin, stdout, stderr")
    namespace, pod, container = names
    if kind == "attach":
        return Attach(namespace, pod, container, stdin, stdout, stderr, tty)
    command = tuple(query.get("command") or ())
    if not command or not command[0]:
        raise Wrong(400, "you must specify at least one command for the container")
    if len(command) > COMMAND_ARGS_MAX or sum(len(part.encode()) for part in command) > COMMAND_BYTES_MAX:
        raise Wrong(400, f"the command is longer than {COMMAND_ARGS_MAX} arguments or {COMMAND_BYTES_MAX} bytes")
    return Exec(namespace, pod, container, command, stdin, stdout, stderr, tty)


def _first(query: Query, name: str) -> str:
    return (query.get(name) or [""])[0]


def _truth(query: Query, *names: str) -> bool:
    return any(_first(query, name).lower() in ("1", "true") for name in names)


def _number(query: Query, name: str, least: int) -> int | None:
    text = _first(query, name)
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", text) or int(text) < least:
        raise Wrong(400, f"{name}: {text[:40]!r} is no number of at least {least}")
    return int(text)


def unix_ns(text: str) -> int:
    """An RFC 3339 time. Raises Wrong."""
    found = _RFC3339.fullmatch(text)
    if found is None:
        raise Wrong(400, f"sinceTime: {text[:40]!r} is no RFC 3339 time")
    *date, fraction, zone = found.groups()
    year, month, day, hour, minute, second = (int(part) for part in date)
    try:
        if not (1 <= month <= 12 and 1 <= day <= calendar.monthrange(year, month)[1] and hour < 24 and minute < 60):
            raise ValueError
        whole = calendar.timegm((year, month, day, hour, minute, min(second, 59), 0, 0, 0))
    except (ValueError, OverflowError):
        raise Wrong(400, f"sinceTime: {text!r} is no RFC 3339 time") from None
    if zone not in ("Z", "z"):
        away = int(zone[1:3]) * 3600 + int(zone[4:6]) * 60
        whole += -away if zone[0] == "+" else away
    return whole * NS + int((fraction or ".0")[1:].ljust(9, "0"))


def now_ns() -> int:
    """The wall clock: a client's sinceSeconds means this hub's time."""
    return time.time_ns()
