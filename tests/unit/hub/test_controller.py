"""The edge controller on an API that the test holds in its hands: when a set is given, and what is written back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from skerry.limits import OBJECT_BYTES_MAX, PODS_MAX
from skerry.model.desired import Kind
from skerry_hub.edgecontroller.controller import EdgeController
from skerry_hub.edgecontroller.identity import ADOPT, NAME, NAMESPACE
from skerry_hub.edgecontroller.registration import CALM, DEVICE_LABEL, HOSTNAME_LABEL
from skerry_hub.edgecontroller.replicas import Replicas
from skerry_hub.edgecontroller.tolerations import AWAY
from skerry_hub.ports import (
    CONFIG_MAPS,
    NAMESPACES,
    NODES,
    PODS,
    ClusterAway,
    ClusterError,
    Expired,
    Obj,
    Resource,
    WatchType,
)
from unit.hub.fakes import Dice, ManualClock, ScriptedCluster
from unit.hub.manifests import api_config, api_pod


class Listener:
    def __init__(self) -> None:
        self.names: list[frozenset[str]] = []
        self.told: list[str] = []

    def nodes(self, names: frozenset[str]) -> None:
        self.names.append(names)

    def changed(self, node: str) -> None:
        self.told.append(node)


def node(name: str = "pi", **annotations: str) -> dict[str, Any]:
    labels = {DEVICE_LABEL: "true", HOSTNAME_LABEL: name}
    meta = {"name": name, "uid": f"uid-{name}", "labels": labels, "annotations": annotations}
    return {"metadata": meta}


class Site:
    def __init__(self, replica: str = "") -> None:
        self.api, self.clock, self.listener = ScriptedCluster(), ManualClock(), Listener()
        self.log: list[str] = []
        self.api.put(NAMESPACES, {"metadata": {"name": NAMESPACE, "uid": "store-1"}})
        self.epoch("e1")
        self.api.put(NODES, node())
        self.api.put(PODS, api_pod())
        replicas = Replicas(self.api, self.clock, Dice(), self.log.append, replica) if replica else None
        self.controller = EdgeController(self.api, self.clock, Dice(), self.log.append, replicas=replicas)
        self.controller.listen(self.listener)
        self.task: asyncio.Task[None] | None = None

    def epoch(self, epoch: str) -> Obj:
        meta = {"name": NAME, "namespace": NAMESPACE, "uid": "uid-epoch"}
        return self.api.put(CONFIG_MAPS, {"metadata": meta, "data": {"epoch": epoch}})

    async def start(self) -> None:
        self.task = asyncio.ensure_future(self.controller.run())
        await self.clock.advance(1)

    def say(self, resource: Resource, obj: Obj, kind: WatchType = WatchType.MODIFIED) -> None:
        watch = [w for w in self.api.watches if w.resource == resource][-1]
        watch.say(kind, self.api.put(resource, obj))

    def fail(self, resource: Resource, why: ClusterError) -> None:
        [w for w in self.api.watches if w.resource == resource][-1].queue.put_nowait(why)

    def patches(self, plural: str = "nodes") -> list[Any]:
        return [what for verb, p, _, what in self.api.writes if (verb, p) == ("patch", plural)]


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    yield site
    if site.task is not None:
        site.task.cancel()
        await asyncio.gather(site.task, return_exceptions=True)


async def test_a_set_names_store_epoch_and_version(site: Site) -> None:
    assert site.controller.target("pi") is None
    listed = site.api.version
    await site.start()
    got = site.controller.target("pi")
    assert got is not None
    assert (got.store, got.epoch, got.resource_version, got.adopted) == ("store-1", "e1", listed, False)
    assert set(got.objects) == {(Kind.POD, "uid-web")}
    assert site.listener.names == [frozenset({"pi"})]
    assert site.listener.told == ["pi"]


async def test_no_set_before_every_informer_has_synced(site: Site) -> None:
    site.api.list_failures = [ClusterAway("x")] * 3
    await site.start()
    if not site.controller.ready.is_set():
        assert site.controller.target("pi") is None
        assert site.listener.told == []
    await site.clock.advance(30)
    assert site.controller.target("pi") is not None


async def test_a_new_list_of_one_collection_is_a_new_list_of_all(site: Site) -> None:
    """Else pods of a restored API could stand in one set with the versions of the one before."""
    await site.start()
    site.api.list_failures = [ClusterAway("down")] * 8
    site.fail(PODS, ClusterAway("reset"))
    await site.clock.advance(0.05)
    assert site.controller.target("pi") is None
    await site.clock.advance(30)
    assert site.api.lists == 8
    assert site.controller.target("pi") is not None


async def test_an_empty_api_in_the_place_of_ours_shows_another_store_or_a_lower_version(site: Site) -> None:
    await site.start()
    before = site.controller.target("pi")
    assert before is not None
    site.api.objects.clear()
    site.api.version = 3
    site.api.put(NAMESPACES, {"metadata": {"name": NAMESPACE, "uid": "store-2"}})
    site.api.put(NODES, node())
    site.fail(NODES, Expired("too old"))
    await site.clock.advance(60)
    got = site.controller.target("pi")
    assert got is not None
    assert (got.store, got.objects) == ("store-2", {})
    assert got.epoch not in ("", "e1"), "the epoch of an API that has none is made"
    assert got.resource_version < before.resource_version


async def test_an_api_that_went_back_is_a_restored_one_whatever_its_versions_do_next(site: Site) -> None:
    """A backup that soon reaches the devices' versions again must not pass for the API that they knew."""
    await site.start()
    assert site.controller.target("pi") is not None
    site.api.version -= 3
    site.fail(PODS, ClusterAway("reset"))
    await site.clock.advance(60)
    got = site.controller.target("pi")
    assert got is not None
    assert got.store == "store-1"
    assert got.epoch not in ("", "e1")
    assert any("went back" in line for line in site.log)


