"""What our configuration of a real mosquitto lets a client do: speak for the name in its certificate, no more."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from contract.broker import MOSQUITTO, Broker, free_port
from patience import WAIT_S
from skerry.errors import LinkLost
from skerry.model.streams import streams_name
from skerry.world.link import down_topic, streams_up_topic, up_topic, will_topic
from skerry.world.mqtt import MqttConnection
from skerry.world.mqtt_values import MqttOptions, Will
from skerry_hub import mosquitto, pki

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
DAYS = 2
HUB = mosquitto.hub_names()[0]
QUIET_S = 0.5  # long enough for mosquitto to deliver what it would


class Site:
    """A broker as `skerry-hub up` configures it, and clients with certificates by its authority."""

    def __init__(self, folder: Path, left_out: str = "") -> None:
        self.folder, self.port = folder, free_port()
        self.authority = pki.new_authority("skerry", DAYS, pki.utc_now())
        server = pki.issue(self.authority, "localhost", (), ("localhost", "127.0.0.1"), DAYS, pki.utc_now())
        pki.write_private(folder / "ca.crt", self.authority.certificate_pem)
        pki.save(server, folder / "server.crt", folder / "server.key")
        (folder / "rules").write_text(mosquitto.rules(mosquitto.hub_names()))
        files = mosquitto.Files(*(str(folder / name) for name in ("ca.crt", "server.crt", "server.key", "rules")))
        config = mosquitto.configuration(["127.0.0.1"], self.port, files)
        self.broker = Broker(folder, whole=config.replace(left_out, "") if left_out else config)
        self._open: list[MqttConnection] = []

    def context(self, name: str, authority: pki.Pair | None = None) -> ssl.SSLContext:
        client = pki.issue(authority or self.authority, name, (), (), DAYS, pki.utc_now())
        crt, key = self.folder / "client.crt", self.folder / "client.key"
        pki.save(client, crt, key)
        context = ssl.create_default_context(cafile=str(self.folder / "ca.crt"))
        context.load_cert_chain(crt, key)
        return context

    async def client(
        self, name: str, *topics: str, client_id: str = "", tls: ssl.SSLContext | None = None, will: Will | None = None
    ) -> MqttConnection:
        """Connected with the certificate of `name`, whatever it calls itself."""
        options = MqttOptions(
            "localhost",
            self.port,
            client_id or name,
            tls=tls or self.context(name),
            will=will,
            connect_timeout_s=WAIT_S,
        )
        connection = MqttConnection(options)
        self._open.append(connection)
        await connection.connect(topics)
        return connection

    async def close(self) -> None:
        for connection in self._open:
            await connection.close()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    site = Site(tmp_path)
    yield site
    await site.close()
    site.broker.stop()


@pytest.fixture
def hub() -> str:
    return mosquitto.hub_names()[0]


async def heard(connection: MqttConnection) -> str:
    return (await asyncio.wait_for(connection.recv(), WAIT_S)).topic


async def silent(connection: MqttConnection) -> bool:
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(connection.recv(), QUIET_S)
        return False
    return True


async def test_a_device_and_the_hub_hear_each_other(site: Site, hub: str) -> None:
    center = await site.client(hub, up_topic("edge-1"), will_topic("edge-1"))
    edge = await site.client("edge-1", down_topic("edge-1"), will=Will(will_topic("edge-1")))
    await edge.publish(up_topic("edge-1"), b"hello")
    assert await heard(center) == up_topic("edge-1")
    await center.publish(down_topic("edge-1"), b"welcome")
    assert await heard(edge) == down_topic("edge-1")
    await edge.close()
    assert await heard(center) == will_topic("edge-1")


async def test_its_streams_are_a_client_of_their_own(site: Site) -> None:
    name = mosquitto.hub_names()[1]
    center = await site.client(name, streams_up_topic("edge-1"))
    edge = await site.client(streams_name("edge-1"))
    await edge.publish(streams_up_topic("edge-1"), b"piece")
    assert await heard(center) == streams_up_topic("edge-1")


@pytest.mark.parametrize("topic", ["skerry/v1/edge-1/down", "skerry/v1/+/down", "skerry/#", "#"])
async def test_a_neighbour_hears_nothing_of_a_device(site: Site, hub: str, topic: str) -> None:
    edge = await site.client("edge-1", down_topic("edge-1"))
    neighbour = await site.client("edge-2")
    with suppress(LinkLost):  # that a broker accepts the subscription says nothing
        await neighbour.subscribe([topic])
    center = await site.client(hub)
    await center.publish(down_topic("edge-1"), b"for edge-1 alone")
    assert await heard(edge) == down_topic("edge-1")
    assert await silent(neighbour)


@pytest.mark.parametrize("topic", [up_topic("edge-1"), down_topic("edge-1"), will_topic("edge-1")])
async def test_a_neighbour_cannot_speak_for_a_device(site: Site, hub: str, topic: str) -> None:
    center = await site.client(hub, up_topic("edge-1"), will_topic("edge-1"), up_topic("edge-2"))
    edge = await site.client("edge-1", down_topic("edge-1"))
    neighbour = await site.client("edge-2")
    with suppress(LinkLost):
        await neighbour.publish(topic, b"forged")
    honest = await site.client("edge-2")
    await honest.publish(up_topic("edge-2"), b"mine")
    assert await heard(center) == up_topic("edge-2"), "and nothing before it"
    assert await silent(edge)


async def test_a_neighbour_cannot_leave_a_will_for_a_device(site: Site, hub: str) -> None:
    center = await site.client(hub, will_topic("edge-1"))
    with suppress(LinkLost):
        neighbour = await site.client("edge-2", will=Will(will_topic("edge-1"), delay_s=0))
        await neighbour.close()
    assert await silent(center)


@pytest.mark.parametrize("victim", ["edge-1", mosquitto.hub_names()[0]])
async def test_nobody_is_thrown_off_by_another_who_takes_its_client_id(site: Site, hub: str, victim: str) -> None:
    """A stock broker ends the older of two connections with one client id."""
    other = "edge-1" if victim == hub else hub
    first, second = await site.client(victim), await site.client(other)
    thief = await site.client("edge-2", client_id=victim)
    topic = down_topic("edge-1") if victim == "edge-1" else up_topic("edge-1")
    await first.subscribe([topic])
    await second.publish(topic, b"still there?")
    assert await heard(first) == topic
    assert not thief.lost.done()
    assert not first.lost.done()


async def test_and_with_a_stock_broker_it_would_be(tmp_path: Path) -> None:
    site = Site(tmp_path, left_out="use_username_as_clientid true")
    edge = await site.client("edge-1")
    await site.client("edge-2", client_id="edge-1")
    await asyncio.wait_for(asyncio.shield(edge.lost), WAIT_S)
    await site.close()
    site.broker.stop()


async def test_streams_take_no_other_name_and_a_device_not_its_streams(site: Site, hub: str) -> None:
    center = await site.client(hub, up_topic("edge-1"))
    with suppress(LinkLost):
        await (await site.client(streams_name("edge-1"))).publish(up_topic("edge-1"), b"forged")
    assert await silent(center)


async def test_without_a_certificate_of_this_authority_nobody_comes_in(site: Site) -> None:
    stranger = pki.new_authority("skerry", DAYS, pki.utc_now())
    with pytest.raises(LinkLost):
        await site.client("edge-1", tls=site.context("edge-1", stranger))
    with pytest.raises(LinkLost):
        await site.client("edge-1", tls=ssl.create_default_context(cafile=str(site.folder / "ca.crt")))


async def test_an_older_tls_is_refused(site: Site) -> None:
    context = site.context("edge-1")
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    def shake() -> None:
        with socket.create_connection(("127.0.0.1", site.port), WAIT_S) as sock:
            context.wrap_socket(sock, server_hostname="localhost")

    with pytest.raises(ssl.SSLError, match=r"(?i)protocol version"):
        await asyncio.to_thread(shake)


# --- revocation -------------------------------------------------------------------------------------------------------


async def test_who_is_revoked_is_mute_and_deaf_from_the_next_reload_on_and_no_other_notices(site: Site) -> None:
    hub = await site.client(HUB, up_topic("n1"), up_topic("n2"), streams_up_topic("n1"), will_topic("n1"))
    one, other = await site.client("n1", down_topic("n1")), await site.client("n2", down_topic("n2"))
    streams = await site.client(streams_name("n1"))
    await one.publish(up_topic("n1"), b"before")
    assert (await asyncio.wait_for(hub.recv(), WAIT_S)).payload == b"before"
    reload(site, ["n1"])
    for client, topic in ((one, up_topic("n1")), (streams, streams_up_topic("n1"))):
        with suppress(LinkLost):  # it is told, or not: MQTT leaves it to the broker
            await client.publish(topic, b"after", qos=0)
    await other.publish(up_topic("n2"), b"not me")
    assert (await asyncio.wait_for(hub.recv(), WAIT_S)).payload == b"not me"
    await hub.publish(down_topic("n1"), b"secret")
    await hub.publish(down_topic("n2"), b"yours")
    assert (await asyncio.wait_for(other.recv(), WAIT_S)).payload == b"yours"
    with pytest.raises((asyncio.TimeoutError, LinkLost)):
        await asyncio.wait_for(one.recv(), QUIET_S)
    assert not other.lost.done()
    assert not hub.lost.done()
    again = await site.client("n1", down_topic("n1"))
    await again.publish(up_topic("n1"), b"after", qos=0)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(hub.recv(), QUIET_S)


async def test_who_is_enrolled_anew_is_heard_after_the_next_reload(site: Site) -> None:
    hub, one = await site.client(HUB, up_topic("n1")), await site.client("n1")
    for revoked in (["n1"], []):
        reload(site, revoked)
    await one.publish(up_topic("n1"), b"anew")
    assert (await asyncio.wait_for(hub.recv(), WAIT_S)).payload == b"anew"


def reload(site: Site, revoked: list[str]) -> None:
    """As skerry-hub up does: in place, for mosquitto has it open."""
    (site.folder / "rules").write_text(mosquitto.rules(mosquitto.hub_names(), revoked))
    os.kill(site.broker.pid, signal.SIGHUP)
    time.sleep(QUIET_S)
