"""`skerry-hub token`: what an operator types and sees, and the sweep of old tokens."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from patience import WAIT_S, until
from skerry.errors import ConfigInvalid
from skerry.limits import API_BACKOFF_S
from skerry.wire import token as line
from skerry_hub.cli import main
from skerry_hub.edgecontroller.status import node_patch
from skerry_hub.enrolment import authority, published, records, tokens
from skerry_hub.enrolment.records import TokenRecord
from skerry_hub.join import VERSION_SUFFIX
from skerry_hub.limits import DEVICE_NAME_CHARS_MAX, TOKEN_KEPT_S, TOKEN_SWEEP_MAX, TOKEN_SWEEP_S
from skerry_hub.ports import CONFIG_MAPS, SECRETS, ClusterAway, NotFound, Obj, Resource
from skerry_hub.token_arguments import seconds
from unit.apiserver.serving import Client, running
from unit.enrolment.site import Site
from unit.hub.fakes import Dice, ManualClock, ScriptedCluster, settle
from unit.hub.test_status import FACTS

URL = "https://hub.example:8443"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Client]:
    with running(tmp_path / "api") as found:
        yield found


class Operator:
    """At a terminal."""

    def __init__(self, api: Client, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.ca, _ = authority.make(folder)
        self._kubeconfig, self._capsys, self.api = str(api.at.kubeconfig), capsys, api

    def token(self, *argv: str, expect: int = 0) -> str:
        """What is on standard output, or in trouble on standard error."""
        code = main(["token", *argv, "--kubeconfig", self._kubeconfig])
        said = self._capsys.readouterr()
        assert code == expect, said
        assert "Traceback" not in said.err
        return said.out if expect == 0 else said.err

    def create(self, *argv: str, expect: int = 0) -> str:
        where = ["--device-ca-cert", str(self.ca), "--enroll-url", URL]
        return self.token("create", *where, *argv, expect=expect)


@pytest.fixture
def operator(api: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Operator:
    return Operator(api, tmp_path, capsys)


def test_a_token_is_one_line_alone(operator: Operator) -> None:
    out = operator.create("--node", "pi")
    assert out.count("\n") == 1
    token = line.decode(out)
    assert (token.node, token.url) == ("pi", URL)
    assert token.ca_digest == authority.digest_of(authority.certificates_in(operator.ca)[0])
    status, node = operator.api.call("GET", "/api/v1/nodes/pi")
    assert status == 200
    assert "skerry.dev/device" in [t["key"] for t in node["spec"]["taints"]]


def test_as_json_it_has_fields(operator: Operator) -> None:
    said = json.loads(operator.create("--node", "pi", "--no-taint", "--ttl", "1h30m", "--output", "json"))
    token = line.decode(said["token"])
    assert (said["node"], said["ident"], said["state"], said["url"]) == ("pi", token.ident, "unused", URL)
    _, node = operator.api.call("GET", "/api/v1/nodes/pi")
    assert "skerry.dev/device" not in [t["key"] for t in node["spec"].get("taints", [])]


def test_a_token_for_a_name_that_a_device_has_says_so(operator: Operator, capsys: pytest.CaptureFixture[str]) -> None:
    """By mistake it would throw that device out."""

    def created() -> tuple[bool, str]:
        argv = ["--device-ca-cert", str(operator.ca), "--enroll-url", URL, "--output", "json"]
        assert main(["token", "create", "--node", "pi", *argv, "--kubeconfig", operator._kubeconfig]) == 0
        said = capsys.readouterr()
        return json.loads(said.out)["replaces"], said.err

    assert created() == (False, "")
    identity = records.Identity("pi", "00" * 32, ("1", "2"), 2e9, 1e9, "abcdef", "11" * 32, "22" * 32)
    secret = records.identity_secret(identity)
    operator.api.call("POST", "/api/v1/namespaces/skerry/secrets", secret)
    assert created() == (True, "skerry-hub: pi is enrolled: who uses this token takes its place\n")
    name = records.identity_name("pi")
    operator.api.call("DELETE", f"/api/v1/namespaces/skerry/secrets/{name}")
    operator.api.call(
        "POST", "/api/v1/namespaces/skerry/secrets", records.identity_secret(replace(identity, revoked=1e9))
    )
    assert created() == (False, "")


def test_the_node_of_a_kubelet_is_not_taken_over(operator: Operator) -> None:
    """Of a cluster's own machine, by mistake: the hub would write its status and its Lease."""
    info = dict.fromkeys(
        ("machineID", "systemUUID", "bootID", "kernelVersion", "osImage", "containerRuntimeVersion", "kubeletVersion",
         "kubeProxyVersion", "operatingSystem", "architecture"), "v1.36.0",
    )  # fmt: skip
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "worker-1"}, "status": {"nodeInfo": info}}
    operator.api.call("POST", "/api/v1/nodes", node)
    assert "node worker-1 is a kubelet's (v1.36.0)" in operator.create("--node", "worker-1", expect=1)
    _, found = operator.api.call("GET", "/api/v1/nodes/worker-1")
    assert "skerry.dev/device" not in (found["metadata"].get("labels") or {})
    assert operator.token("list") == "there are no tokens\n"
    ours = {**info, "kubeletVersion": f"v0.1.0{VERSION_SUFFIX}"}
    operator.api.call("POST", "/api/v1/nodes", {**node, "metadata": {"name": "pi-9"}, "status": {"nodeInfo": ours}})
    assert line.decode(operator.create("--node", "pi-9")).node == "pi-9"


