"""The messages, and the table that says which integer key carries which field. Whole contract: docs/wire-protocol.cddl.

Keys that this version does not know are kept in `extra` and written again, so that an older end never loses what a
newer one said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any
from uuid import UUID

from skerry.errors import Malformed
from skerry.limits import (
    DIGEST_WIRE_BYTES,
    FULL_NAME_CHARS_MAX,
    NAME_CHARS_MAX,
    NONCE_BYTES,
    OBJECTS_MAX,
    REPORT_ITEMS_MAX,
    TEXT_CHARS_MAX,
)
from skerry.model.desired import Kind
from skerry.model.report import OutboxItem, ReportKind
from skerry.wire import frame

NO_EXTRA: Mapping[int, Any] = {}


class RejectCode(IntEnum):
    MALFORMED = 1  # the frame does not parse or breaks a limit
    NO_SESSION = 2  # the hub knows of no session: say Hello
    STALE = 3  # an older generation or resourceVersion
    BASE = 4  # the Delta does not start from the set that the device has
    DIGEST = 5  # an object or the set does not give the announced digest
    FOREIGN = 6  # another store or epoch may not delete or change
    FULL = 7  # the journal has no room; try again later
    BUSY = 8  # the hub sheds load


@dataclass(frozen=True, slots=True)
class Hello:
    """Device → hub, first in a session. Digest, generation, store, epoch and resource_version describe its set."""

    node: str
    nonce: bytes
    journal_id: bytes  # 16 bytes, random per journal
    boot_id: str
    store: str
    epoch: str
    resource_version: int
    generation: int
    digest: bytes
    outbox_first: int  # lowest sequence not yet acknowledged
    outbox_next: int  # sequence of the next item to come
    wall_s: int
    agent: str
    extra: Mapping[int, Any] = field(default_factory=lambda: NO_EXTRA)


@dataclass(frozen=True, slots=True)
class Welcome:
    """Hub → device: the session is open, and this is needed from you."""

    nonce: bytes
    inventory: bool  # send an Inventory
    reports: bool  # tell every status again: this hub has not seen them
    credit: int  # Report frames that may be unacknowledged
    extra: Mapping[int, Any] = field(default_factory=lambda: NO_EXTRA)


@dataclass(frozen=True, slots=True)
class Inventory:
    """Device → hub: (kind, uid, digest[:16], namespace/name) of all objects; the name is "" where it cannot be read."""

    nonce: bytes
    entries: tuple[tuple[Kind, str, bytes, str], ...]
    extra: Mapping[int, Any] = field(default_factory=lambda: NO_EXTRA)


@dataclass(frozen=True, slots=True)
class Put:
    """One object in a Delta. If `patched`, data is deflated against the body the device has under the same key."""

    kind: Kind
    uid: str
    digest: bytes  # first 16 bytes of the SHA-256 of the body
    patched: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class Delta:
    """Hub → device: the step from the set `base` to the set `digest`."""

    nonce: bytes
    store: str
    epoch: str
    resource_version: int
    generation: int
    base: bytes
    digest: bytes
    puts: tuple[Put, ...] = ()
    deletes: tuple[tuple[Kind, str], ...] = ()
    adopt: bool = False  # an operator allowed this store and epoch to replace the device's
    extra: Mapping[int, Any] = field(default_factory=lambda: NO_EXTRA)


@dataclass(frozen=True, slots=True)
class Ack:
    """Both ways. Device: "generation is in my journal". Hub: "I know the set of your Hello" (generation, digest),
    and "every outbox item up to seq is stored at the API" (journal_id, seq)."""

    nonce: bytes
    generation: int | None = None
    digest: bytes | None = None
    journal_id: bytes | None = None
    seq: int | None = None
    credit: int | None = None
    extra: Mapping[int, Any] = field(default_factory=lambda: NO_EXTRA)


@dataclass(frozen=True, slots=True)
class Reject:
    """Both ways: what came is dropped. `nonce` may be empty where no session is known."""

    nonce: bytes
    code: RejectCode
    detail: str = ""
    retry_ms: int = 0  # 0: the other end's own back-off
    extra: Mapping[int, Any] = field(default_factory=lambda: NO_EXTRA)


@dataclass(frozen=True, slots=True)
class Report:
    """Device → hub: outbox items in order."""

    nonce: bytes
    journal_id: bytes
    items: tuple[OutboxItem, ...]
    after: int  # last sequence of the Report before in this session, so that the hub sees when one was lost
    extra: Mapping[int, Any] = field(default_factory=lambda: NO_EXTRA)


@dataclass(frozen=True, slots=True)
class Credit:
    """Hub → device: a new number of Report frames that may be unacknowledged."""

    nonce: bytes
    frames: int
    extra: Mapping[int, Any] = field(default_factory=lambda: NO_EXTRA)


Message = Hello | Welcome | Inventory | Delta | Ack | Reject | Report | Credit


# --- how one field is written and read --------------------------------------------------------------------------------

Coder = tuple[Callable[[Any], Any], Callable[[Any, str], Any]]


def text(chars_max: int) -> Coder:
    def read(value: Any, name: str) -> str:
        if not isinstance(value, str) or len(value) > chars_max:
            raise Malformed(f"{name}: text of at most {chars_max} characters expected")
        return value

    return str, read


def _data(size: int | None = None) -> Coder:
    def read(value: Any, name: str) -> bytes:
        if not isinstance(value, bytes) or (size is not None and len(value) != size):
            raise Malformed(f"{name}: bytes expected" if size is None else f"{name}: {size} bytes expected")
        return value

    return bytes, read


def _uint(value: Any, name: str) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise Malformed(f"{name}: an unsigned integer below 2^63 expected")
    return value


def _flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise Malformed(f"{name}: true or false expected")
    return value


def _enum(of: type[IntEnum]) -> Coder:
    def read(value: Any, name: str) -> Any:
        try:
            return of(_uint(value, name))
        except ValueError:
            raise Malformed(f"{name}: unknown {of.__name__} {value}") from None

    return int, read


def _id_out(value: str) -> str | bytes:
    """A uuid in its usual spelling travels as 16 bytes, anything else as text."""
    if len(value) == 36:
        try:
            as_uuid = UUID(value)
        except ValueError:
            return value
        return as_uuid.bytes if str(as_uuid) == value else value
    return value


def _id_in(value: Any, name: str) -> str:
    if isinstance(value, bytes) and len(value) == 16:
        return str(UUID(bytes=value))
    said = str(text(NAME_CHARS_MAX)[1](value, name))
    if not all(" " <= c <= "~" for c in said):
        raise Malformed(f"{name}: printable ASCII text or 16 bytes expected")
    return said


def _uid_in(value: Any, name: str) -> str:
    """A uid names records and folders on the device, so it must be fit for that."""
    uid = _id_in(value, name)
    if not uid or uid in (".", "..") or not all("!" <= c <= "~" and c != "/" for c in uid):
        raise Malformed(f"{name}: a uid of printable characters without '/' expected")
    return uid


def _nonce_or_none(value: Any, name: str) -> bytes:
    if not isinstance(value, bytes) or len(value) not in (0, NONCE_BYTES):
        raise Malformed(f"{name}: {NONCE_BYTES} bytes or none expected")
    return value


def _items(count_max: int, out: Callable[[Any], Any], make: Callable[..., Any], *coders: Coder) -> Coder:
    """A list of small arrays; `out` gives an item's parts, `make` puts them together."""

    def write(values: Any) -> list[Any]:
        return [[coder[0](part) for coder, part in zip(coders, out(v), strict=True)] for v in values]

    def read(value: Any, name: str) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) > count_max:
            raise Malformed(f"{name}: a list of at most {count_max} expected")
        for item in value:
            if not isinstance(item, list) or len(item) != len(coders):
                raise Malformed(f"{name}: each item has {len(coders)} parts")
        return tuple(make(*(c[1](part, name) for c, part in zip(coders, item, strict=True))) for item in value)

    return write, read


