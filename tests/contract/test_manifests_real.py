"""The Manifests contract on a folder on disk, on asyncio and uvloop."""

from __future__ import annotations

from pathlib import Path

import pytest

from contract.manifests import ManifestsContract
from skerry.world.manifests import ManifestFolder

LOOPS = ("asyncio", "uvloop")


class Site:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()

    def manifests(self) -> ManifestFolder:
        return ManifestFolder(self._folder)

    def write(self, name: str, data: bytes | None) -> None:
        if data is None:
            (self._folder / name).unlink()
        else:
            (self._folder / name).write_bytes(data)

    def fail(self) -> None:
        self._folder.rmdir()
        self._folder.write_text("no folder any more")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "manifests")


class TestManifestFolder(ManifestsContract):
    pass
