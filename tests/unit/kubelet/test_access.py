"""Who may ask a node: over real TLS, with certificates and tokens, as a kubelet decides it."""

from __future__ import annotations

import http.client
import json
import ssl
from pathlib import Path
from typing import Any

import pytest

from skerry_hub import pki
from skerry_hub.kubelet.access import ACCESS_REVIEWS, Identity, Reviews, of_review
from skerry_hub.limits import REVIEW_CACHE_MAX, REVIEW_NO_S, REVIEW_YES_S
from unit.kubelet.site import NODE, ReviewApi, Site

ALICE = {"username": "alice", "uid": "7", "groups": ["dev", "system:authenticated"], "extra": {"scopes": ["a"]}}


class Turned:
    """A clock that only the test turns."""

    def __init__(self) -> None:
        self.at = 100.0

    def now(self) -> float:
        return self.at

    def wall(self) -> float:
        return self.at

    async def sleep_until(self, when: float) -> None:
        self.at = max(self.at, when)


def reviews() -> tuple[Reviews, ReviewApi, Turned]:
    api, clock = ReviewApi({"good": ALICE}, {("alice", "get", "proxy", NODE)}), Turned()
    return Reviews(api, clock), api, clock  # type: ignore[arg-type]


async def test_a_token_is_reviewed_once_and_believed_for_a_while() -> None:
    checks, api, clock = reviews()
    alice = await checks.identify(None, "Bearer good")
    assert alice == Identity("alice", ("dev", "system:authenticated"), "7", (("scopes", ("a",)),))
    assert await checks.identify(None, "bearer good") == alice
    assert await checks.identify(None, "Bearer bad") is None
    assert await checks.identify(None, "Bearer bad") is None
    assert len(api.asked) == 2
    clock.at += REVIEW_NO_S
    api.tokens["bad"] = ALICE
    assert await checks.identify(None, "Bearer bad") == alice
    clock.at += REVIEW_YES_S
    del api.tokens["good"]
    assert await checks.identify(None, "Bearer good") is None


async def test_rights_are_those_of_the_very_node_verb_and_subresource() -> None:
    checks, api, _ = reviews()
    alice = Identity("alice", ("dev",), "7")
    assert await checks.allowed(alice, "get", "proxy", NODE)
    assert not await checks.allowed(alice, "create", "proxy", NODE)
    assert not await checks.allowed(alice, "get", "stats", NODE)
    assert not await checks.allowed(alice, "get", "proxy", "dev2")
    assert api.asked[0]["spec"] == {
        "user": "alice",
        "groups": ["dev"],
        "uid": "7",
        "resourceAttributes": {
            "verb": "get", "version": "v1", "resource": "nodes", "subresource": "proxy", "name": NODE,
        },
    }  # fmt: skip
    assert ACCESS_REVIEWS.plural == "subjectaccessreviews"


async def test_masters_need_no_review_and_an_answer_that_failed_is_not_kept() -> None:
    checks, api, _ = reviews()
    assert await checks.allowed(Identity("root", ("system:masters",)), "create", "proxy", NODE)
    api.broken = True
    assert await checks.identify(None, "Bearer good") is None
    assert checks.failures == 1
    api.broken = False
    assert await checks.identify(None, "Bearer good") is not None


async def test_only_so_many_answers_are_kept() -> None:
    checks, _, _ = reviews()
    for n in range(REVIEW_CACHE_MAX + 10):
        await checks.identify(None, f"Bearer {n}")
    assert len(checks._tokens) == REVIEW_CACHE_MAX


@pytest.mark.parametrize("status", [None, {}, {"authenticated": True}, {"authenticated": "yes", "user": ALICE},
                                    {"authenticated": True, "user": {"username": ""}}])  # fmt: skip
def test_a_review_that_says_nobody_is_nobody(status: Any) -> None:
    assert of_review({"status": status}) is None


# --- over the wire ----------------------------------------------------------------------------------------------------


def ask(site: Site, path: str, *, method: str = "GET", token: str = "", certificate: str = "") -> tuple[int, str]:
    tls = ssl.create_default_context(cafile=str(site.data / "ca.crt"))
    if certificate:
        tls.load_cert_chain(site.data / f"{certificate}.crt", site.data / f"{certificate}.key")
    connection = http.client.HTTPSConnection(*site.address, timeout=60, context=tls)
    try:
        connection.request(method, path, headers={"Authorization": f"Bearer {token}"} if token else {})
        reply = connection.getresponse()
        return reply.status, reply.read().decode()
    finally:
        connection.close()


