"""A device's identity before its connections: enrolled or not, with a token or without, and never in the loop's way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from contract.certificates import authority, digest, enrolled
from contract.enrolling import NODE, Hub, problem, serving
from skerry import identity
from skerry.errors import LinkLost, NodeChanged
from skerry.identity import IDENTITY, TOKEN
from skerry.wire import token as tokens
from skerry.wire.address import BrokerAddress
from skerry.wire.token import Token
from skerry.world.clock import SystemClock
from skerry.world.enrolled import Enrolment, Outcome
from skerry.world.mqtt_values import MqttOptions

OPTIONS = MqttOptions("", 0, NODE)
STREAMS = MqttOptions("", 0, f"{NODE}.streams")
CA = authority()


class Half:
    """ports.Entropy without surprises."""

    def token(self, size: int) -> bytes:
        return bytes(size)

    def uniform(self) -> float:
        return 0.5


class Scripted:
    """What the child is: answers in turn, the last one for ever."""

    def __init__(self, folder: Path, *outcomes: Outcome) -> None:
        self._folder, self._outcomes, self.asked = folder, list(outcomes), 0

    def __call__(self, folder: Path, node: str) -> Outcome:
        self.asked += 1
        outcome = self._outcomes.pop(0) if len(self._outcomes) > 1 else self._outcomes[0]
        if not outcome.problem:
            identity.write(folder, replace(enrolled(CA, NODE), token=token_of(folder).ident))
            (folder / TOKEN).unlink()
        return outcome


def token_of(folder: Path) -> Token:
    return identity.token(folder / TOKEN)


REFUSED, LATER, DONE = Outcome("the token was used", final=True), Outcome("the hub has trouble"), Outcome()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with serving(tmp_path / "hub") as hub:
        yield hub


class Later(SystemClock):
    """Time that can be let pass."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    def now(self) -> float:
        return super().now() + self.passed_s


@pytest.fixture
def clock() -> Later:
    return Later()


class Lines(list[str]):
    def __call__(self, line: str) -> None:
        self.append(line)


def of(folder: Path, ask: Callable[[Path, str], Outcome] | None = None, **more: object) -> tuple[Enrolment, Lines]:
    lines = Lines()
    values = {"node": NODE, "node_given": False, "address": None, "clock": SystemClock(), **more}
    asked = {"ask": ask} if ask is not None else {}
    return Enrolment(folder, entropy=Half(), log=lines, **values, **asked), lines  # type: ignore[arg-type]


def give(folder: Path, hub: Hub, **changes: str) -> None:
    (folder / TOKEN).write_text(tokens.encode(replace(hub.token, **changes)))  # type: ignore[arg-type]


async def lost(enrolment: Enrolment) -> str:
    with pytest.raises(LinkLost) as why:
        await enrolment.complete(OPTIONS)
    assert "\n" not in str(why.value)
    return str(why.value)


async def test_who_is_enrolled_connects_as_the_identity_says(folder: Path) -> None:
    identity.write(folder, enrolled(CA, NODE, "mqtts://hub.example:8884"))
    enrolment, lines = of(folder)
    state, streams = await enrolment.complete(OPTIONS), await enrolment.complete(STREAMS)
    assert (state.host, state.port, state.client_id) == ("hub.example", 8884, NODE)
    assert state.tls is not None
    assert streams.tls not in (None, state.tls), "a certificate of its own"
    assert (await enrolment.complete(OPTIONS)).tls is state.tls, "the same as long as nothing changes"
    assert lines == []


async def test_the_configured_broker_comes_first(folder: Path) -> None:
    identity.write(folder, enrolled(CA, NODE, "mqtts://hub.example:8884"))
    enrolment, _ = of(folder, address=BrokerAddress("other", 1, True))
    options = await enrolment.complete(OPTIONS)
    assert (options.host, options.port) == ("other", 1)


async def test_without_identity_and_token_it_says_what_to_do(folder: Path) -> None:
    enrolment, _ = of(folder)
    said = await lost(enrolment)
    assert said.startswith("not enrolled: ")
    assert "skerry-hub token create" in said
    assert "skerry enroll" in said


async def test_an_identity_that_appears_is_taken_and_a_new_one_too(folder: Path) -> None:
    enrolment, _ = of(folder)
    await lost(enrolment)
    identity.write(folder, enrolled(CA, NODE))
    first = await enrolment.complete(OPTIONS)
    identity.write(folder, enrolled(CA, NODE))
    assert (await enrolment.complete(OPTIONS)).tls is not first.tls


async def test_an_identity_under_another_name_ends_the_process(folder: Path) -> None:
    identity.write(folder, enrolled(CA, "edge-2"))
    enrolment, _ = of(folder)
    with pytest.raises(NodeChanged, match="enrolled as edge-2, and running as edge-1"):
        await enrolment.complete(OPTIONS)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"node": "edge-1"}'])
async def test_a_broken_identity_is_a_lost_link_with_a_cure(folder: Path, content: bytes) -> None:
    (folder / IDENTITY).write_bytes(content)
    enrolment, _ = of(folder)
    assert "enrol this device with a new token" in await lost(enrolment)


async def test_a_key_that_is_not_the_certificates_is_a_lost_link_with_a_cure(folder: Path) -> None:
    one, other = enrolled(CA, NODE), enrolled(CA, NODE)
    identity.write(folder, replace(one, keys=replace(one.keys, key=other.keys.key)))
    said = await lost(of(folder)[0])
    assert "enrol this device with a new token" in said
    assert other.keys.key.splitlines()[1] not in said


# --- tokens -----------------------------------------------------------------------------------------------------------


