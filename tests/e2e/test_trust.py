"""A hostile broker between a real hub and a real board: it reads nothing, opens no shell, forges nothing, replays
nothing.

Its owner (fleet.owner) hears every topic and says on each what he likes: forgeries, what he heard, in any order, to
either end. He could drop and delay too, which costs him nothing and gives him nothing but that.
"""

from __future__ import annotations

import json
import random
import re
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from fleet import Fleet, identities, pod, status, truth
from fleet.owner import Owner, Said
from golden.wirecheck import NotInContract, validate_payload
from rig import Device, until
from rig.site import kubectl
from skerry.wire import codec, cose, frame, guard, message
from skerry.wire import streams as stream_messages
from skerry.wire.message import Ack, Credit, Delta, Dial, Hello, Inventory, Reject, RejectCode, Report, Welcome
from unit.wire.examples import ITEMS, MESSAGES, STREAMS

pytestmark = pytest.mark.e2e
NODE = "edge-1"
UP, DOWN, WILL = (f"skerry/v1/{NODE}/{way}" for way in ("up", "down", "will"))
STREAMS_UP, STREAMS_DOWN = (f"skerry/v1/{NODE}.streams/{way}" for way in ("up", "down"))
OPPOSITE = {UP: DOWN, DOWN: UP, STREAMS_UP: STREAMS_DOWN, STREAMS_DOWN: STREAMS_UP}
METRICS = "127.0.0.1:9100"
PER_S = 15.0  # below what the hub takes for a flood, which would spare it the rest
WATCHED_S = 45.0  # longer than a Hello may go without a proof


@pytest.fixture(scope="module")
def owner(fleet: Fleet) -> Owner:
    return Owner(fleet)


@pytest.fixture(scope="module")
def board(fleet: Fleet, owner: Owner) -> Iterator[Device]:
    """edge-1 with its metrics; the owner has heard everything that it ever said."""
    assert owner.heard() == []
    device = fleet.join(NODE)
    config = device.agent_config
    assert config is not None
    device.agent_config = lambda board: f'{config(board)}metrics_listen = "{METRICS}"\n'
    device.boot(network=True)
    device.start_agent()
    fleet.kubectl("wait", f"node/{NODE}", "--for=condition=Ready", "--timeout=90s")
    yield device
    device.power_off()
    assert device.leftovers() == []


def counter(board: Device, name: str) -> int:
    text = board.nsenter(["busybox", "wget", "-qO-", f"http://{METRICS}/metrics"]).stdout
    found = re.search(rf"^{name} (\d+)", text, re.MULTILINE)
    assert found is not None
    return int(found[1])


def canary() -> str:
    return secrets.token_hex(16)


def shown(fleet: Fleet) -> dict[str, Any]:
    """What the API says of pods; each of their versions."""
    return {p["metadata"]["name"]: (p["metadata"]["resourceVersion"], p["status"]) for p in fleet.get("pods")["items"]}


def device_knows(board: Device) -> tuple[Any, ...]:
    found = status(board)
    return found["digest"], found["generation"], identities(board)


def ready(fleet: Fleet) -> str:
    conditions = fleet.get("node", NODE)["status"]["conditions"]
    return str(next(c["status"] for c in conditions if c["type"] == "Ready"))


def execute(fleet: Fleet, *command: str) -> str:
    return fleet.kubectl("exec", "safe", "--", *command)


def runs(fleet: Fleet) -> int:
    """How often `ran` was called in the pod."""
    return int(execute(fleet, "/bin/sh", "-c", "cat /tmp/ran 2>/dev/null | wc -l"))


RAN = ("/bin/sh", "-c", "echo x >> /tmp/ran")


@pytest.fixture(scope="module")
def canaries(fleet: Fleet, board: Device, owner: Owner) -> dict[str, str]:
    """A life with some secrets, all of which passed by the owner: in a ConfigMap, a Secret, a variable, a log, a
    command, what it was told, an Event and a status."""
    words = {name: canary() for name in ("config", "secret", "variable", "log", "command", "told", "status")}
    fleet.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"k": words["config"]}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"k": words["secret"]}},
    )
    volumes = [{"name": "c", "configMap": {"name": "c"}}, {"name": "s", "secret": {"secretName": "s"}}]
    mounts = [{"name": name, "mountPath": f"/{name}"} for name in ("c", "s")]
    env = [{"name": "PORT", "value": "0"}, {"name": "WORD", "value": words["variable"]}]
    env.append({"name": "GREETING", "value": words["log"]})
    main = {"name": "main", "image": "rig.local/hello:1", "env": env, "volumeMounts": mounts}
    bad = {"name": "main", "image": "rig.local/hello:1", "command": [f"/{words['status']}"]}
    fleet.apply(pod("safe", NODE, volumes=volumes, containers=[main]), pod("bad", NODE, containers=[bad]))
    fleet.wait_phase("safe")
    until(lambda: words["status"] in json.dumps(fleet.get("pod", "bad")["status"]), "the status to be told")
    fleet.kubectl("delete", "pod", "bad", "--timeout=90s")
    assert execute(fleet, "cat", "/c/k") == words["config"]
    assert execute(fleet, "cat", "/s/k") == words["secret"]
    assert words["log"] in fleet.kubectl("logs", "safe")
    command = ("/bin/sh", "-c", f"cat; echo {words['command']}")
    said = fleet.kubectl("exec", "-i", "safe", "--", *command, stdin=words["told"])
    assert said == f"{words['told']}{words['command']}\n"
    fleet.kubectl("exec", "safe", "--", *RAN)
    return words


