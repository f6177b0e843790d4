"""The journal against a dict model, cut off at every point of its life.

Whatever was done, and wherever the power went: recovery gives the state before or after the commit that was under way,
the generation never falls, and nothing that the hub has not acknowledged is lost except what is counted as dropped.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from properties.amount import examples
from skerry.errors import StoreFull
from skerry.journal import journal as journal_module
from skerry.journal import outbox as outbox_module
from skerry.journal.journal import Journal
from skerry.model.desired import Kind, Object
from skerry.model.report import Event, PodStatus, ReportKind
from skerry.wire.report import decode_report
from unit.journal.memory_store import MemoryStore, change, event, facts, opened, pod_object, status

UID = st.sampled_from(["u1", "u2", "u3"])
STEP = st.one_of(
    st.tuples(st.just("apply"), st.dictionaries(UID, st.integers(0, 3)), st.sets(UID)),
    st.tuples(st.just("tell"), UID, st.integers(0, 3), st.integers(0, 3)),
    st.tuples(st.just("tell"), UID, st.integers(0, 3), st.integers(0, 3)),
    st.tuples(st.just("trim"), st.integers(0, 12)),
    st.tuples(st.just("retell")),
    st.tuples(st.just("forget"), UID),
    st.tuples(st.just("note"), UID),
    st.tuples(st.just("node"), st.sampled_from(["boot-1", "boot-2"])),
    st.tuples(st.just("full"), st.booleans()),
    st.tuples(st.just("restart")),
)


@dataclass
class Model:
    """What must be true, kept without any of the journal's own means."""

    generation: int = 0
    objects: dict[str, int] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    untold_status: dict[str, int] = field(default_factory=dict)  # uid → the restarts last told
    untold_events: set[str] = field(default_factory=set)
    acked: int = 0  # the highest sequence that the hub has

    def frozen(self) -> Model:
        return Model(
            self.generation,
            dict(self.objects),
            dict(self.statuses),
            dict(self.untold_status),
            set(self.untold_events),
            self.acked,
        )


def check(journal: Journal, model: Model, dropped_before: int = 0) -> None:
    assert journal.desired.generation == model.generation
    assert {uid: int(o.body) for (_, uid), o in journal.desired.objects.items()} == model.objects
    assert {uid: s.containers[0].restarts for uid, s in journal.statuses.items()} == model.statuses
    items = journal.outbox(0, 10_000)
    assert [i.seq for i in items] == sorted({i.seq for i in items})
    assert all(i.seq > model.acked for i in items)
    said = [decode_report(i.kind, i.body) for i in items]
    last = {s.uid: s.containers[0].restarts for s in said if isinstance(s, PodStatus)}
    assert last == model.untold_status
    events = {s.id for s in said if isinstance(s, Event)}
    assert events <= model.untold_events
    assert len(model.untold_events - events) <= journal.dropped
    assert journal.outbox_next > model.acked or not items


class Life:
    """One journal and its model, step by step."""

    def __init__(self) -> None:
        self.store, self.model, self.events = MemoryStore(), Model(), 0
        self.journal: Journal

    async def step(self, what: str, *args: Any) -> None:
        """Do it to both. A full store raises, and then nothing may have changed."""
        if what == "full":
            self.store.full = args[0]
        elif what == "restart":
            self.journal = await opened(self.store, 1000)
        elif what == "note":
            self.journal.note(1.0, "default/web", args[0], "step", "why")
        else:
            before = self.model.frozen()
            try:
                await getattr(self, what)(*args)
            except StoreFull:
                self.model = before

    async def apply(self, puts: dict[str, int], deletes: set[str]) -> None:
        m = self.model
        m.generation += 1
        m.objects = {u: v for u, v in m.objects.items() if u not in deletes} | puts
        objects: list[Object] = [pod_object(u, str(v)) for u, v in puts.items()]
        gone = frozenset((Kind.POD, u) for u in deletes - puts.keys())
        await self.journal.apply(change(m.generation, *objects, deletes=gone))

    async def tell(self, uid: str, restarts: int, count: int) -> None:
        events: list[Event] = []
        for _ in range(count):
            self.events += 1
            events.append(event(uid, f"e{self.events}"))
        self.model.statuses[uid] = self.model.untold_status[uid] = restarts
        self.model.untold_events |= {e.id for e in events}
        await self.journal.tell(status(uid, restarts), events)

    async def trim(self, seq: int) -> None:
        seq = min(seq, self.journal.outbox_next - 1)  # the hub acknowledges only what it was told
        for item in self.journal.outbox(0, 10_000):
            said = decode_report(item.kind, item.body)
            if item.seq <= seq and isinstance(said, Event):
                self.model.untold_events.discard(said.id)
            elif item.seq <= seq and isinstance(said, PodStatus):
                self.model.untold_status.pop(said.uid, None)
        self.model.acked = max(self.model.acked, seq)
        await self.journal.trim(seq)

    async def retell(self) -> None:
        self.model.untold_status |= self.model.statuses
        await self.journal.retell()

    async def forget(self, uid: str) -> None:
        self.model.statuses.pop(uid, None)
        await self.journal.forget(uid)

    async def node(self, boot_id: str) -> None:
        await self.journal.tell_node(facts(boot_id), boot_id)


