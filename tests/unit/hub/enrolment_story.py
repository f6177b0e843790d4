"""What enrolment asks of a cluster, each right of it at least once: for unit.hub.test_hostile_cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from skerry.ports import Clock
from skerry.wire import enrolment as wire
from skerry.wire import token as line
from skerry_hub import pki
from skerry_hub.crypto import OpenSsl
from skerry_hub.enrolment import authority, published, records, tokens
from skerry_hub.enrolment.enrol import Declined, Enrolment, Terms
from skerry_hub.enrolment.records import NAMESPACE, token_name
from skerry_hub.enrolment.renew import Renewals
from skerry_hub.enrolment.signing import REQUESTS, request_name
from skerry_hub.join import join
from skerry_hub.kube.client import KubeClient
from skerry_hub.ports import CONFIG_MAPS, SECRETS, ClusterError, NotFound
from unit.enrolment.site import csr_for, new_key
from unit.hub.fakes import Dice

URL, BROKER = "https://hub.example:8443", "mqtts://broker.example:8883"
Until = Callable[[Callable[[], Awaitable[Any]], str], Awaitable[Any]]


class Late:
    """A clock that is long after every token's end; what sleeps by it wakes at once, and lets others have a turn."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def now(self) -> float:
        return self._clock.now()

    def wall(self) -> float:
        return self._clock.wall() + 1e9

    async def sleep_until(self, when: float) -> None:
        await asyncio.sleep(0.05)


async def enrolled(folder: Path, admin: KubeClient, hub: KubeClient, clock: Clock, until: Until) -> None:
    """A device is enrolled, loses the answer and asks again, and is replaced by another board; its tokens are swept;
    and what token create reads is put right again after somebody changed it. `until` fails when something is refused.
    """
    folder.mkdir()
    ca = authority.load(*authority.make(folder))
    enrolment = Enrolment(hub, clock, Dice(8), ca, Terms(BROKER, URL, 90), join, print)
    await tokens.ensure_namespace(admin)
    await _publishes(ca.certificate_pem, admin, hub, Late(clock), until)
    for board in range(2):
        at = await tokens.where(admin, "", None)
        made = await tokens.create(admin, clock, Dice(board), at, "pi", 3_600, True, join)
        token = line.decode(made.text)
        key = new_key()
        answers = [await _asks(enrolment, token, csr_for("pi", key), until) for _ in range(2)]
        assert answers[0] == answers[1], "the same certificates"
        found = await admin.get(REQUESTS, "", request_name("pi", token.ident))
        assert [c["type"] for c in found["status"]["conditions"]] == ["Approved"]
    await _renews(admin, hub, clock, ca, until)
    sweeping = asyncio.ensure_future(tokens.sweep(hub, Late(clock), Dice(6), print))
    try:

        async def swept() -> bool:
            return not await tokens.every(admin)

        await until(swept, "the tokens to be swept")
    finally:
        sweeping.cancel()
    assert token_name(token.ident) not in {o["metadata"]["name"] for o in (await admin.list(SECRETS)).items}


async def _asks(enrolment: Enrolment, token: line.Token, csr: str, until: Until) -> wire.Issued:
    """As a device does: again and again while the API is in a mood."""
    got: list[wire.Issued] = []

    async def answered() -> bool:
        try:
            got.append(await enrolment.enrol(wire.Request(token.ident, token.secret, csr, bytes(32), bytes(32))))
        except ClusterError:
            return False
        except Declined as why:
            raise AssertionError(why) from None
        return True

    await until(answered, "the device to be enrolled")
    return got[0]


async def _renews(admin: KubeClient, hub: KubeClient, clock: Clock, ca: authority.Authority, until: Until) -> None:
    """Of another device, which signs with a key of its own."""
    renewals = Renewals(hub, clock, Dice(9), ca, Terms(BROKER, URL, 90), print)
    key, seed, crypto = new_key(), bytes(range(32)), OpenSsl()
    signing = crypto.public(seed).hex()
    known = records.Identity("pi-2", pki.key_digest(key.public_key()), ("1", "2"), 0.0, 0.0, "abcdef", signing, signing)
    await admin.create(SECRETS, NAMESPACE, records.identity_secret(known))
    got: list[wire.Issued] = []

    async def answered() -> bool:
        try:
            challenge = renewals.challenge().value
            got.append(await renewals.renew(wire.renewal(crypto, seed, "pi-2", challenge, csr_for("pi-2", key))))
        except ClusterError:
            return False
        return True

    for _ in range(2):
        await until(answered, "the device to be renewed")
    assert got[0] == got[1], "the same certificates"


async def _publishes(ca: bytes, admin: KubeClient, hub: KubeClient, clock: Clock, until: Until) -> None:
    wanted = published.config_map(URL, BROKER, ca)
    keeping = asyncio.ensure_future(published.keep(hub, wanted, clock, Dice(7), print))

    async def shown() -> bool:
        try:
            return bool((await admin.get(CONFIG_MAPS, NAMESPACE, published.NAME))["data"] == wanted["data"])
        except NotFound:
            return False

    try:
        await until(shown, "where the hub enrols, to be published")
        await admin.patch(CONFIG_MAPS, NAMESPACE, published.NAME, {"data": {"url": "https://elsewhere:1"}})
        await until(shown, "it to be put right")
    finally:
        keeping.cancel()
