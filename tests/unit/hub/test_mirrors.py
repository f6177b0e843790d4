"""Mirror pods: what the picture shows, what is made, left alone and deleted, and that it never reaches a device."""

from __future__ import annotations

from typing import Any

import pytest

from skerry.errors import Malformed
from skerry.limits import LOCAL_PODS_MAX
from skerry.model.report import LocalPod, LocalPods, Phase, PodStatus
from skerry.wire.codec import encode
from skerry_hub.apiserver import pod_updates
from skerry_hub.edgecontroller.index import Index
from skerry_hub.edgecontroller.mirrors import HASH, MIRROR, SOURCE, Mirrors, is_mirror, mirror_of
from skerry_hub.edgecontroller.tolerations import lasting
from skerry_hub.ports import ClusterAway, Conflict, Obj
from unit.hub.fakes import ScriptedCluster
from unit.hub.manifests import api_pod

NODE = {"metadata": {"name": "pi", "uid": "uid-pi"}}
SPEC: dict[str, Any] = {"containers": [{"name": "main", "image": "rock:1"}]}


def local(name: str = "beacon-pi", uid: str = "own-1", **body: Any) -> LocalPod:
    value = {"metadata": {"name": name, "namespace": "default", "uid": uid}, "spec": SPEC} | body
    return LocalPod(uid, "default", name, "beacon.yaml", encode(value))


class Site:
    """An API of which the index sees everything at once."""

    def __init__(self) -> None:
        self.api = ScriptedCluster()
        self.log: list[str] = []
        self.again: list[str] = []
        self.index = Index(lambda node: None, lambda ref: None)
        self.mirrors = Mirrors(
            self.api, self.log.append, named=self.index.named, of_node=self.index.mirrors_of, node=lambda name: NODE,
            era=lambda resource: 1, later=self.again.append,
        )  # fmt: skip

    def show(self, pod: Obj) -> Obj:
        """The informer has it."""
        meta = pod["metadata"]
        meta.setdefault("uid", f"uid-{meta['name']}")
        name = (meta["namespace"], meta["name"])
        before = self.index.named(name)
        self.index.pod_changed(name, pod)
        self.mirrors.concerns(name, before, pod)
        return pod

    def hide(self, name: str) -> str:
        before = self.index.named(("default", name))
        self.index.pod_changed(("default", name), None)
        return self.mirrors.concerns(("default", name), before, None)

    async def write(self, *pods: LocalPod) -> list[tuple[str, str]]:
        """What is written for these pods of the device: (verb, name)."""
        self.api.writes.clear()
        self.mirrors.told("pi", LocalPods(pods))
        await self.mirrors.write("pi")
        return [(verb, name) for verb, _, name, _ in self.api.writes]


@pytest.fixture
def site() -> Site:
    return Site()


def picture(pod: LocalPod) -> Obj:
    return mirror_of(pod, "pi", NODE)


def test_the_picture_is_kubelets() -> None:
    shown = picture(local(metadata={"name": "beacon-pi", "labels": {"a": "b"}, "annotations": {"c": "d"}}))
    assert shown["metadata"]["annotations"] == {"c": "d", MIRROR: "own-1", HASH: "own-1", SOURCE: "file"}
    assert shown["metadata"]["labels"] == {"a": "b"}
    assert (shown["metadata"]["namespace"], shown["spec"]["nodeName"]) == ("default", "pi")
    (owner,) = shown["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("Node", "uid-pi", True)
    assert lasting(shown["spec"]) is None, "nothing evicts it"
    assert shown["spec"]["containers"] == SPEC["containers"]


def test_what_admission_takes_of_no_mirror_is_left_out() -> None:
    env = [
        {"name": "A", "value": "a"},
        {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
    ]
    main = {"name": "main", "image": "i", "env": env, "envFrom": [{"secretRef": {"name": "s"}}]}
    token = {"sources": [{"serviceAccountToken": {"path": "token"}}]}
    volumes = [
        {"name": "s", "secret": {"secretName": "s"}},
        {"name": "c", "configMap": {"name": "c"}},
        {"name": "kube-api-access-x7x7x", "projected": token},
    ]
    more = {"serviceAccountName": "x", "serviceAccount": "x", "imagePullSecrets": [{"name": "s"}], "priority": 7}
    more |= {"priorityClassName": "none", "preemptionPolicy": "Never", "restartPolicy": "Never"}
    spec = picture(local(spec={"containers": [main], "initContainers": [main], "volumes": volumes, **more}))["spec"]
    for container in (*spec["containers"], *spec["initContainers"]):
        assert [e["name"] for e in container["env"]] == ["A", "C"]
        assert container["envFrom"] == []
    assert spec["volumes"] == [
        {"name": "s", "emptyDir": {}},
        {"name": "c", "configMap": {"name": "c"}},
        {"name": "kube-api-access-x7x7x", "emptyDir": {}},
    ]
    assert [name for name in more if name in spec] == ["restartPolicy"]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"\xff", encode([]), encode({}), encode({"metadata": {}}), encode({"metadata": {}, "spec": 1}),
        encode({"metadata": 1, "spec": {}}), encode({"metadata": {"annotations": 1}, "spec": {}}),
        encode({"metadata": {}, "spec": {"volumes": [1]}}), encode({"metadata": {}, "spec": {"containers": 7}}),
        encode({"metadata": {}, "spec": {"a": b"bytes"}}), encode({"metadata": {}, "spec": {"a": float("nan")}}),
        encode({"metadata": {}, "spec": {"containers": [{"env": [1]}]}}),
        encode({"metadata": {}, "spec": {"containers": [{"env": [{"valueFrom": 1}]}]}}),
    ],
)  # fmt: skip
async def test_a_device_that_tells_nonsense_gets_no_mirror_and_harms_nobody(site: Site, body: bytes) -> None:
    bad = LocalPod("own-2", "default", "bad-pi", "bad.yaml", body)
    with pytest.raises(Malformed):
        mirror_of(bad, "pi", NODE)
    assert await site.write(bad, local()) == [("create", "beacon-pi")]
    assert "bad.yaml" in site.log[0]


