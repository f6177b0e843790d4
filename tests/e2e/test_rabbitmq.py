"""A whole skerry on RabbitMQ, set up by docs/rabbitmq.md and by nothing else: what works on mosquitto works here, and a
neighbour's certificate is good for the neighbour alone. `make brokers`.

The second board's name has a dot where the first one's has a dash: RabbitMQ takes a dot in a topic for a slash, and a
rule by regular expression takes it for anything.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import pytest

from fleet import BIN, MQTTS_PORT, identities, pod, truth
from fleet.rabbitmq import Inside, RabbitFleet
from rig import Device, rabbitmq, until
from rig.site import kubectl
from skerry.errors import LimitExceeded, LinkLost
from skerry.limits import PACKET_BYTES_MAX, PAYLOAD_BYTES_MAX
from skerry.model.streams import streams_name
from skerry.world.link import down_topic, streams_down_topic, up_topic, will_topic
from skerry.world.mqtt import MqttConnection
from skerry.world.mqtt_values import MqttOptions, Will
from skerry_hub import mosquitto, pki
from skerry_hub.enrolment.authority import STEM

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(bool(rabbitmq.missing()), reason=rabbitmq.missing()),
]
DASHED, DOTTED = "edge-1", "edge.1"

WAIT_S, QUIET_S = 60.0, 2.0
BULK_BYTES = 6_000_000
DAYS = 2


@pytest.fixture(scope="module")
def fleet() -> Iterator[RabbitFleet]:
    whole = RabbitFleet()
    with whole:
        whole.start()
        yield whole


@pytest.fixture(scope="module")
def boards(fleet: RabbitFleet) -> Iterator[dict[str, Device]]:
    """Both Ready."""
    made = {name: fleet.join(name) for name in (DASHED, DOTTED)}
    for device in made.values():
        device.boot(network=True)
        device.start_agent()
    for name in made:
        fleet.kubectl("wait", f"node/{name}", "--for=condition=Ready", "--timeout=90s")
    yield made
    for device in made.values():
        device.power_off()
        assert device.leftovers() == []


@pytest.fixture(params=[DASHED, DOTTED])
def board(request: pytest.FixtureRequest, boards: dict[str, Device]) -> Device:
    return boards[request.param]


@pytest.fixture
def clean(fleet: RabbitFleet) -> Iterator[None]:
    yield
    fleet.clear()


def ready(fleet: RabbitFleet, node: str) -> str:
    conditions = fleet.get("node", node)["status"]["conditions"]
    return str(next(c["status"] for c in conditions if c["type"] == "Ready"))


def serving(fleet: RabbitFleet, board: Device) -> str:
    """A pod that serves what a ConfigMap says; its name."""
    name = f"on-{board.name}"
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"tide": "ebb"}}
    mounts = [{"name": "settings", "mountPath": "/settings"}]
    main = {"name": "main", "image": "rig.local/hello:1", "volumeMounts": mounts}
    main["env"] = [{"name": "PORT", "value": "8080"}, {"name": "GREETING", "value": f"greetings from {name}"}]
    volumes = [{"name": "settings", "configMap": {"name": name}}]
    fleet.apply(settings, pod(name, board.name, containers=[main], volumes=volumes))
    fleet.wait_phase(name)
    return name


# --- from kubectl to the board and back -------------------------------------------------------------------------------


def test_nothing_but_tls_clients_may_come_from_outside(fleet: RabbitFleet) -> None:
    lines = fleet.site.run(["ss", "-Hltnp"]).stdout.splitlines()
    ours = [line.split()[3] for line in lines if "beam" in line or "epmd" in line]
    beyond = [at for at in ours if not at.startswith(("127.0.0.1:", "[::1]:"))]
    assert beyond == [f"*:{MQTTS_PORT}"]


def test_a_pod_its_configuration_and_the_ways_into_it(fleet: RabbitFleet, board: Device, clean: None) -> None:
    name = serving(fleet, board)
    assert f"default/{name}/main" in truth(board)
    before = identities(board)[f"default/{name}/main"]
    assert f"greetings from {name}" in fleet.kubectl("logs", name)
    assert fleet.kubectl("exec", name, "--", "cat", "/settings/tide") == "ebb"
    fleet.kubectl("patch", "configmap", name, "--type=merge", "-p", '{"data":{"tide":"flow"}}')
    until(lambda: fleet.kubectl("exec", name, "--", "cat", "/settings/tide") == "flow", "the change to come", 120)
    assert identities(board)[f"default/{name}/main"] == before
    said = fleet.kubectl("exec", "-i", name, "--", "/bin/sh", "-c", "cat; echo out", stdin="in\n")
    assert said == "in\nout\n"
    assert fleet.kubectl("top", "pod", name, "--no-headers").split()[0] == name
    fleet.kubectl("delete", "pod", name, "--timeout=90s")
    until(lambda: f"default/{name}/main" not in truth(board), "the pod to be gone")


def test_a_port_is_forwarded(fleet: RabbitFleet, board: Device, clean: None) -> None:
    name = serving(fleet, board)
    forward = fleet.site.spawn([kubectl(), "port-forward", f"pod/{name}", "18080:8080"], name=f"forward-{board.name}")
    forward.wait_log("Forwarding from")
    argv = ["busybox", "wget", "-qO-", "http://127.0.0.1:18080/"]
    for _ in range(3):
        assert "hello from" in fleet.site.run(argv).stdout
    forward.stop()


def test_bulk_comes_whole(fleet: RabbitFleet, board: Device, clean: None) -> None:
    """Megabytes through an exec, and a ConfigMap near the bound of an object."""
    name = serving(fleet, board)
    script = f"head -c {BULK_BYTES} /dev/urandom > /tmp/bulk; base64 /tmp/bulk | sha256sum"
    digest = fleet.kubectl("exec", name, "--", "/bin/sh", "-c", script).split()[0]
    told = fleet.kubectl("exec", name, "--", "base64", "/tmp/bulk")
    assert hashlib.sha256(told.encode()).hexdigest() == digest
    large = "".join(f"{n:07x}\n" for n in range(110_000))
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "large"}, "data": {"k": large}}
    mount = {"name": "main", "image": "rig.local/hello:1", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    fleet.site.kubectl("create", "-f", "-", stdin=json.dumps(settings))
    fleet.apply(pod("reader", board.name, containers=[mount], volumes=[{"name": "v", "configMap": {"name": "large"}}]))
    fleet.wait_phase("reader")
    found = fleet.kubectl("exec", "reader", "--", "sha256sum", "/v/k").split()[0]
    assert found == hashlib.sha256(large.encode()).hexdigest()


# --- when the broker goes, and when a board goes ----------------------------------------------------------------------


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_after_the_brokers_restart_all_goes_on_and_no_pod_noticed(
    fleet: RabbitFleet, boards: dict[str, Device], clean: None, how: str
) -> None:
    names = {board: serving(fleet, board) for board in boards.values()}
    before = {board.name: identities(board) for board in boards.values()}
    assert fleet.broker is not None
    if how == "killed":
        fleet.broker.kill()
    else:
        assert fleet.broker.stop() == 0
    fleet.apply(*(pod(f"late-{name}", board.name) for board, name in names.items()))
    fleet.start_broker()
    for board, name in names.items():
        fleet.wait_phase(f"late-{name}")
        assert fleet.kubectl("exec", name, "--", "echo", "back") == "back\n"
        assert before[board.name].items() <= identities(board).items()
    assert {ready(fleet, name) for name in boards} == {"True"}


def test_a_board_that_vanishes_is_told_by_its_will(fleet: RabbitFleet, board: Device, clean: None) -> None:
    wills = fleet.sessions()[board.name]["wills"]
    board.kill_agent()
    time.sleep(10)
    assert fleet.sessions()[board.name]["wills"] == wills, "the will waits a minute"
    until(lambda: fleet.sessions()[board.name]["wills"] == wills + 1, "the will", 90)
    until(lambda: ready(fleet, board.name) == "Unknown", "the Node to be away")
    board.start_agent()
    until(lambda: ready(fleet, board.name) == "True", "the board to be back")
    board.stop_agent()
    until(lambda: ready(fleet, board.name) == "Unknown", "the farewell, at once", 30)
    board.start_agent()
    until(lambda: ready(fleet, board.name) == "True", "the board to be back again")


# --- what the broker keeps to ----------------------------------------------------------------------------------------


class Clients:
    """With certificates by the devices' authority, as many as a test wants; the fleet's own hub stays out of it by
    nodes that it does not know."""

    def __init__(self, fleet: RabbitFleet) -> None:
        self.fleet, self._open = fleet, list[MqttConnection]()
        authority = pki.load(fleet.trust / f"{STEM}.crt", fleet.trust / f"{STEM}.key")
        assert authority is not None
        self.authority = authority

    def context(self, name: str, authority: pki.Pair | None = None) -> ssl.SSLContext:
        files = self.fleet.trust / "client.crt", self.fleet.trust / "client.key"
        pki.save(pki.issue(authority or self.authority, name, (), (), DAYS, pki.utc_now()), *files)
        context = ssl.create_default_context(cafile=str(self.fleet.trust / f"{STEM}.crt"))
        context.load_cert_chain(*files)
        return context

    async def client(
        self, name: str, *topics: str, client_id: str = "", tls: ssl.SSLContext | None = None, **more: Any
    ) -> MqttConnection:
        """Connected with the certificate of `name`, whatever it calls itself."""
        context = tls or self.context(name)
        options = MqttOptions("127.0.0.1", MQTTS_PORT, client_id or name, tls=context, connect_timeout_s=WAIT_S, **more)
        dialer = Inside(self.fleet.site, "127.0.0.1", MQTTS_PORT, context)
        connection = MqttConnection(options, dialer=dialer)
        self._open.append(connection)
        await connection.connect(topics)
        return connection

    async def close(self) -> None:
        for connection in self._open:
            await connection.close()


OTHERS = ("n-1", "n.1", "other")  # who they are, no Node says
PAIRS = [
    (neighbour, victim)
    for neighbour in ("other", "n.1", "n-1", "n-1.streams")
    for victim in ("n-1", "n-1.streams", "n.1")
    if neighbour != victim
]


@pytest.fixture(scope="module")
def known(fleet: RabbitFleet) -> None:
    fleet.operator("device", *OTHERS)
    fleet.operator("hub", "b")


@pytest.fixture
async def clients(fleet: RabbitFleet, known: None) -> AsyncIterator[Clients]:
    made = Clients(fleet)
    yield made
    await made.close()


HUB = mosquitto.hub_names()[0]
CENTER, CENTER_STREAMS = mosquitto.hub_names("b")


async def heard(connection: MqttConnection) -> str:
    return (await asyncio.wait_for(connection.recv(), WAIT_S)).payload.decode()


async def silent(connection: MqttConnection, for_s: float = QUIET_S) -> bool:
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(connection.recv(), for_s)
        return False
    return True


async def test_the_largest_packet_comes_whole_and_a_larger_one_is_not_offered(clients: Clients) -> None:
    center = await clients.client(CENTER, up_topic("n-1"))
    edge = await clients.client("n-1", down_topic("n-1"))
    assert PAYLOAD_BYTES_MAX < edge.offer.packet_bytes_max <= PACKET_BYTES_MAX + 64 * 1024
    body = bytes(range(256)) * (PAYLOAD_BYTES_MAX // 256)
    for sender, topic, receiver in ((edge, up_topic("n-1"), center), (center, down_topic("n-1"), edge)):
        await sender.publish(topic, body)
        assert (await asyncio.wait_for(receiver.recv(), WAIT_S)).payload == body
    with pytest.raises(LimitExceeded):
        await edge.publish(up_topic("n-1"), bytes(edge.offer.packet_bytes_max))


async def test_no_more_than_the_receive_maximum_is_under_way(clients: Clients) -> None:
    center = await clients.client(CENTER)
    edge = await clients.client("n-1", down_topic("n-1"), manual_ack=True, inbox_max=2)
    for n in range(5):
        await center.publish(down_topic("n-1"), str(n).encode())
    got = [await asyncio.wait_for(edge.recv(), WAIT_S) for _ in range(2)]
    assert await silent(edge)
    edge.ack(got[0].handle)
    assert await heard(edge) == "2"
    assert await silent(edge)


async def test_a_message_that_has_expired_is_not_delivered(clients: Clients) -> None:
    center = await clients.client(CENTER_STREAMS)
    edge = await clients.client(streams_name("n.1"), streams_down_topic("n.1"), manual_ack=True, inbox_max=1)
    await center.publish(streams_down_topic("n.1"), b"first")
    first = await asyncio.wait_for(edge.recv(), WAIT_S)
    await center.publish(streams_down_topic("n.1"), b"stale", expiry_s=1)
    await center.publish(streams_down_topic("n.1"), b"fresh", expiry_s=60)
    await asyncio.sleep(3)
    edge.ack(first.handle)
    assert await heard(edge) == "fresh"


async def test_nothing_waits_for_who_was_away(clients: Clients) -> None:
    center = await clients.client(CENTER)
    edge = await clients.client("n-1", down_topic("n-1"))
    await edge.close()
    await center.publish(down_topic("n-1"), b"stale")
    assert await silent(await clients.client("n-1", down_topic("n-1")))


# --- a neighbour ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("neighbour", "victim"), PAIRS)
async def test_a_neighbour_hears_nothing_of_a_device(clients: Clients, neighbour: str, victim: str) -> None:
    """RabbitMQ ends the connection of who asks."""
    edge = await clients.client(victim, down_topic(victim))
    filters = [down_topic(victim), down_topic(victim).replace(".", "/"), up_topic(victim)]
    for wanted in (*filters, "skerry/v1/+/down", "skerry/v1/+/+/down", "skerry/#", "#"):
        curious = await clients.client(neighbour)
        with pytest.raises(LinkLost):
            await curious.subscribe([wanted])
        center = await clients.client(CENTER)
        await center.publish(down_topic(victim), wanted.encode())
        assert await heard(edge) == wanted
        with suppress(LinkLost):
            assert await silent(curious, 0.2)


@pytest.mark.parametrize(("neighbour", "victim"), PAIRS)
async def test_a_neighbour_cannot_speak_for_a_device(clients: Clients, neighbour: str, victim: str) -> None:
    center = await clients.client(CENTER, up_topic(victim), will_topic(victim), up_topic(neighbour))
    edge = await clients.client(victim, down_topic(victim))
    for way in (up_topic, will_topic, down_topic):
        for topic in (way(victim), way(victim).replace(".", "/")):
            forger = await clients.client(neighbour)
            with suppress(LinkLost):
                await forger.publish(topic, b"forged")
                await asyncio.wait_for(asyncio.shield(forger.lost), QUIET_S)
    honest = await clients.client(neighbour)
    await honest.publish(up_topic(neighbour), b"mine")
    assert await heard(center) == "mine", "and nothing before it"
    assert await silent(edge)


@pytest.mark.parametrize("delay_s", [0, 1])
async def test_a_neighbour_cannot_leave_a_will_for_a_device(clients: Clients, delay_s: int) -> None:
    """With a delay the broker keeps it in a queue, and sends it from there."""
    center = await clients.client(CENTER, will_topic("n-1"))
    for name in ("other", "n.1", "n-1"):
        edge = await clients.client(name, will=Will(will_topic("n-1"), f"by {name}".encode(), delay_s=delay_s))
        edge._tear_down()  # no DISCONNECT: it vanishes
    assert await heard(center) == "by n-1"
    assert await silent(center, 5)


@pytest.mark.parametrize("victim", ["n-1", CENTER, streams_name("n-1")])
async def test_nobody_is_thrown_off_by_another_who_takes_its_client_id(clients: Clients, victim: str) -> None:
    first = await clients.client(victim)
    for thief in ("other", "n.1"):
        with pytest.raises(LinkLost, match=r"(?i)client identifier not valid"):
            await clients.client(thief, client_id=victim)
    await asyncio.sleep(QUIET_S)
    assert not first.lost.done()


async def test_who_has_no_certificate_of_this_authority_or_no_user_does_not_come_in(clients: Clients) -> None:
    await clients.client("n-1")
    stranger = pki.new_authority("skerry", DAYS, pki.utc_now())
    bare = ssl.create_default_context(cafile=str(clients.fleet.trust / f"{STEM}.crt"))
    for context in (clients.context("n-1", stranger), bare):
        with pytest.raises(LinkLost):
            await clients.client("n-1", tls=context)
    with pytest.raises(LinkLost, match=r"(?i)bad user ?name or password"):
        await clients.client("nobody")


async def test_an_older_tls_is_refused(clients: Clients) -> None:
    old = clients.context("n-1")
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(LinkLost, match=r"(?i)protocol.version"):
        await clients.client("n-1", tls=old)


async def test_no_rule_was_in_the_way_of_the_fleet_itself(clients: Clients, boards: dict[str, Device]) -> None:
    """In whatever was tried above, before anybody is revoked; a neighbour shows how the broker would say it."""
    curious = await clients.client("other")
    with pytest.raises(LinkLost):
        await curious.subscribe(["#"])
    rabbit = clients.fleet.rabbit
    assert rabbit is not None

    def names() -> set[str]:
        return set(re.findall(r"access to .* refused for user '([^']+)'", rabbit.log()))

    await asyncio.to_thread(until, lambda: "other" in names(), "the broker to write down what it refused")
    refused = await asyncio.to_thread(names)
    assert not refused & {name for node in (*boards, HUB) for name in (node, streams_name(node))}


# --- revocation -------------------------------------------------------------------------------------------------------


async def test_who_is_revoked_is_cut_and_stays_out_and_no_other_notices(clients: Clients) -> None:
    fleet = clients.fleet
    gone = [await clients.client(name) for name in ("n-1", streams_name("n-1"))]
    other, center = await clients.client("n.1", down_topic("n.1")), await clients.client(CENTER, up_topic("n-1"))
    await asyncio.to_thread(fleet.operator, "revoke", "n-1")
    for connection in gone:
        await asyncio.wait_for(asyncio.shield(connection.lost), WAIT_S)
    for name in ("n-1", streams_name("n-1")):
        with pytest.raises(LinkLost):
            await clients.client(name)
    await center.publish(down_topic("n.1"), b"yours")
    assert await heard(other) == "yours"
    await asyncio.to_thread(fleet.operator, "device", "n-1")
    again = await clients.client("n-1")
    await again.publish(up_topic("n-1"), b"anew")
    assert await heard(center) == "anew"


def test_a_revoked_board_is_off_both_and_a_new_token_brings_it_back(
    fleet: RabbitFleet, boards: dict[str, Device], clean: None
) -> None:
    board = boards[DOTTED]
    name = serving(fleet, board)
    before = identities(board)[f"default/{name}/main"]
    fleet.site.run([str(BIN / "skerry-hub"), "revoke", board.name, "--kubeconfig", str(fleet.site.kubeconfig)])
    fleet.operator("revoke", board.name)
    until(lambda: ready(fleet, board.name) == "Unknown", "the session to be over")
    rabbit = fleet.rabbit
    assert rabbit is not None
    until(lambda: board.name not in rabbit.ctl("list_connections", "user").split(), "the broker to be rid of it")
    fleet.apply(pod("late", board.name))
    time.sleep(QUIET_S)
    assert "default/late/main" not in truth(board)
    (board.journal_path.parent / "token").write_text(fleet.token(board.name))
    board.stop_agent()
    board.start_agent()
    until(lambda: ready(fleet, board.name) == "True", "the board to be back")
    until(lambda: "default/late/main" in truth(board), "the pod that came meanwhile")
    assert identities(board)[f"default/{name}/main"] == before
    assert ready(fleet, DASHED) == "True"