def test_what_the_hub_says_of_a_device_is_no_kubelets() -> None:
    patch = node_patch(FACTS, {}, 0.0)
    assert patch is not None
    assert patch["nodeInfo"]["kubeletVersion"].endswith(VERSION_SUFFIX)


def test_tokens_are_listed_without_their_secrets_and_deleted(operator: Operator) -> None:
    assert operator.token("list") == "there are no tokens\n"
    token = line.decode(operator.create("--node", "pi-2"))
    operator.create("--node", "pi-1")
    out = operator.token("list")
    assert [row.split()[1] for row in out.splitlines()] == ["NODE", "pi-1", "pi-2"]
    found = json.loads(operator.token("list", "--output", "json"))["tokens"]
    assert set(found[0]) == {"ident", "node", "state", "expires"}
    for form in (token.secret.hex(), "secret"):
        assert form not in out + str(found)
    assert operator.token("delete", token.ident) == f"deleted {token.ident}\n"
    assert token.ident not in operator.token("list")
    assert "skerry-hub token list" in operator.token("delete", token.ident, expect=1)
    assert "IDENT" in operator.token("delete", "../x", expect=2)


def test_the_namespace_is_made_where_there_is_none(operator: Operator) -> None:
    """As on a cluster, where nobody applied hub/deploy; the embedded API is born with it."""
    operator.api.call("DELETE", "/api/v1/namespaces/skerry")
    deadline = time.monotonic() + WAIT_S
    while operator.api.call("GET", "/api/v1/namespaces/skerry")[0] != 404:
        assert time.monotonic() < deadline, "the namespace does not go"
        time.sleep(0.05)
    operator.create("--node", "pi")
    assert operator.api.call("GET", "/api/v1/namespaces/skerry")[0] == 200


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--node", "n" * (DEVICE_NAME_CHARS_MAX + 1)], "--node: "),
        (["--node", "Pi"], "--node: "),
        (["--node", "pi.streams"], "--node: "),
        (["--node", "pi", "--ttl", "59s"], "--ttl: must be 60s to 720h (30 days)"),
        (["--node", "pi", "--ttl", "721h"], "--ttl: must be"),
        (["--node", "pi", "--ttl", "1d"], "--ttl: '1d' is no duration"),
        (["--node", "pi", "--enroll-url", "http://hub:1"], "--enroll-url: "),
        (["--node", "pi", "--enroll-url", "https://hub"], "--enroll-url: "),
        (["--node", "pi", "--device-ca-cert", "/nonexistent"], "--device-ca-cert: "),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_option(operator: Operator, argv: list[str], said: str) -> None:
    assert said in operator.create(*argv, expect=2)
    assert operator.api.call("GET", "/api/v1/nodes")[1]["items"] == [], "and nothing is made"


def test_what_the_hub_has_published_need_not_be_typed(operator: Operator) -> None:
    why = operator.token("create", "--node", "pi", expect=2)
    assert "--enroll-url: is needed: no hub with --enroll-listen has published it" in why
    pem = operator.ca.read_bytes()
    path = "/api/v1/namespaces/skerry/configmaps"
    assert operator.api.call("POST", path, published.config_map(URL, "mqtts://b:1", pem))[0] == 201
    assert line.decode(operator.token("create", "--node", "pi")).url == URL
    token = line.decode(operator.token("create", "--node", "pi", "--enroll-url", "https://other:2"))
    assert (token.url, token.ca_digest) == (
        "https://other:2",
        authority.digest_of(authority.certificates_in(operator.ca)[0]),
    )
    broken: Obj = {"data": {"ca.crt": "none"}}
    assert operator.api.call("PATCH", f"{path}/{published.NAME}", broken)[0] == 200
    assert "lacks the hub's URL or its certificate" in operator.token("create", "--node", "pi", expect=2)


@pytest.mark.parametrize(
    ("text", "expected"), [("1h", 3600.0), ("1h30m", 5400.0), ("90s", 90.0), ("1.5h", 5400.0), ("60000ms", 60.0)]
)
def test_durations_are_gos(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "1", "h", "-1h", "1h ", "1 h", "1d", "1e9s", "١h", "1h" * 3 + "x"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ConfigInvalid):
        seconds(text)


# --- what the hub publishes -------------------------------------------------------------------------------------------


