"""The journal's promises to the loops: durable first, memory after it, a sequence never twice."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from skerry.errors import StoreFull
from skerry.journal import journal as module
from skerry.journal import outbox as outbox_module
from skerry.journal.journal import Journal
from skerry.journal.record import DROPPED, HISTORY, OUTBOX, read_decision
from skerry.model.desired import Kind
from skerry.model.report import PodStatus, ReportKind
from skerry.wire.codec import decode
from skerry.wire.report import decode_report
from unit.journal.memory_store import MemoryStore, change, event, facts, opened, pod_object, status


def told(journal: Journal, after: int = 0) -> list[tuple[int, str]]:
    return [(i.seq, f"{i.kind.name} {i.subject}".rstrip()) for i in journal.outbox(after, 999)]


def rings(journal: Journal) -> bool:
    """Whether link's bell rang since the last question."""
    waiting = journal.for_link.wait()
    try:
        waiting.send(None)
    except StopIteration:
        return True
    waiting.close()
    return False


# --- desired state ----------------------------------------------------------------------------------------------------


async def test_an_applied_change_is_in_store_and_copy_before_it_is_followed() -> None:
    store = MemoryStore()
    journal = await opened(store)
    await journal.apply(change(1, pod_object("u1"), pod_object("u2")))
    await journal.apply(change(2, pod_object("u1", "2"), deletes=frozenset({(Kind.POD, "u2")})))
    assert journal.desired.generation == 2
    assert set(journal.desired.objects) == {(Kind.POD, "u1")}
    assert journal.take_dirty() == {"u1", "u2"}
    assert journal.take_dirty() == set()
    assert (await opened(store)).desired == journal.desired
    assert (await opened(MemoryStore({}, store.copy_files))).desired == journal.desired


async def test_a_full_store_changes_nothing_in_memory() -> None:
    store = MemoryStore()
    journal = await opened(store)
    await journal.apply(change(1, pod_object("u1")))
    await journal.tell(status("u1"), [event("u1", "e1")])
    journal.take_dirty()
    before = (journal.desired, dict(journal.statuses), told(journal), journal.outbox_first, journal.outbox_next)
    rings(journal)
    store.full = True
    for attempt in (
        journal.apply(change(2, pod_object("u9"))),
        journal.tell(status("u1", 5), [event("u1", "e2")]),
        journal.trim(99),
        journal.retell(),
        journal.forget("u1"),
        journal.tell_node(facts(), "boot"),
    ):
        with pytest.raises(StoreFull):
            await attempt
    assert before == (
        journal.desired, dict(journal.statuses), told(journal), journal.outbox_first, journal.outbox_next,
    )  # fmt: skip
    assert (journal.node, journal.take_dirty(), rings(journal)) == (None, set(), False)
    store.full = False
    await journal.tell(status("u1", 5))
    assert [what for _, what in told(journal)] == ["EVENT u1", "POD_STATUS u1"]
    assert (await opened(store)).statuses == journal.statuses


async def test_a_generation_that_does_not_grow_never_reaches_the_store() -> None:
    store = MemoryStore()
    journal = await opened(store)
    await journal.apply(change(5, pod_object("u1")))
    count = store.commits
    for generation in (4, 5):
        with pytest.raises(AssertionError):
            await journal.apply(change(generation, pod_object("u2")))
    assert store.commits == count


# --- reports ----------------------------------------------------------------------------------------------------------


async def test_a_later_status_supersedes_the_earlier_and_events_stay() -> None:
    store = MemoryStore()
    journal = await opened(store)
    await journal.tell(status("u1"), [event("u1", "e1")])
    await journal.tell(status("u2"))
    await journal.tell(status("u1", 1), [event("u1", "e2")])
    assert told(journal) == [(1, "EVENT u1"), (3, "POD_STATUS u2"), (4, "EVENT u1"), (5, "POD_STATUS u1")]
    assert told(await opened(store)) == told(journal)
    assert rings(journal)


async def test_a_sequence_is_never_given_twice_also_when_all_was_trimmed_and_skerry_restarted() -> None:
    store = MemoryStore()
    journal = await opened(store)
    await journal.tell(status("u1"), [event("u1", "e1")])
    await journal.trim(2)
    assert (told(journal), journal.outbox_first, journal.outbox_next) == ([], 3, 3)
    again = await opened(store)
    assert again.journal_id == journal.journal_id
    assert (again.outbox_first, again.outbox_next) == (3, 3)
    await again.tell(status("u1", 1))
    assert told(again) == [(3, "POD_STATUS u1")]


async def test_trim_takes_what_the_hub_has_and_no_more() -> None:
    store = MemoryStore()
    journal = await opened(store)
    for n in range(4):
        await journal.tell(status(f"u{n}"))
    await journal.trim(2)
    assert [s for s, _ in told(journal)] == [3, 4]
    count = store.commits
    await journal.trim(2)
    assert store.commits == count  # nothing to do is not written
    await journal.trim(99)
    assert told(journal) == []
    assert not list(store.scan(OUTBOX))


