"""What every folder of manifests promises (ports.Manifests). Subclasses give `site`: a folder, and who writes in it."""

from __future__ import annotations

import asyncio
from typing import Protocol

import pytest

from skerry.errors import FolderFailed, Malformed
from skerry.ports import ManifestFile, Manifests

SOON_S = 30.0


class ManifestsSite(Protocol):
    """A folder that is there and empty."""

    def manifests(self) -> Manifests: ...

    def write(self, name: str, data: bytes | None) -> None:
        """None removes the file."""

    def fail(self) -> None:
        """From now on it cannot be read."""


class ManifestsContract:
    async def test_what_is_written_is_read_in_order_of_names(self, site: ManifestsSite) -> None:
        folder = site.manifests()
        assert await folder.read() == ()
        site.write("b.json", b"[]")
        site.write("a.json", b"{}")
        assert await folder.read() == (ManifestFile("a.json", b"{}"), ManifestFile("b.json", b"[]"))
        site.write("a.json", None)
        assert [f.name for f in await folder.read()] == ["b.json"]
        folder.close()

    async def test_each_change_ends_a_wait(self, site: ManifestsSite) -> None:
        folder = site.manifests()
        for data in (b"{}", b"[]", None):
            await folder.read()
            waiting = asyncio.ensure_future(folder.changed())
            await asyncio.sleep(0.05)
            assert not waiting.done()
            site.write("a.json", data)
            await asyncio.wait_for(waiting, SOON_S)
        assert await folder.read() == ()
        folder.close()

    async def test_a_change_between_read_and_wait_is_not_missed(self, site: ManifestsSite) -> None:
        folder = site.manifests()
        await folder.read()
        site.write("a.json", b"{}")
        await asyncio.wait_for(folder.changed(), SOON_S)
        folder.close()

    async def test_a_wait_that_is_given_up_costs_no_change(self, site: ManifestsSite) -> None:
        folder = site.manifests()
        await folder.read()
        waiting = asyncio.ensure_future(folder.changed())
        await asyncio.sleep(0.05)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await folder.read()
        site.write("a.json", b"{}")
        await asyncio.wait_for(folder.changed(), SOON_S)
        folder.close()

    async def test_json_is_parsed_and_what_is_none_is_malformed(self, site: ManifestsSite) -> None:
        folder = site.manifests()
        assert await folder.parse(ManifestFile("a.json", b'{"a": [1, null, "x"]}')) == ({"a": [1, None, "x"]},)
        with pytest.raises(Malformed):
            await folder.parse(ManifestFile("a.json", b"{half"))

    async def test_a_folder_that_cannot_be_read_says_so(self, site: ManifestsSite) -> None:
        folder = site.manifests()
        site.fail()
        with pytest.raises(FolderFailed):
            await folder.read()
        folder.close()
        folder.close()