@pytest.fixture
def people(site: Site) -> Site:
    """alice has a token and may read; bob has a certificate of the right authority and may nothing."""
    authority = pki.load(site.data / "ca.crt", site.data / "ca.key")
    assert authority is not None
    bob = pki.issue(authority, "bob", ("dev",), (), 1, pki.utc_now())
    pki.save(bob, site.data / "bob.crt", site.data / "bob.key")
    site.reviews.tokens["alices"] = {"username": "alice", "groups": []}
    site.reviews.rights |= {("alice", "get", below, NODE) for below in ("proxy", "stats", "metrics")}
    return site


@pytest.mark.parametrize("path", ["/healthz", "/pods", "/containerLogs/default/web/a", "/exec/default/web/a", "/none"])
def test_nobody_is_refused_everywhere(people: Site, path: str) -> None:
    before = people.endpoints.snapshot()["unauthorized"]
    assert ask(people, path) == (401, "Unauthorized")
    assert ask(people, path, token="wrong") == (401, "Unauthorized")
    assert people.endpoints.snapshot()["unauthorized"] == before + 2


def test_a_certificate_without_the_right_is_refused_and_told_what_it_lacks(people: Site) -> None:
    said = ask(people, "/containerLogs/default/web/a", certificate="bob")
    assert said == (403, "Forbidden (user=bob, verb=get, resource=nodes, subresource=proxy)")


def test_who_may_see_pods_alone_may_see_them(people: Site) -> None:
    """The rights that a kubelet of 1.33 and later gives one by one; nodes/proxy would also be a shell in every pod."""
    people.reviews.tokens["carols"] = {"username": "carol", "groups": []}
    people.reviews.rights |= {("carol", "get", below, NODE) for below in ("pods", "healthz")}
    assert ask(people, "/pods", token="carols")[0] == 200
    assert ask(people, "/healthz", token="carols") == (200, "ok")
    assert ask(people, "/stats/summary", token="carols")[0] == 403
    assert ask(people, "/containerLogs/default/web/a", token="carols")[0] == 403
    refused = ask(people, "/pods", certificate="bob")
    assert refused == (403, "Forbidden (user=bob, verb=get, resource=nodes, subresource=pods,proxy)")


def test_a_certificate_of_another_authority_gets_nowhere(people: Site, tmp_path: Path) -> None:
    other = pki.new_authority("other", 1, pki.utc_now())
    mallory = pki.issue(other, "mallory", ("system:masters",), (), 1, pki.utc_now())
    pki.save(mallory, people.data / "mallory.crt", people.data / "mallory.key")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        ask(people, "/healthz", certificate="mallory")


def test_an_older_tls_is_refused(people: Site) -> None:
    older = ssl.create_default_context(cafile=str(people.data / "ca.crt"))
    older.maximum_version = ssl.TLSVersion.TLSv1_2
    connection = http.client.HTTPSConnection(*people.address, timeout=60, context=older)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        connection.connect()


def test_who_may_read_may_not_run_not_even_by_get(people: Site) -> None:
    assert ask(people, "/healthz", token="alices") == (200, "ok")
    for method in ("GET", "POST"):
        code, said = ask(people, "/exec/default/web/a?command=id&output=1", method=method, token="alices")
        assert code == 403
        assert "verb=create" in said


def test_the_api_servers_own_certificate_may_everything_without_a_review(people: Site) -> None:
    asked = len(people.reviews.asked)
    assert ask(people, "/containerLogs/default/web/a", certificate="node-client") == (200, "")
    assert len(people.reviews.asked) == asked


def test_stats_and_metrics_are_those_of_the_device(people: Site) -> None:
    code, said = ask(people, "/stats/summary", token="alices")
    assert code == 200
    assert json.loads(said)["node"]["nodeName"] == "dev1"
    code, said = ask(people, "/metrics/resource", token="alices")
    assert code == 200
    assert 'container_cpu_usage_seconds_total{container="a",namespace="default",pod="web"} 0.9 1767225600000\n' in said
    assert "node_memory_working_set_bytes 4096 1767225600000\n" in said
    assert 'container_start_time_seconds{container="a",namespace="default",pod="web"} 1767225601\n' in said
    code, said = ask(people, "/pods", token="alices")
    assert (code, json.loads(said)["kind"]) == (200, "PodList")