async def live(steps: list[tuple[Any, ...]]) -> None:
    life = Life()
    life.journal = await opened(life.store)
    for step in steps:
        before = life.model.frozen()
        life.store.cuts.clear()
        await life.step(*step)
        check(life.journal, life.model)
        cuts = list(life.store.cuts)
        assert len([c for c, _ in cuts if c == "committed"]) <= 1, "one commit per decision"
        for what, disk in cuts:
            recovered = await opened(disk, 2000)
            assert recovered.journal_id == life.journal.journal_id
            expected = life.model.frozen() if what == "committed" else before
            if what == "copied":  # the set has arrived, by its copy; the rest is as it was
                expected.generation, expected.objects = life.model.generation, life.model.objects
            check(recovered, expected)
            assert recovered.desired.generation >= before.generation
            if what == "committed":
                assert recovered.outbox(0, 10_000) == life.journal.outbox(0, 10_000)
                assert (recovered.dropped, recovered.node) == (life.journal.dropped, life.journal.node)
                assert recovered.outbox_next == life.journal.outbox_next
            await recovered.tell(status("new"))
            assert recovered.outbox(0, 10_000)[-1].seq > life.model.acked, "a sequence never comes again"


@settings(max_examples=examples(150))
@given(st.lists(STEP, max_size=25))
def test_a_journal_cut_off_anywhere_is_one_of_the_two_neighbouring_states(steps: list[tuple[Any, ...]]) -> None:
    with pytest.MonkeyPatch.context() as bounds:
        bounds.setattr(outbox_module, "OUTBOX_ITEMS_MAX", 6)
        bounds.setattr(journal_module, "HISTORY_ITEMS_MAX", 4)
        asyncio.run(live(steps))


@settings(max_examples=examples(150))
@given(st.lists(st.tuples(UID, st.integers(0, 9), st.booleans()), max_size=12), st.randoms(use_true_random=False))
def test_commits_under_way_together_end_as_if_they_had_come_one_by_one(calls: list[Any], order: Any) -> None:
    """Whatever order the waiting tasks go on in, and with retells in between, the last word about each pod is its last
    status, in memory and on disk."""

    async def run() -> None:
        store = MemoryStore()
        journal = await opened(store)
        store.held = []
        tasks: list[asyncio.Future[None]] = []
        last: dict[str, int] = {}
        busy: set[str] = set()
        for uid, restarts, retells in calls:
            if uid in busy:  # steer never has two for one pod
                continue
            busy.add(uid)
            last[uid] = restarts
            tasks.append(asyncio.ensure_future(journal.tell(status(uid, restarts), [event(uid, f"{uid}{restarts}")])))
            if retells:
                tasks.append(asyncio.ensure_future(journal.retell()))
            await asyncio.sleep(0)
        while store.held:
            store.held.pop(order.randrange(len(store.held))).set_result(None)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            seqs = [i.seq for i in journal.outbox(0, 999)]
            assert seqs == sorted(seqs)
        await asyncio.gather(*tasks)
        for found in (journal, await opened(store, 2000)):
            said: dict[str, int] = {}
            for item in found.outbox(0, 999):
                if item.kind is ReportKind.POD_STATUS:
                    value = decode_report(item.kind, item.body)
                    assert isinstance(value, PodStatus)
                    said[value.uid] = value.containers[0].restarts
            assert said == last

    asyncio.run(run())