async def test_a_mirror_is_made_once_also_while_the_informer_does_not_show_it(site: Site) -> None:
    assert await site.write(local()) == [("create", "beacon-pi")]
    assert await site.write(local()) == []
    site.show(picture(local()))
    assert await site.write(local()) == []


async def test_what_the_device_has_no_pod_for_goes(site: Site) -> None:
    site.show(picture(local("old-pi", "own-0")))
    site.show(api_pod("web"))
    assert await site.write() == [("delete", "old-pi")]


async def test_another_pod_of_the_same_name_gets_another_mirror(site: Site) -> None:
    site.show(picture(local()))
    assert await site.write(local(uid="own-9")) == [("delete", "beacon-pi"), ("create", "beacon-pi")]


async def test_one_that_somebody_deletes_is_finished_and_made_again(site: Site) -> None:
    site.show(picture(local()))
    await site.write(local())
    shown = picture(local())
    shown["metadata"]["deletionTimestamp"] = "now"
    site.show(shown)
    assert await site.write(local()) == [("delete", "beacon-pi"), ("create", "beacon-pi")]


async def test_what_goes_at_the_api_concerns_its_node(site: Site) -> None:
    await site.write(local())
    site.show(picture(local()))
    assert site.hide("beacon-pi") == "pi"
    assert site.hide("stranger") == ""


async def test_a_name_that_something_else_has_is_left_alone(site: Site) -> None:
    site.show(api_pod("beacon-pi"))
    assert await site.write(local(), local("two-pi", "own-2")) == [("create", "two-pi")]
    assert site.hide("beacon-pi") == "pi"


async def test_a_failed_one_holds_up_no_other_and_is_told(site: Site) -> None:
    site.api.write_failures = [Conflict("somebody was faster")]
    with pytest.raises(Conflict):
        await site.write(local(), local("two-pi", "own-2"))
    assert [name for _, _, name, _ in site.api.writes][-1] == "two-pi"
    site.api.write_failures = [ClusterAway("gone")]
    with pytest.raises(ClusterAway):
        await site.write(local())
    assert await site.write(local()) == [("create", "beacon-pi")]


async def test_statuses_that_came_before_their_pod_are_kept_within_a_bound(site: Site) -> None:
    for n in range(5 * LOCAL_PODS_MAX):
        site.mirrors.remember("pi", PodStatus(f"own-{n}", "default", "x", Phase.RUNNING))
    last = f"own-{5 * LOCAL_PODS_MAX - 1}"
    await site.write(local(uid=last), local("two-pi", "own-0"))
    assert site.mirrors.told_of("pi") == [last]


def test_a_mirror_is_in_no_devices_set(site: Site) -> None:
    site.show(picture(local()))
    web = site.show(api_pod("web"))
    assert [uid for _, uid in site.index.chosen("pi").objects] == [web["metadata"]["uid"]]
    assert [is_mirror(pod) for pod in site.index.pods_of("pi")] == [False]
    assert [pod["metadata"]["name"] for pod in site.index.mirrors_of("pi")] == ["beacon-pi"]
    site.hide("beacon-pi")
    assert list(site.index.mirrors_of("pi")) == []


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ({}, {MIRROR: "x"}, "may not add mirror pod annotation"),
        ({MIRROR: "x"}, {}, "may not remove or update mirror pod annotation"),
        ({MIRROR: "x"}, {MIRROR: "y"}, "may not remove or update mirror pod annotation"),
        ({MIRROR: "x"}, {MIRROR: "x", "a": "b"}, ""),
        ({}, {"a": "b"}, ""),
    ],
)
def test_a_pod_of_a_device_cannot_be_made_a_picture_later(
    before: dict[str, str], after: dict[str, str], why: str
) -> None:
    """Or an annotation would take it out of the device's set."""
    old, new = ({"metadata": {"annotations": said}, "spec": SPEC} for said in (before, after))
    causes = pod_updates.causes(new, old)
    assert [cause.message for cause in causes] == ([f"Forbidden: {why}"] if why else [])
