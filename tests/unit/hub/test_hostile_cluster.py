"""The hub's real client and edge controller before an API server in a bad mood, with the rights that hub/deploy gives.

One story holds everything that the hub asks of a cluster. It is told once in every mood, and once without each of the
rights: then something must be refused, else the right is not needed and must not be shipped.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

from rig.site import kubectl
from skerry.model.desired import Kind
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
from skerry_hub.cli import _arguments
from skerry_hub.edgecontroller import identity, replicas
from skerry_hub.edgecontroller.controller import EdgeController
from skerry_hub.edgecontroller.registration import ARCH_LABEL
from skerry_hub.edgecontroller.replicas import Replicas
from skerry_hub.edgecontroller.tolerations import lasting
from skerry_hub.join import join
from skerry_hub.kube.client import KubeClient
from skerry_hub.kube.config import Access, load
from skerry_hub.kubelet.access import Reviews
from skerry_hub.kubelet.serving_certificate import ServingCertificate
from skerry_hub.ports import CONFIG_MAPS, EVENTS, LEASES, NODES, PODS, ClusterError, NotFound, Obj, PatchForm
from unit.apiserver.serving import running
from unit.hub.enrolment_story import enrolled
from unit.hub.fakes import Dice
from unit.hub.hostile_api import RBAC, TOKENS, HostileApi, Rule, shipped, without

T = TypeVar("T")
WAIT_S = 120.0
FASTER = 10.0  # than the wall: a silent watch is noticed after 9 s
RULES = [*shipped(), *shipped(TOKENS)]
FACTS = NodeFacts(4000, 512 << 20, 110, "arm64", "linux", "rock", "6.1", "boot", "machine", "containerd://1.7", "0.1.0")


class FastClock:
    def now(self) -> float:
        return time.monotonic() * FASTER

    def wall(self) -> float:
        return time.time()

    async def sleep_until(self, when: float) -> None:
        await asyncio.sleep(max(0.0, when - self.now()) / FASTER)


class Refused(Exception):
    """The API server did not allow something."""


class Story:
    """`admin` is the administrator, straight at the API; the hub goes through the hostile one."""

    def __init__(self, hostile: HostileApi, admin: KubeClient, hub: KubeClient, folder: Path) -> None:
        self.hostile, self.admin, self.hub, self.folder = hostile, admin, hub, folder
        clock = self.clock = FastClock()
        self.replicas = Replicas(hub, clock, Dice(1), print, "hub-0")
        self.reviews = Reviews(hub, clock)
        where = {"pi": ("10.0.0.1", 10350)}
        self.controller = EdgeController(hub, clock, Dice(2), print, replicas=self.replicas, endpoint_of=where.get)
        self.shown: list[tuple[str, str]] = []
        self.certificate = ServingCertificate(
            hub, clock, Dice(3), print, replica="hub-0", address="10.0.0.1",
            use=lambda certificate, key: self.shown.append((certificate, key)),
        )  # fmt: skip
        self.seq = 0

    async def until(self, condition: Callable[[], Awaitable[Any]], what: str) -> Any:
        deadline = time.monotonic() + WAIT_S
        while True:
            if self.hostile.refused:
                raise Refused(self.hostile.refused[0])
            try:
                if found := await condition():
                    return found
            except NotFound:
                pass
            assert time.monotonic() < deadline, f"not in time: {what}; trouble: {dict(self.hostile.trouble)}"
            await asyncio.sleep(0.05)

    async def report(self, *said: Reported) -> None:
        """As a session does: return once it is stored."""
        items = []
        for value in said:
            self.seq += 1
            subject = value.uid if isinstance(value, PodStatus) else ""
            items.append(OutboxItem(self.seq, KIND_OF[type(value)], subject, encode_report(value)))
        storing = asyncio.ensure_future(self.controller.store_reports("pi", items))
        await self.until(lambda: _true(storing.done()), f"{type(said[0]).__name__} to be stored")

    async def node(self) -> Obj:
        return await self.admin.get(NODES, "", "pi")

    async def pod(self) -> Obj:
        return await self.admin.get(PODS, "default", "web")

    # --- the story ----------------------------------------------------------------------------------------------------

    async def told(self) -> None:
        await join(self.admin, "pi")
        made = await self.admin.create(PODS, "default", _pod())
        uid = made["metadata"]["uid"]
        await self.until(self._follows, "the hub to follow")
        self.controller.presence("pi", True)
        await self.until(self._node_is_ready, "the node to be Ready and lead to the hub")
        await self.until(lambda: self.admin.get(LEASES, "kube-node-lease", "pi"), "the node's Lease")
        first = await self.admin.get(LEASES, "kube-node-lease", "pi")
        await self.until(self._stays, "the pod's tolerations to lose their end")
        await self.report(FACTS)
        await self.until(self._has_labels, "the label of the architecture")
        running = PodStatus(uid, "default", "web", Phase.RUNNING, (ContainerStatus("main", Life.RUNNING),))
        await self.report(running)
        assert (await self.pod())["status"]["phase"] == "Running"
        await self._is_marked_not_ready()
        for _ in range(2):
            await self.report(Event(uid, "default", "web", "Pulled", "here", False, 0, "e1"))
        events = [e for e in (await self.admin.list(EVENTS)).items if e["reason"] == "Pulled"]
        assert len(events) == 1, "a repeat is shown once"
        await self.until(lambda: self._renewed(first), "the Lease to be renewed")
        await self._ends(uid, running)
        await self._is_refused()
        await self._shows_mirrors()
        await self._gets_a_certificate()
        await self._gives_a_token()
        await enrolled(self.folder / "enrolment", self.admin, self.hub, self.clock, self.until)
        await self._other_things()

    async def _is_marked_not_ready(self) -> None:
        """By a node lifecycle controller that saw the node's Lease run out for a while; the device notices nothing."""
        marked = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}
        await self.admin.patch(PODS, "default", "web", marked, form=PatchForm.STRATEGIC, subresource="status")

        async def ready() -> bool:
            shown = (await self.pod())["status"]["conditions"]
            return ("Ready", "True") in {(c["type"], c["status"]) for c in shown}

        await self.until(ready, "the pod to be Ready again")

    async def _ends(self, uid: str, running: PodStatus) -> None:
        """A deletion is finished by the device, and only of this very pod."""
        await self.admin.delete(PODS, "default", "web")
        assert (await self.pod())["metadata"]["deletionTimestamp"]
        await self.until(self._knows_deletion, "the hub to know")
        await self.report(PodStatus(uid, "default", "web", Phase.SUCCEEDED, running.containers, gone=True))
        with pytest.raises(NotFound):
            await self.pod()

    async def _is_refused(self) -> None:
        """By the device, which runs no such pod: a ReplicaSet would make another as often as it sees one Failed."""
        owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "rs-1", "controller": True}
        made = await self.admin.create(
            PODS, "default", _pod() | {"metadata": {"name": "web", "ownerReferences": [owner]}}
        )
        said = PodStatus(made["metadata"]["uid"], "default", "web", Phase.FAILED, reason="Unsupported")
        await self.report(said)
        shown = (await self.pod())["status"]
        assert (shown["phase"], shown["reason"]) == ("Pending", "Unsupported")
        await self.admin.delete(PODS, "default", "web")
        await self.until(self._knows_deletion, "the hub to know")
        await self.report(replace(said, gone=True))
        with pytest.raises(NotFound):
            await self.pod()

    async def _shows_mirrors(self) -> None:
        """A pod of the device's own is shown with its status, and again when somebody deletes that; it goes with it."""
        body = encode({"metadata": {"name": "beacon-pi"}, "spec": _exported()})
        await self.report(LocalPods((LocalPod("own-1", "default", "beacon-pi", "beacon.yaml", body),)))
        main = ContainerStatus("main", Life.RUNNING)
        await self.report(PodStatus("own-1", "default", "beacon-pi", Phase.RUNNING, (main,)))
        first = await self.until(self._mirror_runs, "the mirror to run")
        await self.admin.delete(PODS, "default", "beacon-pi", grace_s=0)

        async def again() -> bool:
            return bool((await self._mirror_runs() or first)["metadata"]["uid"] != first["metadata"]["uid"])

        await self.until(again, "the mirror to be made again")
        await self.report(LocalPods(()))

        async def gone() -> bool:
            names = [p["metadata"]["name"] for p in (await self.admin.list(PODS)).items]
            return "beacon-pi" not in names

        await self.until(gone, "the mirror to go")

    async def _mirror_runs(self) -> Obj | None:
        found = await self.admin.get(PODS, "default", "beacon-pi")
        return found if (found.get("status") or {}).get("phase") == "Running" else None

    async def _gets_a_certificate(self) -> None:
        """Which the administrator approves and the cluster signs."""
        (name,) = await self.until(lambda: _true(self.hostile.signing.pending), "a request")
        assert name.startswith("hub-0-")
        self.hostile.signing.approve(name)
        await self.until(lambda: _true(self.shown), "the certificate")
        (certificate, key) = self.shown[0]
        assert "CERTIFICATE" in certificate
        assert "PRIVATE KEY" in key

    async def _gives_a_token(self) -> None:
        """To the pod that asks for one, in a Secret that no API has."""
        source = {"serviceAccountToken": {"path": "token", "audience": "vault", "expirationSeconds": 3600}}
        volume = {"name": "id", "projected": {"sources": [source]}}
        pod = _pod()
        pod["metadata"]["name"], pod["spec"]["volumes"] = "robot", [volume]
        await self.admin.create(PODS, "default", pod)

        async def told() -> bool:
            target = self.controller.target("pi")
            secrets = [b for (kind, _), b in target.bodies.items() if kind is Kind.SECRET] if target is not None else []
            return any(b"jwt-of-robot-for-vault" in body for body in secrets)

        await self.until(told, "the token in the device's set")
        await self.admin.delete(PODS, "default", "robot", grace_s=0)

    async def _other_things(self) -> None:
        target = self.controller.target("pi")
        old = identity.epoch_of(await self.admin.get(CONFIG_MAPS, identity.NAMESPACE, identity.NAME))
        assert target is None or target.epoch == old
        self.controller.open_epoch("pi", 1 << 40)
        await self.until(lambda: self._epoch_is_not(old), "a new epoch")
        who = None
        while who is None and not self.hostile.refused:
            who = await self.reviews.identify(None, "Bearer good")
        assert who is None or who.user == "ops"
        if who is not None:
            await self.until(lambda: self._may(who), "the review of rights")
        await self.replicas.leave()
        await self.until(lambda: _true(True), "nothing refused")

    async def _follows(self) -> bool:
        return self.controller.ready.is_set() and self.replicas.mine("pi")

    async def _knows_deletion(self) -> bool:
        known = self.controller.informers[PODS].objects.get(("default", "web"))
        return known is None or "deletionTimestamp" in known["metadata"]

    async def _may(self, who: Any) -> bool:
        try:
            return await self.reviews.allowed(who, "get", "log", "pi")
        except ClusterError:
            return False

    async def _node_is_ready(self) -> bool:
        status = (await self.node()).get("status") or {}
        ready = [c for c in status.get("conditions") or () if (c["type"], c["status"]) == ("Ready", "True")]
        port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port")
        internal = [a["address"] for a in status.get("addresses") or () if a["type"] == "InternalIP"]
        return bool(ready) and (internal, port) == (["10.0.0.1"], 10350)

    async def _stays(self) -> bool:
        return lasting((await self.pod())["spec"]) is None

    async def _has_labels(self) -> bool:
        node = await self.node()
        return bool(node["metadata"]["labels"].get(ARCH_LABEL) == "arm64" and node["status"]["capacity"]["cpu"] == "4")

    async def _renewed(self, first: Obj) -> bool:
        now = await self.admin.get(LEASES, "kube-node-lease", "pi")
        return bool(now["spec"]["renewTime"] > first["spec"]["renewTime"])

    async def _epoch_is_not(self, old: str) -> bool:
        return identity.epoch_of(await self.admin.get(CONFIG_MAPS, identity.NAMESPACE, identity.NAME)) not in ("", old)


