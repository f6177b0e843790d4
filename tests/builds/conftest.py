"""Places to build in, where another user can come to: pytest closes its own folders to others whenever it starts."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from builds.build_places import NewPlace, Place, place


@contextmanager
def open_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="crossbuild-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def shared_tools() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


@pytest.fixture
def open_tmp() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


@pytest.fixture
def at(open_tmp: Path, shared_tools: Path) -> NewPlace:
    """at("one", umask=...) is a fresh checkout with an empty cache below this test's folder."""

    def new(where: str, *, user: int | None = None, umask: int = 0o022, name: str = "toy") -> Place:
        (open_tmp / where).mkdir(parents=True)
        return place(open_tmp / where, shared_tools, user=user, umask=umask, name=name)

    return new
