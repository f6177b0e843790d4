"""The Link contract on MqttLink with a real mosquitto, without TLS, with it, and with certificates on both sides, on
asyncio and on uvloop.

The hub's side is MqttConnection, as in the real hub; what the broker counts is read from a tap between the two.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from contract.broker import MOSQUITTO, Broker, free_port
from contract.certificates import authority, credentials, enrolled, pem
from contract.link import LinkContract
from patience import WAIT_S
from skerry import identity
from skerry.errors import LinkLost
from skerry.limits import INBOX_FRAMES_MAX, PAYLOAD_BYTES_MAX, TURNED_AWAY_MAX
from skerry.ports import Link
from skerry.wire.address import BrokerAddress
from skerry.world.clock import SystemClock
from skerry.world.enrolled import Enrolment
from skerry.world.entropy import SystemEntropy
from skerry.world.link import MqttLink, down_topic, up_topic
from skerry.world.mqtt import MqttConnection
from skerry.world.mqtt_values import MqttOptions
from skerry_hub import pki

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


LOOPS = ("asyncio", "uvloop")


@pytest.fixture(params=["plain", "tls", "mutual"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path, tls=request.param == "tls", mutual=authority() if request.param == "mutual" else None)
    yield broker
    broker.stop()


class Site:
    """Device and hub at one broker; the device goes through a proxy, which can be cut."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self._proxy: asyncio.Server | None = None
        self.port = free_port()
        self._pipes: list[asyncio.StreamWriter] = []
        self._links: list[MqttLink] = []
        self.credentials = self._enrol() if broker.authority is not None else None
        self.hub = MqttConnection(MqttOptions("localhost", broker.port, "hub", tls=broker.tls, inbox_max=1000))

    async def start(self) -> None:
        await self.hub.connect()
        await self.hub.subscribe([up_topic("n1")])
        await self.mend()

    def link(self) -> Link:
        link = MqttLink("n1", self.options("n1"), self.credentials)
        self._links.append(link)
        return link

    async def hub_again(self) -> None:
        """After a restart of the broker."""
        await self.hub.close()
        self.hub = MqttConnection(MqttOptions("localhost", self.broker.port, "hub", tls=self.broker.tls))
        await self.hub.connect([up_topic("n1")])

    def options(self, client: str) -> MqttOptions:
        """Of a device: those of one that is enrolled are completed by its credentials."""
        tls = self.broker.tls if self.credentials is None else None
        return MqttOptions("localhost", self.port, client, tls=tls, connect_timeout_s=20)

    def _enrol(self) -> Enrolment:
        self.broker.enrol(self.broker.folder, "n1")
        return credentials(self.broker.folder, "n1", self.port)

    async def say(self, frame: bytes) -> None:
        await self.hub.publish(down_topic("n1"), frame)

    async def heard(self) -> bytes:
        return (await asyncio.wait_for(self.hub.recv(), WAIT_S)).payload

    async def unacknowledged(self) -> int:
        """mosquitto logs each PUBLISH to and each PUBACK from a client. It reads in order: once it has a frame that the
        link sends now, it has had every acknowledgement before."""
        await self._links[-1].send(b"until here")
        assert await self.heard() == b"until here"
        log = self.broker.log()
        life = log[log.rindex("as n1 ") :]
        return life.count("Sending PUBLISH to n1 ") - life.count("Received PUBACK from n1 ")

    async def cut(self) -> None:
        assert self._proxy is not None
        self._proxy.close()
        for pipe in self._pipes:
            pipe.transport.abort()
        self._pipes.clear()

    async def mend(self) -> None:
        self._proxy = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.broker.port)
        self._pipes += [writer, back]
        await asyncio.gather(_pump(reader, back), _pump(there, writer), return_exceptions=True)

    async def stop(self) -> None:
        for link in self._links:
            await link.close()
        await self.cut()
        await self.hub.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    finally:
        sink.close()


@pytest.fixture
async def site(broker: Broker) -> AsyncIterator[Site]:
    site = Site(broker)
    await site.start()
    yield site
    await site.stop()


async def read_slowly(link: Link) -> None:
    for number in range(4 * INBOX_FRAMES_MAX):
        got = await asyncio.wait_for(link.recv(), WAIT_S)
        assert got.frame == b"%d" % number
        link.ack(got.handle)
        await asyncio.sleep(0.05)


