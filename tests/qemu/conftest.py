"""What every test here needs: root, QEMU, the built image, a hub, and one joined board on a card of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet import Fleet
from qemu import guest
from qemu.card import Card
from qemu.machine import Machine, missing_tools
from rig import images

ROOT = Path(__file__).resolve().parents[2]
ARM64, ARMHF, NODE = "qemu-virt-arm64", "qemu-virt-armhf", "edge-1"
BOARDS = (ARM64, pytest.param(ARMHF, marks=pytest.mark.slow))
OCI = {"arm64": "arm64", "armhf": "arm"}
CARD_MB = 2560  # larger than the image: the first boot has something to grow into


@pytest.fixture(scope="session", autouse=True)
def _possible() -> None:
    missing = missing_tools()
    if os.geteuid() != 0 or missing:
        pytest.skip(f"needs root and {', '.join(missing) or 'nothing else'}: run tools/setup image")


@pytest.fixture(scope="module")
def ident(request: pytest.FixtureRequest) -> str:
    """The board that is booted; a module runs on others by parametrising this."""
    return str(getattr(request, "param", ARM64))


@pytest.fixture(scope="module")
def fleet(ident: str) -> Iterator[Fleet]:
    """A hub of its own for each board."""
    with Fleet(seen_as=guest.HOST) as made:
        made.start()
        yield made


@pytest.fixture(scope="module")
def card(fleet: Fleet, ident: str) -> Card:
    """A card with a token on it, and beside the product's files a container image to run."""
    image = ROOT / "build" / "images" / f"skerry-{ident}.img"
    if not image.exists():
        pytest.fail(f"there is no {image.relative_to(ROOT)}: run make image-{ident}")
    made = Card(image, fleet.site.folder / "card.img", ident, CARD_MB)
    made.put_boot("skerry-token.txt", f"{fleet.token(NODE)}\n")
    made.put_data(images.hello((OCI[made.board.arch], busybox(made, fleet))).write(fleet.site.folder), "hello.tar")
    return made


@pytest.fixture(scope="module")
def machine(fleet: Fleet, card: Card) -> Iterator[Machine]:
    with Machine(fleet.site, "board", card) as made:
        yield made


def busybox(card: Card, fleet: Fleet) -> bytes:
    """The board's own, read out of its root file system."""
    target = fleet.site.folder / "busybox"
    card.take_root("/usr/bin/busybox", target)
    return target.read_bytes()