def in_clear(said: Said) -> list[Any]:
    """The messages that a payload shows to anybody: by rights those that are only signed. Raises NotInContract."""
    if validate_payload(said.payload) == "sealed":
        return []
    signed = cose.parse_sign1(said.payload[1:]).payload
    assert signed is not None
    return [message.decode(codec.decode(signed)[guard.FRAME])]


def test_it_reads_nothing(canaries: dict[str, str], owner: Owner) -> None:
    heard = owner.heard(*OPPOSITE)
    assert {said.topic for said in heard} == set(OPPOSITE)
    assert len(heard) > 50
    read = [one for said in heard for one in in_clear(said)]
    assert {type(one) for one in read} <= {Hello, Welcome, Ack, Reject}
    assert all(not one.nonce for one in read if isinstance(one, Reject)), "outside of sessions a hail and nothing else"
    for word in canaries.values():
        for form in (word.encode(), bytes.fromhex(word)):
            assert not any(form in said.payload for said in heard)
            assert not any(form in repr(one).encode() for one in read)
    # What a broker in clear would have shown is found by the same means.
    plain = Said(DOWN, frame.pack(4, {9: canaries["config"].encode()}))
    with pytest.raises(NotInContract):
        in_clear(plain)


def test_it_replays_nothing(fleet: Fleet, board: Device, owner: Owner, canaries: dict[str, str]) -> None:
    """Each payload to its own topic and to the opposite one, in any order, and of streams to those of states."""
    del canaries
    heard = owner.heard(*OPPOSITE)
    again = [*heard, *(Said(OPPOSITE[said.topic], said.payload) for said in heard)]
    again += [Said(UP, said.payload) for said in heard if said.topic == STREAMS_UP][:20]
    again += [Said(DOWN, said.payload) for said in heard if said.topic == STREAMS_DOWN][:20]
    random.Random(5).shuffle(again)
    hub, before, knows = fleet.sessions()[NODE], shown(fleet), device_knows(board)
    refused, replayed = (counter(board, f"skerry_frames_{what}_total") for what in ("refused", "replayed"))
    owner.say(again, PER_S)
    after = fleet.sessions()[NODE]
    assert device_knows(board) == knows
    assert shown(fleet) == before
    assert after["refused"] + after["replayed"] > hub["refused"] + hub["replayed"]
    assert after["replayed"] > hub["replayed"]
    assert after["crashes"] == after["malformed"] == 0
    assert counter(board, "skerry_frames_refused_total") > refused
    assert counter(board, "skerry_frames_replayed_total") >= replayed
    assert ready(fleet) == "True"
    assert runs(fleet) == 1
    goes_on(fleet, board, "after-replays")


def goes_on(fleet: Fleet, board: Device, name: str) -> None:
    """The next good change still comes there and back."""
    fleet.apply(pod(name, NODE))
    until(lambda: f"default/{name}/main" in truth(board), f"{name} to run", 120)
    until(lambda: f"default/{name}/main" in fleet.view(board), f"{name} to be shown", 120)


def test_it_opens_no_shell(fleet: Fleet, board: Device, owner: Owner, canaries: dict[str, str]) -> None:
    """Neither by the frames that opened one, nor by its own, before a session for streams, in one and after."""
    del canaries
    streams = owner.heard(STREAMS_DOWN, STREAMS_UP)
    dials = owner.heard(DOWN)[-30:]  # a Dial among them, which cannot be seen
    made_up = [Said(DOWN, message.encode(m)) for m in MESSAGES.values() if isinstance(m, Dial)]
    made_up += [Said(STREAMS_DOWN, stream_messages.encode(m)) for m in STREAMS.values()]
    before, opened = runs(fleet), counter(board, "skerry_streams_opened_total")
    owner.say([*dials, *made_up, *streams], 200)
    session = fleet.site.spawn([kubectl(), "exec", "safe", "--", "sleep", "6"], name="session")
    until(lambda: counter(board, "skerry_streams_opened_total") == opened + 1, "the operator's own")
    epoch = owner.heard(STREAMS_DOWN)[-3:]
    owner.say([*made_up, *streams, *epoch, *epoch], 200)
    assert session.wait() == 0, session.log()
    owner.say([*epoch, *dials], 200)
    assert counter(board, "skerry_streams_opened_total") == opened + 1
    assert runs(fleet) == before
    assert counter(board, "skerry_streams_broken_total") == 0


