"""What is still to be told: one status per subject, events go first when there is no room."""

from __future__ import annotations

import pytest

from skerry.journal import outbox as module
from skerry.journal.outbox import Outbox, Waiting
from skerry.limits import OUTBOX_MARK_S, OUTBOX_MARKS_MAX
from skerry.model.report import OutboxItem, ReportKind

STATUS, EVENT, NODE = ReportKind.POD_STATUS, ReportKind.EVENT, ReportKind.NODE


def filled(*told: tuple[ReportKind, str]) -> Outbox:
    box = Outbox([], 1)
    for kind, subject in told:
        box.add(box.make(kind, subject, b"xxxx"))
    return box


def test_an_empty_outbox_begins_where_it_ends() -> None:
    box = Outbox([], 7)
    assert (box.first, box.ready_next, box.after(0, 9)) == (7, 7, [])


def test_what_is_made_is_told_only_once_it_is_added() -> None:
    box = Outbox([], 1)
    item = box.make(STATUS, "u", b"")
    assert (box.next_seq, box.ready_next, box.after(0, 9)) == (2, 1, [])
    box.add(item)
    assert (box.first, box.ready_next, box.after(0, 9)) == (1, 2, [item])


def test_items_come_in_order_and_in_parts() -> None:
    box = filled(*[(EVENT, "u")] * 5)
    assert [i.seq for i in box.after(1, 3)] == [2, 3, 4]
    assert [i.seq for i in box.after(4, 3)] == [5]
    assert box.after(5, 3) == []


def test_a_later_one_of_the_same_subject_supersedes_events_never() -> None:
    box = filled((STATUS, "u"), (EVENT, "u"), (NODE, ""), (STATUS, "v"))
    assert box.superseded(OutboxItem(9, STATUS, "u", b"")) == 1
    assert box.superseded(OutboxItem(9, NODE, "", b"")) == 3
    assert box.superseded(OutboxItem(9, EVENT, "u", b"")) is None
    assert box.superseded(OutboxItem(9, STATUS, "w", b"")) is None
    box.drop(1)
    assert box.superseded(OutboxItem(9, STATUS, "u", b"")) is None
    box.drop(1)  # twice is once


@pytest.mark.parametrize("bound", ["OUTBOX_ITEMS_MAX", "OUTBOX_BYTES_MAX"])
def test_over_a_bound_the_oldest_events_go_and_no_status_ever(bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, bound, 5 if bound == "OUTBOX_ITEMS_MAX" else 5 * 4)
    box = filled((STATUS, "a"), (EVENT, "a"), (EVENT, "a"), (STATUS, "b"), (EVENT, "b"))
    assert box.overflow(0, 0) == []
    assert box.overflow(1, 4) == [2]
    assert box.overflow(2, 8) == [2, 3]
    assert box.overflow(2, 8, going={2}) == [3]  # 2 is being dropped by a commit under way
    assert box.overflow(99, 999) == [2, 3, 5]


def test_a_reopened_outbox_knows_its_subjects_and_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OUTBOX_BYTES_MAX", 8)
    box = Outbox(filled((STATUS, "a"), (EVENT, "a")).items.values(), 3)
    assert box.superseded(OutboxItem(9, STATUS, "a", b"")) == 1
    assert box.overflow(1, 4) == [2]


def test_how_long_an_item_has_waited_is_known_to_the_second() -> None:
    waiting = Waiting()
    for at, beyond in ((100.0, 2), (100.4, 3), (107.0, 4)):
        waiting.mark(at, 1, beyond)
    assert [waiting.waited_s(seq, 110.0) for seq in (1, 2, 3, 4)] == [10.0, 10.0, 3.0, 0.0]
    waiting.mark(120.0, 3, 5)  # the first two are gone
    assert [waiting.waited_s(seq, 130.0) for seq in (3, 4)] == [23.0, 10.0]


def test_items_that_come_all_the_time_do_not_all_become_as_old_as_the_first() -> None:
    waiting = Waiting()
    for i in range(1_000):
        waiting.mark(i / 10, 0, i + 1)
    assert waiting.waited_s(999, 100.0) <= OUTBOX_MARK_S + 0.1


def test_marks_of_a_long_outage_are_bounded_and_never_make_an_item_older_than_it_is() -> None:
    waiting = Waiting()
    for i in range(50_000):
        waiting.mark(60.0 * i, 0, i + 1)
    assert len(waiting._marks) <= OUTBOX_MARKS_MAX
    assert waiting.waited_s(0, 3_000_000.0) == 3_000_000
    assert all(waiting.waited_s(seq, 3_000_000.0) <= 3_000_000 - 60 * seq for seq in range(0, 50_000, 97))