async def test_the_hub_publishes_where_it_enrols(hub: Site) -> None:
    found = None

    async def look() -> None:
        nonlocal found
        while found is None:
            found = await published.read(hub.admin)
            await asyncio.sleep(0.02)

    await asyncio.wait_for(look(), 30)
    assert found == published.Where(hub.parts[0].url, hub.authority.digest)


async def test_an_authority_that_is_another_than_the_devices_is_told(hub: Site, tmp_path: Path) -> None:
    """Its files were lost or not restored, and made anew: no device would come any more, and nobody would know why.
    Not while one is replaced, and both are believed."""
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
    ours, lost = (authority.certificates_in(authority.make(tmp_path / n)[0])[0] for n in ("new", "old"))
    pems = [one.public_bytes(Encoding.PEM) for one in (ours, lost)]
    digests = [authority.digest_of(one) for one in (ours, lost)]
    while await published.read(hub.admin) is None:
        await asyncio.sleep(0.02)
    wanted = published.config_map(URL, "mqtts://b:1", pems[0])
    for believed, told in (([digests[0]], 1), (digests, 0), ((), 0)):
        clock, lines = ManualClock(), list[str]()
        before = {"data": published.config_map(URL, "mqtts://b:1", pems[1])["data"]}
        await hub.admin.patch(CONFIG_MAPS, records.NAMESPACE, published.NAME, before)
        task = asyncio.ensure_future(published.keep(hub.admin, wanted, clock, Dice(), lines.append, believed))
        while await published.read(hub.admin) != published.Where(URL, digests[0]):
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.2)  # its line, or a second one
        assert len(lines) == told, lines
        assert all(digests[1].hex()[:16] in one and "its certificate and key back" in one for one in lines)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_it_publishes_once_the_namespace_is_there_and_says_once_what_is_missing() -> None:
    class NoNamespace(ScriptedCluster):
        there = False

        async def create(
            self, resource: Resource, namespace: str, obj: Obj, *, name: str = "", subresource: str = ""
        ) -> Obj:
            if not self.there:
                raise NotFound('namespaces "skerry" not found')
            return await super().create(resource, namespace, obj)

    cluster, clock, lines = NoNamespace(), ManualClock(), list[str]()
    wanted = published.config_map(URL, "mqtts://b:1", b"pem")
    task = asyncio.ensure_future(published.keep(cluster, wanted, clock, Dice(), lines.append))
    for _ in range(20):
        await clock.advance(API_BACKOFF_S[1])
    assert len(lines) == 1
    assert "skerry-hub token create makes it" in lines[0]
    cluster.there = True
    await clock.advance(2 * API_BACKOFF_S[1])
    assert [write[:3] for write in cluster.writes] == [("create", "configmaps", published.NAME)]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


# --- the sweep --------------------------------------------------------------------------------------------------------


def test_only_tokens_that_ended_long_ago_are_old() -> None:
    found = [TokenRecord(f"ident{i}", "pi", bytes(32), float(i)) for i in range(TOKEN_SWEEP_MAX * 2)]
    assert tokens.old(found, TOKEN_KEPT_S - 1) == []
    assert tokens.old(found, TOKEN_KEPT_S + 1) == found[:2]
    assert len(tokens.old(found, TOKEN_KEPT_S * 9)) == TOKEN_SWEEP_MAX


async def test_old_tokens_go_and_what_is_no_token_stays(hub: Site) -> None:
    await hub.token("pi", ttl_s=60)
    kept = await hub.token("pi-2", ttl_s=600)
    meta = {"name": "mine", "namespace": "skerry"}
    await hub.admin.create(SECRETS, "skerry", {"apiVersion": "v1", "kind": "Secret", "metadata": meta})
    clock = ManualClock()
    hub.clock.moved_s = TOKEN_KEPT_S + 300
    clock.wall = hub.clock.wall  # type: ignore[method-assign]
    task = asyncio.ensure_future(tokens.sweep(hub.admin, clock, Dice(), hub.lines.append))
    await settle()
    clock.jump(TOKEN_SWEEP_S[1])
    await clock.advance(TOKEN_SWEEP_S[1])
    left: dict[str, Any] = {}

    async def look() -> None:
        nonlocal left
        while True:
            left = await hub.objects(SECRETS, "skerry")
            await asyncio.sleep(0.02)

    looking = asyncio.ensure_future(look())
    await until(lambda: left and set(left) == {f"skerry-token-{kept.ident}", "mine"}, "the old token to go")
    for one in (looking, task):
        one.cancel()
    await asyncio.gather(looking, task, return_exceptions=True)


async def test_a_sweep_that_fails_is_told_once_and_tried_again() -> None:
    class Away(ScriptedCluster):
        async def list(self, resource: Resource, **_more: Any) -> Any:
            self.lists += 1
            raise ClusterAway("gone")

    cluster, clock, lines = Away(), ManualClock(), list[str]()
    task = asyncio.ensure_future(tokens.sweep(cluster, clock, Dice(), lines.append))
    await clock.advance(5 * TOKEN_SWEEP_S[1])
    assert cluster.lists >= 4
    assert lines == ["enrolment: old tokens: gone"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
