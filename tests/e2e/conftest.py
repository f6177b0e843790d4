"""Fixtures of the end-to-end tests: one fleet and one board per file, real parts throughout."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from contract.runtime import clear
from e2e.board import Board
from fleet import Fleet
from rig import Device, Site, images


@pytest.fixture(scope="module")
def fleet(request: pytest.FixtureRequest) -> Iterator[Fleet]:
    """As in the field; a file that says `SECURE = False` has its broker in clear."""
    with Fleet(getattr(request.module, "SECURE", True)) as whole:
        whole.start()
        yield whole


@pytest.fixture
def clean(fleet: Fleet) -> Iterator[None]:
    """Whatever a test left, also when it failed, is gone before the next: names and containers are its own."""
    yield
    fleet.clear()


@pytest.fixture(scope="module")
def board(fleet: Fleet) -> Iterator[Device]:
    """edge-1, booted, connected, its agent running and its node Ready."""
    second = images.image("rig.local/hello:2", {"bin/hello": images.HELLO_SCRIPT}, ["/bin/hello"], {"VERSION": "2"})
    device = fleet.join("edge-1", images=[images.hello(), second])
    device.boot(network=True)
    device.start_agent()
    fleet.kubectl("wait", "node/edge-1", "--for=condition=Ready", "--timeout=90s")
    yield device
    device.power_off()
    assert device.leftovers() == []


@pytest.fixture(scope="module")
def device() -> Iterator[Device]:
    """A board without an agent, for what the runtime does by itself."""
    with Site() as made:
        board = made.device("board")
        board.boot()
        yield board


@pytest.fixture
async def site(device: Device) -> AsyncIterator[Board]:
    """That board with no pods."""
    board = Board(device)
    yield board
    await clear(board.runtime())
    await board.close()
    assert list(board.execs.glob("*/*")) == []