async def test_the_epoch_of_a_backup_is_none_to_go_on_with(site: Site) -> None:
    """Devices of that older epoch may have seen more of it than the backup holds."""
    await site.start()
    assert site.controller.target("pi") is not None
    site.epoch("e0")
    site.api.version -= 3
    site.fail(PODS, ClusterAway("reset"))
    await site.clock.advance(60)
    got = site.controller.target("pi")
    assert got is not None
    assert got.epoch not in ("", "e0", "e1")


async def test_an_adopted_node_is_adopted_into_this_epoch_only(site: Site) -> None:
    await site.start()
    site.listener.told.clear()
    site.say(NODES, node(**{ADOPT: "e0"}))
    await site.clock.advance(0)
    got = site.controller.target("pi")
    assert got is not None
    assert not got.adopted
    site.say(NODES, node(**{ADOPT: "e1"}))
    await site.clock.advance(0)
    got = site.controller.target("pi")
    assert got is not None
    assert got.adopted
    assert site.listener.told == ["pi", "pi"]


async def test_an_epoch_that_another_replica_wrote_is_followed(site: Site) -> None:
    await site.start()
    site.say(CONFIG_MAPS, {"metadata": {"name": NAME, "namespace": NAMESPACE, "uid": "u"}, "data": {"epoch": "e2"}})
    await site.clock.advance(0)
    got = site.controller.target("pi")
    assert got is not None
    assert got.epoch == "e2"
    assert site.listener.told == ["pi", "pi"]


async def test_a_new_epoch_is_written_over_the_version_that_was_read(site: Site) -> None:
    await site.start()
    version = site.api.objects[("configmaps", NAMESPACE, NAME)]["metadata"]["resourceVersion"]
    site.controller.open_epoch("pi", site.api.version + 1_000)
    await site.clock.advance(1)
    (patch,) = site.patches("configmaps")
    assert patch["metadata"] == {"resourceVersion": version}
    assert patch["data"]["epoch"] not in ("", "e1")


async def test_a_restored_api_is_known_although_its_own_writes_have_passed_what_the_device_has_seen(site: Site) -> None:
    """Alone, the hub began at some version, and whatever a device has beyond that it has from here."""
    await site.start()
    got = site.controller.target("pi")
    assert got is not None
    assert got.floor == got.resource_version
    site.api.version += 500  # Leases
    site.controller.open_epoch("pi", got.floor + 3)
    await site.clock.advance(30)
    after = site.controller.target("pi")
    assert after is not None
    assert after.epoch != "e1"


