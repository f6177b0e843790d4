"""What is still to be told to the hub, in memory: an index of what the store holds. Decides what is dropped first.

A later status of the same subject supersedes the earlier one. Over the bounds, events go first, oldest first; a status
or a node's facts never go, because there is only one of each subject. Drops are counted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from skerry.limits import OUTBOX_BYTES_MAX, OUTBOX_ITEMS_MAX, OUTBOX_MARK_S, OUTBOX_MARKS_MAX
from skerry.model.report import OutboxItem, ReportKind


class Waiting:
    """Since when the items of an outbox wait: marks in memory, because a time in each record would be of a clock that
    may be wrong, or that a boot sets back. An item that an earlier process left waits since this one began, as far as
    can be told; a long wait is told too short, by at most the time between two marks."""

    def __init__(self) -> None:
        self._marks: list[tuple[float, int]] = []  # (monotonic seconds, first sequence that was not there yet)

    def mark(self, now: float, first: int, beyond: int) -> None:
        """The outbox holds sequences from `first` up to below `beyond`."""
        self._marks = [mark for mark in self._marks if mark[1] > first]
        if self._marks and now - self._marks[-1][0] < OUTBOX_MARK_S:
            self._marks[-1] = (self._marks[-1][0], beyond)
        else:
            self._marks.append((now, beyond))
        if len(self._marks) > OUTBOX_MARKS_MAX:
            del self._marks[1:-1:2]  # not the oldest, which is the one that is asked for

    def waited_s(self, seq: int, now: float) -> float:
        """Seconds that an item has waited at least."""
        return max(0.0, now - next((when for when, beyond in self._marks if beyond > seq), now))


class Outbox:
    def __init__(self, items: Iterable[OutboxItem], next_seq: int) -> None:
        self.items = {item.seq: item for item in items}  # in order of seq
        self.next_seq = next_seq  # of the next item to be made
        self.ready_next = next_seq  # of the next item to be durable: what may be told to the hub
        self._subjects: dict[tuple[ReportKind, str], int] = {
            (i.kind, i.subject): i.seq for i in self.items.values() if i.kind is not ReportKind.EVENT
        }
        self._bytes = sum(len(i.body) for i in self.items.values())

    @property
    def first(self) -> int:
        """Lowest sequence not acknowledged; the next one when there is none."""
        return next(iter(self.items), self.ready_next)

    def after(self, seq: int, count_max: int) -> list[OutboxItem]:
        """The next items beyond seq."""
        out = []
        for item in self.items.values():
            if item.seq > seq:
                out.append(item)
                if len(out) == count_max:
                    break
        return out

    def make(self, kind: ReportKind, subject: str, body: bytes) -> OutboxItem:
        """Give the next sequence to something to be told; it counts only once `add`ed after its commit."""
        item = OutboxItem(self.next_seq, kind, subject, body)
        self.next_seq += 1
        return item

    def superseded(self, item: OutboxItem) -> int | None:
        """The sequence that `item` makes superfluous."""
        return self._subjects.get((item.kind, item.subject))

    def overflow(self, coming: int, coming_bytes: int, going: Collection[int] = ()) -> list[int]:
        """Sequences to drop before so much more is added; those in `going` are being dropped already."""
        leaving = [self.items[seq] for seq in going if seq in self.items]
        count = len(self.items) - len(leaving) + coming - OUTBOX_ITEMS_MAX
        size = self._bytes - sum(len(item.body) for item in leaving) + coming_bytes - OUTBOX_BYTES_MAX
        out = []
        for item in self.items.values():
            if count <= 0 and size <= 0:
                break
            if item.kind is ReportKind.EVENT and item.seq not in going:
                out.append(item.seq)
                count, size = count - 1, size - len(item.body)
        return out

    def add(self, item: OutboxItem) -> None:
        self.items[item.seq] = item
        self.ready_next = max(self.ready_next, item.seq + 1)
        self._bytes += len(item.body)
        if item.kind is not ReportKind.EVENT:
            self._subjects[(item.kind, item.subject)] = item.seq

    def drop(self, seq: int) -> None:
        item = self.items.pop(seq, None)
        if item is not None:
            self._bytes -= len(item.body)
            if self._subjects.get((item.kind, item.subject)) == seq:
                del self._subjects[(item.kind, item.subject)]