async def test_retell_says_every_status_and_the_node_once() -> None:
    journal = await opened(MemoryStore())
    await journal.tell_node(facts(), "boot-1")
    await journal.tell(status("u1"), [event("u1", "e1")])
    await journal.tell(status("u2"))
    await journal.trim(99)
    await journal.retell()
    await journal.retell()
    assert [what for _, what in told(journal)] == ["NODE", "LOCAL_PODS", "POD_STATUS u1", "POD_STATUS u2"]


async def test_a_retell_without_room_stays_owed() -> None:
    store = MemoryStore()
    journal = await opened(store)
    await journal.tell(status("u1"))
    await journal.trim(99)
    store.full = True
    with pytest.raises(StoreFull):
        await journal.retell()
    assert journal.owes_reports
    store.full = False
    await journal.retell()
    assert not journal.owes_reports
    assert [what for _, what in told(journal)] == ["LOCAL_PODS", "POD_STATUS u1"]


async def test_a_forgotten_pod_is_told_no_more_but_its_last_word_still_goes_out() -> None:
    store = MemoryStore()
    journal = await opened(store)
    await journal.tell(status("u1"))
    await journal.forget("u1")
    await journal.forget("u1")
    assert (journal.statuses, told(journal)) == ({}, [(1, "POD_STATUS u1")])
    await journal.trim(1)
    await journal.retell()
    assert [what for _, what in told(journal)] == ["LOCAL_PODS"]
    assert (await opened(store)).statuses == {}


async def test_node_facts_and_boot_id_are_kept() -> None:
    store = MemoryStore()
    journal = await opened(store)
    await journal.tell_node(facts("boot-7"), "boot-7")
    again = await opened(store)
    assert (again.node, again.boot_id) == (facts("boot-7"), "boot-7")


async def test_over_the_bound_the_oldest_events_go_and_are_counted_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "OUTBOX_ITEMS_MAX", 4)
    store = MemoryStore()
    journal = await opened(store)
    for n in range(5):
        await journal.tell(status(f"u{n}") if n < 2 else None, [event("u", f"e{n}")])
    assert [s for s, _ in told(journal)] == [2, 4, 6, 7]
    assert journal.dropped == 3
    assert (await opened(store)).dropped == 3
    assert decode(store.data[DROPPED]) == 3
    for n in range(6):
        await journal.tell(status(f"v{n}"))
    assert sum(what.startswith("POD_STATUS") for _, what in told(journal)) == 8  # statuses are never dropped


# --- commits that are under way together ------------------------------------------------------------------------------


async def settle(*tasks: asyncio.Future[None]) -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_memory_follows_in_the_order_of_the_calls_whoever_wakes_first() -> None:
    """An Ack covers all lower sequences: were 2 sent before 1 is there, 1 would be trimmed unsent."""
    store = MemoryStore()
    journal = await opened(store)
    store.held = []
    tasks = [asyncio.ensure_future(journal.tell(status(u), [event(u, u)])) for u in ("u1", "u2", "u3")]
    await settle()
    for n in (2, 1):
        store.held[n].set_result(None)
        await settle()
        assert (told(journal), journal.outbox_next) == ([], 1)
    store.held[0].set_result(None)
    await asyncio.gather(*tasks)
    assert [s for s, _ in told(journal)] == [1, 2, 3, 4, 5, 6]
    assert journal.outbox_first == 1


async def test_retell_says_the_status_that_is_being_committed_not_the_one_before() -> None:
    store = MemoryStore()
    journal = await opened(store)
    await journal.tell(status("u1", 1))
    await journal.trim(99)
    store.held = []
    tasks = [asyncio.ensure_future(journal.tell(status("u1", 2))), asyncio.ensure_future(journal.retell())]
    await settle()
    for gate in store.held:
        gate.set_result(None)
    await asyncio.gather(*tasks)
    *_, last = journal.outbox(0, 9)
    said = decode_report(ReportKind.POD_STATUS, last.body)
    assert isinstance(said, PodStatus)
    assert said.containers[0].restarts == 2
    store.held = None
    await journal.tell(status("u2"))  # the one that was superseded under way leaves the store too
    assert len(list(store.scan(OUTBOX))) == 3  # and what the retelling said of the folder


async def test_two_commits_under_way_never_drop_and_count_the_same_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "OUTBOX_ITEMS_MAX", 3)
    store = MemoryStore()
    journal = await opened(store)
    for n in range(3):
        await journal.tell(None, [event("u", f"e{n}")])
    store.held = []
    tasks = [asyncio.ensure_future(journal.tell(None, [event("u", f"f{n}")])) for n in range(3)]
    await settle()
    for gate in store.held:
        gate.set_result(None)
    await asyncio.gather(*tasks)
    assert ([s for s, _ in told(journal)], journal.dropped) == ([4, 5, 6], 3)
    assert (await opened(store)).dropped == 3