async def test_a_replica_that_is_only_behind_lists_anew_and_opens_no_epoch() -> None:
    """Another replica told the device a version that no watch has brought here yet."""
    site = Site(replica="one")
    await site.start()
    lists = site.api.lists
    site.api.version += 500
    seen = site.api.version
    site.controller.open_epoch("pi", seen)
    await site.clock.advance(30)
    assert site.api.lists == lists + 4
    got = site.controller.target("pi")
    assert got is not None
    assert got.epoch == "e1"
    assert got.floor is not None
    assert got.floor >= seen
    assert site.task is not None
    site.task.cancel()


async def test_an_epoch_that_was_replaced_meanwhile_is_not_replaced_again(site: Site) -> None:
    await site.start()
    site.epoch("e2")  # another replica was faster, and our watch does not know yet
    site.controller.open_epoch("pi", site.api.version + 1_000)
    site.controller.open_epoch("pa", site.api.version + 2_000)
    await site.clock.advance(1)
    assert site.patches("configmaps") == []
    got = site.controller.target("pi")
    assert got is not None
    assert got.epoch == "e2"


async def test_presence_is_patched_once_and_only_on_change(site: Site) -> None:
    await site.start()
    site.controller.presence("pi", True)
    site.controller.presence("pi", True)
    await site.clock.advance(1)
    (patch,) = site.patches()
    ready, *calm = patch["status"]["conditions"]
    assert (ready["type"], ready["status"]) == ("Ready", "True")
    assert [(c["type"], c["status"]) for c in calm] == [(name, "False") for name in CALM]
    site.say(NODES, {**node(), "status": {"conditions": [ready, *calm]}})
    await site.clock.advance(1)
    site.controller.presence("pi", True)
    await site.clock.advance(1)
    assert len(site.patches()) == 1


