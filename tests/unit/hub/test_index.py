"""Which change concerns which device, and that unchanged objects keep their bytes."""

from __future__ import annotations

from typing import Any

from skerry.limits import OBJECT_BYTES_MAX
from skerry.model.desired import Kind
from skerry_hub.edgecontroller.index import Index
from skerry_hub.edgecontroller.target import Reference
from skerry_hub.ports import Obj
from unit.hub.manifests import api_config, api_pod

WEB = ("default", "web")


class Site:
    def __init__(self) -> None:
        self.changed: list[str] = []
        self.configs: dict[Reference, Obj] = {}
        self.index = Index(self.changed.append, self.configs.get)

    def config(self, name: str, kind: Kind = Kind.CONFIG_MAP, **more: Any) -> None:
        ref = Reference(kind, "default", name)
        self.configs[ref] = api_config(name, kind is Kind.SECRET, **more)
        self.index.config_changed(kind, ("default", name))

    def forget(self, name: str, kind: Kind = Kind.CONFIG_MAP) -> None:
        del self.configs[Reference(kind, "default", name)]
        self.index.config_changed(kind, ("default", name))

    def told(self) -> list[str]:
        told, self.changed[:] = list(self.changed), []
        return told

    def keys(self, node: str = "pi") -> set[str]:
        return {uid for _, uid in self.index.chosen(node).objects}


def test_a_pod_concerns_its_node_and_only_it() -> None:
    site = Site()
    site.index.pod_changed(WEB, api_pod())
    assert site.told() == ["pi"]
    assert (site.keys(), site.keys("other")) == ({"uid-web"}, set())


def test_a_status_concerns_nobody() -> None:
    site = Site()
    site.index.pod_changed(WEB, api_pod())
    before = site.index.chosen("pi").objects
    site.told()
    now = api_pod()
    now["status"], now["metadata"]["resourceVersion"] = {"phase": "Running"}, "99"
    site.index.pod_changed(WEB, now)
    assert site.told() == []
    after = site.index.chosen("pi").objects
    assert all(after[key] is before[key] for key in before)
    assert site.index.pod("uid-web") is now


def test_named_objects_travel_as_they_come_change_and_go() -> None:
    site = Site()
    site.index.pod_changed(WEB, api_pod())
    site.told()
    site.config("stranger")
    assert site.told() == []
    site.config("conf", data={"a": "1"})
    site.config("pass", Kind.SECRET, data={"p": "eA=="})
    assert site.told() == ["pi", "pi"]
    assert site.keys() == {"uid-web", "uid-conf", "uid-pass"}
    site.config("conf", data={"a": "1"})
    assert site.told() == [], "the same again"
    site.config("conf", data={"a": "2"})
    assert site.told() == ["pi"]
    site.forget("conf")
    assert site.told() == ["pi"]
    assert site.keys() == {"uid-web", "uid-pass"}


def test_a_pull_secret_travels_as_it_comes_changes_and_goes() -> None:
    site = Site()
    site.index.pod_changed(WEB, api_pod(imagePullSecrets=[{"name": "keys"}]))
    site.told()
    for _ in range(2):
        site.config("keys", Kind.SECRET, type="kubernetes.io/dockercfg", data={".dockercfg": "e30="})
        assert site.told() == ["pi"]
        assert site.keys() == {"uid-web", "uid-keys"}
        site.forget("keys", Kind.SECRET)
        assert site.told() == ["pi"]
        assert site.keys() == {"uid-web"}


def test_a_shared_object_concerns_every_node_that_uses_it_once() -> None:
    site = Site()
    for name, node in (("a", "n1"), ("b", "n2"), ("c", "n2")):
        site.index.pod_changed(("default", name), api_pod(name, node))
    site.told()
    site.config("conf")
    assert site.told() == ["n1", "n2"]


def test_an_object_goes_with_the_last_pod_that_names_it() -> None:
    site = Site()
    site.config("conf")
    for name in ("a", "b"):
        site.index.pod_changed(("default", name), api_pod(name))
    site.index.pod_changed(("default", "a"), None)
    assert site.keys() == {"uid-b", "uid-conf"}
    site.index.pod_changed(("default", "b"), api_pod("b", volumes=[]))
    assert site.keys() == {"uid-b"}
    site.told()
    site.config("conf", data={"x": "y"})
    assert site.told() == []


def test_a_pod_made_anew_under_its_name_is_another_pod() -> None:
    site = Site()
    site.index.pod_changed(WEB, api_pod())
    site.told()
    again = api_pod(node="other")
    again["metadata"]["uid"] = "uid-2"
    site.index.pod_changed(WEB, again)
    assert site.told() == ["pi", "other"]
    assert (site.keys(), site.keys("other")) == (set(), {"uid-2"})
    assert site.index.pod("uid-web") is None


def test_a_pod_that_is_gone_twice_is_gone() -> None:
    site = Site()
    site.index.pod_changed(WEB, api_pod())
    site.index.pod_changed(WEB, None)
    site.index.pod_changed(WEB, None)
    assert site.keys() == set()
    assert site.told() == ["pi", "pi"]


def test_a_pod_that_outgrows_the_bound_goes_on_as_it_was_and_is_told() -> None:
    site = Site()
    site.index.pod_changed(WEB, api_pod())
    before = site.index.chosen("pi").objects
    huge = api_pod()
    huge["metadata"]["annotations"]["big"] = "x" * OBJECT_BYTES_MAX
    site.index.pod_changed(WEB, huge)
    got = site.index.chosen("pi")
    assert got.objects == before
    assert "OBJECT_BYTES_MAX" in got.refused["uid-web"]
    site.index.pod_changed(WEB, api_pod())
    assert site.index.chosen("pi").refused == {}


def test_what_no_api_should_hold_costs_only_its_own_place() -> None:
    site = Site()
    site.index.pod_changed(WEB, api_pod())
    site.index.pod_changed(("default", "odd"), api_pod("odd", volumes=[{"name": "v", "projected": "text"}]))
    site.config("conf", data="text")
    got = site.index.chosen("pi")
    assert {uid for _, uid in got.objects} == {"uid-web"}
    assert set(got.refused) == {"uid-odd", "uid-web"}
