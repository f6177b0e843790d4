"""A device that the hub knows gets new certificates, by a real device's code over real TLS; and nobody else does."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from skerry import identity
from skerry.errors import EnrolmentFailed, EnrolmentRefused
from skerry.identity import IDENTITY, Enrolled
from skerry.wire import enrolment as wire
from skerry.wire.token import Token
from skerry.world import enrolment, renewal
from skerry.world.device_key import KeysInFiles
from skerry.world.sodium import Sodium
from skerry_hub.enrolment import authority, records
from skerry_hub.enrolment.authority import Authority
from skerry_hub.enrolment.renew import Challenges
from skerry_hub.limits import RENEW_CHALLENGE_S, SERIALS_KEPT_MAX
from skerry_hub.ports import EVENTS, SECRETS
from unit.enrolment.site import Reply, Site, ask, part_on, trusting

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
DAY_S = 86_400.0
KEYS = KeysInFiles()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "device"


async def enrolled(hub: Site, folder: Path, node: str = "pi") -> Enrolled:
    token = await hub.token(node)
    return await asyncio.to_thread(enrolment.enrol, folder, token, KEYS, node)


async def renewed(folder: Path) -> bool:
    return await asyncio.to_thread(renewal.renew, folder, KEYS)


async def kept(hub: Site, node: str = "pi") -> records.Identity:
    return records.identity_of(await hub.admin.get(SECRETS, records.NAMESPACE, records.identity_name(node)))


def serial(enrolled: Enrolled) -> str:
    return f"{x509.load_pem_x509_certificate(enrolled.issued.certificate.encode()).serial_number:x}"


async def test_new_certificates_for_the_same_keys_and_a_record_of_the_old_ones(hub: Site, folder: Path) -> None:
    before = await enrolled(hub, folder)
    assert await renewed(folder)
    after = identity.read(folder)
    assert after is not None
    assert (after.keys, after.token) == (before.keys, before.token)
    assert serial(after) != serial(before)
    record = await kept(hub)
    assert record.serials[0] == serial(after)
    assert record.earlier[0][0] == serial(before)
    (event,) = [e for e in (await hub.objects(EVENTS, "default")).values() if e["reason"] == "Renewed"]
    assert event["involvedObject"]["name"] == "pi"
    assert hub.lines[-1].startswith("enrolment: node pi: renewed, key ")


async def test_who_asks_again_soon_is_given_the_same(hub: Site, folder: Path) -> None:
    """The answer was lost, or somebody recorded the request: no certificate more."""
    before = await enrolled(hub, folder)
    assert await renewed(folder)
    after = identity.read(folder)
    assert not await renewed(folder)
    identity.write(folder, before)
    assert await renewed(folder)
    assert identity.read(folder) == after
    assert len((await kept(hub)).earlier) == 2


async def test_after_a_year_offline_it_works_the_same(hub: Site, folder: Path) -> None:
    """No broker would let it in; the hub knows its keys."""
    await enrolled(hub, folder)
    hub.clock.moved_s = 365 * DAY_S
    reply = await renew_by_hand(hub, folder)
    assert reply.status == 200
    ends = x509.load_pem_x509_certificate(reply.issued.certificate.encode()).not_valid_after_utc
    assert ends.timestamp() > hub.clock.wall() + 80 * DAY_S
    assert (await kept(hub)).earlier == (), "what has ended needs no remembering"


async def test_what_a_hub_signed_whose_clock_was_a_year_ahead_is_replaced_once_it_is_right(
    hub: Site, folder: Path
) -> None:
    await enrolled(hub, folder)
    hub.clock.moved_s = 365 * DAY_S
    assert (await renew_by_hand(hub, folder)).status == 200
    hub.clock.moved_s = 0
    reply = await renew_by_hand(hub, folder)
    begins = x509.load_pem_x509_certificate(reply.issued.certificate.encode()).not_valid_before_utc
    assert begins.timestamp() < hub.clock.wall()


async def test_a_year_of_renewals_keeps_a_bounded_record(hub: Site, folder: Path) -> None:
    await enrolled(hub, folder)
    for _ in range(6):
        hub.clock.moved_s += 10 * DAY_S
        assert (await renew_by_hand(hub, folder)).status == 200
    assert len((await kept(hub)).earlier) == 12 < SERIALS_KEPT_MAX


async def test_any_replica_renews_by_the_challenge_of_another(hub: Site, folder: Path) -> None:
    await enrolled(hub, folder)
    async with part_on(hub.admin, hub.authority, hub.clock, hub.lines) as second:
        hub.parts.append(second)
        challenge = await challenged(hub, 0)
        assert (await post(hub, signed(folder, challenge), 1)).status == 200


async def test_two_replicas_that_are_asked_at_once_leave_one_record(hub: Site, folder: Path) -> None:
    await enrolled(hub, folder)
    async with part_on(hub.admin, hub.authority, hub.clock, hub.lines) as second:
        hub.parts.append(second)
        said = signed(folder, await challenged(hub))
        one, other = await asyncio.gather(post(hub, said, 0), post(hub, said, 1))
        assert {one.status, other.status} == {200}, hub.lines
        assert one.issued.certificate == other.issued.certificate


async def test_an_api_that_was_restored_from_before_learns_the_device_from_its_authoritys_statement(
    hub: Site, folder: Path
) -> None:
    await enrolled(hub, folder)
    before = await kept(hub)
    await hub.admin.delete(SECRETS, records.NAMESPACE, records.identity_name("pi"))
    assert await renewed(folder)
    record = await kept(hub)
    assert (record.key_digest, record.signing, record.sealing) == (before.key_digest, before.signing, before.sealing)
    assert not await renewed(folder)


async def test_without_a_statement_or_with_anothers_nobody_is_learnt(
    hub: Site, folder: Path, tmp_path: Path
) -> None:
    mine, other = await enrolled(hub, folder), await enrolled(hub, tmp_path / "other", "other")
    await hub.admin.delete(SECRETS, records.NAMESPACE, records.identity_name("pi"))
    challenge = await challenged(hub)
    broken = bytes(8) + wire.statement_of(mine.issued)[8:]
    for statement in (b"", wire.statement_of(other.issued), broken):
        reply = await post(hub, signed(folder, challenge, statement=statement))
        assert (reply.status, reply.problem.reason) == (403, "UnknownDevice")
    assert (await post(hub, signed(folder, challenge, statement=wire.statement_of(mine.issued)))).status == 200


# --- not at all -------------------------------------------------------------------------------------------------------


async def challenged(hub: Site, replica: int = 0) -> bytes:
    reply = await ask(hub.port(replica), trusting(hub.authority), "GET", wire.RENEW_PATH)
    found = wire.decode_challenge(reply.body)
    assert abs(found.wall_s - hub.clock.wall()) < 60
    return found.value


def signed(folder: Path, challenge: bytes, node: str = "pi", statement: bytes = b"") -> wire.Renewal:
    had = identity.read(folder)
    assert had is not None
    csr = KEYS.again(had.keys.key).csr(node)
    return wire.renewal(Sodium(), bytes.fromhex(had.keys.seed), node, challenge, csr, statement)


async def post(hub: Site, said: wire.Renewal, replica: int = 0) -> Reply:
    body = wire.encode_renewal(said)
    return await ask(hub.port(replica), trusting(hub.authority), "POST", wire.RENEW_PATH, body)


async def renew_by_hand(hub: Site, folder: Path) -> Reply:
    return await post(hub, signed(folder, await challenged(hub)))


Change = Callable[[wire.Renewal, wire.Renewal], wire.Renewal]
WRONG: dict[str, Change] = {
    "another node's name": lambda mine, _: replace(mine, node="other"),
    "another device's key": lambda mine, other: replace(mine, csr=other.csr),
    "another device's signature": lambda mine, other: replace(mine, proof=other.proof),
    "a device that is not there": lambda mine, _: replace(mine, node="nobody"),
    "no node's name": lambda mine, _: replace(mine, node="../../secrets"),
    "all of another device's": lambda mine, other: replace(other, node=mine.node),
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
async def test_who_has_not_both_keys_hears_the_same(hub: Site, folder: Path, change: Change, tmp_path: Path) -> None:
    await enrolled(hub, folder)
    await enrolled(hub, tmp_path / "other", "other")
    challenge = await challenged(hub)
    before = await kept(hub)
    said = change(signed(folder, challenge), signed(tmp_path / "other", challenge, "other"))
    reply = await post(hub, said)
    assert (reply.status, reply.problem.reason) == (403, "UnknownDevice")
    assert await kept(hub) == before


async def test_a_recorded_request_is_of_no_use_later(hub: Site, folder: Path) -> None:
    await enrolled(hub, folder)
    said = signed(folder, await challenged(hub))
    hub.clock.moved_s = RENEW_CHALLENGE_S + 2
    reply = await post(hub, said)
    assert (reply.status, reply.problem.reason) == (408, "StaleChallenge")


async def test_a_challenge_that_nobody_made_is_stale(hub: Site, folder: Path) -> None:
    await enrolled(hub, folder)
    challenge = bytearray(await challenged(hub))
    challenge[-1] ^= 1
    assert (await post(hub, signed(folder, bytes(challenge)))).problem.reason == "StaleChallenge"
    assert (await post(hub, signed(folder, bytes(24)))).problem.reason == "StaleChallenge"


def test_only_the_authority_makes_challenges(tmp_path: Path) -> None:
    ours, theirs = (Challenges(_authority(tmp_path / name)) for name in ("a", "b"))
    made = ours.made(1e9)
    assert ours.good(made.value, 1e9 + 60)
    assert not theirs.good(made.value, 1e9)
    assert not ours.good(made.value, 1e9 - RENEW_CHALLENGE_S - 1)


def _authority(folder: Path) -> Authority:
    folder.mkdir()
    return authority.load(*authority.make(folder))


async def test_a_replaced_board_is_unknown(hub: Site, folder: Path, tmp_path: Path) -> None:
    await enrolled(hub, folder)
    await enrolled(hub, tmp_path / "new")
    with pytest.raises(EnrolmentRefused, match="no such device"):
        await renewed(folder)
    assert (await kept(hub)).earlier, "its certificates have not ended"


async def test_a_used_token_does_not_give_the_name_back_to_the_board_before(hub: Site, folder: Path) -> None:
    """Both tokens are good for a while yet."""
    first, second = await hub.token("pi"), await hub.token("pi")
    key, other = KEYS.new(), KEYS.new()

    async def enrol(token: Token, csr: str) -> Reply:
        return await hub.post(wire.encode_request(wire.Request(token.ident, token.secret, csr, bytes(32), bytes(32))))

    assert (await enrol(first, key.csr("pi"))).status == 200
    hub.clock.moved_s = 5
    assert (await enrol(second, other.csr("pi"))).status == 200
    reply = await enrol(first, key.csr("pi"))
    assert (reply.status, reply.problem.reason) == (403, "UsedToken")


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"node": 1}', b"\xff" * 9])
async def test_what_makes_no_sense_is_told(hub: Site, body: bytes) -> None:
    reply = await ask(hub.port(), trusting(hub.authority), "POST", wire.RENEW_PATH, body)
    assert (reply.status, reply.problem.reason) == (400, "Malformed")


async def test_a_hub_that_gives_anothers_certificates_changes_nothing(
    hub: Site, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    had = await enrolled(hub, folder)
    wrong = replace(had.issued, node="other")
    monkeypatch.setattr(enrolment.Hub, "renew", lambda *_: wrong)
    with pytest.raises(EnrolmentRefused, match="for another than pi"):
        await renewed(folder)
    assert identity.read(folder) == had


async def test_a_hub_that_is_away_changes_nothing(hub: Site, folder: Path) -> None:
    had = await enrolled(hub, folder)
    away = replace(had, issued=replace(had.issued, url="https://127.0.0.1:1"))
    identity.write(folder, away)
    with pytest.raises(EnrolmentFailed):
        await renewed(folder)
    assert identity.read(folder) == away
    assert sorted(path.name for path in folder.iterdir()) == [IDENTITY]


async def test_the_child_says_what_came_of_it(hub: Site, folder: Path) -> None:
    lines: list[str] = []
    await enrolled(hub, folder)
    codes = [await asyncio.to_thread(renewal.child, str(folder), lines.append) for _ in range(2)]
    assert (codes, lines) == ([0, renewal.UNCHANGED], [])
    (folder / IDENTITY).unlink()
    assert await asyncio.to_thread(renewal.child, str(folder), lines.append) == enrolment.REFUSED
    assert "not enrolled" in lines[0]


def test_a_renewal_is_read_as_it_was_written() -> None:
    said = wire.Renewal("pi", bytes(24), "-----BEGIN CERTIFICATE REQUEST-----\n", b"proof")
    assert wire.decode_renewal(wire.encode_renewal(said)) == said
    challenge = wire.Challenge(bytes(range(24)), 1_800_000_000)
    assert wire.decode_challenge(wire.encode_challenge(challenge)) == challenge
    assert set(json.loads(wire.encode_renewal(said))) == {"node", "challenge", "csr", "proof", "statement"}
