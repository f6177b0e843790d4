"""A live, protected session whose device is revoked or replaced: over at once, with its streams, and not to be resumed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from skerry.wire import message
from skerry.wire.guard import SIGNED, DeviceGuard, HubGuard, Signer
from skerry.wire.message import Hello, Reject, Welcome
from skerry.world.sodium import Sodium
from skerry_hub.cloudhub.sessions import Sessions, topic
from skerry_hub.crypto import OpenSsl
from unit.hub.fakes import Dice, FakeBroker, FakeController, ManualClock
from unit.hub.session_site import A, target
from unit.wire.examples import MESSAGES
from unit.wire.pair import NODE

DEVICE, OTHER, HUB = (bytes((n,)) * 32 for n in (1, 2, 3))
CRYPTO = OpenSsl()


class Site:
    def __init__(self) -> None:
        self.broker, self.controller, self.clock = FakeBroker(), FakeController(), ManualClock()
        self.lines: list[str] = []
        self.enrolled = CRYPTO.public(DEVICE)
        self.sessions = Sessions(
            self.broker, self.controller, self.clock, Dice(), self.lines.append,
            lambda _node: HubGuard(CRYPTO, lambda: Signer(HUB, b"chain"), lambda _statement: self.enrolled),
        )  # fmt: skip
        self.device = DeviceGuard(Sodium(), DEVICE)
        self.device.trust(CRYPTO.public(HUB))
        self._fresh = 0

    async def hello(self, device: DeviceGuard | None = None) -> None:
        self._fresh += 1
        first = MESSAGES["hello-first"]
        assert isinstance(first, Hello)
        hello = message.encode(replace(first, nonce=self._fresh.to_bytes(8, "big")))
        self.say((device or self.device).greet(hello, self._fresh.to_bytes(32, "big")))
        await self.clock.advance(0.1)

    def say(self, payload: bytes | None) -> None:
        assert payload is not None
        self.broker.say(topic(NODE, "up"), payload)

    def heard(self) -> list[bytes]:
        found = [payload for name, payload in self.broker.published if name == topic(NODE, "down")]
        self.broker.published.clear()
        return found

    async def live(self) -> None:
        await self.hello()
        opened = [self.device.open(payload) for payload in self.heard()[-1:]]
        assert isinstance(message.decode(opened[0]), Welcome)  # type: ignore[arg-type]
        self.say(self.device.seal(b""))
        await self.clock.advance(0.1)
        assert self.controller.said[-1] == ("live", NODE)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    site.controller.targets[NODE] = target(A)
    site.sessions.nodes([NODE])
    task = asyncio.ensure_future(site.sessions.run())
    await site.clock.advance(0.5)
    site.heard()
    yield site
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_revoked_device_is_away_at_once_and_gets_and_says_nothing_more(site: Site) -> None:
    await site.live()
    site.heard()
    site.enrolled = b""
    assert site.sessions.identity_changed(NODE)
    await site.clock.advance(0.1)
    assert site.controller.said[-1] == ("gone", NODE)
    assert any("revoked or replaced" in line for line in site.lines)
    site.controller.targets[NODE] = target(A, version=9)
    site.sessions.changed(NODE)
    site.say(site.device.seal(message.encode(Reject(b"", message.RejectCode.NO_SESSION))))
    await site.hello()
    await site.clock.advance(60)
    shown = site.sessions.snapshot()["devices"][NODE]
    assert (shown["state"], shown["expelled"]) == ("away", 1)
    assert shown["refused"] >= 1
    for payload in site.heard():
        assert payload[:1] == SIGNED, "only words outside any session"
    assert not site.sessions.dial(NODE, bytes(8)), "no streams"


async def test_another_board_with_the_name_ends_the_session_of_the_first(site: Site) -> None:
    await site.live()
    site.enrolled = CRYPTO.public(OTHER)
    assert site.sessions.identity_changed(NODE)
    second = DeviceGuard(Sodium(), OTHER)
    second.trust(CRYPTO.public(HUB))
    await site.hello(second)
    assert site.sessions.snapshot()["devices"][NODE]["state"] != "away"


async def test_a_renewal_ends_nothing(site: Site) -> None:
    await site.live()
    assert not site.sessions.identity_changed(NODE)
    assert not site.sessions.identity_changed("nobody")
    await site.clock.advance(0.1)
    assert site.controller.said[-1] == ("live", NODE)