UINT: Coder = (int, _uint)
FLAG: Coder = (bool, _flag)
ID: Coder = (_id_out, _id_in)
UID: Coder = (_id_out, _uid_in)  # of an object
NONCE, DIGEST, JOURNAL_ID = _data(NONCE_BYTES), _data(DIGEST_WIRE_BYTES), _data(16)
NONCE_OR_NONE: Coder = (bytes, _nonce_or_none)
CODE = _enum(RejectCode)
NAME, DETAIL, KIND = text(NAME_CHARS_MAX), text(TEXT_CHARS_MAX), _enum(Kind)
ENTRIES = _items(OBJECTS_MAX, tuple, lambda *parts: parts, KIND, UID, DIGEST, text(FULL_NAME_CHARS_MAX))
PUTS = _items(
    OBJECTS_MAX, lambda p: (p.kind, p.uid, p.digest, p.patched, p.data), Put, KIND, UID, DIGEST, FLAG, _data()
)
DELETES = _items(OBJECTS_MAX, tuple, lambda *parts: parts, KIND, UID)
OUTBOX = _items(
    REPORT_ITEMS_MAX, lambda i: (i.seq, i.kind, i.subject, i.body), OutboxItem, UINT, _enum(ReportKind), ID, _data()
)

# type → (class, ((key, field, coder), …)); a field whose default is None or empty may be absent
TABLE: dict[int, tuple[type[Any], tuple[tuple[int, str, Coder], ...]]] = {
    1: (
        Hello,
        (
            (1, "node", NAME),
            (2, "nonce", NONCE),
            (3, "journal_id", JOURNAL_ID),
            (4, "boot_id", ID),
            (5, "store", ID),
            (6, "epoch", ID),
            (7, "resource_version", UINT),
            (8, "generation", UINT),
            (9, "digest", DIGEST),
            (10, "outbox_first", UINT),
            (11, "outbox_next", UINT),
            (12, "wall_s", UINT),
            (13, "agent", NAME),
        ),
    ),
    2: (Welcome, ((1, "nonce", NONCE), (2, "inventory", FLAG), (3, "reports", FLAG), (4, "credit", UINT))),
    3: (Inventory, ((1, "nonce", NONCE), (2, "entries", ENTRIES))),
    4: (
        Delta,
        (
            (1, "nonce", NONCE),
            (2, "store", ID),
            (3, "epoch", ID),
            (4, "resource_version", UINT),
            (5, "generation", UINT),
            (6, "base", DIGEST),
            (7, "digest", DIGEST),
            (8, "puts", PUTS),
            (9, "deletes", DELETES),
            (10, "adopt", FLAG),
        ),
    ),
    5: (
        Ack,
        (
            (1, "nonce", NONCE),
            (2, "generation", UINT),
            (3, "digest", DIGEST),
            (4, "journal_id", JOURNAL_ID),
            (5, "seq", UINT),
            (6, "credit", UINT),
        ),
    ),
    6: (Reject, ((1, "nonce", NONCE_OR_NONE), (2, "code", CODE), (3, "detail", DETAIL), (4, "retry_ms", UINT))),
    7: (Report, ((1, "nonce", NONCE), (2, "journal_id", JOURNAL_ID), (3, "items", OUTBOX), (4, "after", UINT))),
    8: (Credit, ((1, "nonce", NONCE), (2, "frames", UINT))),
}
TYPE_OF = {cls: kind for kind, (cls, _) in TABLE.items()}
OPTIONAL = {
    Delta: {"puts": (), "deletes": (), "adopt": False},
    Ack: dict.fromkeys(("generation", "digest", "journal_id", "seq", "credit")),
    Reject: {"detail": "", "retry_ms": 0},
}