async def test_a_token_that_lies_here_enrols_before_the_first_connection(folder: Path, hub: Hub) -> None:
    give(folder, hub)
    enrolment, lines = of(folder)
    options = await enrolment.complete(OPTIONS)
    assert options.tls is not None
    assert lines == ["enrolment: done, as edge-1"]
    assert not (folder / TOKEN).exists()
    assert len(hub.asked) == 1


async def test_the_loop_goes_on_meanwhile(folder: Path, hub: Hub) -> None:
    give(folder, hub)
    enrolment, _ = of(folder)
    turns = 0

    async def spin() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.001)

    spinning = asyncio.ensure_future(spin())
    await enrolment.complete(OPTIONS)
    spinning.cancel()
    assert turns > 10


async def test_the_child_says_why_and_is_asked_rarely_once_the_token_was_refused(
    folder: Path, hub: Hub, clock: Later
) -> None:
    give(folder, hub)
    hub.answer = problem(410, "TokenExpired", "it has expired: skerry-hub token create edge-1")
    enrolment, _ = of(folder, clock=clock)
    for _ in range(3):
        assert "it has expired: skerry-hub token create edge-1 (TokenExpired)" in await lost(enrolment)
    assert len(hub.asked) == 1
    clock.passed_s += 600 / 2 + 0.5 * 600 + 1
    await lost(enrolment)
    assert len(hub.asked) == 2


async def test_another_token_is_tried_at_once(folder: Path, hub: Hub) -> None:
    give(folder, hub)
    ask = Scripted(folder, REFUSED, DONE)
    enrolment, _ = of(folder, ask)
    await lost(enrolment)
    give(folder, hub, ident="another1")
    await enrolment.complete(OPTIONS)
    assert ask.asked == 2


async def test_trouble_of_the_hub_is_left_to_the_links_own_delays(folder: Path, hub: Hub) -> None:
    give(folder, hub)
    ask = Scripted(folder, LATER, LATER, DONE)
    enrolment, _ = of(folder, ask)
    assert await lost(enrolment) == await lost(enrolment) == "not enrolled: the hub has trouble"
    await enrolment.complete(OPTIONS)


async def test_no_process_is_started_while_the_hub_cannot_be_reached(folder: Path, hub: Hub) -> None:
    give(folder, hub)
    hub.close()
    ask = Scripted(folder, DONE)
    enrolment, _ = of(folder, ask)
    assert "Connection refused" in await lost(enrolment)
    assert ask.asked == 0


@pytest.mark.parametrize("content", [b"", b"hello", b"skerry1.AAAA", b"\xff\xfe", b"x" * 100_000])
async def test_what_is_no_token_is_told_with_a_cure_and_never_shown(folder: Path, hub: Hub, content: bytes) -> None:
    (folder / TOKEN).write_bytes(content)
    ask = Scripted(folder, DONE)
    enrolment, _ = of(folder, ask)
    assert "copy the whole line that skerry-hub token create printed" in await lost(enrolment)
    assert (ask.asked, hub.connections) == (0, 0)


async def test_a_new_token_that_does_not_do_leaves_the_old_identity_in_use(
    folder: Path, hub: Hub, clock: Later
) -> None:
    identity.write(folder, enrolled(CA, NODE))
    give(folder, hub, ident="second")
    ask = Scripted(folder, REFUSED, LATER, DONE)
    enrolment, lines = of(folder, ask, clock=clock)
    old = (await enrolment.complete(OPTIONS)).tls
    assert (await enrolment.complete(OPTIONS)).tls is old
    assert lines == ["enrolment: the token was used; the identity that this device has stays in use"]
    assert ask.asked == 1, "no reconnect waits for a token that was refused"
    clock.passed_s += 30_000
    assert (await enrolment.complete(OPTIONS)).tls is old
    clock.passed_s += 30_000
    assert (await enrolment.complete(OPTIONS)).tls is not old
    assert not (folder / TOKEN).exists()


async def test_a_token_that_made_the_identity_already_only_has_to_go(folder: Path, hub: Hub) -> None:
    """The power went after the identity was written and before the token was removed."""
    identity.write(folder, enrolled(CA, NODE))
    give(folder, hub, ca_digest=digest(CA))  # type: ignore[arg-type]
    ask = Scripted(folder, REFUSED)
    enrolment, _ = of(folder, ask)
    await enrolment.complete(OPTIONS)
    assert (ask.asked, (folder / TOKEN).exists()) == (0, False)


async def test_a_token_for_another_node_than_the_configurations_is_refused(folder: Path, hub: Hub) -> None:
    give(folder, hub)
    enrolment, _ = of(folder, node="pi", node_given=True)
    said = await lost(enrolment)
    assert "the token is for edge-1, and this device's configuration says pi" in said
    assert hub.asked == []


async def test_state_and_streams_at_once_are_one_enrolment(folder: Path, hub: Hub) -> None:
    give(folder, hub)
    enrolment, _ = of(folder)
    both = await asyncio.gather(enrolment.complete(OPTIONS), enrolment.complete(STREAMS))
    assert all(options.tls is not None for options in both)
    assert len(hub.asked) == 1


def test_an_attempt_under_way_does_not_keep_the_process_from_ending(folder: Path, hub: Hub) -> None:
    """asyncio.run() would wait for threads of its pool, and a look-up of a name may hang for a minute."""
    give(folder, hub)

    def hang(_folder: Path, _node: str) -> Outcome:
        time.sleep(3)
        return LATER

    async def give_up() -> None:
        enrolment, _ = of(folder, hang)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(enrolment.complete(OPTIONS), 0.2)

    begun = time.monotonic()
    asyncio.run(give_up())
    assert time.monotonic() - begun < 3
