"""Leases of devices: made, renewed in time with one write each, and not a moment longer than the session lives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime

import pytest

from skerry_hub.edgecontroller.leases import NAMESPACE, Leases, micro_time
from skerry_hub.limits import LEASE_DURATION_S
from skerry_hub.ports import LEASES, ClusterAway, ClusterBusy
from unit.hub.fakes import Dice, ManualClock, ScriptedCluster


class Site:
    def __init__(self) -> None:
        self.api, self.clock = ScriptedCluster(), ManualClock()
        self.uids: dict[str, str] = {}
        self.leases = Leases(self.api, self.clock, Dice(1), print, self.uids.get)
        self.task = asyncio.ensure_future(self.leases.run())

    def live(self, *nodes: str) -> None:
        for node in nodes:
            self.uids[node] = f"uid-{node}"
            self.leases.live(node, True)

    def writes(self) -> list[tuple[str, str]]:
        """(verb, node) since the last call."""
        done = [(verb, name) for verb, plural, name, _ in self.api.writes if plural == "leases"]
        self.api.writes.clear()
        return done


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    yield site
    site.task.cancel()
    await asyncio.gather(site.task, return_exceptions=True)


async def test_a_session_s_lease_is_made_at_once_and_renewed_before_it_runs_out(site: Site) -> None:
    site.live("pi")
    await site.clock.advance(0.1)
    assert site.writes() == [("create", "pi")]
    lease = site.api.objects[("leases", NAMESPACE, "pi")]
    assert lease["metadata"]["ownerReferences"] == [{"apiVersion": "v1", "kind": "Node", "name": "pi", "uid": "uid-pi"}]
    assert (lease["spec"]["holderIdentity"], lease["spec"]["leaseDurationSeconds"]) == ("pi", LEASE_DURATION_S)
    before = lease["spec"]["renewTime"]
    await site.clock.advance(LEASE_DURATION_S)
    assert 2 <= len(site.writes()) <= 4
    assert site.api.objects[("leases", NAMESPACE, "pi")]["spec"]["renewTime"] > before


async def test_a_device_that_is_away_lets_its_lease_run_out(site: Site) -> None:
    site.live("pi")
    await site.clock.advance(30)
    site.leases.live("pi", False)
    site.writes()
    await site.clock.advance(600)
    assert site.writes() == []
    site.leases.live("pi", True)
    await site.clock.advance(0.1)
    assert site.writes() == [("patch", "pi")]


async def test_a_fleet_that_came_at_once_does_not_renew_at_once(site: Site) -> None:
    """And each renewal is one write."""
    site.live(*(f"d{i}" for i in range(300)))
    await site.clock.advance(1)
    assert len(site.writes()) == 300
    moments = []
    for _ in range(160):
        await site.clock.advance(0.1)
        moments.append(len(site.writes()))
    assert 300 <= sum(moments) <= 600
    assert max(moments) < 40


async def test_what_fails_comes_again_in_time(site: Site) -> None:
    site.live("pi")
    await site.clock.advance(0.1)
    site.writes()
    site.api.write_failures = [ClusterAway("reset"), ClusterBusy("429", 3), ClusterAway("reset")]
    await site.clock.advance(LEASE_DURATION_S)
    assert site.api.write_failures == []
    assert site.writes()[0] == ("patch", "pi")


async def test_a_node_that_is_gone_has_no_lease_until_it_is_there_again(site: Site) -> None:
    site.leases.live("pi", True)
    await site.clock.advance(60)
    assert site.writes() == []
    site.uids["pi"] = "uid-2"
    await site.clock.advance(LEASE_DURATION_S)
    assert site.writes()[0] == ("create", "pi")


async def test_another_replica_that_was_faster_is_as_good(site: Site) -> None:
    await site.api.create(LEASES, NAMESPACE, {"metadata": {"name": "pi"}, "spec": {"holderIdentity": "pi"}})
    site.live("pi")
    await site.clock.advance(1)
    assert site.writes() == [("create", "pi"), ("patch", "pi")]


def test_times_have_microseconds_as_the_api_wants_them() -> None:
    assert micro_time(0.25) == "1970-01-01T00:00:00.250000Z"
    assert datetime.fromisoformat(micro_time(1_800_000_000.5).replace("Z", "+00:00")).timestamp() == 1_800_000_000.5