async def test_a_condition_that_somebody_else_changes_is_set_again(site: Site) -> None:
    await site.start()
    site.controller.presence("pi", True)
    await site.clock.advance(1)
    site.say(NODES, {**node(), "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}})
    await site.clock.advance(1)
    assert len(site.patches()) == 2


async def test_a_node_patch_that_fails_comes_again(site: Site) -> None:
    await site.start()
    site.api.write_failures = [ClusterAway("x")] * 3
    site.controller.presence("pi", False)
    await site.clock.advance(30)
    (patch,) = site.patches()
    assert patch["status"]["conditions"][0]["reason"] == "Holdover"


async def test_an_api_that_does_not_keep_what_it_took_is_not_patched_in_a_hot_loop(site: Site) -> None:
    await site.start()
    site.api.forgetful = True
    site.controller.presence("pi", True)
    await site.clock.advance(300)
    assert 2 < len(site.patches()) < 60


async def test_held_is_shown_and_unheld_is_quiet(site: Site) -> None:
    await site.start()
    site.controller.held("pi", False, "")
    await site.clock.advance(1)
    assert site.patches() == []
    site.controller.held("pi", True, "older backup; skerry-hub adopt pi")
    await site.clock.advance(1)
    (patch,) = site.patches()
    assert patch["status"]["conditions"][0]["type"] == "RestoredHub"


async def test_what_does_not_fit_the_device_is_told_on_the_pod_once(site: Site) -> None:
    site.api.put(PODS, api_pod("huge", hostname="x" * OBJECT_BYTES_MAX))
    await site.start()
    for _ in range(3):
        got = site.controller.target("pi")
        assert got is not None
        assert set(got.objects) == {(Kind.POD, "uid-web")}
        await site.clock.advance(1)
    events = [what for verb, plural, _, what in site.api.writes if (verb, plural) == ("create", "events")]
    assert [e["involvedObject"]["name"] for e in events] == ["huge"]
    assert "OBJECT_BYTES_MAX" in events[0]["message"]


async def test_pods_over_the_bound_are_told_one_by_one(site: Site) -> None:
    for i in range(PODS_MAX + 1):
        site.api.put(PODS, api_pod(f"p{i:03}"))
    await site.start()
    got = site.controller.target("pi")
    assert got is not None
    assert len(got.objects) == PODS_MAX
    await site.clock.advance(1)
    assert len([w for w in site.api.writes if w[1] == "events"]) == 2


async def test_a_secret_that_changes_reaches_the_device_that_uses_it(site: Site) -> None:
    await site.start()
    site.listener.told.clear()
    site.say(CONFIG_MAPS, api_config("conf", data={"a": "1"}), WatchType.ADDED)
    await site.clock.advance(0)
    assert site.listener.told == ["pi"]
    got = site.controller.target("pi")
    assert got is not None
    assert (Kind.CONFIG_MAP, "uid-conf") in got.objects


async def test_a_node_without_our_label_is_none_of_ours(site: Site) -> None:
    await site.start()
    site.say(NODES, node("pa"), WatchType.ADDED)
    site.say(NODES, node("pi"), WatchType.DELETED)
    await site.clock.advance(0)
    assert site.listener.names[-1] == frozenset({"pa"})


# --- a node as others are --------------------------------------------------------------------------------------------


async def test_a_session_gives_a_lease_and_its_end_takes_it(site: Site) -> None:
    await site.start()
    site.controller.presence("pi", True)
    await site.clock.advance(60)
    renewed = site.controller.leases.renewals
    assert renewed >= 4
    site.controller.presence("pi", False)
    await site.clock.advance(120)
    assert site.controller.leases.renewals == renewed


async def test_a_node_that_goes_takes_its_lease_and_its_wishes_along(site: Site) -> None:
    await site.start()
    site.controller.presence("pi", True)
    await site.clock.advance(1)
    [w for w in site.api.watches if w.resource == NODES][-1].say(WatchType.DELETED, site.api.put(NODES, node()))
    await site.clock.advance(1)
    site.api.writes.clear()
    await site.clock.advance(120)
    assert site.api.writes == []


async def test_a_bound_pod_gets_tolerations_without_an_end_once(site: Site) -> None:
    await site.start()
    (patch,) = site.patches("pods")
    assert patch["metadata"]["uid"] == "uid-web"
    assert [t["key"] for t in patch["spec"]["tolerations"]] == list(AWAY)
    assert all("tolerationSeconds" not in t for t in patch["spec"]["tolerations"])
    await site.clock.advance(60)
    assert len(site.patches("pods")) == 1
    pod = api_pod("late")
    site.say(PODS, pod, WatchType.ADDED)
    await site.clock.advance(1)
    assert len(site.patches("pods")) == 2


async def test_only_pods_of_devices_that_are_to_stay_get_them(site: Site) -> None:
    await site.start()
    site.say(PODS, api_pod("elsewhere", node="a-server"), WatchType.ADDED)
    going = api_pod("going")
    going["metadata"]["deletionTimestamp"] = "2026-11-24T10:00:00Z"
    site.say(PODS, going, WatchType.ADDED)
    await site.clock.advance(60)
    assert len(site.patches("pods")) == 1


async def test_an_api_that_refuses_or_forgets_the_tolerations_is_not_flooded(site: Site) -> None:
    site.api.forgetful = True
    await site.start()
    await site.clock.advance(120)
    assert 2 <= len(site.patches("pods")) < 30


async def test_the_node_leads_to_the_replica_s_endpoint_as_soon_as_there_is_one() -> None:
    site = Site()
    where: dict[str, tuple[str, int]] = {}
    site.controller = EdgeController(site.api, site.clock, Dice(), site.log.append, endpoint_of=where.get)
    await site.start()
    assert site.patches() == []
    where["pi"] = ("10.0.0.1", 10350)
    site.controller.endpoint_changed("pi")
    await site.clock.advance(1)
    (patch,) = site.patches()
    assert patch["status"]["daemonEndpoints"] == {"kubeletEndpoint": {"Port": 10350}}
    assert patch["status"]["addresses"] == [{"type": "InternalIP", "address": "10.0.0.1"}]
    assert site.task is not None
    site.task.cancel()
    await asyncio.gather(site.task, return_exceptions=True)


async def test_whoever_serves_the_nodes_hears_which_are_gone(site: Site) -> None:
    heard: list[frozenset[str]] = []
    site.controller = EdgeController(site.api, site.clock, Dice(), site.log.append, on_own=heard.append)
    await site.start()
    assert heard[-1] == {"pi"}
    site.say(NODES, node("eve"), WatchType.ADDED)
    await site.clock.advance(1)
    assert heard[-1] == {"pi", "eve"}
    site.say(NODES, node(), WatchType.DELETED)
    await site.clock.advance(1)
    assert heard[-1] == {"eve"}
