"""What every StreamLink promises (ports.StreamLink). An adapter subclasses StreamLinkContract and gives a `site`."""

from __future__ import annotations

import asyncio
from typing import Protocol

import pytest

from patience import WAIT_S
from skerry.errors import LinkLost
from skerry.ports import StreamLink

GONE = b"the device closed"


class StreamLinkSite(Protocol):
    """A link and the world on its other side."""

    def link(self) -> StreamLink:
        """A new, unconnected link of the one device."""

    async def say(self, frame: bytes) -> None:
        """The hub sends a frame to the device."""

    async def heard(self) -> bytes:
        """The next frame that the device sent, or that the broker sent for it."""

    async def cut(self) -> None:
        """The connection breaks now, and until `mend` no new one comes up."""

    async def mend(self) -> None: ...


class StreamLinkContract:
    async def test_frames_travel_both_ways_in_their_order(self, site: StreamLinkSite) -> None:
        link = site.link()
        await link.connect(GONE)
        for number in range(20):
            await site.say(b"down %d" % number)
            await link.send(b"up %d" % number, bulk=True)
        for number in range(20):
            assert await asyncio.wait_for(link.recv(), WAIT_S) == b"down %d" % number
            assert await site.heard() == b"up %d" % number
        await link.send(b"last", bulk=False)
        assert await site.heard() == b"last"
        await link.close()

    async def test_the_hub_hears_the_word_when_it_closes_and_when_it_breaks(self, site: StreamLinkSite) -> None:
        link = site.link()
        await link.connect(GONE)
        await link.close()
        assert await site.heard() == GONE
        await link.connect(GONE + b" again")
        await site.cut()
        with pytest.raises(LinkLost):
            await asyncio.wait_for(link.recv(), WAIT_S)
        assert await site.heard() == GONE + b" again"
        await link.close()

    async def test_a_lost_link_says_so_and_connects_anew_without_what_was_before(self, site: StreamLinkSite) -> None:
        link = site.link()
        with pytest.raises(LinkLost):
            await link.send(b"too early", bulk=False)
        await link.connect(GONE)
        await site.say(b"of the old connection")
        await site.cut()
        with pytest.raises(LinkLost):
            await _drained(link)
        with pytest.raises(LinkLost):
            await link.send(b"into the void", bulk=True)
        await link.close()
        await link.close()
        await site.mend()
        await link.connect(GONE)
        await site.say(b"fresh")
        assert await asyncio.wait_for(link.recv(), WAIT_S) == b"fresh"
        await link.close()


async def _drained(link: StreamLink) -> None:
    """Whatever still comes, until the link says that it is lost."""
    while True:
        await asyncio.wait_for(link.recv(), WAIT_S)
