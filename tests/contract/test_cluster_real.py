"""The Cluster contract with the hub's own client against the embedded API server, on asyncio and uvloop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from contract.cluster import ClusterContract, config
from skerry.errors import ConfigInvalid
from skerry_hub.kube.client import KubeClient
from skerry_hub.kube.config import load
from skerry_hub.ports import CONFIG_MAPS, PODS, ClusterAway, Forbidden, Invalid
from unit.apiserver.serving import Client, running

LOOPS = ("asyncio", "uvloop")


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Client]:
    with running(tmp_path / "api") as client:
        yield client


@pytest.fixture
async def cluster(api: Client) -> AsyncIterator[KubeClient]:
    async with KubeClient(load(api.at.kubeconfig)) as client:
        yield client


class TestKubeClient(ClusterContract):
    async def test_a_large_object_comes_whole_through_a_watch(self, cluster: KubeClient) -> None:
        start = (await cluster.list(CONFIG_MAPS)).resource_version
        await cluster.create(CONFIG_MAPS, "default", config("large", a="x" * 900_000))
        async for event in cluster.watch(CONFIG_MAPS, start, timeout_s=10):
            assert len(event.obj["data"]["a"]) == 900_000
            break

    async def test_what_the_api_will_never_take_is_invalid(self, cluster: KubeClient) -> None:
        with pytest.raises(Invalid, match=r"spec\.containers"):
            await cluster.create(PODS, "default", {"metadata": {"name": "bad"}, "spec": {}})

    async def test_names_from_outside_stay_inside_their_path(self, cluster: KubeClient) -> None:
        await cluster.create(CONFIG_MAPS, "default", config("safe"))
        with pytest.raises((Invalid, Exception)) as why:
            await cluster.delete(CONFIG_MAPS, "default", "../../namespaces/default/configmaps/safe")
        assert why.type.__name__ in ("NotFound", "Invalid")
        assert await cluster.get(CONFIG_MAPS, "default", "safe")


async def test_a_token_works_as_well_and_a_wrong_one_is_forbidden(api: Client) -> None:
    access = replace(load(api.at.kubeconfig), certificate="", key="", token=api.token)
    async with KubeClient(access) as client:
        await client.list(PODS)
    async with KubeClient(replace(access, token="wrong")) as client:
        with pytest.raises(Forbidden):
            await client.list(PODS)


async def test_a_token_file_is_read_again_when_it_changes(api: Client, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("wrong\n")
    access = replace(load(api.at.kubeconfig), certificate="", key="", token_file=file)
    async with KubeClient(access) as client:
        with pytest.raises(Forbidden):
            await client.list(PODS)
        await asyncio.sleep(0.02)
        file.write_text(api.token)
        await client.list(PODS)


async def test_an_authority_that_is_not_ours_is_not_believed(api: Client) -> None:
    async with KubeClient(replace(load(api.at.kubeconfig), ca="")) as client:
        with pytest.raises(ClusterAway, match="certificate"):
            await client.list(PODS)


async def test_nobody_there_is_away_in_one_line() -> None:
    from skerry_hub.kube.config import Access

    async with KubeClient(Access("http://127.0.0.1:1")) as client:
        with pytest.raises(ClusterAway) as why:
            await client.list(PODS)
        assert "\n" not in str(why.value)


def test_certificates_that_are_none_are_named(api: Client) -> None:
    with pytest.raises(ConfigInvalid, match="certificates"):
        KubeClient(replace(load(api.at.kubeconfig), certificate="nonsense"))
