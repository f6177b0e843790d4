"""A pull with the pod's pull secrets: which are opened when, what the runtime is told, and that nothing of it stays."""

from __future__ import annotations

import gc
import json
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from skerry.errors import ImagePullFailed, NotOpened, Refused, RuntimeAway, SkerryError
from skerry.loops.act import Hands
from skerry.model.action import PullImage
from skerry.model.manifest import ConfigData
from skerry.model.pod import PullPolicy
from skerry.plan.keyring import CONFIG_JSON, WITHHELD
from skerry.plan.memory import PodMemory
from skerry.ports import AuthConfig, Host, Runtime

IMAGE = "example.com/app:1"
PASSWORD = "nobody-may-read-this"


def secret(**users: str) -> ConfigData:
    """Registry → user, whose password is PASSWORD and the user's name."""
    auths = {at.replace("_", "/", 1): {"username": who, "password": PASSWORD + who} for at, who in users.items()}
    data = json.dumps({"auths": {f"example.com{at.removeprefix('all')}": entry for at, entry in auths.items()}})
    return ConfigData("default", "keys", True, ((".dockerconfigjson", data.encode()),), type=CONFIG_JSON)


@dataclass
class Registry:
    """A runtime that pulls what `lets` may, or says `says`."""

    lets: str | None = None
    says: SkerryError | None = None
    present: bool = False
    asked: list[AuthConfig | None] = field(default_factory=list)

    async def image_present(self, image: str) -> bool:
        assert image == IMAGE
        return self.present

    async def pull_image(self, image: str, auth: AuthConfig | None = None) -> None:
        assert image == IMAGE
        self.asked.append(auth)
        if self.says is not None:
            raise self.says
        if (auth.username if auth is not None else None) != self.lets:
            raise ImagePullFailed("PullImage", "UNKNOWN", f"401 for {auth and auth.username}")


class Site:
    def __init__(self, registry: Registry, **secrets: ConfigData | NotOpened) -> None:
        self.registry, self.secrets, self.opened = registry, secrets, list[str]()
        self.memory = PodMemory()
        self.hands = Hands(cast(Runtime, registry), cast(Host, None), self.lookup)

    def lookup(self, namespace: str, name: str, is_secret: bool) -> ConfigData | None:
        assert (namespace, is_secret) == ("default", True)
        self.opened.append(name)
        found = self.secrets.get(name)
        if isinstance(found, NotOpened):
            raise found
        return found

    async def pull(self, *names: str, policy: PullPolicy = PullPolicy.IF_NOT_PRESENT) -> None:
        await self.hands.do(PullImage(IMAGE, policy, "c", "why", "default", names), self.memory)

    @property
    def users(self) -> list[str | None]:
        return [auth.username if auth is not None else None for auth in self.registry.asked]


async def test_a_secret_is_opened_for_a_pull_that_is_needed_and_not_before() -> None:
    site = Site(Registry(present=True), keys=secret(all="tide"))
    await site.pull("keys")
    assert (site.opened, site.users, site.memory.images) == ([], [], {IMAGE})
    site = Site(Registry(lets="tide"), keys=secret(all="tide"))
    await site.pull("keys")
    assert (site.opened, site.memory.images) == (["keys"], {IMAGE})
    assert site.registry.asked == [AuthConfig("tide", PASSWORD + "tide")]
    await site.pull("keys", policy=PullPolicy.ALWAYS)
    assert site.opened == ["keys", "keys"], "read anew each time"


async def test_the_most_specific_is_tried_first_and_the_others_after_it() -> None:
    site = Site(Registry(lets="broad"), one=secret(all="broad"), two=secret(all_app="narrow", all_other="never"))
    await site.pull("one", "two")
    assert site.users == ["narrow", "broad"]


async def test_the_pull_fails_with_what_each_of_them_brought() -> None:
    site = Site(Registry(lets="nobody"), one=secret(all="a"), two=secret(all="b"))
    with pytest.raises(ImagePullFailed, match=r"^PullImage: UNKNOWN: 401 for a; 401 for b$"):
        await site.pull("one", "two")
    assert site.memory.images == set()


async def test_without_any_for_its_registry_it_is_tried_without() -> None:
    site = Site(Registry(), keys=secret(all_other="tide"))
    await site.pull("keys")
    assert site.users == [None]
    assert site.memory.lacking == ()


async def test_a_missing_or_closed_one_is_told_and_the_pull_is_tried_with_the_others() -> None:
    site = Site(Registry(lets="tide"), keys=secret(all="tide"), shut=NotOpened("is sealed to another key"))
    await site.pull("gone", "shut", "keys")
    assert site.users == ["tide"]
    assert site.memory.lacking == ("gone", "shut is sealed to another key")
    site = Site(Registry())
    await site.pull("gone")
    assert (site.users, site.memory.lacking) == ([None], ("gone",))
    site.secrets["gone"] = secret(all="tide")
    site.registry.lets = "tide"
    await site.pull("gone")
    assert site.memory.lacking == ()


async def test_a_bad_one_is_named_and_nothing_is_pulled() -> None:
    site = Site(Registry(), bad=ConfigData("default", "bad", True, (("x", PASSWORD.encode()),), type="Opaque"))
    with pytest.raises(Refused, match=r"^Secret default/bad: type: is neither"):
        await site.pull("bad")
    assert site.users == []


async def test_an_image_that_is_here_serves_whatever_the_secret_is() -> None:
    site = Site(Registry(lets="nobody", present=True), bad=secret(all="tide"))
    await site.pull("bad", policy=PullPolicy.ALWAYS)
    site.secrets["bad"] = ConfigData("default", "bad", True, (), type="Opaque")
    await site.pull("bad", policy=PullPolicy.ALWAYS)
    assert site.memory.images == {IMAGE}


@pytest.mark.parametrize("kind", [ImagePullFailed, RuntimeAway])
async def test_no_error_has_a_password_in_it_though_the_registry_repeats_it(kind: type[SkerryError]) -> None:
    words = f"bad password {PASSWORD}tide"
    says = RuntimeAway(words) if kind is RuntimeAway else ImagePullFailed("PullImage", "UNKNOWN", words)
    site = Site(Registry(says=says), keys=secret(all="tide"))
    with pytest.raises(kind) as caught:
        await site.pull("keys")
    assert WITHHELD in str(caught.value)
    assert PASSWORD not in repr(caught.value)
    assert caught.value.__cause__ is None


async def test_nothing_of_it_is_kept() -> None:
    site: Any = Site(Registry(lets="nobody"), keys=replace(secret(all="tide"), name="fleeting"))
    with pytest.raises(ImagePullFailed):
        await site.pull("keys")
    site.registry.asked.clear()
    site.secrets.clear()
    gc.collect()
    assert not [o for o in gc.get_objects() if isinstance(o, AuthConfig) and o.password.startswith(PASSWORD)]
    assert not [o for o in gc.get_objects() if isinstance(o, ConfigData) and o.name == "fleeting"]
