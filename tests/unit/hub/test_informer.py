"""An informer on an API that closes, hangs, forgets, refuses and goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from skerry_hub.kube.informer import Informer
from skerry_hub.limits import WATCH_SILENCE_S
from skerry_hub.ports import PODS, ClusterAway, ClusterBusy, Expired, Forbidden, WatchType
from unit.hub.fakes import Dice, ManualClock, ScriptedCluster, settle
from unit.hub.manifests import api_pod


class Site:
    def __init__(self) -> None:
        self.api, self.clock = ScriptedCluster(), ManualClock()
        self.changes: list[tuple[str, bool, bool]] = []
        self.synced: list[bool] = []
        self.log: list[str] = []
        self.informer = Informer(
            self.api, PODS, self.clock, Dice(), self.log.append,
            on_change=lambda name, old, new: self.changes.append((name[1], old is not None, new is not None)),
            on_synced=lambda: self.synced.append(self.informer.synced),
        )  # fmt: skip
        self.task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self.task = asyncio.ensure_future(self.informer.run())
        await settle()

    @property
    def names(self) -> set[str]:
        return {name for _, name in self.informer.objects}

    def say(self, kind: WatchType, pod: dict[str, Any]) -> None:
        self.api.watches[-1].say(kind, pod)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    site.api.put(PODS, api_pod("a"))
    site.api.put(PODS, api_pod("b"))
    yield site
    if site.task is not None:
        site.task.cancel()
        await asyncio.gather(site.task, return_exceptions=True)


async def test_it_lists_and_then_follows(site: Site) -> None:
    await site.start()
    assert (site.names, site.informer.synced, site.api.watches[0].version) == ({"a", "b"}, True, 12)
    site.say(WatchType.ADDED, site.api.put(PODS, api_pod("c")))
    site.say(WatchType.DELETED, site.api.put(PODS, api_pod("a")))
    await settle()
    assert site.names == {"b", "c"}
    assert site.informer.resource_version == 14
    assert site.changes[2:] == [("c", False, True), ("a", True, False)]
    assert all("managedFields" not in o["metadata"] for o in site.informer.objects.values())


async def test_a_closed_watch_goes_on_where_it_stopped_without_a_list(site: Site) -> None:
    await site.start()
    site.say(WatchType.BOOKMARK, {"metadata": {"resourceVersion": "40"}})
    await settle()
    site.api.watches[-1].queue.put_nowait(None)
    await site.clock.advance(1)
    assert [w.version for w in site.api.watches] == [12, 40]
    assert (site.api.lists, site.synced) == (1, [True])


async def test_watches_that_end_at_once_are_opened_less_and_less_often(site: Site) -> None:
    await site.start()
    for _ in range(200):
        if site.api.watches[-1].queue.empty():
            site.api.watches[-1].queue.put_nowait(None)
        await site.clock.advance(0.5)
    assert 5 < len(site.api.watches) < 40
    assert site.api.lists == 1


async def test_watches_that_end_after_one_event_each_are_no_hot_loop(site: Site) -> None:
    await site.start()
    for i in range(200):
        if site.api.watches[-1].queue.empty():
            site.say(WatchType.BOOKMARK, {"metadata": {"resourceVersion": str(50 + i)}})
            site.api.watches[-1].queue.put_nowait(None)
        await site.clock.advance(0.5)
    assert 5 < len(site.api.watches) < 40


async def test_a_silent_api_is_listed_anew(site: Site) -> None:
    """It may have been replaced meanwhile by one whose versions have grown beyond ours (simulator, seed 40055)."""
    await site.start()
    await site.clock.advance(WATCH_SILENCE_S - 1)
    assert (len(site.api.watches), site.api.lists) == (1, 1)
    site.api.put(PODS, api_pod("c"))
    await site.clock.advance(3)
    assert (len(site.api.watches), site.api.lists) == (2, 2)
    assert site.names == {"a", "b", "c"}
    assert site.synced == [True, False, True]


async def test_an_api_that_refuses_watches_for_long_is_listed_anew(site: Site) -> None:
    await site.start()
    told = 0
    for _ in range(200):
        if len(site.api.watches) > told:
            told = len(site.api.watches)
            site.api.watches[-1].queue.put_nowait(ClusterBusy("429"))
        await site.clock.advance(1)
    assert site.api.lists > 1


async def test_bookmarks_count_as_life(site: Site) -> None:
    await site.start()
    for i in range(4):
        await site.clock.advance(WATCH_SILENCE_S * 0.7)
        site.say(WatchType.BOOKMARK, {"metadata": {"resourceVersion": str(50 + i)}})
    await settle()
    assert len(site.api.watches) == 1


async def test_gone_in_mid_watch_is_a_new_list_whose_differences_are_told(site: Site) -> None:
    await site.start()
    del site.api.objects[("pods", "default", "a")]
    site.api.put(PODS, api_pod("b", node="other"))
    site.api.put(PODS, api_pod("d"))
    site.changes.clear()
    site.api.watches[-1].queue.put_nowait(Expired("too old"))
    await site.clock.advance(5)
    assert site.synced == [True, False, True]
    assert site.names == {"b", "d"}
    assert sorted(site.changes) == [("a", True, False), ("b", True, True), ("d", False, True)]


async def test_an_object_that_is_the_same_after_a_list_is_no_change(site: Site) -> None:
    await site.start()
    site.changes.clear()
    site.informer.relist()
    await site.clock.advance(5)
    assert (site.api.lists, site.changes) == (2, [])


async def test_an_api_that_was_away_is_listed_anew(site: Site) -> None:
    """What comes back may be a restored one, whose versions mean something else."""
    await site.start()
    site.api.list_failures = [ClusterAway("refused")] * 5
    site.api.watches[-1].queue.put_nowait(ClusterAway("reset"))
    await site.clock.advance(0.01)
    assert not site.informer.synced
    assert site.names == {"a", "b"}, "what was known can still be read"
    await site.clock.advance(60)
    assert site.informer.synced
    assert (site.api.lists, len(site.log)) == (2, 1)


async def test_too_many_requests_waits_as_long_as_the_server_asks(site: Site) -> None:
    site.api.list_failures = [ClusterBusy("slow down", 20.0)]
    await site.start()
    await site.clock.advance(19)
    assert site.api.lists == 0
    await site.clock.advance(3)
    assert site.api.lists == 1


async def test_wrong_credentials_are_tried_again_for_ever_and_told_seldom(site: Site) -> None:
    site.api.list_failures = [Forbidden("pods is forbidden")] * 30
    await site.start()
    await site.clock.advance(1_200)
    assert site.informer.synced
    assert 1 <= len([line for line in site.log if "forbidden" in line]) <= 2


async def test_what_a_write_answered_is_known_at_once_and_older_news_does_not_undo_it(site: Site) -> None:
    await site.start()
    before = site.api.put(PODS, api_pod("a"))
    written = {**api_pod("a"), "status": {"phase": "Running"}}
    written["metadata"]["resourceVersion"] = "99"
    site.informer.learn(written, site.informer.era)
    site.say(WatchType.MODIFIED, before)
    await settle()
    assert site.informer.objects[("default", "a")]["status"]["phase"] == "Running"


async def test_what_a_write_answered_does_not_bring_back_what_is_gone(site: Site) -> None:
    await site.start()
    site.say(WatchType.DELETED, site.api.put(PODS, api_pod("a")))
    await settle()
    late = api_pod("a")
    late["metadata"]["resourceVersion"] = "99"
    site.informer.learn(late, site.informer.era)
    assert "a" not in site.names


async def test_what_a_write_answered_before_a_new_list_is_of_another_past(site: Site) -> None:
    """Else the high version of an API that was restored hides what happens to the object from now on."""
    await site.start()
    era = site.informer.era
    site.informer.relist()
    await site.clock.advance(5)
    late = api_pod("a")
    late["metadata"]["resourceVersion"] = "99"
    site.informer.learn(late, era)
    assert site.informer.objects[("default", "a")]["metadata"]["resourceVersion"] != "99"


async def test_the_same_version_of_another_past_is_a_change(site: Site) -> None:
    await site.start()
    other = {**api_pod("a"), "status": {"phase": "Failed"}}
    other["metadata"]["resourceVersion"] = site.informer.objects[("default", "a")]["metadata"]["resourceVersion"]
    site.api.objects[("pods", "default", "a")] = other
    site.changes.clear()
    site.informer.relist()
    await site.clock.advance(5)
    assert site.changes == [("a", True, True)]
