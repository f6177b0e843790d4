"""The store alone: order, snapshots, all or nothing, and what a failed commit leaves behind (nothing)."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from skerry_hub.apiserver import database, limits, store
from skerry_hub.apiserver.status import ApiError
from skerry_hub.apiserver.store import CHAINED, Change, Stale, Store, TooOld, Write


def index(resource: str, obj: dict[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    return dict(obj["metadata"].get("labels", {})), {}


def thing(name: str, value: object = None) -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": ""}, "value": value}


@pytest.fixture
async def fresh(tmp_path: Path) -> AsyncIterator[Store]:
    opened = Store(tmp_path / "db", index)
    yield opened
    await opened.close()


KEY = ("things", "ns", "a")


async def test_versions_grow_by_one_and_listeners_hear_after_the_commit(fresh: Store) -> None:
    heard: list[Change] = []
    fresh.listeners.append(heard.append)
    first = (await fresh.commit(Write(KEY, None, thing("a", 1))))[0]
    assert first is not None
    assert (first.rv, first.obj()["metadata"]["resourceVersion"]) == (1, "1")
    second = (await fresh.commit(Write(KEY, first, thing("a", 2))))[0]
    assert fresh.get(KEY) is second
    await fresh.commit(Write(KEY, second, None))
    assert fresh.get(KEY) is None
    assert [(c.rv, c.old is None, c.new is None) for c in heard] == [
        (1, True, False),
        (2, False, False),
        (3, False, True),
    ]
    assert heard[2].old is not None
    assert heard[2].old is second
    assert [stored.obj()["value"] for _, stored in fresh.as_of("things", 2)] == [2], "the past is as it was"
    assert fresh.as_of("things", 2)[0][1] is second


async def test_a_decision_on_an_old_state_is_stale(fresh: Store) -> None:
    first = (await fresh.commit(Write(KEY, None, thing("a"))))[0]
    with pytest.raises(Stale):
        await fresh.commit(Write(KEY, None, thing("a")))
    await fresh.commit(Write(KEY, first, thing("a", 2)))
    with pytest.raises(Stale):
        await fresh.commit(Write(KEY, first, thing("a", 3)))


async def test_the_next_decision_sees_what_is_on_its_way_readers_do_not(fresh: Store) -> None:
    waiting = asyncio.ensure_future(fresh.commit(Write(KEY, None, thing("a", 1))))
    await asyncio.sleep(0)
    assert fresh.get(KEY) is None
    seen = fresh.latest(KEY)
    assert seen is not None
    chained = asyncio.ensure_future(fresh.commit(Write(KEY, seen, thing("a", 2))))
    await asyncio.gather(waiting, chained)
    assert fresh.get(KEY) is fresh.latest(KEY)
    assert fresh.rv == 2


async def test_who_waits_until_all_is_settled_reads_what_was_on_its_way(fresh: Store) -> None:
    await fresh.settled()
    first = asyncio.ensure_future(fresh.commit(Write(KEY, None, thing("a"))))
    await asyncio.sleep(0)
    with pytest.raises(Stale):
        await fresh.commit(Write(KEY, None, thing("a")))
    assert fresh.get(KEY) is None
    await fresh.settled()
    assert fresh.get(KEY) is (await first)[0]


async def test_one_commit_may_write_an_object_twice(fresh: Store) -> None:
    heard: list[Change] = []
    fresh.listeners.append(heard.append)
    await fresh.commit(Write(KEY, None, thing("a", 1)), Write(KEY, CHAINED, None))
    assert fresh.get(KEY) is None
    assert [change.rv for change in heard] == [1, 2]


async def test_a_refused_part_refuses_the_whole(fresh: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OBJECT_BYTES_MAX", 100)
    with pytest.raises(ApiError):
        await fresh.commit(Write(KEY, None, thing("a")), Write(("things", "ns", "b"), None, thing("b", "x" * 200)))
    assert fresh.latest(KEY) is None
    assert (await fresh.commit(Write(KEY, None, thing("a"))))[0] is not None
    assert fresh.rv == 1


async def test_a_failed_commit_fails_all_that_waits_and_changes_nothing(
    fresh: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fresh.commit(Write(KEY, None, thing("a", 1)))
    real = database.write

    def full(*args: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(store, "write", full)
    current = fresh.latest(KEY)
    waits = [asyncio.ensure_future(fresh.commit(Write(KEY, current, thing("a", 2))))]
    await asyncio.sleep(0)
    waits.append(asyncio.ensure_future(fresh.commit(Write(KEY, fresh.latest(KEY), thing("a", 3)))))
    for result in await asyncio.gather(*waits, return_exceptions=True):
        assert isinstance(result, ApiError)
        assert result.code == 500
    monkeypatch.setattr(store, "write", real)
    assert fresh.latest(KEY) is current is fresh.get(KEY)
    assert fresh.rv == 1
    assert (await fresh.commit(Write(KEY, current, thing("a", 4))))[0] is not None
    assert fresh.rv == 2


async def test_a_full_store_takes_deletions_only(fresh: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first = (await fresh.commit(Write(KEY, None, thing("a", "x" * 100))))[0]
    monkeypatch.setattr(limits, "STORE_BYTES_MAX", fresh.bytes + 10)
    with pytest.raises(ApiError, match="full"):
        await fresh.commit(Write(("things", "ns", "b"), None, thing("b")))
    await fresh.commit(Write(KEY, first, None))
    assert fresh.bytes == 0
    await fresh.commit(Write(("things", "ns", "b"), None, thing("b")))


async def test_lists_of_the_past_are_exact(fresh: Store) -> None:
    for name in "cab":
        await fresh.commit(Write(("things", "ns", name), None, thing(name)))
    middle = fresh.rv
    await fresh.commit(Write(("things", "ns", "a"), fresh.latest(("things", "ns", "a")), None))
    await fresh.commit(Write(("things", "ns", "b"), fresh.latest(("things", "ns", "b")), thing("b", 2)))
    await fresh.commit(Write(("things", "ns", "d"), None, thing("d")))
    then = {key[1]: stored.obj()["value"] for key, stored in fresh.as_of("things", middle)}
    assert then == {"a": None, "b": None, "c": None}
    assert list(then) == ["a", "b", "c"]
    assert [key[1] for key, _ in fresh.all("things")] == ["b", "c", "d"]


async def test_old_changes_are_forgotten_here_and_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CHANGES_MAX", 50)
    opened = Store(tmp_path / "db", index)
    for i in range(120):
        await opened.commit(Write(("things", "", f"n{i}"), None, thing(f"n{i}")))
    forgotten = opened.forgotten_rv
    assert 60 < forgotten < 120
    assert len(opened.since(forgotten)) == 120 - forgotten
    with pytest.raises(TooOld):
        opened.since(forgotten - 1)
    await opened.close()
    again = Store(tmp_path / "db", index)
    assert (again.rv, again.forgotten_rv) == (120, forgotten)
    assert [c.rv for c in again.since(forgotten)] == list(range(forgotten + 1, 121))
    assert len(again.as_of("things", forgotten)) == forgotten
    await again.close()


async def test_a_closed_store_takes_nothing(tmp_path: Path) -> None:
    opened = Store(tmp_path / "db", index)
    first = asyncio.ensure_future(opened.commit(Write(KEY, None, thing("a"))))
    await asyncio.sleep(0)
    await opened.close()
    assert (await first)[0] is not None, "what was accepted is finished"
    with pytest.raises(ApiError):
        await opened.commit(Write(KEY, opened.latest(KEY), thing("a", 2)))
