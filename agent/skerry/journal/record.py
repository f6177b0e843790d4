"""Keys and values of the journal: bytes in, values out. Layout: docs/journal-format.md.

A key starts with a letter for its kind; sequences are 8 bytes big-endian, so that key order is time order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from skerry.errors import JournalNewer, Malformed
from skerry.model.desired import Desired, Key, Kind, Object, object_of, set_digest
from skerry.model.report import OutboxItem, ReportKind
from skerry.wire.codec import decode, encode

JOURNAL_ID = b"m/journal-id"
DESIRED = b"m/desired"
BOOT_ID = b"m/boot-id"
DROPPED = b"m/dropped"
NODE = b"m/node"
OUTBOX_NEXT = b"m/outbox-next"  # 8 bytes: a sequence is never given twice within a journal id
OBJECT, STATUS, OUTBOX, HISTORY = b"o/", b"s/", b"x/", b"h/"
LOCAL, FILE = b"l/", b"f/"  # what the folder of manifests asks for, beside the hub's set; and its files as last read
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Decision:
    """One line of a pod's history: what was decided, why, and how it ended."""

    seq: int
    at_ms: int  # milliseconds since 1970, for people
    pod: str  # namespace/name
    uid: str
    generation: int
    what: str
    why: str
    outcome: str = ""


@dataclass(frozen=True, slots=True)
class LocalObject:
    """An object that a manifest in the device's folder asks for."""

    file: str
    obj: Object


@dataclass(frozen=True, slots=True)
class FileRead:
    """A manifest file as it was last read: what needs no reading again, and what a person should know of it."""

    digest: bytes  # SHA-256 of its content
    problem: str = ""  # why the content is not followed, so that an earlier one still is


def object_key(key: Key) -> bytes:
    return OBJECT + bytes((key[0],)) + key[1].encode()


def read_object(key: bytes, body: bytes) -> Object:
    return object_of(Kind(key[len(OBJECT)]), key[len(OBJECT) + 1 :].decode(), body)


def local_key(key: Key) -> bytes:
    return LOCAL + bytes((key[0],)) + key[1].encode()


def write_local(local: LocalObject) -> bytes:
    return encode([local.file, local.obj.body])


def read_local(key: bytes, value: bytes) -> LocalObject:
    """Raises Malformed or ValueError."""
    file, body = _array(value, 2)
    if not isinstance(file, str) or not isinstance(body, bytes):
        raise Malformed("a local object is a file's name and bytes")
    return LocalObject(file, object_of(Kind(key[len(LOCAL)]), key[len(LOCAL) + 1 :].decode(), body))


def names_in(obj: Object) -> tuple[str, str]:
    """Namespace and name of a local object, which were checked before it was journaled."""
    meta = decode(obj.body)["metadata"]
    return meta["namespace"], meta["name"]


def file_key(name: str) -> bytes:
    """Names of files may be longer than a key: told apart by their digest."""
    return FILE + sha256(name.encode()).digest()


def write_file(name: str, read: FileRead) -> bytes:
    return encode([name, read.digest, read.problem])


def read_file(value: bytes) -> tuple[str, FileRead]:
    """Raises Malformed."""
    name, digest, problem = _array(value, 3)
    if not (isinstance(name, str) and isinstance(digest, bytes) and isinstance(problem, str)):
        raise Malformed("a manifest file is its name, a digest and a problem")
    return name, FileRead(digest, problem)


def status_key(uid: str) -> bytes:
    return STATUS + uid.encode()


def outbox_key(seq: int) -> bytes:
    return OUTBOX + seq.to_bytes(8, "big")


def history_key(seq: int) -> bytes:
    return HISTORY + seq.to_bytes(8, "big")


def seq_of(key: bytes) -> int:
    return int.from_bytes(key[-8:], "big")


def write_head(desired: Desired) -> bytes:
    """Everything of Desired but the objects."""
    return encode([FORMAT, desired.store, desired.epoch, desired.resource_version, desired.generation, desired.digest])


def read_desired(head: bytes, objects: Iterable[Object]) -> Desired:
    """Raises Malformed if the objects do not give the digest in the head, JournalNewer for a later format."""
    value = decode(head)
    version = value[0] if isinstance(value, list) and value else None
    if type(version) is int and version > FORMAT:
        raise JournalNewer(f"the journal has format {version}, this skerry reads {FORMAT}: a newer skerry wrote it")
    if version != FORMAT:
        raise Malformed(f"journal format {version}")
    _, store, epoch, resource_version, generation, digest = _array(head, 6)
    known = {o.key: o for o in objects}
    if set_digest((k, o.digest) for k, o in known.items()) != digest:
        raise Malformed("the journaled objects do not give the journaled digest")
    return Desired(store, epoch, resource_version, generation, known, digest)


def write_outbox(item: OutboxItem) -> bytes:
    return encode([int(item.kind), item.subject, item.body])


def read_outbox(key: bytes, value: bytes) -> OutboxItem:
    kind, subject, body = _array(value, 3)
    return OutboxItem(seq_of(key), ReportKind(kind), subject, body)


def write_decision(d: Decision) -> bytes:
    return encode([d.at_ms, d.pod, d.uid, d.generation, d.what, d.why, d.outcome])


def read_decision(key: bytes, value: bytes) -> Decision:
    return Decision(seq_of(key), *_array(value, 7))


def write_copy(journal_id: bytes, desired: Desired) -> bytes:
    """The second copy: portable, whole, deterministic."""
    objects = [[int(o.kind), o.uid, o.body] for _, o in sorted(desired.objects.items())]
    return encode([journal_id, write_head(desired), objects])


def read_copy(data: bytes) -> tuple[bytes, Desired]:
    """(journal id, desired). Raises Malformed."""
    journal_id, head, objects = _array(data, 3)
    try:
        return journal_id, read_desired(head, [object_of(Kind(kind), uid, body) for kind, uid, body in objects])
    except (TypeError, ValueError, AttributeError):
        raise Malformed("the second copy does not have the form of one") from None


def _array(data: bytes, parts: int) -> list[Any]:
    value = decode(data)
    if not isinstance(value, list) or len(value) != parts:
        raise Malformed(f"an array of {parts} parts is expected in the journal")
    return value