def encode(message: Message) -> bytes:
    """A message as a frame. Raises LimitExceeded if it does not fit one."""
    kind = TYPE_OF[type(message)]
    optional = OPTIONAL.get(type(message), {})
    body = dict(message.extra)
    for key, name, (write, _) in TABLE[kind][1]:
        value = getattr(message, name)
        if name not in optional or value != optional[name]:
            body[key] = write(value)
    return frame.pack(kind, body)


def decode(data: bytes) -> Message:
    """The message in a frame. Raises Malformed (with the field's name) or LimitExceeded."""
    kind, body = frame.unpack(data)
    if kind not in TABLE:
        raise Malformed(f"unknown message type {kind}")
    cls, rows = TABLE[kind]
    if not isinstance(body, dict) or not all(type(k) is int for k in body):
        raise Malformed(f"{cls.__name__}: the body is a map with integer keys")
    optional, values = OPTIONAL.get(cls, {}), dict(body)
    fields: dict[str, Any] = {}
    for key, name, (_, read) in rows:
        if key in values:
            fields[name] = read(values.pop(key), f"{cls.__name__}.{name}")
        elif name in optional:
            fields[name] = optional[name]
        else:
            raise Malformed(f"{cls.__name__}.{name} is missing")
    message: Message = cls(**fields, extra=values or NO_EXTRA)
    return message
