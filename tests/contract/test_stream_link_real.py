"""The StreamLink contract on MqttStreamLink with a real mosquitto, in clear and with certificates on both sides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from contract.broker import MOSQUITTO, Broker
from contract.certificates import authority
from contract.stream_link import StreamLinkContract
from contract.test_link_real import Site as LinkSite
from patience import WAIT_S
from skerry.ports import StreamLink
from skerry.world.link import MqttStreamLink, streams_down_topic, streams_up_topic

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


@pytest.fixture(params=["plain", "mutual"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path, mutual=authority() if request.param == "mutual" else None)
    yield broker
    broker.stop()


class Site(LinkSite):
    """The device's other connection, through the same proxy."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(broker)
        self._streams: list[MqttStreamLink] = []

    async def start(self) -> None:
        await self.hub.connect([streams_up_topic("n1")])
        await self.mend()

    def link(self) -> StreamLink:  # type: ignore[override]
        link = MqttStreamLink("n1", self.options("n1"), self.credentials)
        self._streams.append(link)
        return link

    async def say(self, frame: bytes) -> None:
        await self.hub.publish(streams_down_topic("n1"), frame)

    async def stop(self) -> None:
        for link in self._streams:
            await link.close()
        await super().stop()


@pytest.fixture
async def site(broker: Broker) -> AsyncIterator[Site]:
    site = Site(broker)
    await site.start()
    yield site
    await site.stop()


class TestMqttStreamLink(StreamLinkContract):
    async def test_it_is_a_client_of_its_own_beside_the_state(self, site: Site, broker: Broker) -> None:
        link = site.link()
        await link.connect(b"gone")
        await asyncio.wait_for(site.say(b"x"), WAIT_S)
        assert await asyncio.wait_for(link.recv(), WAIT_S) == b"x"
        assert "as n1.streams " in broker.log()
