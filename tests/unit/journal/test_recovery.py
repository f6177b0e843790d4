"""From what the disk holds to a journal: never "start empty" while a copy can be read (promise 7)."""

from __future__ import annotations

from skerry.journal.record import DESIRED, DROPPED, JOURNAL_ID, OUTBOX, outbox_key, status_key
from skerry.journal.recovery import recover
from skerry.model.desired import Desired, Kind
from skerry.wire.codec import encode
from unit.journal.memory_store import Counting, MemoryStore, change, event, opened, pod_object, status


async def left() -> MemoryStore:
    """A store after some life: generation 2, two pods, one status, two things to tell."""
    store = MemoryStore()
    journal = await opened(store)
    await journal.apply(change(1, pod_object("u1")))
    await journal.apply(change(2, pod_object("u2")))
    await journal.tell(status("u1"), [event("u1", "e1")])
    return store


async def test_nothing_there_is_a_new_journal_written_at_once() -> None:
    store = MemoryStore()
    found = await recover(store, Counting())
    assert found.story == "new journal"
    assert found.journal.desired == Desired()
    assert len(found.journal.journal_id) == 16
    again = await recover(store, Counting(100))
    assert again.story == "journal as it was left"
    assert again.journal.journal_id == found.journal.journal_id


async def test_as_it_was_left_nothing_is_written() -> None:
    store = await left()
    before, count = dict(store.data), store.commits
    found = await recover(store, Counting(100))
    assert (found.story, store.commits, store.data) == ("journal as it was left", count, before)
    journal = found.journal
    assert (journal.desired.generation, set(journal.desired.objects)) == (2, {(Kind.POD, "u1"), (Kind.POD, "u2")})
    assert journal.statuses == {"u1": status("u1")}
    assert [i.seq for i in journal.outbox(0, 9)] == [1, 2]


async def test_a_torn_store_is_rebuilt_from_the_copy_under_a_new_journal_id() -> None:
    for damage in (b"torn", None):
        store = await left()
        wanted, old_id = (await opened(store)).desired, (await opened(store)).journal_id
        if damage is None:
            del store.data[next(k for k in store.data if k.startswith(b"o/"))]
        else:
            store.data[DESIRED] = damage
        found = await recover(store, Counting(100))
        assert found.story == "desired state recovered from the second copy"
        assert found.journal.desired == wanted
        assert found.journal.journal_id != old_id
        assert (await recover(store, Counting(200))).story == "journal as it was left"
        assert found.journal.outbox_next == 3  # and no sequence comes again


async def test_a_lost_store_is_rebuilt_from_the_copy() -> None:
    store = await left()
    wanted = (await opened(store)).desired
    found = await recover(MemoryStore({}, store.copy_files), Counting(100))
    assert found.journal.desired == wanted
    assert (found.journal.statuses, found.journal.outbox(0, 9)) == ({}, [])


async def test_a_copy_one_generation_ahead_wins_and_the_outbox_lives_on() -> None:
    store = await left()
    cut = [image for what, image in store.cuts if what == "copied"][-1]
    first = await opened(cut.image())
    assert first.desired.generation == 2
    old_id = cut.data[JOURNAL_ID]
    found = await recover(cut, Counting(100))
    assert found.story == "desired state recovered from the second copy"
    assert (found.journal.desired.generation, set(found.journal.desired.objects)) == (
        2,
        {(Kind.POD, "u1"), (Kind.POD, "u2")},
    )
    assert found.journal.journal_id == old_id
    assert (await opened(cut)).desired == found.journal.desired


async def test_what_the_copy_deletes_leaves_the_store_too() -> None:
    store = await left()
    await (await opened(store)).apply(change(3, deletes=frozenset({(Kind.POD, "u1")})))
    cut = [image for what, image in store.cuts if what == "copied"][-1]
    for story in ("desired state recovered from the second copy", "journal as it was left"):
        found = await recover(cut, Counting(100))
        assert (found.story, set(found.journal.desired.objects)) == (story, {(Kind.POD, "u2")})


async def test_one_damaged_copy_leaves_the_other() -> None:
    store = await left()
    newer, older = store.copy_files
    for copies, generation in (([b"torn", older], 1), ([newer, b"torn"], 2), ([older, newer], 2)):
        found = await recover(MemoryStore({}, copies), Counting())
        assert found.journal.desired.generation == generation


async def test_an_older_copy_never_wins_over_the_store() -> None:
    store = await left()
    store.copy_files = store.copy_files[1:]
    assert (await recover(store, Counting(100))).story == "journal as it was left"


async def test_with_everything_damaged_the_story_does_not_say_new() -> None:
    store = await left()
    store.data[DESIRED], store.copy_files = b"torn", [b"", b"torn"]
    found = await recover(store, Counting(100))
    assert found.story == "journal and second copy are damaged beyond reading: started empty"
    assert found.journal.desired == Desired()
    assert (await recover(store, Counting(200))).journal.desired == Desired()


async def test_records_that_cannot_be_read_are_passed_over_counted_and_removed() -> None:
    """Of a later skerry that was rolled back, say: the board must boot."""
    store = await left()
    store.data[outbox_key(3)] = encode([99, "u", b""])
    store.data[outbox_key(4)] = b"\xff"
    store.data[status_key("u2")] = b"\xff"
    store.data[DROPPED] = b"\xff"
    journal = await opened(store)
    assert [i.seq for i in journal.outbox(0, 9)] == [1, 2]
    assert (journal.dropped, journal.outbox_next, set(journal.statuses)) == (2, 5, {"u1"})
    await journal.tell(status("u1", 1))
    assert [k for k, _ in store.scan(OUTBOX)] == [outbox_key(1), outbox_key(5)]
    assert (await opened(store)).dropped == 2
