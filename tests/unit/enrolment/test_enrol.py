"""A token becomes two certificates, once, whatever is lost on the way and whoever else is at it."""

from __future__ import annotations

import asyncio
import base64
from typing import Any, cast

import pytest
from cryptography import x509

from skerry.wire import enrolment as wire
from skerry.wire.token import Token
from skerry.world.entropy import SystemEntropy
from skerry_hub import pki
from skerry_hub.enrolment import authority, records, tokens
from skerry_hub.enrolment.authority import Authority
from skerry_hub.enrolment.enrol import Declined, Enrolment, Terms
from skerry_hub.enrolment.signing import REQUESTS, SIGNER, request_name
from skerry_hub.join import join
from skerry_hub.limits import DEVICE_NAME_CHARS_MAX
from skerry_hub.ports import EVENTS, NODES, SECRETS, Cluster, ClusterAway, ClusterError
from unit.enrolment.site import BROKER, Site, csr_for, new_key, part_on

URL = "https://hub.example:8443"


def request(token: Token, key: Any, node: str = "", signing: bytes = bytes(32)) -> wire.Request:
    return wire.Request(token.ident, token.secret, csr_for(node or token.node, key), signing, bytes(32))


def enrolment(hub: Site, cluster: Cluster | None = None, ca: Authority | None = None) -> Enrolment:
    terms = Terms(BROKER, URL, 90)
    who = cluster or hub.admin, hub.clock, SystemEntropy()
    return Enrolment(*who, ca or hub.authority, terms, join, hub.lines.append)


async def kept(hub: Site, node: str = "pi") -> records.Identity:
    return records.identity_of(await hub.admin.get(SECRETS, records.NAMESPACE, records.identity_name(node)))


# --- as it should be --------------------------------------------------------------------------------------------------


async def test_a_token_becomes_a_device(hub: Site) -> None:
    key, token = new_key(), await hub.token("pi")
    issued = (await hub.enroll(token, key)).issued
    assert (issued.node, issued.broker, issued.url) == ("pi", BROKER, hub.parts[0].url)
    assert issued.ca == hub.authority.believed_pem.decode()
    made = hub.authority.accepts((issued.certificate + issued.streams).encode(), key.public_key(), "pi", pki.utc_now())
    identity = await kept(hub)
    assert (identity.key_digest, identity.serials) == (pki.key_digest(key.public_key()), made.serials)
    assert identity.not_after == made.not_after
    assert "pi" in await hub.objects(NODES)
    assert any(line.startswith("enrolment: node pi: key ") for line in hub.lines)


async def test_an_administrator_sees_who_was_signed_for(hub: Site) -> None:
    key, token = new_key(), await hub.token("pi")
    issued = (await hub.enroll(token, key)).issued
    found = await hub.admin.get(REQUESTS, "", request_name("pi", token.ident))
    assert (found["spec"]["signerName"], found["metadata"]["labels"]) == (SIGNER, {"skerry.dev/node": "pi"})
    assert base64.b64decode(found["status"]["certificate"]).decode() == issued.certificate + issued.streams
    (condition,) = found["status"]["conditions"]
    assert condition["type"] == "Approved"
    assert token.ident in condition["message"]
    (event,) = [e for e in (await hub.objects(EVENTS, "default")).values() if e["reason"] == "Enrolled"]
    assert (event["involvedObject"]["kind"], event["involvedObject"]["name"]) == ("Node", "pi")


async def test_the_secret_is_nowhere_in_the_api_and_in_no_line_of_the_log(hub: Site) -> None:
    token = await hub.token("pi")
    await hub.enroll(token)
    everything = str([await hub.objects(kind) for kind in (SECRETS, REQUESTS, EVENTS, NODES)]) + "".join(hub.lines)
    for form in (token.secret.hex(), base64.b64encode(token.secret).decode(), repr(token.secret)):
        assert form not in everything


@pytest.mark.parametrize("tainted", [True, False])
async def test_a_node_that_was_deleted_since_is_made_as_the_token_says(hub: Site, tainted: bool) -> None:
    token = await hub.token("pi", tainted=tainted)
    await hub.admin.delete(NODES, "", "pi")
    assert (await hub.enroll(token)).status == 200
    taints = [t["key"] for t in (await hub.admin.get(NODES, "", "pi"))["spec"].get("taints", [])]
    assert ("skerry.dev/device" in taints) is tainted


async def test_the_longest_name_can_be_enrolled(hub: Site) -> None:
    node = "n" * DEVICE_NAME_CHARS_MAX
    issued = (await hub.enroll(await hub.token(node))).issued
    assert len(pki.common_name(x509.load_pem_x509_certificate(issued.streams.encode()))) == 64


