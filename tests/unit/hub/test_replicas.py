"""Several replicas on one API: each device has one owner, a death is noticed in time, and a tie harms nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from skerry_hub.edgecontroller.replicas import LABEL, NAMESPACE, PREFIX, Replicas, owner
from skerry_hub.limits import REPLICA_DEAD_S, REPLICA_FORGET_S, REPLICA_RENEW_S, REPLICA_YIELD_S
from skerry_hub.ports import LEASES, ClusterAway, Obj, PatchForm, Resource
from unit.hub.fakes import Dice, ManualClock, ScriptedCluster

DEVICES = [f"device-{i}" for i in range(1_000)]
TAKEOVER_S = 15.0


class Wire(ScriptedCluster):
    """One replica's way to the API that all share."""

    def __init__(self, api: ScriptedCluster) -> None:
        super().__init__()
        self.objects, self.down, self.hangs = api.objects, False, False

    async def patch(
        self, resource: Resource, namespace: str, name: str, patch: Mapping[str, Any], *,
        form: PatchForm = PatchForm.MERGE, subresource: str = "",
    ) -> Obj:  # fmt: skip
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        if self.down:
            raise ClusterAway("no route")
        return await super().patch(resource, namespace, name, patch, form=form, subresource=subresource)

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, uid: str = "", grace_s: int | None = None
    ) -> None:
        self.objects.pop((resource.plural, namespace, name), None)


class Site:
    def __init__(self) -> None:
        self.api, self.clock = ScriptedCluster(), ManualClock()
        self.replicas: dict[str, Replicas] = {}
        self.wires: dict[str, Wire] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.log: list[str] = []

    async def start(self, *names: str) -> None:
        for name in names:
            self.wires[name] = Wire(self.api)
            self.replicas[name] = Replicas(self.wires[name], self.clock, Dice(len(self.tasks)), self.log.append, name)
            self.tasks[name] = asyncio.ensure_future(self.replicas[name].run())
        await self.clock.advance(2 * REPLICA_RENEW_S + 0.5)

    async def kill(self, name: str) -> None:
        self.tasks[name].cancel()
        await asyncio.gather(self.tasks[name], return_exceptions=True)
        del self.replicas[name]

    def members(self, name: str) -> tuple[str, ...]:
        return self.replicas[name].members

    def owners(self) -> dict[str, list[str]]:
        """device → the replicas that say it is theirs."""
        return {d: [name for name, r in self.replicas.items() if r.mine(d)] for d in DEVICES}

    def owned_once(self) -> bool:
        return all(len(who) == 1 for who in self.owners().values())


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    yield site
    for task in site.tasks.values():
        task.cancel()
    await asyncio.gather(*site.tasks.values(), return_exceptions=True)


def test_devices_are_shared_out_evenly_and_only_the_share_of_who_comes_or_goes_moves() -> None:
    two = {d: owner(d, ("a", "b")) for d in DEVICES}
    three = {d: owner(d, ("a", "b", "c")) for d in DEVICES}
    assert min(Counter(two.values()).values()) > 400
    assert min(Counter(three.values()).values()) > 270
    assert all(three[d] == two[d] or three[d] == "c" for d in DEVICES)


async def test_each_device_has_one_owner_however_many_there_are(site: Site) -> None:
    await site.start("a")
    assert site.owned_once()
    await site.start("b", "c")
    assert site.owned_once()
    assert site.replicas["a"].members == ("a", "b", "c")


async def test_before_the_others_are_known_nothing_is_mine(site: Site) -> None:
    replica = Replicas(site.api, site.clock, Dice(), print, "a")
    assert not any(replica.mine(d) for d in DEVICES)


async def test_the_devices_of_a_dead_replica_have_another_one_in_time(site: Site) -> None:
    await site.start("a", "b")
    told: list[float] = []
    site.replicas["a"].changed = lambda: told.append(site.clock.now())
    died = site.clock.now()
    await site.kill("b")
    await site.clock.advance(TAKEOVER_S)
    assert site.owned_once()
    assert told[0] - died <= REPLICA_DEAD_S + 2 * REPLICA_RENEW_S < TAKEOVER_S


async def test_one_that_leaves_is_not_waited_for(site: Site) -> None:
    await site.start("a", "b")
    leaving = site.replicas["b"]
    await site.kill("b")
    await leaving.leave()
    assert not any(leaving.mine(d) for d in DEVICES)
    await site.clock.advance(2 * REPLICA_RENEW_S)
    assert site.owned_once()


@pytest.mark.parametrize("how", ["down", "hangs"])
async def test_one_that_cannot_renew_gives_its_devices_up_before_the_other_takes_them(site: Site, how: str) -> None:
    await site.start("a", "b")
    setattr(site.wires["b"], how, True)
    for _ in range(int(TAKEOVER_S * 10)):
        await site.clock.advance(0.1)
        assert all(len(who) <= 1 for who in site.owners().values()), "two at a time"
    assert site.owned_once()
    assert site.members("b") == ()
    setattr(site.wires["b"], how, False)
    await site.clock.advance(REPLICA_YIELD_S)
    assert site.owned_once()
    assert site.members("b") == ("a", "b")


async def test_one_that_stood_still_begins_anew_with_what_it_has_again(site: Site) -> None:
    """Another may have had its devices meanwhile, so it must not go on as if nothing had happened."""
    await site.start("a", "b")
    told: list[tuple[str, ...]] = []
    site.replicas["a"].changed = lambda: told.append(site.members("a"))
    site.clock.jump(60)
    await site.clock.advance(REPLICA_YIELD_S)
    assert told == [(), ("a", "b")]


async def test_an_api_that_is_away_for_the_only_replica_changes_nothing(site: Site) -> None:
    """There is nobody to give the devices to."""
    await site.start("a")
    site.wires["a"].down = True
    await site.clock.advance(120)
    assert site.replicas["a"].members == ("a",)


async def test_the_clocks_of_others_do_not_matter(site: Site) -> None:
    await site.start("a")
    spec = {"holderIdentity": "b_1", "renewTime": "1999-01-01T00:00:00.000000Z"}
    meta = {"name": PREFIX + "b", "namespace": NAMESPACE, "uid": "u", "labels": {LABEL: "true"}}
    await site.api.create(LEASES, NAMESPACE, {"metadata": meta, "spec": spec})
    await site.clock.advance(2 * REPLICA_RENEW_S)
    assert site.members("a") == ("a", "b"), "it was seen just now"
    await site.clock.advance(REPLICA_DEAD_S + REPLICA_RENEW_S)
    assert site.members("a") == ("a",), "and nothing of it since"


async def test_the_lease_of_one_that_is_long_dead_is_deleted(site: Site) -> None:
    await site.start("a", "b")
    await site.kill("b")
    await site.clock.advance(REPLICA_FORGET_S + TAKEOVER_S)
    assert [name for plural, _, name in site.api.objects if plural == "leases"] == [PREFIX + "a"]


async def test_two_processes_of_one_name_are_told(site: Site) -> None:
    await site.start("a")
    site.tasks["other"] = asyncio.ensure_future(
        Replicas(Wire(site.api), site.clock, Dice(77), site.log.append, "a").run()
    )
    await site.clock.advance(10)
    assert any("another process has this name" in line for line in site.log)
