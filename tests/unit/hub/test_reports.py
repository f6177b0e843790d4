"""Reports on their way to the API: stored, superseded, dropped with a count, or waiting."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from skerry.model.report import (
    ContainerStatus,
    Event,
    Life,
    LocalPod,
    LocalPods,
    NodeFacts,
    OutboxItem,
    Phase,
    PodStatus,
)
from skerry.wire.codec import encode
from skerry.wire.report import KIND_OF, Reported, encode_report
from skerry_hub.edgecontroller.mirrors import Mirrors, mirror_of
from skerry_hub.edgecontroller.reports import Reports
from skerry_hub.edgecontroller.status import event_object
from skerry_hub.ports import (
    EVENTS,
    NODES,
    PODS,
    ClusterAway,
    ClusterBusy,
    ClusterError,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Obj,
    Resource,
)
from unit.hub.fakes import Dice, ManualClock, ScriptedCluster, settle
from unit.hub.manifests import api_pod

FACTS = NodeFacts(1000, 1 << 30, 110, "arm64", "linux", "Debian", "6.1", "b", "m", "containerd://1", "0.1.0", ("::9",))


class Site:
    def __init__(self) -> None:
        self.api, self.clock = ScriptedCluster(), ManualClock()
        self.pods: dict[str, Obj] = {"uid-web": self.api.put(PODS, api_pod())}
        self.node: Obj | None = self.api.put(NODES, {"metadata": {"name": "pi"}})
        self.learned: list[tuple[str, int]] = []
        self.log: list[str] = []
        self.reports = Reports(
            self.api, self.clock, Dice(), self.log.append,
            pod=self.pods.get, node=lambda name: self.node, era=lambda resource: 7, learn=self.learn,
            mirrors=Mirrors(
                self.api, self.log.append, named=lambda name: None, of_node=lambda node: iter(()),
                node=lambda name: self.node, era=lambda resource: 7, later=lambda node: None,
            ),
        )  # fmt: skip

    def learn(self, resource: Resource, obj: Obj, era: int) -> None:
        assert era == 7
        self.learned.append((resource.plural, int(obj["metadata"]["resourceVersion"])))

    async def store(self, *said: Reported, node: str = "pi") -> asyncio.Task[None]:
        items = [OutboxItem(i + 1, KIND_OF[type(s)], "s", encode_report(s)) for i, s in enumerate(said)]
        task = asyncio.ensure_future(self.reports.store(node, items))
        await settle()
        return task

    @property
    def verbs(self) -> list[tuple[str, str]]:
        return [(verb, plural) for verb, plural, _, _ in self.api.writes]


@pytest.fixture
def site() -> Site:
    return Site()


def status(phase: Phase = Phase.RUNNING, uid: str = "uid-web", **more: Any) -> PodStatus:
    main = ContainerStatus("main", Life.RUNNING, "busybox:1", started_at=5)
    return PodStatus(uid, "default", "web", phase, (main,), started_at=5, **more)


def event(uid: str = "uid-web", namespace: str = "default", ident: str = "e1") -> Event:
    return Event(uid, namespace, "web" if uid else "", "Started", "m", False, 5, ident)


async def test_a_status_is_patched_with_the_pods_uid_and_learned(site: Site) -> None:
    assert (await site.store(status())).done()
    ((verb, plural, name, patch),) = site.api.writes
    assert (verb, plural, name, patch["metadata"]) == ("patch", "pods", "web", {"uid": "uid-web"})
    assert patch["status"]["phase"] == "Running"
    assert site.learned == [("pods", site.api.version)]


async def test_the_latest_status_of_a_pod_stands_for_the_earlier_ones(site: Site) -> None:
    await site.store(status(Phase.PENDING), event(), status(Phase.RUNNING), status(Phase.FAILED))
    assert sorted(site.verbs) == [("create", "events"), ("patch", "pods")]
    assert site.reports.counts.superseded == 2
    (patch,) = [what for verb, _, _, what in site.api.writes if verb == "patch"]
    assert patch["status"]["phase"] == "Failed"


@pytest.mark.parametrize(
    ("said", "node"),
    [
        (status(uid="uid-gone"), "pi"),
        (status(), "another"),
        (event("uid-gone"), "pi"),
        (event(), "another"),
        (event(namespace="kube-system"), "pi"),
    ],
)
async def test_what_speaks_of_no_pod_of_this_device_is_dropped(site: Site, said: Reported, node: str) -> None:
    assert (await site.store(said, node=node)).done()
    assert site.api.writes == []
    assert site.reports.counts.without_pod == 1


@pytest.mark.parametrize("said", [status(), event()])
async def test_what_speaks_of_a_pod_that_the_informer_does_not_show_yet_is_stored(site: Site, said: Reported) -> None:
    """Another replica has sent it to the device; an acknowledged report would be gone."""
    del site.pods["uid-web"]
    assert (await site.store(said)).done()
    assert len(site.api.writes) == 1
    assert site.reports.counts.without_pod == 0


async def test_a_body_that_does_not_parse_is_dropped_and_counted(site: Site) -> None:
    bad = OutboxItem(1, KIND_OF[PodStatus], "s", b"\xff")
    await site.reports.store("pi", [bad])
    assert (site.api.writes, site.reports.counts.malformed) == ([], 1)


async def test_a_deletion_that_is_complete_ends_the_pod_at_the_api(site: Site) -> None:
    site.pods["uid-web"]["metadata"]["deletionTimestamp"] = "2026-11-24T10:00:00Z"
    await site.store(status(Phase.SUCCEEDED, gone=True))
    assert site.verbs == [("patch", "pods"), ("delete", "pods")]
    assert site.api.writes[1][3] == {"uid": "uid-web", "grace_s": 0}


async def test_nobody_deletes_a_pod_that_the_api_wants_to_live(site: Site) -> None:
    await site.store(status(Phase.SUCCEEDED, gone=True))
    assert site.verbs == [("patch", "pods")]


async def test_a_repeated_event_is_stored(site: Site) -> None:
    name = event_object(event(), "pi", 5)["metadata"]["name"]
    site.api.put(EVENTS, {"metadata": {"name": name, "namespace": "default"}})
    site.api.write_failures = [Conflict("exists")]
    assert (await site.store(event())).done()
    assert site.reports.counts.events == 0


async def test_a_conflict_over_something_else_is_no_proof_that_the_event_is_told(site: Site) -> None:
    """A quota's admission answers 409 too."""
    site.api.write_failures = [Conflict("resourcequotas: somebody else was faster")]
    task = await site.store(event())
    assert not task.done()
    await site.clock.advance(5)
    assert task.done()
    assert site.verbs == [("create", "events")]


