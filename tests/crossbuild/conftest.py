"""Places to build in."""

from __future__ import annotations

from pathlib import Path

import pytest

from build_places import NewPlace, Place, place


@pytest.fixture(scope="session")
def shared_tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tools")


@pytest.fixture
def at(tmp_path: Path, shared_tools: Path) -> NewPlace:
    """at("one", umask=...) is a fresh checkout with an empty cache below this test's folder."""

    def new(where: str, *, user: int | None = None, umask: int = 0o022, name: str = "toy") -> Place:
        (tmp_path / where).mkdir(parents=True)
        return place(tmp_path / where, shared_tools, user=user, umask=umask, name=name)

    return new