async def test_another_board_takes_the_name_over_with_a_new_token(hub: Site) -> None:
    await hub.enroll(await hub.token("pi"))
    key = new_key()
    assert (await hub.enroll(await hub.token("pi"), key)).status == 200
    assert (await kept(hub)).key_digest == pki.key_digest(key.public_key())
    assert "it replaces another key" in hub.lines[-1]


# --- once -------------------------------------------------------------------------------------------------------------


async def test_an_answer_that_was_lost_is_given_again(hub: Site) -> None:
    key, token = new_key(), await hub.token("pi")
    first = (await hub.enroll(token, key)).issued
    assert (await hub.enroll(token, key)).issued == first
    assert len(await hub.objects(REQUESTS)) == 1
    assert len([e for e in (await hub.objects(EVENTS, "default")).values() if e["reason"] == "Enrolled"]) == 1


async def test_it_is_given_again_when_the_record_of_it_was_cleaned_up(hub: Site) -> None:
    """As a cluster does an hour after it was approved."""
    key, token = new_key(), await hub.token("pi")
    await hub.enroll(token, key)
    await hub.admin.delete(REQUESTS, "", request_name("pi", token.ident))
    issued = (await hub.enroll(token, key)).issued
    serial = x509.load_pem_x509_certificate(issued.certificate.encode()).serial_number
    assert (await kept(hub)).serials[0] == f"{serial:x}"


async def test_another_key_comes_too_late(hub: Site) -> None:
    token = await hub.token("pi")
    await hub.enroll(token)
    reply = await hub.enroll(token)
    assert (reply.status, reply.problem.reason) == (403, "UsedToken")
    assert "skerry-hub token create --node pi" in reply.problem.message
    assert f"enrolment: token {token.ident} was used, and another key has asked with it" in hub.lines


async def test_two_replicas_that_are_asked_at_once_enrol_one(hub: Site) -> None:
    """By two keys: one of them is the device's from then on, the other one hears so."""
    async with part_on(hub.admin, hub.authority, hub.clock, hub.lines) as second:
        hub.parts.append(second)
        for round_ in range(5):
            token, keys = await hub.token(f"pi-{round_}"), (new_key(), new_key())
            replies = await asyncio.gather(*(hub.enroll(token, key, replica=i) for i, key in enumerate(keys)))
            assert sorted(reply.status for reply in replies) == [200, 403]
            (winner,) = [key for key, reply in zip(keys, replies, strict=True) if reply.status == 200]
            assert (await kept(hub, token.node)).key_digest == pki.key_digest(winner.public_key())


async def test_two_replicas_that_one_device_asks_at_once_say_the_same(hub: Site) -> None:
    """It gave up on the first one, which was only slow."""
    async with part_on(hub.admin, hub.authority, hub.clock, hub.lines) as second:
        hub.parts.append(second)
        for round_ in range(5):
            token, key = await hub.token(f"pi-{round_}"), new_key()
            one, other = await asyncio.gather(*(hub.enroll(token, key, replica=i) for i in (0, 1)))
            assert {one.status, other.status} == {200}, hub.lines
            assert one.issued.certificate == other.issued.certificate
            assert one.issued.streams == other.issued.streams


# --- not at all -------------------------------------------------------------------------------------------------------


async def test_an_unknown_token_and_a_wrong_secret_get_the_same_answer(hub: Site) -> None:
    token = await hub.token("pi")
    wrong = await hub.enroll(token, secret=bytes(16))
    unknown = await hub.enroll(Token(token.url, token.ca_digest, "pi", "nosuchtoken", token.secret))
    strange = await hub.enroll(Token(token.url, token.ca_digest, "pi", "../../secrets/x", token.secret))
    assert wrong == unknown == strange
    assert (wrong.status, wrong.problem.reason) == (403, "UnknownToken")


async def test_an_expired_token_is_gone(hub: Site) -> None:
    token = await hub.token("pi", ttl_s=60)
    hub.clock.moved_s = 61
    reply = await hub.enroll(token)
    assert (reply.status, reply.problem.reason) == (410, "ExpiredToken")


async def test_a_token_is_for_its_own_node(hub: Site) -> None:
    reply = await hub.enroll(await hub.token("pi"), node="other")
    assert (reply.status, reply.problem.reason) == (403, "OtherNode")
    assert "the token is for node pi" in reply.problem.message
    assert (await hub.enroll(await hub.token("pi"))).status == 200, "nothing was used up"


async def test_a_token_that_was_deleted_is_unknown(hub: Site) -> None:
    token = await hub.token("pi")
    await tokens.delete(hub.admin, token.ident)
    assert (await hub.enroll(token)).problem.reason == "UnknownToken"