class TestMqttLink(LinkContract):
    async def test_too_large_frames_are_counted(self, site: Site) -> None:
        link = site.link()
        assert isinstance(link, MqttLink)
        await link.connect()
        await site.say(b"x" * (PAYLOAD_BYTES_MAX + 1))
        await site.say(b"next")
        assert (await asyncio.wait_for(link.recv(), WAIT_S)).frame == b"next"
        assert link.counts.dropped_large == 1

    async def test_a_flood_beyond_the_inbox_is_kept_to_the_bound_or_ends_the_connection(self, site: Site) -> None:
        """mosquitto 2.0.11 overruns the receive maximum by a window for each PUBACK; 2.0.21 keeps to it."""
        link = site.link()
        assert isinstance(link, MqttLink)
        await link.connect()
        for number in range(4 * INBOX_FRAMES_MAX):
            await site.say(b"%d" % number)
        (ended,) = await asyncio.gather(read_slowly(link), return_exceptions=True)
        if ended is not None:
            assert isinstance(ended, LinkLost)
            assert "receive maximum" in str(ended)
            await link.connect()  # Clean Start: nothing of the flood is left
        await site.say(b"fresh")
        assert (await asyncio.wait_for(link.recv(), WAIT_S)).frame == b"fresh"

    async def test_a_refused_connection_is_linklost(self, broker: Broker) -> None:
        link = MqttLink("n1", MqttOptions("127.0.0.1", free_port(), "n1", connect_timeout_s=20))
        with pytest.raises(LinkLost):
            await link.connect()


@pytest.mark.parametrize("broker", ["mutual"], indirect=True)
class TestWhoMay:
    """What a broker that demands certificates lets in, and whom it takes a device for."""

    async def test_a_device_is_who_its_certificate_says_whatever_it_calls_itself(self, site: Site) -> None:
        link = MqttLink("n1", site.options("n2"), site.credentials)
        await link.connect()
        await site.say(b"for n1")
        assert (await asyncio.wait_for(link.recv(), WAIT_S)).frame == b"for n1"
        assert "as n1 " in site.broker.log()
        assert "as n2 " not in site.broker.log()
        await link.close()

    async def test_a_certificate_of_another_authority_is_refused(self, site: Site) -> None:
        ours = site.broker.authority
        assert ours is not None
        other = enrolled(authority(), "n1")
        identity.write(site.broker.folder, replace(other, issued=replace(other.issued, ca=pem(ours))))
        link = site.link()
        with pytest.raises(LinkLost, match="certificate"):
            await link.connect()

    async def test_one_that_has_ended_is_noticed_so_that_it_is_renewed(self, site: Site) -> None:
        """By the broker's alert, or where that is lost, by being turned away again and again."""
        ours = site.broker.authority
        assert ours is not None
        begins = pki.utc_now() - timedelta(days=91)
        identity.write(site.broker.folder, enrolled(ours, "n1", f"mqtts://localhost:{site.port}", begins))
        link = site.link()
        assert site.credentials is not None
        for _ in range(TURNED_AWAY_MAX):
            if not site.credentials.refused:
                with pytest.raises(LinkLost):
                    await link.connect()
        assert site.credentials.refused
        await asyncio.wait_for(site.credentials.news(), WAIT_S)

    async def test_a_broker_of_another_authority_is_refused(self, site: Site) -> None:
        identity.write(site.broker.folder, enrolled(authority(), "n1"))
        link = site.link()
        with pytest.raises(LinkLost, match="certificate verify failed"):
            await link.connect()

    async def test_a_broker_of_another_name_is_refused(self, site: Site) -> None:
        address = BrokerAddress("127.0.0.1", site.port, True)
        elsewhere = Enrolment(site.broker.folder, "n1", False, address, SystemClock(), SystemEntropy(), print)
        link = MqttLink("n1", site.options("n1"), elsewhere)
        with pytest.raises(LinkLost, match=re.escape("not valid for '127.0.0.1'")):
            await link.connect()

    async def test_nobody_comes_in_without_a_certificate(self, site: Site) -> None:
        context = ssl.create_default_context(cafile=str(site.broker.folder / "ca.pem"))
        link = MqttLink("n1", replace(site.options("n1"), tls=context))
        with pytest.raises(LinkLost, match="certificate"):
            await link.connect()

    async def test_a_connection_after_another_resumes_its_session_and_is_the_same_device(self, site: Site) -> None:
        link = site.link()
        assert isinstance(link, MqttLink)
        for resumed in (0, 1, 2):
            await link.connect()
            assert link.counts.resumed == resumed
            await link.send(b"again")
            assert await site.heard() == b"again"
        site.broker.stop()
        site.broker.start()  # whose keys of tickets are others: a full handshake
        await site.hub_again()
        await link.connect()
        assert link.counts.resumed == 2
        assert site.broker.log().count("as n1 ") == 4
        await link.close()

    async def test_a_new_identity_is_taken_at_the_next_connection(self, site: Site) -> None:
        link = site.link()
        await link.connect()
        site.broker.enrol(site.broker.folder, "n1")
        await link.connect()
        await link.send(b"with the new one")
        assert await site.heard() == b"with the new one"
        await link.close()
