"""What every Authority promises (ports.Authority). An adapter subclasses AuthorityContract and gives a `site`."""

from __future__ import annotations

from typing import Protocol

import pytest

from skerry.errors import Malformed
from skerry.ports import Authority

KEY, NEXT = bytes(range(32)), bytes(range(1, 33))


class AuthoritySite(Protocol):
    """An authority, and what it and others certified."""

    def authority(self) -> Authority: ...

    def certified(self, public: bytes) -> bytes:
        """By this authority, for a hub's signing key."""

    def strange(self, public: bytes) -> bytes:
        """The same by another one."""


class AuthorityContract:
    async def test_it_tells_the_key_that_it_certified(self, site: AuthoritySite) -> None:
        mine = site.authority()
        for key in (KEY, NEXT, KEY):
            assert await mine.certified(site.certified(key)) == key

    async def test_it_knows_nothing_of_another_ones(self, site: AuthoritySite) -> None:
        mine = site.authority()
        with pytest.raises(Malformed):
            await mine.certified(site.strange(KEY))
        assert await mine.certified(site.certified(KEY)) == KEY

    @pytest.mark.parametrize("chain", [b"", b"\x00", b"\x30\x82\xff\xff", b"x" * 2_000])
    async def test_what_is_no_certificate_is_malformed(self, site: AuthoritySite, chain: bytes) -> None:
        with pytest.raises(Malformed):
            await site.authority().certified(chain)

    async def test_one_that_was_cut_short_or_altered_is_malformed(self, site: AuthoritySite) -> None:
        whole = site.certified(KEY)
        altered = whole[:-1] + bytes((whole[-1] ^ 1,))
        for chain in (whole[:-1], whole[: len(whole) // 2], altered):
            with pytest.raises(Malformed):
                await site.authority().certified(chain)
