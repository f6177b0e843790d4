"""What a hub that protects makes of Secrets: sealed for each device, once, and told where that cannot be."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from skerry.errors import NotOpened
from skerry.limits import OBJECT_BYTES_MAX
from skerry.model.desired import Kind, Object
from skerry.wire import sealed
from skerry.wire.codec import decode
from skerry.wire.cose import key_id
from skerry.wire.message import Delta
from skerry.world.sodium import Sodium
from skerry_hub.cloudhub.session import HubSession, Send
from skerry_hub.crypto import OpenSsl
from skerry_hub.edgecontroller.controller import EdgeController
from skerry_hub.edgecontroller.index import Index
from skerry_hub.edgecontroller.seals import NO_KEY, Seals
from skerry_hub.edgecontroller.target import Reference
from skerry_hub.enrolment import records
from skerry_hub.enrolment.signer import DeviceIdentities
from skerry_hub.ports import SECRETS as SECRET_OBJECTS
from skerry_hub.ports import Obj, WatchType
from skerry_hub.sets import KnownSet, Target
from unit.enrolment.test_signer import AUTHORITY
from unit.hub import test_controller
from unit.hub.fakes import Dice
from unit.hub.manifests import api_config, api_pod
from unit.hub.session_site import hello

KEY = b"shared by all replicas of a hub."
CANARY = b"nobody-may-read-this"
SECRETS = {"pi": bytes(range(32)), "other": bytes(range(1, 33))}
PASS = (Kind.SECRET, "uid-pass")


class Counting(OpenSsl):
    def __init__(self) -> None:
        self.sealed = 0

    def seal(self, key: bytes, nonce: bytes, plain: bytes, about: bytes) -> bytes:
        self.sealed += 1
        return super().seal(key, nonce, plain, about)


class Site:
    """One process of a hub."""

    def __init__(self, *nodes: str) -> None:
        self.crypto, self.secrets = Counting(), dict(SECRETS)
        self.configs: dict[Reference, Obj] = {}
        self.seals = Seals(self.crypto, KEY, self.public, lambda _name: "")
        self.index = Index(lambda _node: None, self.configs.get, self.seals)
        for node in nodes:
            pod = api_pod(f"on-{node}", node)
            self.index.pod_changed(("default", f"on-{node}"), pod)
        self.config("all", data={"plain": "text"})
        self.config("pass", Kind.SECRET, data={"p": base64.b64encode(CANARY).decode()})

    def public(self, node: str) -> bytes:
        return OpenSsl().exchange_public(self.secrets[node]) if node in self.secrets else b""

    def config(self, name: str, kind: Kind = Kind.CONFIG_MAP, **more: Any) -> None:
        self.configs[Reference(kind, "default", name)] = api_config(name, kind is Kind.SECRET, **more)
        self.index.config_changed(kind, ("default", name))

    def given(self, node: str = "pi") -> Object:
        return self.index.chosen(node).objects[PASS]


def opened(o: Object, node: str = "pi") -> Any:
    secret = SECRETS[node]
    return decode(sealed.unseal(Sodium(), {key_id(OpenSsl().exchange_public(secret)): secret}, o.body))


def test_a_device_gets_its_secrets_sealed_and_its_config_maps_in_clear() -> None:
    chosen = Site("pi").index.chosen("pi").objects
    assert opened(chosen[PASS])["data"] == {"p": CANARY}
    assert not any(CANARY in o.body or CANARY in repr(o).encode() for o in chosen.values())
    assert decode(chosen[Kind.CONFIG_MAP, "uid-all"].body)["data"] == {"plain": "text"}


def test_a_pull_secret_is_sealed_like_any_other_with_its_type() -> None:
    site = Site()
    site.index.pod_changed(("default", "on-pi"), api_pod("on-pi", imagePullSecrets=[{"name": "keys"}]))
    kind = "kubernetes.io/dockerconfigjson"
    site.config("keys", Kind.SECRET, type=kind, data={".dockerconfigjson": base64.b64encode(CANARY).decode()})
    o = site.index.chosen("pi").objects[Kind.SECRET, "uid-keys"]
    assert CANARY not in o.body
    assert kind.encode() not in o.body
    assert (opened(o)["type"], opened(o)["data"]) == (kind, {".dockerconfigjson": CANARY})


def test_each_device_has_its_own_and_no_other_opens_it() -> None:
    site = Site("pi", "other")
    mine, theirs = site.given("pi"), site.given("other")
    assert mine.digest != theirs.digest
    assert opened(theirs, "other")["data"] == {"p": CANARY}
    with pytest.raises(NotOpened):
        opened(theirs, "pi")


def test_a_restarted_hub_and_another_replica_give_the_very_same_bytes() -> None:
    """So nothing is sent again: the digests in the set are those that the device tells."""
    one, two = Site("pi"), Site("pi")
    assert one.given() == two.given()
    assert one.given() is not two.given()


def test_it_is_sealed_once_while_nothing_changes() -> None:
    site = Site("pi")
    first = site.given()
    site.config("all", data={"plain": "another"})
    assert site.given() is first
    assert site.crypto.sealed == 1
    site.config("pass", Kind.SECRET, data={"p": "eA=="})
    assert opened(site.given())["data"] == {"p": b"x"}
    site.config("pass", Kind.SECRET, data={"p": base64.b64encode(CANARY).decode()})
    assert site.given() == first
    assert site.crypto.sealed == 3


def test_a_device_that_was_enrolled_anew_gets_all_of_them_anew() -> None:
    site = Site("pi")
    before = site.given()
    site.secrets["pi"] = SECRETS["other"]
    assert site.given().digest != before.digest
    assert opened(site.given(), "other")["data"] == {"p": CANARY}


def test_what_no_set_holds_any_more_is_forgotten() -> None:
    site = Site("pi")
    site.given()
    site.index.pod_changed(("default", "on-pi"), None)
    site.index.chosen("pi")
    assert site.seals._made == {"pi": {}}
    site.seals.forget("pi")
    assert site.seals._made == {}


def test_a_device_without_a_key_gets_none_and_its_pods_say_so() -> None:
    site = Site("pi")
    del site.secrets["pi"]
    chosen = site.index.chosen("pi")
    assert PASS not in chosen.objects
    assert chosen.refused == {"uid-on-pi": f"Secret default/pass {NO_KEY}"}
    assert (Kind.POD, "uid-on-pi") in chosen.objects, "the pod waits on the device for it"


def test_a_key_that_is_none_is_told() -> None:
    site = Site("pi")
    site.seals.key_of = lambda _node: bytes(32)
    assert "cannot be sealed to the device's key" in site.index.chosen("pi").refused["uid-on-pi"]


def test_one_that_outgrows_the_bound_by_its_seal_is_refused_and_one_that_grew_stays_as_it_was() -> None:
    site = Site("pi")
    before = site.given()
    for size, problem in ((OBJECT_BYTES_MAX - 120, "once it is sealed"), (OBJECT_BYTES_MAX + 1, "OBJECT_BYTES_MAX")):
        site.config("pass", Kind.SECRET, data={"p": base64.b64encode(bytes(size)).decode()})
        chosen = site.index.chosen("pi")
        assert problem in chosen.refused["uid-on-pi"]
        assert chosen.objects[PASS] == before


# --- the whole edge controller ----------------------------------------------------------------------------------------

IDENTITY = records.Identity("pi", "ab" * 32, ("1f",), 1_800_000_000.0, 1_700_000_000.0, "abcdef", "cd" * 32, "")


def identity(secret: bytes, serial: str = "1f") -> Obj:
    public = OpenSsl().exchange_public(secret).hex()
    return records.identity_secret(replace(IDENTITY, sealing=public, serials=(serial,)))


class Hub(test_controller.Site):
    """An API with a pod, a Secret that it names and the device's identity, and one process of the hub."""

    def __init__(self) -> None:
        super().__init__()
        self.api.put(SECRET_OBJECTS, api_config("pass", True, data={"p": base64.b64encode(CANARY).decode()}))
        self.api.put(SECRET_OBJECTS, identity(SECRETS["pi"]))
        self.starts_anew()

    def starts_anew(self) -> None:
        made = DeviceIdentities(
            AUTHORITY, lambda: self.controller.informers[SECRET_OBJECTS].objects, lambda _node: None
        )
        seals = Seals(OpenSsl(), KEY, made.sealing_key, made.node_of)
        who = self.clock, Dice(), self.log.append
        self.controller = EdgeController(self.api, *who, seals=seals)
        self.controller.listen(self.listener)

    async def stop(self) -> None:
        assert self.task is not None
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    def target(self) -> Target:
        target = self.controller.target("pi")
        assert target is not None
        return target


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    hub = Hub()
    await hub.start()
    yield hub
    await hub.stop()


