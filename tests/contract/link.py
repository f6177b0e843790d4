"""What every Link promises (ports.Link). A real or simulated adapter subclasses LinkContract and gives a `site`."""

from __future__ import annotations

import asyncio
from typing import Protocol

import pytest

from patience import WAIT_S
from skerry.errors import LinkLost
from skerry.limits import INBOX_FRAMES_MAX, PAYLOAD_BYTES_MAX
from skerry.ports import Link


class LinkSite(Protocol):
    """A link and the world on its other side."""

    def link(self) -> Link:
        """A new, unconnected link of the one device."""

    async def say(self, frame: bytes) -> None:
        """The hub sends a frame to the device."""

    async def heard(self) -> bytes:
        """The next frame that the device sent."""

    async def unacknowledged(self) -> int:
        """Frames that were delivered to the device and not acknowledged, as the other side sees it."""

    async def cut(self) -> None:
        """The connection breaks now, and until `mend` no new one comes up."""

    async def mend(self) -> None: ...


class LinkContract:
    async def test_frames_travel_both_ways(self, site: LinkSite) -> None:
        link = site.link()
        await link.connect()
        await site.say(b"down")
        got = await asyncio.wait_for(link.recv(), WAIT_S)
        assert got.frame == b"down"
        link.ack(got.handle)
        await link.send(b"up")
        assert await site.heard() == b"up"
        await link.close()

    async def test_frames_keep_their_order(self, site: LinkSite) -> None:
        link = site.link()
        await link.connect()
        for number in range(10):
            await site.say(b"%d" % number)
        seen = []
        for _ in range(10):
            got = await asyncio.wait_for(link.recv(), WAIT_S)
            link.ack(got.handle)
            seen.append(int(got.frame))
        assert seen == list(range(10))
        await link.close()

    async def test_nothing_is_acknowledged_but_by_ack(self, site: LinkSite) -> None:
        link = site.link()
        await link.connect()
        await site.say(b"a")
        await site.say(b"b")
        first = await asyncio.wait_for(link.recv(), WAIT_S)
        await asyncio.wait_for(link.recv(), WAIT_S)
        assert await site.unacknowledged() == 2
        link.ack(first.handle)
        link.ack(first.handle)  # a second time is nothing
        assert await site.unacknowledged() == 1
        await link.close()

    async def test_a_frame_over_the_bound_is_acknowledged_and_not_delivered(self, site: LinkSite) -> None:
        link = site.link()
        await link.connect()
        await site.say(b"x" * (PAYLOAD_BYTES_MAX + 1))
        await site.say(b"x" * PAYLOAD_BYTES_MAX)
        await site.say(b"small")
        largest = await asyncio.wait_for(link.recv(), WAIT_S)
        assert len(largest.frame) == PAYLOAD_BYTES_MAX
        assert (await asyncio.wait_for(link.recv(), WAIT_S)).frame == b"small"
        assert await site.unacknowledged() == 2
        await link.close()

    async def test_a_full_inbox_waits_for_a_slow_reader(self, site: LinkSite) -> None:
        link = site.link()
        await link.connect()
        for number in range(INBOX_FRAMES_MAX):
            await site.say(b"%d" % number)
        await asyncio.sleep(0.5)
        for number in range(INBOX_FRAMES_MAX):
            got = await asyncio.wait_for(link.recv(), WAIT_S)
            assert int(got.frame) == number
            link.ack(got.handle)
        await link.send(b"still here")
        assert await site.heard() == b"still here"
        await link.close()

    async def test_a_cut_is_linklost_for_the_waiting_and_for_the_next(self, site: LinkSite) -> None:
        link = site.link()
        await link.connect()
        await site.say(b"a")
        got = await asyncio.wait_for(link.recv(), WAIT_S)
        waiting = asyncio.ensure_future(link.recv())
        await asyncio.sleep(0)
        await site.cut()
        with pytest.raises(LinkLost):
            await asyncio.wait_for(waiting, WAIT_S)
        with pytest.raises(LinkLost):
            await link.recv()
        with pytest.raises(LinkLost):
            await link.send(b"up")
        link.ack(got.handle)  # ignored
        with pytest.raises(LinkLost):
            await link.connect()
        await link.close()

    async def test_it_connects_again(self, site: LinkSite) -> None:
        link = site.link()
        await link.connect()
        await site.say(b"old")
        old = await asyncio.wait_for(link.recv(), WAIT_S)
        await site.cut()
        with pytest.raises(LinkLost):
            await asyncio.wait_for(link.recv(), WAIT_S)
        await site.mend()
        await link.connect()
        await site.say(b"new")
        got = await asyncio.wait_for(link.recv(), WAIT_S)
        while got.frame != b"new":  # it may repeat what was not acknowledged
            got = await asyncio.wait_for(link.recv(), WAIT_S)
        before = await site.unacknowledged()
        link.ack(old.handle)  # of a connection that is gone: must acknowledge nothing here
        assert await site.unacknowledged() == before
        await link.close()

    async def test_close_ends_a_waiting_recv_and_is_idempotent(self, site: LinkSite) -> None:
        link = site.link()
        await link.close()
        await link.connect()
        waiting = asyncio.ensure_future(link.recv())
        await asyncio.sleep(0)
        await link.close()
        await link.close()
        with pytest.raises(LinkLost):
            await asyncio.wait_for(waiting, WAIT_S)

    async def test_nothing_works_before_connect(self, site: LinkSite) -> None:
        link = site.link()
        with pytest.raises(LinkLost):
            await link.recv()
        with pytest.raises(LinkLost):
            await link.send(b"up")
        link.ack(7)
