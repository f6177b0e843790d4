"""From what the disk holds to a Journal: never "start empty" while either copy can be read (promise 7).

The store and the second copy are each whole or unusable; of those that are whole the later generation wins, so that an
applied generation never goes back.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from skerry.errors import Malformed
from skerry.journal.journal import Journal
from skerry.journal.outbox import Outbox
from skerry.journal.record import (
    BOOT_ID,
    DESIRED,
    DROPPED,
    FILE,
    HISTORY,
    JOURNAL_ID,
    LOCAL,
    NODE,
    OBJECT,
    OUTBOX,
    OUTBOX_NEXT,
    STATUS,
    FileRead,
    LocalObject,
    object_key,
    read_copy,
    read_desired,
    read_file,
    read_local,
    read_object,
    read_outbox,
    seq_of,
    write_copy,
    write_head,
)
from skerry.model.desired import Desired
from skerry.model.report import NodeFacts, PodStatus, ReportKind
from skerry.ports import Clock, Entropy, Store
from skerry.wire.codec import decode
from skerry.wire.report import decode_report


@dataclass(frozen=True, slots=True)
class Recovered:
    """The journal, and one line on where it came from."""

    journal: Journal
    story: str


async def recover(store: Store, entropy: Entropy, clock: Clock | None = None) -> Recovered:
    """Read everything; write what is missing. `clock`: the journal's. Raises StoreBroken, StoreFull or JournalNewer
    only."""
    journal_id = store.get(JOURNAL_ID)
    own = _from_store(store)
    copy = _from_copies(store)
    story = "journal as it was left"
    if copy is not None and (own is None or copy.generation > own.generation):
        story = "desired state recovered from the second copy"
        desired = copy
    elif own is not None:
        desired = own
    else:
        found = store.get(DESIRED) is not None or bool(store.copies())
        story = "journal and second copy are damaged beyond reading: started empty" if found else "new journal"
        desired = Desired()
    if desired is not own or journal_id is None:
        if own is None:
            journal_id = None  # sequences may have been lost with the store: a new life of the outbox
        journal_id = journal_id or entropy.token(16)
        await _rewrite(store, journal_id, desired)
    outbox, damaged = _outbox(store)
    local = _local(store)
    journal = Journal(
        store=store,
        journal_id=journal_id,
        desired=desired,
        statuses=_statuses(store),
        outbox=outbox,
        history=_history(store),
        boot_id=(store.get(BOOT_ID) or b"").decode(errors="replace"),
        dropped=_dropped(store) + len(damaged),
        node=_node(store),
        stale=damaged,
        local={o.obj.key: o for o in local if o is not None},
        files=_files(store) if None not in local else {},
        clock=clock,
    )
    journal.owes_reports = journal.node is not None  # the process that died may have owed them: memory alone knew
    return Recovered(journal, story)


def _from_store(store: Store) -> Desired | None:
    head = store.get(DESIRED)
    if head is None:
        return None
    try:
        return read_desired(head, [read_object(k, v) for k, v in store.scan(OBJECT)])
    except (Malformed, ValueError, TypeError, IndexError):
        return None


def _from_copies(store: Store) -> Desired | None:
    best: Desired | None = None
    for data in store.copies():
        try:
            _, desired = read_copy(data)
        except Malformed:
            continue
        if best is None or desired.generation > best.generation:
            best = desired
    return best


async def _rewrite(store: Store, journal_id: bytes, desired: Desired) -> None:
    wanted = {object_key(o.key): o.body for o in desired.objects.values()}
    stale = [k for k, _ in store.scan(OBJECT) if k not in wanted]
    head = {JOURNAL_ID: journal_id, DESIRED: write_head(desired)}
    await store.commit({**wanted, **head}, stale, write_copy(journal_id, desired))


def _local(store: Store) -> list[LocalObject | None]:
    """None stands for what cannot be read. Then every file is read again: the uid that it gives is the same, so what
    runs is taken over."""
    out: list[LocalObject | None] = []
    for key, value in store.scan(LOCAL):
        try:
            out.append(read_local(key, value))
        except (Malformed, ValueError, IndexError):
            out.append(None)
    return out


def _files(store: Store) -> dict[str, FileRead]:
    out = {}
    for _, value in store.scan(FILE):
        with suppress(Malformed):
            name, read = read_file(value)
            out[name] = read
    return out


def _statuses(store: Store) -> dict[str, PodStatus]:
    out = {}
    for _, value in store.scan(STATUS):
        try:
            status = decode_report(ReportKind.POD_STATUS, value)
        except Malformed:
            continue  # told again from what the runtime shows
        assert isinstance(status, PodStatus)
        out[status.uid] = status
    return out


def _outbox(store: Store) -> tuple[Outbox, list[int]]:
    """The outbox, and the sequences of what cannot be read (of a later skerry, say) and counts as dropped."""
    items, damaged = [], []
    last = int.from_bytes(store.get(OUTBOX_NEXT) or b"\1", "big") - 1
    for key, value in store.scan(OUTBOX):
        last = max(last, seq_of(key))
        try:
            items.append(read_outbox(key, value))
        except (Malformed, ValueError):
            damaged.append(seq_of(key))
    return Outbox(items, last + 1), damaged


def _history(store: Store) -> tuple[int, int]:
    seqs = [seq_of(key) for key, _ in store.scan(HISTORY)]
    return (seqs[0], seqs[-1] + 1) if seqs else (0, 0)


def _dropped(store: Store) -> int:
    try:
        value = decode(store.get(DROPPED) or b"\0")
    except Malformed:
        return 0
    return value if type(value) is int else 0


def _node(store: Store) -> NodeFacts | None:
    raw = store.get(NODE)
    if raw is None:
        return None
    try:
        facts = decode_report(ReportKind.NODE, raw)
    except Malformed:
        return None
    assert isinstance(facts, NodeFacts)
    return facts