def test_it_forges_no_status(fleet: Fleet, board: Device, owner: Owner, canaries: dict[str, str]) -> None:
    del canaries
    nonces = {one.nonce for said in owner.heard(UP, DOWN) for one in in_clear(said) if one.nonce}
    hello = next(one for said in owner.heard(UP) for one in in_clear(said))
    before, sessions = shown(fleet), fleet.sessions()[NODE]
    forged: list[message.Message] = [m for m in MESSAGES.values() if isinstance(m, (Hello, Report, Inventory))]
    for nonce in nonces:
        forged += [Report(nonce, hello.journal_id, ITEMS, 0), Ack(nonce, 99, bytes(16)), Reject(nonce, RejectCode.FULL)]
    owner.say([Said(UP, message.encode(m)) for m in forged][:100], PER_S)
    assert shown(fleet) == before
    assert ready(fleet) == "True"
    after = fleet.sessions()[NODE]
    assert (after["malformed"], after["rejected"], after["lost"]) == (0, sessions["rejected"], sessions["lost"])


def test_it_forges_no_ack_and_no_set(fleet: Fleet, board: Device, owner: Owner, canaries: dict[str, str]) -> None:
    """With the hub away the device has much to tell, and would be glad to be told that all of it is stored."""
    del canaries
    assert fleet.hub is not None
    fleet.hub.kill()
    board.kill_agent()  # what it tells after its start waits
    greeted = len(owner.heard(UP))
    board.start_agent()
    until(lambda: status(board)["outbox"] > 0, "something to tell")
    until(lambda: len(owner.heard(UP)) > greeted, "a Hello")
    knows, waits = device_knows(board), status(board)["outbox"]
    hello = [one for said in owner.heard(UP) for one in in_clear(said)][-1]
    forged: list[message.Message] = [
        Welcome(hello.nonce, False, False, 16), Ack(hello.nonce, hello.generation, hello.digest),
        Ack(hello.nonce, journal_id=hello.journal_id, seq=hello.outbox_next - 1), Credit(hello.nonce, 0),
        Delta(hello.nonce, hello.store, hello.epoch, 1 << 40, hello.generation + 1, hello.digest, bytes(16)),
        Reject(b"", RejectCode.NO_SESSION),
    ]  # fmt: skip
    owner.say([Said(DOWN, message.encode(m)) for m in forged] * 5, 100)
    owner.say(owner.heard(DOWN)[-200:], 200)
    assert status(board)["outbox"] >= waits
    assert device_knows(board) == knows
    fleet.start_hub()
    until(lambda: status(board)["outbox"] == 0, "the hub to have all of it", 120)
    goes_on(fleet, board, "after-acks")


def test_the_kept_hello_of_a_board_that_is_off_makes_no_node_ready(
    fleet: Fleet, board: Device, owner: Owner, canaries: dict[str, str]
) -> None:
    """Neither with the hub that heard it nor with one that never did."""
    del canaries
    until(lambda: ready(fleet) == "True", "the node to be Ready before", 120)
    board.power_off()
    owner.say([Said(WILL, b"lost")])  # what the broker says anyway after a minute
    until(lambda: ready(fleet) != "True", "the node to be away")
    kept = owner.heard(UP)
    hellos = [said for said in kept if said.payload[:1] == guard.SIGNED]
    owner.say([*hellos[-20:], *kept[-80:]], PER_S)
    assert ready(fleet) != "True"
    assert fleet.hub is not None
    fleet.hub.kill()
    fleet.start_hub()
    owner.say([hellos[-1], *kept[-30:]], PER_S)
    until(lambda: fleet.sessions()[NODE]["hellos"] > 0, "the hub to take the Hello for one")
    assert not fleet.sessions()[NODE]["live"]
    until(lambda: "no copy" in fleet.sessions()[NODE]["note"] or fleet.sessions()[NODE]["state"] == "away",
          "the hub to give it up", WATCHED_S)  # fmt: skip
    assert ready(fleet) != "True"
    board.boot(network=True)
    board.start_agent()
    fleet.kubectl("wait", f"node/{NODE}", "--for=condition=Ready", "--timeout=120s")
    goes_on(fleet, board, "after-all")
