"""The messages of a session, and the table that says which integer key carries which field.

Whole contract: docs/wire-protocol.cddl. Streams have messages of their own (wire.streams).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any

from skerry.limits import DIGEST_WIRE_BYTES, FULL_NAME_CHARS_MAX, OBJECTS_MAX, REPORT_ITEMS_MAX
from skerry.model.desired import Kind
from skerry.model.report import OutboxItem, ReportKind
from skerry.wire.fields import (
    DETAIL,
    FLAG,
    ID,
    NAME,
    NO_EXTRA,
    NONCE,
    NONCE_OR_NONE,
    UID,
    UINT,
    Optional,
    Table,
    data,
    enum,
    items,
    pack,
    text,
    unpack,
)


class RejectCode(IntEnum):
    MALFORMED = 1  # the frame does not parse or breaks a limit
    NO_SESSION = 2  # the hub knows of no session: say Hello
    STALE = 3  # an older generation or resourceVersion
    BASE = 4  # the Delta does not start from the set that the device has
    DIGEST = 5  # an object or the set does not give the announced digest
    FOREIGN = 6  # another store or epoch may not delete or change
    FULL = 7  # the journal has no room; try again later
    BUSY = 8  # the hub sheds load
    UNPROVEN = 9  # the set has no signature of the session's hub


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
    """Hub → device: the step from the set `base` to the set `digest`. Where `continues`, `store` and `epoch` are those
    of the device's set and do not travel; at the device they are empty then (wire.delta.completed)."""

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
    proof: bytes = b""  # COSE_Sign1 over delta.statement, where frames are protected
    extra: Mapping[int, Any] = field(default_factory=lambda: NO_EXTRA)
    continues: bool = field(default=False, repr=False, compare=False, kw_only=True)  # the hub's own, not on the wire


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
    waited_s: int = 0  # what the first item has waited at least when this was sent, by a clock that only goes forward
    extra: Mapping[int, Any] = field(default_factory=lambda: NO_EXTRA)


@dataclass(frozen=True, slots=True)
class Credit:
    """Hub → device: a new number of Report frames that may be unacknowledged."""

    nonce: bytes
    frames: int
    extra: Mapping[int, Any] = field(default_factory=lambda: NO_EXTRA)


@dataclass(frozen=True, slots=True)
class Dial:
    """Hub → device: open the connection for streams; what travels on it belongs to `epoch` (wire.streams)."""

    nonce: bytes
    epoch: bytes
    extra: Mapping[int, Any] = field(default_factory=lambda: NO_EXTRA)


Message = Hello | Welcome | Inventory | Delta | Ack | Reject | Report | Credit | Dial


# --- how they travel --------------------------------------------------------------------------------------------------

DIGEST, JOURNAL_ID = data(DIGEST_WIRE_BYTES), data(16)
CODE, KIND = enum(RejectCode), enum(Kind)
ENTRIES = items(OBJECTS_MAX, tuple, lambda *parts: parts, KIND, UID, DIGEST, text(FULL_NAME_CHARS_MAX))
PUTS = items(OBJECTS_MAX, lambda p: (p.kind, p.uid, p.digest, p.patched, p.data), Put, KIND, UID, DIGEST, FLAG, data())
DELETES = items(OBJECTS_MAX, tuple, lambda *parts: parts, KIND, UID)
OUTBOX = items(
    REPORT_ITEMS_MAX, lambda i: (i.seq, i.kind, i.subject, i.body), OutboxItem, UINT, enum(ReportKind), ID, data()
)

# type → (class, ((key, field, coder), …)); a field whose default is None or empty may be absent
TABLE: Table = {
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
            (11, "proof", data()),
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
    7: (
        Report,
        (
            (1, "nonce", NONCE),
            (2, "journal_id", JOURNAL_ID),
            (3, "items", OUTBOX),
            (4, "after", UINT),
            (5, "waited_s", UINT),
        ),
    ),
    8: (Credit, ((1, "nonce", NONCE), (2, "frames", UINT))),
    9: (Dial, ((1, "nonce", NONCE), (2, "epoch", NONCE))),
}
TYPE_OF = {cls: kind for kind, (cls, _) in TABLE.items()}
OPTIONAL: Optional = {
    Delta: {"store": "", "epoch": "", "puts": (), "deletes": (), "adopt": False, "proof": b""},
    Ack: dict.fromkeys(("generation", "digest", "journal_id", "seq", "credit")),
    Reject: {"detail": "", "retry_ms": 0},
    Report: {"waited_s": 0},
}


def encode(message: Message) -> bytes:
    """A message as a frame. Raises LimitExceeded if it does not fit one."""
    kind = TYPE_OF[type(message)]
    if isinstance(message, Delta) and message.continues:
        message = replace(message, store="", epoch="")
    return pack(kind, TABLE[kind][1], OPTIONAL.get(type(message), {}), message)


def decode(frame: bytes) -> Message:
    """The message in a frame. Raises Malformed (with the field's name) or LimitExceeded."""
    message: Message = unpack(TABLE, OPTIONAL, frame)
    return message
