"""When tokens are asked for, what is asked, and what is told while there is none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from skerry.limits import API_BACKOFF_S
from skerry.world.clock import SystemClock
from skerry_hub.edgecontroller.projected import Missing, TokenSource
from skerry_hub.edgecontroller.tokens import FORBIDDEN, NOT_YET, Tokens
from skerry_hub.kube.client import KubeClient
from skerry_hub.kube.config import load
from skerry_hub.limits import TOKEN_AGE_S_MAX, TOKEN_LIFE_PART, TOKEN_LOOK_S, TOKEN_WAIT_S
from skerry_hub.ports import ClusterAway, ClusterError, Forbidden, NotFound, Obj, Resource
from unit.apiserver.serving import running
from unit.hub.fakes import Dice, ManualClock, ScriptedCluster
from unit.hub.manifests import api_pod

API, VAULT = TokenSource("", 3607), TokenSource("vault", 7200)


class Issuer(ScriptedCluster):
    def __init__(self) -> None:
        super().__init__()
        self.trouble: ClusterError | None = None
        self.asked: list[tuple[str, Obj]] = []

    async def create(
        self, resource: Resource, namespace: str, obj: Obj, *, name: str = "", subresource: str = ""
    ) -> Obj:
        self.asked.append((f"{resource.plural}/{namespace}/{name}/{subresource}", obj))
        if self.trouble is not None:
            raise self.trouble
        return {**obj, "status": {"token": f"jwt-{len(self.asked)}"}}


class Site:
    def __init__(self) -> None:
        self.api, self.clock, self.told = Issuer(), ManualClock(), list[str]()
        self.pods: dict[str, Obj] = {"uid-web": api_pod(serviceAccountName="robot")}
        self.tokens = Tokens(
            self.api, self.clock, Dice(), lambda _line: None, pod=self.pods.get, changed=self.told.append
        )

    def token(self, source: TokenSource = API) -> str:
        try:
            return self.tokens.token("uid-web", source)
        except Missing as why:
            return str(why)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    task = asyncio.ensure_future(made.tokens.run())
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_each_source_is_asked_for_once_and_bound_to_the_pod(site: Site) -> None:
    site.tokens.want("pi", "uid-web", [API, VAULT])
    assert site.tokens.pending("pi")
    assert not site.tokens.pending("other")
    await site.clock.advance(1)
    site.tokens.want("pi", "uid-web", [API, VAULT])  # the pod's status changed
    await site.clock.advance(TOKEN_LOOK_S)
    assert [where for where, _ in site.api.asked] == ["serviceaccounts/default/robot/token"] * 2
    specs: list[Any] = [request["spec"] for _, request in site.api.asked]
    assert [(s["audiences"], s["expirationSeconds"]) for s in specs] == [([], 3607), (["vault"], 7200)]
    assert specs[0]["boundObjectRef"] == {"kind": "Pod", "apiVersion": "v1", "name": "web", "uid": "uid-web"}
    assert (site.token(API), site.token(VAULT)) == ("jwt-1", "jwt-2")
    assert not site.tokens.pending("pi")
    assert set(site.told) == {"pi"}


async def test_the_next_one_is_asked_for_in_time_and_the_old_one_serves_until_it_is_there(site: Site) -> None:
    site.tokens.want("pi", "uid-web", [API])
    await site.clock.advance(1)
    site.api.trouble = ClusterAway("gone")
    await site.clock.advance(TOKEN_LIFE_PART[1] * 3607 + 2 * TOKEN_LOOK_S)
    assert len(site.api.asked) > 1
    assert site.token() == "jwt-1"
    assert not site.tokens.pending("pi")
    site.api.trouble = None
    site.told.clear()
    await site.clock.advance(2 * API_BACKOFF_S[1])
    assert site.token() == f"jwt-{len(site.api.asked)}"
    assert site.told == ["pi"]


async def test_one_that_lives_for_ever_is_changed_every_day(site: Site) -> None:
    site.tokens.want("pi", "uid-web", [TokenSource("", 365 * 86_400)])
    await site.clock.advance(1)
    await site.clock.advance(TOKEN_AGE_S_MAX - 2 * TOKEN_LOOK_S)
    assert len(site.api.asked) == 1
    await site.clock.advance(4 * TOKEN_LOOK_S)
    assert len(site.api.asked) == 2


@pytest.mark.parametrize(
    ("trouble", "said"), [(Forbidden("no"), FORBIDDEN), (NotFound('serviceaccounts "robot" not found'), "not found")]
)
async def test_a_refusal_is_told_at_once_and_asked_again(site: Site, trouble: ClusterError, said: str) -> None:
    site.api.trouble = trouble
    site.tokens.want("pi", "uid-web", [API])
    await site.clock.advance(1)
    assert said in site.token()
    assert not site.tokens.pending("pi"), "the rest of the set does not wait"
    site.api.trouble = None
    await site.clock.advance(2 * API_BACKOFF_S[1])
    assert site.token().startswith("jwt-")


async def test_an_api_that_does_not_answer_holds_up_a_set_for_a_moment(site: Site) -> None:
    site.api.trouble = ClusterAway("gone")
    site.tokens.want("pi", "uid-web", [API])
    await site.clock.advance(TOKEN_WAIT_S / 2)
    assert site.tokens.pending("pi")
    await site.clock.advance(TOKEN_WAIT_S)
    assert not site.tokens.pending("pi")
    assert NOT_YET in site.token()
    assert site.told == ["pi"]


async def test_what_is_not_wanted_any_more_is_not_asked_for(site: Site) -> None:
    site.tokens.want("pi", "uid-web", [API])
    site.tokens.want("pi", "uid-web", [])
    site.tokens.want("other", "uid-gone", [API])
    await site.clock.advance(1)
    assert site.api.asked == [], "one pod asks for none, the other is gone"
    assert not site.tokens.pending("other")
    site.tokens.want("pi", "uid-web", [API])
    site.tokens.forget("pi")
    await site.clock.advance(1)
    assert site.api.asked == []


async def test_the_embedded_api_refuses_at_once_and_is_not_waited_for(tmp_path: Path) -> None:
    with running(tmp_path) as behind:
        async with KubeClient(load(behind.at.kubeconfig)) as client:
            pod = {"uid-web": api_pod()}
            tokens = Tokens(client, SystemClock(), Dice(), lambda _line: None, pod=pod.get, changed=lambda _node: None)
            tokens.want("pi", "uid-web", [API])
            task = asyncio.ensure_future(tokens.run())
            try:
                late = time.monotonic() + 30
                while tokens.pending("pi") and time.monotonic() < late:
                    await asyncio.sleep(0.02)
                with pytest.raises(Missing) as why:
                    tokens.token("uid-web", API)
                assert why.value.refused
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