class FirstRefused(MemoryStore):
    """Of commits that are under way together the first finds no room; the others do."""

    refusing = False

    async def commit(self, puts: Mapping[bytes, bytes], deletes: Sequence[bytes], copy: bytes | None = None) -> None:
        first, self.refusing = self.refusing, False
        await asyncio.sleep(0)
        if first:
            raise StoreFull("full")
        await super().commit(puts, deletes, copy)


async def test_what_a_refused_commit_would_have_dropped_goes_with_the_next_and_is_counted_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outbox_module, "OUTBOX_ITEMS_MAX", 3)
    store = FirstRefused()
    journal = await opened(store)
    for n in range(3):
        await journal.tell(None, [event("u", f"e{n}")])
    store.refusing = True
    tasks = [asyncio.ensure_future(journal.tell(None, [event("u", f"f{n}")])) for n in range(3)]
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(end) for end in ends] == [StoreFull, type(None), type(None)]
    assert ([s for s, _ in told(journal)], journal.dropped) == ([5, 6], 3)
    again = await opened(store)
    assert ([s for s, _ in told(again)], again.dropped) == ([5, 6], 3)


async def test_one_that_fails_holds_up_nobody() -> None:
    store = MemoryStore()
    journal = await opened(store)
    store.held = []
    first = asyncio.ensure_future(journal.tell(status("u1")))
    await settle()
    store.full = True
    with pytest.raises(StoreFull):
        await journal.tell(status("u2"))
    store.full = False
    third = asyncio.ensure_future(journal.tell(status("u3")))
    await settle()
    for gate in store.held:
        gate.set_result(None)
    await asyncio.gather(first, third)
    assert told(journal) == [(1, "POD_STATUS u1"), (3, "POD_STATUS u3")]


# --- history ----------------------------------------------------------------------------------------------------------


async def test_decisions_become_durable_with_the_next_commit_and_survive_a_failed_one() -> None:
    store = MemoryStore()
    journal = await opened(store)
    journal.note(5.9, "default/web", "u1", "RunPodSandbox", "it has none")
    assert not list(store.scan(HISTORY))
    store.full = True
    with pytest.raises(StoreFull):
        await journal.tell(status("u1"))
    store.full = False
    journal.note(-1.0, "default/web", "u1", "RunContainer", "it is not there", "no room")
    await journal.tell(status("u1"))
    found = [read_decision(k, v) for k, v in store.scan(HISTORY)]
    assert [(d.seq, d.at_ms // 1000, d.what, d.outcome) for d in found] == [
        (0, 5, "RunPodSandbox", ""),
        (1, 0, "RunContainer", "no room"),
    ]
    again = await opened(store)
    again.note(7.0, "default/web", "u1", "StopContainer", "")
    await again.tell(status("u1", 1))
    assert [read_decision(k, v).seq for k, v in store.scan(HISTORY)] == [0, 1, 2]


async def test_the_history_is_a_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HISTORY_ITEMS_MAX", 3)
    store = MemoryStore()
    journal = await opened(store)
    for n in range(10):
        journal.note(n, "default/web", "u1", f"step {n}", "")
        if n % 2:
            await journal.tell(status("u1", n))
    assert [read_decision(k, v).what for k, v in store.scan(HISTORY)] == ["step 7", "step 8", "step 9"]
    for n in range(100):
        journal.note(n, "default/web", "u1", f"more {n}", "")
    await journal.tell(status("u1", 99))
    assert [read_decision(k, v).what for k, v in store.scan(HISTORY)] == ["more 97", "more 98", "more 99"]


# --- observation ------------------------------------------------------------------------------------------------------


async def test_a_wish_to_look_is_pending_until_a_look_that_began_after_it_was_observed() -> None:
    journal = await opened(MemoryStore())
    assert journal.looks() is None  # at first: everything
    journal.looked(None)
    assert journal.look_pending("u1")
    journal.observe(None, {})
    assert journal.runtime_up
    assert not journal.look_pending("u1")
    journal.want_look("u1")
    journal.looked(journal.looks())
    journal.want_look("u1")  # asked while that look is under way
    journal.observe({"u1"}, {})
    assert journal.look_pending("u1")
    journal.looked(journal.looks())
    journal.observe({"u1"}, {})
    assert not journal.look_pending("u1")
    assert journal.take_dirty() == {"u1"}


async def test_a_lost_runtime_is_unknown_until_everything_was_seen() -> None:
    journal = await opened(MemoryStore())
    journal.looked(None)
    journal.observe(None, {})
    journal.runtime_lost("no answer")
    journal.runtime_lost("still no answer")
    assert (journal.runtime_up, journal.look_pending("u"), journal.looks()) == (False, True, None)
    assert journal.runtime_trouble == "no answer"  # it is one outage
    journal.observe({"u"}, {})
    assert journal.runtime_trouble
    journal.observe(None, {})
    assert (journal.runtime_up, journal.runtime_trouble) == (True, "")