async def test_a_secret_that_is_no_token_is_none(hub: Site) -> None:
    meta = {"name": "skerry-token-abcdef", "namespace": "skerry"}
    await hub.admin.create(SECRETS, "skerry", {"apiVersion": "v1", "kind": "Secret", "metadata": meta})
    token = await hub.token("pi")
    reply = await hub.enroll(Token(token.url, token.ca_digest, "pi", "abcdef", token.secret))
    assert reply.problem.reason == "UnknownToken"


async def test_an_administrator_may_deny(hub: Site) -> None:
    """Before anybody has signed: a hub that died in between."""
    key, token = new_key(), await hub.token("pi")
    with pytest.raises(ClusterAway):
        await enrolment(hub, faulty(hub.admin, 6)).enrol(request(token, key))
    name = request_name("pi", token.ident)
    found = await hub.admin.get(REQUESTS, "", name)
    assert not found["status"].get("conditions")
    denied = {"type": "Denied", "status": "True", "reason": "Test", "message": "not\nthis one"}
    await hub.admin.patch(REQUESTS, "", name, {"status": {"conditions": [denied]}}, subresource="approval")
    reply = await hub.enroll(token, key)
    assert (reply.status, reply.problem.reason) == (403, "Denied")
    assert "not this one" in reply.problem.message


async def test_a_request_that_somebody_else_made_in_the_hubs_name_is_not_signed(hub: Site) -> None:
    token, name = await hub.token("pi"), ""
    spec = {
        "signerName": SIGNER,
        "usages": ["client auth"],
        "request": base64.b64encode(csr_for("pi").encode()).decode(),
    }
    name = request_name("pi", token.ident)
    await hub.admin.create(REQUESTS, "", {"metadata": {"name": name}, "spec": spec})
    reply = await hub.enroll(token)
    assert (reply.status, reply.problem.reason) == (503, "ForeignRequest")
    assert name in reply.problem.message
    assert not (await hub.admin.get(REQUESTS, "", name))["status"].get("conditions")


async def test_an_authority_that_has_expired_signs_nothing(hub: Site) -> None:
    token = await hub.token("pi")
    hub.clock.moved_s = 11 * 365 * 86_400
    reply = await hub.enroll(token)
    assert (reply.status, reply.problem.reason, reply.headers["retry-after"]) == (503, "NoAuthority", "5")


# --- in pieces --------------------------------------------------------------------------------------------------------


def faulty(behind: Cluster, at: int, after: bool = False) -> Cluster:
    """The API goes away at the n-th request: before it does anything, or `after`, with the answer lost."""
    left = at

    class Faulty:
        def __getattr__(self, name: str) -> Any:
            async def asked(*args: Any, **kwargs: Any) -> Any:
                nonlocal left
                left -= 1
                if left == 0 and not after:
                    raise ClusterAway("gone")
                try:
                    return await getattr(behind, name)(*args, **kwargs)
                finally:  # an error is an answer too
                    if left == 0:
                        raise ClusterAway("gone")

            return asked

    return cast(Cluster, Faulty())


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_it_may_be_cut_off_at_any_step_and_is_finished_when_the_device_comes_again(
    hub: Site, after: bool
) -> None:
    """The hub died, or the API went away, or both; another replica goes on."""
    steps = 0
    while True:
        steps += 1
        node = f"pi-{steps}"
        key, token = new_key(), await hub.token(node)
        try:
            whole = await enrolment(hub, faulty(hub.admin, steps, after)).enrol(request(token, key))
        except ClusterError:
            if steps > 2 or (after and steps == 2):  # then nobody else can use what is half done
                with pytest.raises(Declined):
                    await enrolment(hub).enrol(request(token, new_key()))
            whole = await enrolment(hub).enrol(request(token, key))
            ended = False
        else:
            ended = True
        made = hub.authority.accepts(
            (whole.certificate + whole.streams).encode(), key.public_key(), node, pki.utc_now()
        )
        assert (await kept(hub, node)).serials == made.serials
        assert whole == await enrolment(hub).enrol(request(token, key))
        if ended:
            break
    assert steps == 10, "nine requests to the API, each of which was the last once"
    assert len(await hub.objects(REQUESTS)) == steps


async def test_another_authority_meanwhile_does_not_hand_out_what_the_old_one_signed(hub: Site, tmp_path: Any) -> None:
    key, token = new_key(), await hub.token("pi")
    await hub.enroll(token, key)
    (tmp_path / "other").mkdir()
    other = authority.load(*authority.make(tmp_path / "other"))
    with pytest.raises(Declined, match="not this hub's"):
        await enrolment(hub, ca=other).enrol(request(token, key))