async def test_a_hub_that_starts_anew_sends_no_secret_again(hub: Hub) -> None:
    before = hub.target()
    assert opened(before.objects[PASS])["data"] == {"p": CANARY}
    await hub.stop()
    hub.starts_anew()
    await hub.start()
    after = hub.target()
    assert after.packed == before.packed
    session = HubSession("pi")
    session.target(after, 0.0)
    known = KnownSet(before.packed)
    said = replace(hello("pi"), store=after.store, epoch=after.epoch, generation=3, digest=known.digest)
    sent = [e.message for e in session.received(said, 0.0) if isinstance(e, Send)]
    assert [type(m).__name__ for m in sent] == ["Welcome"]
    assert not any(isinstance(m, Delta) for m in sent)


async def test_a_new_enrolment_makes_another_set_and_a_renewal_of_certificates_does_not(hub: Hub) -> None:
    before, told = hub.target(), len(hub.listener.told)
    hub.say(SECRET_OBJECTS, identity(SECRETS["pi"], "20"))
    await hub.clock.advance(1)
    assert hub.target().packed == before.packed
    hub.say(SECRET_OBJECTS, identity(SECRETS["other"]))
    await hub.clock.advance(1)
    assert len(hub.listener.told) > told
    assert opened(hub.target().objects[PASS], "other")["data"] == {"p": CANARY}
    hub.say(SECRET_OBJECTS, identity(SECRETS["other"]), WatchType.DELETED)
    await hub.clock.advance(1)
    assert PASS not in hub.target().objects