async def test_facts_and_events_of_the_node(site: Site) -> None:
    assert (await site.store(FACTS, event(uid="", namespace=""))).done()
    assert sorted(site.verbs) == [("create", "events"), ("patch", "nodes")]


@pytest.mark.parametrize("why", [ClusterAway("x"), ClusterBusy("x"), Forbidden("x"), Conflict("x")])
async def test_an_api_that_fails_is_waited_for(site: Site, why: ClusterError) -> None:
    site.api.write_failures = [why] * 4
    task = await site.store(status())
    assert not task.done()
    await site.clock.advance(60)
    assert task.done()
    assert site.verbs == [("patch", "pods")]
    assert site.reports.counts.retried == 4


async def test_the_server_says_when(site: Site) -> None:
    site.api.write_failures = [ClusterBusy("slow", 30.0)]
    task = await site.store(status())
    await site.clock.advance(29)
    assert not task.done()
    await site.clock.advance(2)
    assert task.done()


@pytest.mark.parametrize(("why", "counter"), [(Invalid("no"), "refused"), (NotFound("no"), "without_pod")])
async def test_what_the_api_will_never_take_holds_up_nothing(site: Site, why: ClusterError, counter: str) -> None:
    site.api.write_failures = [why]
    assert (await site.store(status())).done()
    assert getattr(site.reports.counts, counter) == 1


async def test_a_pod_that_vanishes_while_its_status_waits_is_dropped(site: Site) -> None:
    site.api.write_failures = [ClusterAway("x")]
    task = await site.store(status())
    site.api.objects.clear()
    del site.pods["uid-web"]
    await site.clock.advance(5)
    assert task.done()
    assert (site.api.writes, site.reports.counts.without_pod) == ([], 1)


async def test_an_old_word_of_a_devices_own_pod_never_stays_over_a_later_one(site: Site) -> None:
    """The mirror's repair was writing the old one, and the API took it after the later one (simulator, seed 3193)."""
    local = LocalPod("own-1", "default", "beacon", "beacon.yaml", encode({"metadata": {}, "spec": {"containers": []}}))
    mirrors = site.reports._mirrors
    mirrors.told("pi", LocalPods((local,)))
    picture = mirror_of(local, "pi", None)
    mirror = site.api.put(PODS, {**picture, "metadata": {**picture["metadata"], "uid": "picture-1"}})
    mirrors._named = lambda name: mirror
    old = PodStatus("own-1", "default", "beacon", Phase.FAILED)
    mirrors.remember("pi", old)
    real, first = site.api.patch, asyncio.Event()

    async def patch(*args: Any, **kwargs: Any) -> Obj:
        if args[3]["status"]["phase"] == "Failed":
            await first.wait()
        return await real(*args, **kwargs)

    site.api.patch = patch  # type: ignore[method-assign]
    repair = asyncio.ensure_future(site.reports.write_mirrors("pi"))
    await settle()
    assert (await site.store(PodStatus("own-1", "default", "beacon", Phase.RUNNING))).done()
    first.set()
    await repair
    phases = [what["status"]["phase"] for verb, _, _, what in site.api.writes if verb == "patch"]
    assert phases == ["Running", "Failed", "Running"]
