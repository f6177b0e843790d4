"""The hub's sessions with devices that are enrolled, and a broker that keeps, repeats, makes up and alters frames."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from skerry.errors import Malformed
from skerry.limits import ACK_TIMEOUT_S, FLOOD_DROPS_MAX, GREETINGS_KEPT_MAX, HAIL_BACKOFF_S
from skerry.model.report import Phase
from skerry.wire import message
from skerry.wire.delta import statement
from skerry.wire.guard import SEALED, SIGNED, DeviceGuard, HubGuard, Signer, Unknown, Word
from skerry.wire.message import Delta, Message, Reject, RejectCode, Report
from skerry.world.sodium import Sodium
from skerry_hub.cloudhub.session import State
from skerry_hub.cloudhub.sessions import topic
from skerry_hub.crypto import OpenSsl
from skerry_hub.limits import HELLO_EACH_S, HELLOS_MAX, PRESENCE_GRACE_S, REJECT_PAUSE_S
from unit.hub.fakes import settle
from unit.hub.session_site import OTHER, A, B, Device, Site, hello, report, target
from unit.wire.pair import EPOCH, NODE, OTHER_EPOCH, STORE, Board, desired

SEEDS = {NODE: bytes(32), OTHER: b"\x01" * 32}
SIGNER = Signer(b"\x02" * 32, b"certificate")
UP = topic(NODE, "up")


def guard_of(node: str) -> HubGuard:
    return HubGuard(OpenSsl(), lambda: SIGNER, lambda _: OpenSsl().public(SEEDS[node]))


class Enrolled(Device):
    """A device whose frames are protected; `said` are its payloads, in order."""

    def __init__(self, site: Site, node: str = NODE, board: Board | None = None) -> None:
        super().__init__(site, node)
        self.board = board or self.board
        self.guard = DeviceGuard(Sodium(), SEEDS[node])
        self.guard.trust(OpenSsl().public(SIGNER.seed))
        self.session.proves = lambda delta: self.guard.proves(delta.proof, statement(delta, self.guard.kid))
        self.said: list[bytes] = []
        self.words: list[Message] = []
        self.refused = 0

    def _says(self, said: Message) -> None:
        frame = message.encode(said)
        hello = isinstance(said, message.Hello)
        payload = self.guard.greet(frame, len(self.said).to_bytes(32, "little")) if hello else self.guard.seal(frame)
        if payload is not None:
            self._publishes(payload)

    def _publishes(self, payload: bytes) -> None:
        self.said.append(payload)
        self.site.broker.say(topic(self.node, "up"), payload)

    def _forgets(self) -> None:
        self.site.broker.payloads(self.node)

    def _hears(self) -> list[Message]:
        heard = []
        for payload in self.site.broker.payloads(self.node):
            before = self.guard.secrets
            try:
                found = self.guard.open(payload)
            except Malformed:
                self.refused += 1
                continue
            assert not isinstance(found, Unknown)
            frame = found.frame if isinstance(found, Word) else found
            if isinstance(found, Word):
                self.words.append(message.decode(frame))
            heard.append(message.decode(frame))
            if before is None and self.guard.secrets is not None:
                self.shows()
        return heard

    def greets(self) -> None:
        """Hello, and it does not hear the answer yet."""
        self._do(self.session.opened(self.board, self.site.clock.now(), 0.0, b"12345678"))

    def shows(self) -> None:
        """That its Hello is no copy."""
        sealed = self.guard.seal(b"")
        assert sealed is not None
        self._publishes(sealed)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = fresh()
    yield site
    await site.stop()


def fresh() -> Site:
    """As after a restart of the hub."""
    site = Site(guard_of)
    site.controller.targets = {NODE: target(A), OTHER: target(B)}
    return site


async def test_a_device_joins_gets_its_set_and_reports_and_the_broker_reads_nothing(site: Site) -> None:
    seen: list[bytes] = []
    publish = site.broker.publish

    async def tapped(topic: str, payload: bytes, *, bulk: bool = False, expiry_s: int = 0) -> None:
        seen.append(payload)
        await publish(topic, payload, bulk=bulk, expiry_s=expiry_s)

    site.broker.publish = tapped  # type: ignore[method-assign]
    await site.start(NODE)
    device = Enrolled(site)
    await device.connect()
    await device.tell("a", Phase.RUNNING)
    assert device.board.desired.objects.keys() == {A.key}
    assert device.board.items == {}
    assert {node for node, _ in site.controller.stored} == {NODE}
    assert [p[:1] for p in device.said] == [SIGNED, *[SEALED] * (len(device.said) - 1)]
    assert not any(b"busybox" in payload or b"default" in payload for payload in (*seen, *device.said))
    assert (site.counts()["refused"], site.counts()["replayed"]) == (0, 0)


async def test_a_node_is_shown_once_its_device_has_shown_that_it_is_there(site: Site) -> None:
    device = Enrolled(site)
    await site.start(NODE)
    device.greets()
    await site.clock.advance(1)
    assert site.counts()["state"] == State.LIVE.value
    assert ("live", NODE) not in site.controller.said
    device._hears()
    await settle()
    assert site.controller.said[-1] == ("live", NODE)


async def test_the_kept_hello_of_a_device_that_is_gone_makes_no_node_ready(site: Site) -> None:
    """The hub began anew, so that it does not know that Hello."""
    await site.start(NODE)
    device = Enrolled(site)
    await device.connect()
    kept = device.said[0]
    after = fresh()
    await after.start(NODE)
    for _ in range(3):
        after.broker.say(UP, kept)
        await after.clock.advance(ACK_TIMEOUT_S / 2)
    assert after.counts()["replayed"] == 2
    await after.clock.advance(ACK_TIMEOUT_S / 2 + PRESENCE_GRACE_S)
    assert after.controller.said == [("gone", NODE)]
    assert after.counts()["state"] == State.AWAY.value
    device.site = after
    await device.connect()
    assert after.controller.said[-1] == ("live", NODE)
    await after.stop()


async def test_a_hello_that_shows_nothing_is_hailed_after_its_deadline(site: Site) -> None:
    device = Enrolled(site, board=Board(desired(A)))  # so that nothing else is waited for
    await site.start(NODE)
    device.greets()
    await site.clock.advance(ACK_TIMEOUT_S - 1)
    device._forgets()
    assert site.counts()["state"] == State.LIVE.value
    await site.clock.advance(2)
    assert site.counts()["note"] == "a Hello, and nothing that shows it was no copy"
    device._hears()
    assert [m.code for m in device.words if isinstance(m, Reject)] == [RejectCode.NO_SESSION]


async def test_a_kept_hello_claims_nothing_at_the_api(site: Site) -> None:
    """It is of an epoch that an operator adopted the device out of: no RestoredHub may show by it."""
    old = Board(desired(A, epoch=OTHER_EPOCH))
    await site.start(NODE)
    device = Enrolled(site, board=old)
    device.greets()
    await site.clock.advance(1)
    assert site.controller.said == []
    assert site.counts()["generation"] is None
    device._hears()
    await settle()
    assert site.controller.said == [("held", NODE), ("live", NODE)]


async def test_a_hello_ahead_of_the_api_opens_an_epoch_only_by_its_device(site: Site) -> None:
    await site.start(NODE)
    device = Enrolled(site, board=Board(desired(A, version=900)))
    device.greets()
    await site.clock.advance(1)
    assert ("epoch", NODE) not in site.controller.said
    device._hears()
    await settle()
    assert ("epoch", NODE) in site.controller.said


async def test_what_a_broker_makes_up_turns_over_or_repeats_ends_nothing(site: Site) -> None:
    await site.start(NODE, OTHER)
    device, other = Enrolled(site), Enrolled(site, OTHER)
    await device.connect()
    await other.connect()
    await device.tell("a", Phase.RUNNING)
    stored, said = list(site.controller.stored), list(site.controller.said)
    forged = [message.encode(m) for m in (hello(), report(1), Reject(b"", RejectCode.FULL, "no room"))]
    turned = [p[:-1] + bytes((p[-1] ^ 1,)) for p in device.said]
    for payload in (*forged, *turned, *device.said, *other.said, b"", SEALED, SIGNED, SEALED + b"\xff" * 50):
        site.broker.say(UP, payload)
        await settle()
    counts = site.counts()
    assert counts["replayed"] == len(device.said)
    assert counts["refused"] == len(forged) + len(turned) + len(other.said) + 4
    assert (counts["malformed"], counts["state"], counts["lost"]) == (0, State.LIVE.value, 0)
    assert (site.controller.stored, site.controller.said) == (stored, said)
    await device.tell("a", Phase.SUCCEEDED)
    assert device.board.items == {}


async def test_a_report_of_another_session_is_no_report(site: Site) -> None:
    await site.start(NODE)
    device = Enrolled(site)
    await device.connect()
    await device.tell("a", Phase.RUNNING)
    first = list(device.said)
    await device.connect()
    stored = list(site.controller.stored)
    for payload in first:
        site.broker.say(UP, payload)
    await site.clock.advance(1)
    assert site.controller.stored == stored
    assert site.counts()["replayed"] == 1, "the Hello"
    assert site.counts()["refused"] == len(first) - 1


async def test_a_device_that_goes_on_in_a_session_nobody_knows_is_hailed_at_a_pace(site: Site) -> None:
    """The hub began anew while sixteen of its frames were under way."""
    await site.start(NODE)
    device = Enrolled(site)
    await device.connect()
    await site.clock.advance(HAIL_BACKOFF_S[0])
    after = fresh()
    await after.start(NODE)
    device.site = after
    device._forgets()
    for _ in range(16):
        device._says(Report(b"12345678", b"j" * 16, (), 0))
        await settle()
    assert len(after.broker.payloads(NODE)) == 1
    assert after.counts()["refused"] == 16
    await after.clock.advance(REJECT_PAUSE_S)
    device._says(Report(b"12345678", b"j" * 16, (), 0))
    await settle()
    device._hears()
    assert device.words == [Reject(b"", RejectCode.NO_SESSION)]
    await after.stop()


async def test_forgeries_without_end_are_a_flood_of_that_device_only(site: Site) -> None:
    await site.start(NODE, OTHER)
    other = Enrolled(site, OTHER)
    await other.connect()
    for _ in range(FLOOD_DROPS_MAX + 2):
        site.broker.say(UP, SEALED + b"junk")
        await settle()
    assert site.counts()["floods"] == 1
    await other.tell("b", Phase.RUNNING)
    assert other.board.items == {}


async def test_hellos_without_end_cost_the_hub_a_few_and_no_session(site: Site) -> None:
    """By a device that is taken over, or kept by a broker, of more sessions than a hub knows again."""
    await site.start(NODE, OTHER)
    other = Enrolled(site, OTHER)
    await other.connect()
    thief = DeviceGuard(Sodium(), SEEDS[NODE])
    for n in range(HELLOS_MAX + FLOOD_DROPS_MAX + 1):
        frame = message.encode(replace(hello(), nonce=n.to_bytes(8, "big")))
        site.broker.say(UP, thief.greet(frame, n.to_bytes(32, "big")))
        await settle()
    assert HELLOS_MAX <= site.counts()["hellos"] <= HELLOS_MAX + 1
    assert site.counts()["floods"] == 1
    assert site.counts()["dropped_hello"] > FLOOD_DROPS_MAX - 2
    await other.tell("b", Phase.RUNNING)
    assert other.board.items == {}


async def test_kept_hellos_end_a_live_session_so_often_and_then_no_more(site: Site) -> None:
    await site.start(NODE)
    device = Enrolled(site)
    for _ in range(GREETINGS_KEPT_MAX + 4):
        await device.connect()
        await site.clock.advance(2 * HELLO_EACH_S)
    kept = [payload for payload in device.said if payload[:1] == SIGNED][:4]
    for _ in range(HELLOS_MAX):
        for payload in kept:
            site.broker.say(UP, payload)
            await settle()
    assert site.counts()["dropped_hello"] > 0
    await site.clock.advance(HELLO_EACH_S)
    await device.connect()
    for payload in kept[:2]:
        site.broker.say(UP, payload)
        await settle()
    await device.tell("a", Phase.RUNNING)
    assert device.board.items == {}
    assert site.counts()["state"] == State.LIVE.value


async def test_a_hello_that_is_sealed_is_the_devices_own_fault(site: Site) -> None:
    await site.start(NODE)
    device = Enrolled(site)
    await device.connect()
    sealed = device.guard.seal(message.encode(replace(hello(), nonce=b"87654321")))
    assert sealed is not None
    site.broker.say(UP, sealed)
    await settle()
    assert site.counts()["malformed"] == 1
    assert site.counts()["state"] == State.AWAY.value


async def test_every_change_is_signed_for_this_device_and_session(site: Site) -> None:
    await site.start(NODE)
    device = Enrolled(site)
    await device.connect()
    site.controller.targets[NODE] = target(A, B, version=6)
    site.sessions.changed(NODE)
    await device.converse()
    deltas = [m for m in device.heard if isinstance(m, Delta)]
    assert len(deltas) == 2
    assert (deltas[0].store, deltas[0].epoch) == (STORE, EPOCH)
    assert (deltas[1].store, deltas[1].epoch) == ("", "")  # the device's set is of them, and signed for all the same
    assert not device.guard.proves(deltas[1].proof, statement(deltas[1], device.guard.kid))
    for delta in (deltas[0], replace(deltas[1], store=STORE, epoch=EPOCH)):
        assert device.guard.proves(delta.proof, statement(delta, device.guard.kid))
        for other in (replace(delta, nonce=b"87654321"), replace(delta, generation=9), replace(delta, adopt=True)):
            assert not device.guard.proves(delta.proof, statement(other, device.guard.kid))
        assert not device.guard.proves(delta.proof, statement(delta, Enrolled(site, OTHER).guard.kid))
