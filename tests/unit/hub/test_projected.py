"""Volumes with a service account's token, from the API's pod to the files that a device mounts."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from skerry.model.desired import Kind, Object
from skerry.model.manifest import RefusedPod, read_config, read_pod
from skerry.model.pod import ObjectVolume, Pod
from skerry.plan import resolve
from skerry.wire.codec import decode
from skerry_hub.edgecontroller.index import Index
from skerry_hub.edgecontroller.projected import Missing, TokenSource
from skerry_hub.edgecontroller.target import Reference
from skerry_hub.ports import Obj
from unit.hub.manifests import TOKEN, api_config, api_pod

OWN = {"serviceAccountToken": {"path": "vault/token", "audience": "vault", "expirationSeconds": 7200}}
POD_NAME = {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}
CA = {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}}


class Site:
    def __init__(self) -> None:
        self.told: list[str] = []
        self.configs: dict[Reference, Obj] = {}
        self.tokens: dict[TokenSource, str] = {}
        self.refused = False
        self.index = Index(self.told.append, self.configs.get, None, self._token)
        self.put(api_config("kube-root-ca.crt", data={"ca.crt": "PEM", "more": "x"}))

    def _token(self, uid: str, source: TokenSource) -> str:
        assert uid == "uid-web"
        if source not in self.tokens:
            raise Missing("token: not yet" if not self.refused else "token: no", self.refused)
        return self.tokens[source]

    def put(self, config: Obj) -> None:
        name = ("default", config["metadata"]["name"])
        self.configs[Reference(Kind.CONFIG_MAP, *name)] = config
        self.index.config_changed(Kind.CONFIG_MAP, name)

    def pod(self, pod: Obj) -> None:
        self.index.pod_changed(("default", "web"), pod)

    def of(self, kind: Kind) -> list[Object]:
        return [o for (k, _), o in self.index.chosen("pi").objects.items() if k is kind]

    def on_device(self) -> Pod | RefusedPod:
        (obj,) = self.of(Kind.POD)
        return read_pod(obj, decode(obj.body), secret_env=True)

    def files(self, volume: str) -> dict[str, tuple[bytes, int]]:
        """As the device would mount them."""
        pod = self.on_device()
        assert isinstance(pod, Pod)
        (found,) = (v for v in pod.volumes if v.name == volume)
        assert isinstance(found, ObjectVolume)
        read = [read_config(o, decode(o.body)) for o in self.of(Kind.SECRET)]
        have = {(c.name, c.secret): c for c in read}
        made = resolve.files(found, lambda name, secret: have.get((name, secret)))
        return {f.path: (f.data, f.mode) for f in made.files}


@pytest.fixture
def site() -> Site:
    return Site()


def own_volume(*sources: Any, mode: int = 0o444) -> dict[str, Any]:
    mount = {"name": "id", "mountPath": "/id"}
    return {
        "containers": [{"name": "main", "image": "busybox:1", "volumeMounts": [mount]}],
        "volumes": [{"name": "id", "projected": {"defaultMode": mode, "sources": list(sources)}}],
    }


def test_a_pod_that_asks_for_nothing_gets_none(site: Site) -> None:
    site.pod(api_pod())
    assert site.index.tokens(("default", "web")) == ("pi", "uid-web", ())
    assert site.of(Kind.SECRET) == []
    pod = site.on_device()
    assert isinstance(pod, Pod)
    assert [v.name for v in pod.volumes] == ["conf"]


def test_who_says_automount_has_the_token_where_every_client_looks(site: Site) -> None:
    api = TokenSource("", 3607)
    site.tokens[api] = "jwt"
    site.pod(api_pod(automountServiceAccountToken=True))
    assert site.index.tokens(("default", "web")) == ("pi", "uid-web", (api,))
    assert site.files(f"skerry-{TOKEN}") == {"token": (b"jwt", 0o644), "ca.crt": (b"PEM", 0o644)}
    pod = site.on_device()
    assert isinstance(pod, Pod)
    mounts = {m.volume: m.path for m in pod.containers[0].mounts}
    assert mounts[f"skerry-{TOKEN}"] == "/var/run/secrets/kubernetes.io/serviceaccount"


def test_a_volume_that_somebody_wrote_is_made_as_it_says(site: Site) -> None:
    site.tokens[TokenSource("vault", 7200)] = "jwt"
    site.pod(api_pod(**own_volume(OWN, POD_NAME, CA)))
    assert site.files("id") == {
        "vault/token": (b"jwt", 0o444), "namespace": (b"default", 0o444), "ca.crt": (b"PEM", 0o444),
    }  # fmt: skip
    assert site.of(Kind.CONFIG_MAP) == [], "what takes part in a volume does not travel by itself"


def test_a_new_token_or_authority_changes_the_secret_and_not_the_pod(site: Site) -> None:
    source = TokenSource("vault", 7200)
    site.tokens[source] = "one"
    site.pod(api_pod(**own_volume(OWN, CA)))
    before = site.of(Kind.POD)
    site.tokens[source] = "two"
    site.told.clear()
    site.put(api_config("kube-root-ca.crt", data={"ca.crt": "NEW"}))
    assert site.told == ["pi"]
    assert {path: data for path, (data, _) in site.files("id").items()} == {"vault/token": b"two", "ca.crt": b"NEW"}
    assert site.of(Kind.POD) == before


def test_what_is_missing_is_told_and_takes_nothing_from_the_device(site: Site) -> None:
    site.pod(api_pod(**own_volume(OWN, CA)))
    assert site.of(Kind.SECRET) == []
    assert site.index.chosen("pi").refused == {"uid-web": "volume id: token: not yet"}
    source = TokenSource("vault", 7200)
    site.tokens[source] = "jwt"
    had = site.files("id")
    del site.configs[Reference(Kind.CONFIG_MAP, "default", "kube-root-ca.crt")]
    assert site.index.chosen("pi").refused == {"uid-web": "volume id: ConfigMap kube-root-ca.crt is not there"}
    assert site.files("id") == had


def test_a_refused_token_is_left_out_where_a_pod_may_ask_by_habit_and_told(site: Site) -> None:
    site.refused = True
    site.pod(api_pod(automountServiceAccountToken=True))
    assert site.files(f"skerry-{TOKEN}") == {"ca.crt": (b"PEM", 0o644)}
    assert site.index.chosen("pi").refused == {"uid-web": f"volume {TOKEN}: token: no"}
    site.pod(api_pod(**own_volume(OWN, CA)))
    assert site.of(Kind.SECRET) == []
    assert site.index.chosen("pi").refused == {"uid-web": "volume id: token: no"}


@pytest.mark.parametrize(
    "source",
    [
        {"clusterTrustBundle": {"name": "x", "path": "p"}},
        {"configMap": {"name": "c", "items": [{"key": "k", "path": "p", "mode": 0o600}]}},
        {"downwardAPI": {"items": [{"path": "cpu", "resourceFieldRef": {"resource": "limits.cpu"}}]}},
    ],
)
def test_a_source_that_cannot_be_made_is_refused_by_the_device_with_its_path(site: Site, source: Obj) -> None:
    site.pod(api_pod(**own_volume(OWN, source)))
    refused = site.on_device()
    assert isinstance(refused, RefusedPod)
    assert "spec.volumes[0].projected" in str(refused.refused)


def test_values_are_whole(site: Site) -> None:
    """Whatever bytes a ConfigMap has."""
    raw = bytes(range(256))
    config = api_config("kube-root-ca.crt") | {"data": {}, "binaryData": {"ca.crt": base64.b64encode(raw).decode()}}
    site.put(config)
    site.tokens[TokenSource("vault", 7200)] = "jwt"
    site.pod(api_pod(**own_volume(OWN, CA)))
    assert site.files("id")["ca.crt"][0] == raw