def _pod() -> Obj:
    containers = [{"name": "main", "image": "busybox:1"}]
    meta = {"name": "web", "namespace": "default"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"nodeName": "pi", "containers": containers}}


def _exported() -> Obj:
    """The spec of a manifest that somebody got of a real cluster with `kubectl get -o yaml`, and gave a Secret."""
    mount = {"name": "kube-api-access-x7x7x", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
    secret = {"name": "S", "valueFrom": {"secretKeyRef": {"name": "pass", "key": "s"}}}
    container = {"name": "main", "image": "busybox:1", "env": [secret], "volumeMounts": [mount]}
    token = {"sources": [{"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}}]}
    return {
        "containers": [container], "volumes": [{"name": "kube-api-access-x7x7x", "projected": token}],
        "serviceAccountName": "default", "imagePullSecrets": [{"name": "registry"}],
        "priority": 1000, "priorityClassName": "of-that-cluster", "preemptionPolicy": "Never",
    }  # fmt: skip


async def _true(value: T) -> T:
    return value


@asynccontextmanager
async def story(tmp_path: Path, rules: list[Rule], moody: bool) -> AsyncIterator[Story]:
    with running(tmp_path / "api") as behind:
        hostile = HostileApi(behind, rules, moody)
        async with (
            KubeClient(load(behind.at.kubeconfig)) as admin,
            hostile.serve() as api,
            KubeClient(Access(api.url, token="hub")) as hub,
        ):
            told = Story(hostile, admin, hub, tmp_path)
            tasks = [asyncio.ensure_future(loop.run()) for loop in (told.controller, told.certificate)]
            try:
                yield told
            finally:
                for task in tasks:
                    task.cancel()
                for end in await asyncio.gather(*tasks, return_exceptions=True):
                    assert isinstance(end, asyncio.CancelledError), f"the hub ended: {end!r}"


async def test_the_shipped_rights_are_enough(tmp_path: Path) -> None:
    async with story(tmp_path, RULES, moody=False) as it:
        await it.told()


@pytest.mark.parametrize("gone", RULES, ids=str)
async def test_one_right_fewer_is_missed(tmp_path: Path, gone: Rule) -> None:
    async with story(tmp_path, without(RULES, gone), moody=False) as it:
        with pytest.raises(Refused) as why:
            await it.told()
        assert f"{gone.verb} {gone.resource} " in str(why.value)


async def test_every_mood_at_once_changes_nothing_in_the_end(tmp_path: Path) -> None:
    async with story(tmp_path, RULES, moody=True) as it:
        await it.told()
        assert it.hostile.refused == []
        assert {"409", "429", "410", "closed", "silent"} <= set(it.hostile.trouble), it.hostile.trouble


async def test_what_a_later_api_says_more_stays_and_reaches_the_device(tmp_path: Path) -> None:
    """A field that the hub does not know travels, so that the device refuses it by name."""
    async with story(tmp_path, RULES, moody=False) as it:
        await it.told()
        await it.admin.create(PODS, "default", _pod())

        async def set_of_the_device() -> bytes:
            target = it.controller.target("pi")
            return b"".join(target.bodies.values()) if target is not None else b""

        body = await it.until(set_of_the_device, "the pod in the device's set")
        assert b"futureField" in body


def test_the_replicas_leases_are_where_their_role_is() -> None:
    assert {r.namespace for r in RULES if r.resource == "leases"} == {replicas.NAMESPACE, "kube-node-lease"}


def built(folder: Path) -> list[Obj]:
    done = subprocess.run([kubectl(), "kustomize", str(folder)], capture_output=True, text=True, check=True)
    return list(yaml.safe_load_all(done.stdout))


def arguments(documents: list[Obj]) -> Any:
    """What the StatefulSet starts, read as skerry-hub reads it."""
    (hub,) = [d for d in documents if d["kind"] == "StatefulSet"]
    (container,) = hub["spec"]["template"]["spec"]["containers"]
    return _arguments().parse_args(container["args"])


def test_kubectl_builds_what_is_shipped() -> None:
    documents = built(RBAC.parent)
    kinds = Counter(document["kind"] for document in documents)
    assert kinds["StatefulSet"] == kinds["ConfigMap"] == kinds["ServiceAccount"] == kinds["Namespace"] == 1
    assert kinds["Role"] == kinds["RoleBinding"] == 3
    read = arguments(documents)
    assert (read.command, read.replica, read.broker) == ("run", "$(POD_NAME)", "$(BROKER)")
    assert read.kubelet_cert is None
    assert (read.enroll_listen, read.enroll_address) == ("0.0.0.0:8443", ["$(ENROLL_ADDRESS)"])
    assert (read.device_broker, read.device_ca_cert.name, read.device_ca_key.name) == (
        "$(DEVICE_BROKER)",
        "tls.crt",
        "tls.key",
    )


def with_component(tmp_path: Path, component: str) -> list[Obj]:
    """An operator's own kustomization."""
    shutil.copytree(RBAC.parent, tmp_path / "deploy")
    mine = {"resources": ["deploy"], "components": [f"deploy/{component}"]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(mine))
    return built(tmp_path)


def test_the_endpoint_is_added_as_a_component(tmp_path: Path) -> None:
    documents = with_component(tmp_path, "endpoint")
    read = arguments(documents)
    assert (read.kubelet_listen, read.kubelet_address) == ("0.0.0.0", "$(POD_IP)")
    files = [read.kubelet_cert, read.kubelet_key, read.kubelet_client_ca]
    assert [file.name for file in files] == ["tls.crt", "tls.key", "ca.crt"]
    assert not read.kubelet_server_tls_bootstrap


def test_the_endpoint_whose_certificate_the_cluster_signs_is_another_component(tmp_path: Path) -> None:
    documents = with_component(tmp_path, "endpoint-signer")
    read = arguments(documents)
    assert (read.kubelet_listen, read.kubelet_address) == ("0.0.0.0", "$(POD_IP)")
    assert (read.kubelet_server_tls_bootstrap, read.kubelet_cert, read.kubelet_key) == (True, None, None)
    assert read.kubelet_client_ca.name == "ca.crt"


def test_the_right_to_ask_for_tokens_is_a_component_of_its_own(tmp_path: Path) -> None:
    """Who has it may become any service account."""
    rights = {str(rule) for rule in shipped(TOKENS)}
    assert rights == {"create serviceaccounts/token"}
    assert rights.isdisjoint(map(str, shipped()))
    (given,) = [d for d in with_component(tmp_path, "tokens") if d["metadata"]["name"] == "skerry-hub-tokens"][1:]
    assert given["subjects"] == [{"kind": "ServiceAccount", "name": "skerry-hub", "namespace": "skerry"}]


def test_the_hub_may_approve_and_sign_for_its_own_signer_and_no_other() -> None:
    """Who may that for kubernetes.io/kubelet-serving may stand for every node."""
    signers = {(rule.names, rule.verb) for rule in RULES if rule.resource == "signers"}
    assert signers == {(("skerry.dev/device",), "approve"), (("skerry.dev/device",), "sign")}
    assert not [rule for rule in RULES if "*" in (rule.group, rule.resource, rule.verb)]
