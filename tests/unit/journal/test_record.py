"""Keys and values of the journal: what is written is read again; damage is Malformed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.errors import JournalNewer, Malformed
from skerry.journal import record as r
from skerry.model.desired import Desired, Kind, object_of
from skerry.model.report import OutboxItem, ReportKind
from skerry.wire.codec import encode
from unit.journal.memory_store import change, pod_object

DESIRED = Desired().changed(change(3, pod_object("u1"), object_of(Kind.SECRET, "ü", b"\xff")))


def test_objects_and_head_come_back_as_they_were() -> None:
    objects = [r.read_object(r.object_key(o.key), o.body) for o in DESIRED.objects.values()]
    assert r.read_desired(r.write_head(DESIRED), objects) == DESIRED


def test_a_missing_or_changed_object_is_noticed() -> None:
    for objects in ([], [pod_object("u1", "2"), DESIRED.objects[(Kind.SECRET, "ü")]]):
        with pytest.raises(Malformed):
            r.read_desired(r.write_head(DESIRED), objects)


def test_another_format_is_not_read() -> None:
    with pytest.raises(JournalNewer, match="format 2"):
        r.read_desired(encode([2, "more", "than", "we", "know"]), [])
    with pytest.raises(Malformed, match="format 0"):
        r.read_desired(encode([0, "", "", 0, 0, b""]), [])


def test_sequences_sort_as_numbers() -> None:
    keys = [r.outbox_key(n) for n in (0, 1, 255, 256, 1 << 40)]
    assert keys == sorted(keys)
    assert [r.seq_of(k) for k in keys] == [0, 1, 255, 256, 1 << 40]


def test_outbox_items_and_decisions_come_back_as_they_were() -> None:
    item = OutboxItem(7, ReportKind.EVENT, "u1", b"\0body")
    assert r.read_outbox(r.outbox_key(7), r.write_outbox(item)) == item
    decision = r.Decision(9, 5, "default/web", "u1", 3, "RunPodSandbox", "why", "outcome")
    assert r.read_decision(r.history_key(9), r.write_decision(decision)) == decision


def test_a_copy_is_the_same_bytes_for_the_same_set() -> None:
    backwards = Desired().changed(change(3, *reversed(list(DESIRED.objects.values()))))
    assert r.write_copy(b"j" * 16, DESIRED) == r.write_copy(b"j" * 16, backwards)
    assert r.read_copy(r.write_copy(b"j" * 16, DESIRED)) == (b"j" * 16, DESIRED)


@given(st.data())
def test_a_damaged_copy_is_malformed_or_whole(data: st.DataObject) -> None:
    good = r.write_copy(b"j" * 16, DESIRED)
    at = data.draw(st.integers(0, len(good) - 1))
    bad = good[:at] + bytes([data.draw(st.integers(0, 255))]) + good[at + 1 :]
    for damaged in (bad, good[:at]):
        try:
            _, desired = r.read_copy(damaged)
        except (Malformed, JournalNewer):  # which format it is, is in what may be damaged
            continue
        assert desired.objects == DESIRED.objects  # only the id or the head's plain fields may differ unnoticed here


@given(st.binary(max_size=40) | st.builds(encode, st.lists(st.integers() | st.text() | st.binary(), max_size=4)))
def test_any_bytes_as_a_copy_are_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        r.read_copy(data)
