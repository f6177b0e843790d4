"""ConfigMaps and Secrets by name: what a Secret holds is read only when it is asked for, and kept by nobody."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import Any

import pytest

from skerry.errors import NotOpened, Refused
from skerry.loops.configs import Configs
from skerry.model.desired import Kind, Object, object_of
from skerry.model.pod import ObjectVolume, Pod
from skerry.plan.resolve import MISSING, files
from skerry.wire import sealed
from skerry.wire.codec import encode
from skerry.wire.cose import key_id
from skerry.world.sodium import Sodium

SECRET = bytes(range(32))
PUBLIC = Sodium().exchange_public(SECRET)
CANARY = b"nobody-may-read-this"


def body(name: str, **more: Any) -> bytes:
    return encode({"metadata": {"name": name, "namespace": "default", "uid": f"u-{name}"}, **more})


CONFIG = object_of(Kind.CONFIG_MAP, "u-conf", body("conf", data={"a": "1"}))
CLEAR = object_of(Kind.SECRET, "u-clear", body("clear", data={"a": CANARY}))
PLAIN = object_of(Kind.SECRET, "u-creds", body("creds", data={"a": CANARY}))
SEALED = object_of(Kind.SECRET, "u-creds", sealed.seal(Sodium(), PUBLIC, bytes(32), PLAIN))


class Site:
    def __init__(self, *objects: Object, enrolled: bool = True) -> None:
        self.objects, self.opened = objects, 0
        whole = [(o.key, o) for o in objects]
        self.configs = Configs(lambda: whole, lambda: 1, self.unseal if enrolled else None)

    def unseal(self, body: bytes) -> bytes:
        self.opened += 1
        return sealed.unseal(Sodium(), {key_id(PUBLIC): SECRET}, body)


def test_a_secret_is_opened_each_time_that_it_is_asked_for_and_not_before() -> None:
    site = Site(CONFIG, CLEAR, SEALED)
    assert site.configs.find("default", "conf", False) is not None
    assert site.configs.find("default", "creds", False) is None
    assert site.opened == 0
    for count in (1, 2):
        found = site.configs.find("default", "creds", True)
        assert found is not None
        assert found.data == (("a", CANARY),)
        assert CANARY.decode() not in repr(found)
        assert site.opened == count
    clear = site.configs.find("default", "clear", True)
    assert clear is not None
    assert clear.data == (("a", CANARY),)


def test_nothing_of_it_is_kept() -> None:
    site = Site(SEALED)
    assert site.configs.find("default", "creds", True) is not None
    gc.collect()
    kept = [data for _, data in site.configs._names.values()] + [data for _, data in site.configs._read.values()]
    assert [one.data for one in kept if one is not None] == [(), ()]


FOREIGN = object_of(
    Kind.SECRET, "u-creds", sealed.seal(Sodium(), Sodium().exchange_public(bytes(range(1, 33))), bytes(32), PLAIN)
)


@pytest.mark.parametrize("optional", [True, False])
@pytest.mark.parametrize(
    ("site", "problem"),
    [
        (Site(SEALED, enrolled=False), "Secret creds is sealed, and this device is not enrolled"),
        (Site(FOREIGN), "Secret creds is sealed to another key than this device has; its hub sends it anew"),
    ],
)
def test_a_pod_waits_with_a_reason_for_what_cannot_be_opened(site: Site, problem: str, optional: bool) -> None:
    """An optional one too: it is there, and its absence is not what the pod was made for."""
    with pytest.raises(NotOpened):
        site.configs.find("default", "creds", True)
    volume = ObjectVolume("v", "creds", True, optional=optional)
    with pytest.raises(Refused, match=problem) as found:
        files(volume, lambda name, secret: site.configs.find("default", name, secret))
    assert found.value.reason == MISSING, "it is tried again as soon as the set changes"


def test_which_pull_secrets_a_pod_has_is_told_without_opening_any() -> None:
    site, pod = Site(CLEAR, SEALED), Pod("u", "default", "p", (), pull_secrets=("creds", "gone"))
    assert site.configs.keys(pod) == (("creds", SEALED.digest), ("gone", b""))
    assert site.configs.keys(replace(pod, namespace="other")) == (("creds", b""), ("gone", b""))
    assert site.opened == 0


def test_what_is_no_secret_at_all_is_none() -> None:
    broken = object_of(Kind.SECRET, "u-x", b"\xff")
    assert Site(broken).configs.find("default", "x", True) is None
