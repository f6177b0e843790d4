"""Whom a device takes for its hub, and how often it asks: signing keys that come, go and are kept by a broker."""

from __future__ import annotations

from itertools import count

import pytest

from skerry.limits import CERTIFY_LOOKS_MAX, CERTIFY_LOOKS_S, CERTIFY_PACE_S, SIGNER_KEPT_S
from skerry.wire import message
from skerry.wire.guard import HubGuard, Signer
from skerry.wire.message import Reject, RejectCode
from unit.loops.test_protect import DEVICE, HUB, NEXT, OPENSSL, STRANGER, WELCOME, Site, signer


@pytest.fixture
def site() -> Site:
    return Site()


def hub_guard(by: Signer) -> HubGuard:
    return HubGuard(OPENSSL, lambda: by, lambda _: OPENSSL.public(DEVICE), number=count(1).__next__)


async def test_a_signer_is_certified_once_and_its_successor_too(site: Site) -> None:
    await site.live()
    await site.live()
    assert site.authority.asked == 1
    site.signer = signer(NEXT)
    await site.live()
    assert site.authority.asked == 2
    assert not site.counters


async def test_a_signer_that_the_authority_does_not_certify_is_asked_about_at_a_pace(site: Site) -> None:
    """Each question is a child process, and any broker can put one."""
    forger = HubGuard(OPENSSL, lambda: Signer(STRANGER, b"self-made"), lambda _: OPENSSL.public(DEVICE))
    for _ in range(50):
        assert await site.frames.opened(forger.word(message.encode(Reject(b"", RejectCode.NO_SESSION)))) is None
    assert site.authority.asked == 1
    assert site.counters["frames_refused"] == 50
    await site.clock.advance(CERTIFY_PACE_S)
    for _ in range(50):
        await site.frames.opened(forger.word(message.encode(Reject(b"", RejectCode.NO_SESSION))))
    assert site.authority.asked == 2
    await site.clock.advance(CERTIFY_PACE_S)
    await site.live()


async def test_a_certificate_of_another_key_than_the_signers_is_refused(site: Site) -> None:
    """The hub's own certificate, which everybody saw, before a signature of the broker's."""
    thief = HubGuard(OPENSSL, lambda: Signer(STRANGER, signer(HUB).chain), lambda _: OPENSSL.public(DEVICE))
    assert await site.frames.opened(thief.word(message.encode(Reject(b"", RejectCode.NO_SESSION)))) is None
    assert "another key" in site.log[-1]
    assert site.counters["frames_refused"] == 1


async def test_words_of_hubs_that_are_no_more_ask_the_authority_at_a_pace_and_count_once(site: Site) -> None:
    """A broker has kept a hail of each of many processes of the hub, whose certificates are still good, and ends
    connections between them."""
    await site.live()
    hail = message.encode(Reject(b"", RejectCode.NO_SESSION))
    seeds = [bytes((n,)) * 32 for n in (10, 11)]
    kept = [hub_guard(signer(seed)).word(hail) for seed in seeds]
    heard = []
    for _ in range(50):
        for word in kept:
            site.reconnect()
            heard.append(await site.frames.opened(word))
    assert heard[:2] == [hail, hail]
    assert not any(heard[2:])
    assert site.authority.asked == CERTIFY_LOOKS_MAX
    await site.clock.advance(CERTIFY_LOOKS_S)
    await site.live()


async def test_a_hail_that_a_broker_repeats_is_heard_once(site: Site) -> None:
    await site.live()
    hail = message.encode(Reject(b"", RejectCode.NO_SESSION))
    word = site.hub.word(hail)
    assert await site.frames.opened(word) == hail
    for _ in range(50):
        await site.live()
        assert await site.frames.opened(word) is None
    assert site.counters["frames_replayed"] == 50


async def test_a_signer_is_certified_again_after_a_day_for_its_certificate_may_have_ended(site: Site) -> None:
    await site.live()
    await site.clock.advance(SIGNER_KEPT_S - 1)
    await site.live()
    assert site.authority.asked == 1
    await site.clock.advance(1)
    await site.live()
    assert site.authority.asked == 2
    await site.clock.advance(SIGNER_KEPT_S)
    site.signer = Signer(HUB, b"one that has ended")
    await site.greet()
    assert await site.frames.opened(site.down(WELCOME)) is None
    assert "not certified" in site.log[-1]
