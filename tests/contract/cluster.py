"""What every Cluster promises (skerry_hub.ports.Cluster). An adapter subclasses it and gives `cluster`,
an API with the namespaces kube-system and default and nothing else that matters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from skerry_hub.ports import (
    CONFIG_MAPS,
    LEASES,
    NAMESPACES,
    NODES,
    PODS,
    Cluster,
    Conflict,
    Expired,
    NotFound,
    PatchForm,
    WatchEvent,
    WatchType,
)

WAIT_S = 30.0
LABEL = "skerry.dev/device"


def config(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": data}


def node(name: str, **labels: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}


def pod(name: str, on: str = "n1") -> dict[str, Any]:
    spec: dict[str, Any] = {"containers": [{"name": "main", "image": "busybox:1"}]}
    if on:
        spec["nodeName"] = on
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": spec}


async def first(events: AsyncIterator[WatchEvent], count: int) -> list[tuple[str, str]]:
    """The next events that are no bookmarks: (type, name)."""
    out: list[tuple[str, str]] = []
    while len(out) < count:
        event = await asyncio.wait_for(events.__anext__(), WAIT_S)
        if event.type is not WatchType.BOOKMARK:
            out.append((event.type.value, event.obj["metadata"]["name"]))
    return out


class ClusterContract:
    async def test_create_get_and_delete(self, cluster: Cluster) -> None:
        made = await cluster.create(CONFIG_MAPS, "default", config("c1", a="1"))
        assert made["metadata"]["uid"]
        assert int(made["metadata"]["resourceVersion"]) > 0
        assert (await cluster.get(CONFIG_MAPS, "default", "c1"))["data"] == {"a": "1"}
        await cluster.delete(CONFIG_MAPS, "default", "c1")
        with pytest.raises(NotFound):
            await cluster.get(CONFIG_MAPS, "default", "c1")
        with pytest.raises(NotFound):
            await cluster.delete(CONFIG_MAPS, "default", "c1")

    async def test_what_exists_is_not_made_twice(self, cluster: Cluster) -> None:
        await cluster.create(CONFIG_MAPS, "default", config("c2"))
        with pytest.raises(Conflict):
            await cluster.create(CONFIG_MAPS, "default", config("c2"))

    async def test_namespaces_have_uids(self, cluster: Cluster) -> None:
        assert (await cluster.get(NAMESPACES, "", "kube-system"))["metadata"]["uid"]

    async def test_a_patch_on_a_version_that_was_is_a_conflict(self, cluster: Cluster) -> None:
        made = await cluster.create(CONFIG_MAPS, "default", config("c3", a="1"))
        version = made["metadata"]["resourceVersion"]
        patch = {"metadata": {"resourceVersion": version}, "data": {"a": "2"}}
        assert (await cluster.patch(CONFIG_MAPS, "default", "c3", patch))["data"] == {"a": "2"}
        with pytest.raises(Conflict):
            await cluster.patch(CONFIG_MAPS, "default", "c3", patch)

    async def test_a_list_has_everything_and_its_version(self, cluster: Cluster) -> None:
        for i in range(3):
            await cluster.create(CONFIG_MAPS, "default", config(f"list{i}"))
        last = await cluster.create(CONFIG_MAPS, "default", config("list3"))
        found = await cluster.list(CONFIG_MAPS)
        names = {item["metadata"]["name"] for item in found.items}
        assert {"list0", "list1", "list2", "list3"} <= names
        assert found.resource_version >= int(last["metadata"]["resourceVersion"])

    async def test_the_hubs_two_selectors(self, cluster: Cluster) -> None:
        await cluster.create(NODES, "", node("n1", **{LABEL: "true"}))
        await cluster.create(NODES, "", node("n2"))
        found = await cluster.list(NODES, labels=f"{LABEL}=true")
        assert [item["metadata"]["name"] for item in found.items] == ["n1"]
        await cluster.create(PODS, "default", pod("bound"))
        await cluster.create(PODS, "default", pod("free", on=""))
        pods = await cluster.list(PODS, fields="spec.nodeName!=")
        assert [item["metadata"]["name"] for item in pods.items] == ["bound"]

    async def test_a_list_of_one_namespace_has_nothing_of_another(self, cluster: Cluster) -> None:
        for space in ("default", "kube-system"):
            made = config("here")
            made["metadata"]["namespace"] = space
            await cluster.create(CONFIG_MAPS, space, made)
        found = await cluster.list(CONFIG_MAPS, namespace="kube-system")
        assert {item["metadata"]["namespace"] for item in found.items} == {"kube-system"}

    async def test_a_lease_is_renewed_by_one_patch(self, cluster: Cluster) -> None:
        times = ["2026-11-24T10:00:00.000001Z", "2026-11-24T10:00:12.000002Z"]
        with pytest.raises(NotFound):
            await cluster.patch(LEASES, "default", "n1", {"spec": {"renewTime": times[0]}})
        await cluster.create(LEASES, "default", {
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "n1", "namespace": "default"},
            "spec": {"holderIdentity": "n1", "leaseDurationSeconds": 40, "renewTime": times[0]},
        })  # fmt: skip
        now = await cluster.patch(LEASES, "default", "n1", {"spec": {"renewTime": times[1]}})
        assert (now["spec"]["holderIdentity"], now["spec"]["renewTime"]) == ("n1", times[1])

    async def test_tolerations_of_a_pod_lose_their_end_unless_somebody_was_faster(self, cluster: Cluster) -> None:
        made = pod("stays")
        taint = {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"}
        made["spec"]["tolerations"] = [{**taint, "tolerationSeconds": 300}]
        there = (await cluster.create(PODS, "default", made))["metadata"]
        same = {"uid": there["uid"], "resourceVersion": there["resourceVersion"]}
        patch = {"metadata": same, "spec": {"tolerations": [taint]}}
        now = (await cluster.patch(PODS, "default", "stays", patch))["spec"]["tolerations"]
        assert [t for t in now if t["key"] == taint["key"]] == [taint]
        with pytest.raises(Conflict):
            await cluster.patch(PODS, "default", "stays", patch)

    async def test_a_watch_tells_what_comes_after_its_version(self, cluster: Cluster) -> None:
        start = (await cluster.list(CONFIG_MAPS)).resource_version
        await cluster.create(CONFIG_MAPS, "default", config("w1"))
        events = cluster.watch(CONFIG_MAPS, start, timeout_s=60)
        assert await first(events, 1) == [("ADDED", "w1")]
        await cluster.patch(CONFIG_MAPS, "default", "w1", {"data": {"a": "1"}})
        await cluster.delete(CONFIG_MAPS, "default", "w1")
        assert await first(events, 2) == [("MODIFIED", "w1"), ("DELETED", "w1")]
        await events.aclose()  # type: ignore[attr-defined]

    async def test_an_object_that_stops_to_match_is_deleted_for_the_watch(self, cluster: Cluster) -> None:
        await cluster.create(NODES, "", node("m1", **{LABEL: "true"}))
        start = (await cluster.list(NODES)).resource_version
        events = cluster.watch(NODES, start, timeout_s=60, labels=f"{LABEL}=true")
        await cluster.patch(NODES, "", "m1", {"metadata": {"labels": {LABEL: None}}})
        assert await first(events, 1) == [("DELETED", "m1")]
        await events.aclose()  # type: ignore[attr-defined]

    async def test_a_watch_ends_after_its_time(self, cluster: Cluster) -> None:
        start = (await cluster.list(NODES)).resource_version

        async def whole() -> list[WatchType]:
            return [event.type async for event in cluster.watch(NODES, start, timeout_s=1)]

        assert set(await asyncio.wait_for(whole(), WAIT_S)) <= {WatchType.BOOKMARK}

    async def test_a_watch_from_a_future_version_is_expired(self, cluster: Cluster) -> None:
        start = (await cluster.list(NODES)).resource_version
        with pytest.raises(Expired):
            async for _ in cluster.watch(NODES, start + 100_000, timeout_s=5):
                pass

    async def test_the_status_is_patched_beside_the_spec(self, cluster: Cluster) -> None:
        made = await cluster.create(PODS, "default", pod("st"))
        ready = {"type": "Ready", "status": "True"}
        gate = {"type": "example.com/gate", "status": "True"}
        uid = {"uid": made["metadata"]["uid"]}
        for said in ({"phase": "Running", "conditions": [gate]}, {"conditions": [ready], "podIP": "10.1.1.1"}):
            await cluster.patch(
                PODS, "default", "st", {"metadata": uid, "status": said}, form=PatchForm.STRATEGIC, subresource="status"
            )
        status = (await cluster.get(PODS, "default", "st"))["status"]
        assert status["phase"] == "Running"
        assert {c["type"] for c in status["conditions"]} >= {"Ready", "example.com/gate"}

    async def test_lists_in_a_status_are_replaced_when_asked(self, cluster: Cluster) -> None:
        await cluster.create(PODS, "default", pod("ips"))
        for said in (
            {"podIP": "10.1.1.1", "podIPs": [{"ip": "10.1.1.1"}]},
            {"podIP": "10.1.1.2", "podIPs": [{"$patch": "replace"}, {"ip": "10.1.1.2"}]},
        ):
            await cluster.patch(
                PODS, "default", "ips", {"status": said}, form=PatchForm.STRATEGIC, subresource="status"
            )
        status = (await cluster.get(PODS, "default", "ips"))["status"]
        assert status["podIPs"] == [{"ip": "10.1.1.2"}]

    async def test_the_status_of_another_pod_of_that_name_is_a_conflict(self, cluster: Cluster) -> None:
        await cluster.create(PODS, "default", pod("other"))
        patch = {"metadata": {"uid": "00000000-0000-4000-8000-000000000000"}, "status": {"phase": "Running"}}
        with pytest.raises(Conflict):
            await cluster.patch(PODS, "default", "other", patch, form=PatchForm.STRATEGIC, subresource="status")

    async def test_a_pod_on_a_node_is_deleted_in_two_steps(self, cluster: Cluster) -> None:
        made = await cluster.create(PODS, "default", pod("slow"))
        await cluster.delete(PODS, "default", "slow")
        assert (await cluster.get(PODS, "default", "slow"))["metadata"]["deletionTimestamp"]
        with pytest.raises(Conflict):
            await cluster.delete(PODS, "default", "slow", uid="00000000-0000-4000-8000-000000000000", grace_s=0)
        await cluster.delete(PODS, "default", "slow", uid=made["metadata"]["uid"], grace_s=0)
        with pytest.raises(NotFound):
            await cluster.get(PODS, "default", "slow")
