"""The devices' authority is replaced with an overlap: hub, device and a real mosquitto through every phase of it, and a
device that slept through some. Nobody visits it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from contract.broker import MOSQUITTO, Broker, free_port
from contract.certificates import credentials
from skerry import identity
from skerry.errors import EnrolmentRefused, LinkLost
from skerry.limits import TURNED_AWAY_MAX
from skerry.wire.guard import About
from skerry.world import enrolment, renewal
from skerry.world.clock import SystemClock
from skerry.world.device_key import KeysInFiles
from skerry.world.enrolled import Enrolment
from skerry.world.link import MqttLink
from skerry.world.mqtt_values import MqttOptions
from skerry_hub import mosquitto, pki
from skerry_hub.enrolment import authority, tokens
from skerry_hub.enrolment.authority import Authority
from skerry_hub.kube.client import KubeClient
from skerry_hub.kube.config import load
from unit.apiserver.serving import running
from unit.enrolment.site import Site, WallClock, part_on

pytestmark = [
    pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed"),
]
KEYS = KeysInFiles()


class Stage:
    """One hub's folder: two authorities, and what its operator puts into the file of the first option."""

    def __init__(self, folder: Path, admin: KubeClient) -> None:
        self.folder, self.admin = folder, admin
        self.old, self.new = (self._made(name) for name in ("old", "new"))
        self.port, self.enroll_port = free_port(), free_port()
        self.broker: Broker | None = None

    def _made(self, name: str) -> tuple[Path, Path]:
        (self.folder / name).mkdir()
        return authority.make(self.folder / name)

    def file(self, *first: tuple[Path, Path]) -> Authority:
        """--device-ca-cert with the certificates of these in this order, --device-ca-key of the first."""
        whole = self.folder / "device-ca.crt"
        whole.write_bytes(b"".join(certificate.read_bytes() for certificate, _ in first))
        return authority.load(whole, first[0][1])

    def serve(self, ca: Authority) -> None:
        """mosquitto with a certificate of the first, who believes all of them."""
        if self.broker is not None:
            self.broker.stop()
        pki.save(ca.server(("127.0.0.1", "localhost"), pki.utc_now()), self.folder / "b.crt", self.folder / "b.key")
        (self.folder / "b.ca").write_bytes(ca.believed_pem)
        (self.folder / "rules").write_text(mosquitto.rules(mosquitto.hub_names()))
        files = mosquitto.Files(*(str(self.folder / name) for name in ("b.ca", "b.crt", "b.key", "rules")))
        config = mosquitto.configuration(["127.0.0.1"], self.port, files)
        (self.folder / "broker").mkdir(exist_ok=True)
        self.broker = Broker(self.folder / "broker", whole=config)

    @asynccontextmanager
    async def phase(self, *first: tuple[Path, Path]) -> AsyncIterator[Site]:
        """Hub and broker restarted with these authorities."""
        ca = self.file(*first)
        self.serve(ca)
        lines: list[str] = []
        async with part_on(self.admin, ca, WallClock(), lines, listen=f"127.0.0.1:{self.enroll_port}") as part:
            yield Site(self.admin, None, ca, WallClock(), lines, [part])  # type: ignore[arg-type]


class Board:
    def __init__(self, stage: Stage, name: str) -> None:
        self.name, self.folder, self.stage = name, stage.folder / name, stage
        self.device: Enrolment | None = None
        self.link: MqttLink | None = None

    async def enrols(self, hub: Site) -> None:
        token = await hub.token(self.name)
        await asyncio.to_thread(enrolment.enrol, self.folder, token, KEYS, self.name)
        self.device, self.link = credentials(self.folder, self.name, self.stage.port), None

    async def connects(self) -> None:
        assert self.device is not None
        if self.link is None:
            self.link = MqttLink(self.name, MqttOptions("", 0, self.name), self.device)
        try:
            await self.link.connect()
        finally:
            await self.link.close()

    async def is_refused(self) -> None:
        """At once, or by what it cannot but suspect after a few tries."""
        assert self.device is not None
        for _ in range(TURNED_AWAY_MAX):
            if not self.device.refused:
                with pytest.raises(LinkLost):
                    await self.connects()
        assert self.device.refused

    def hears(self, hub: Site) -> bool:
        """Of a hub's answer to its Hello; whether it is to renew."""
        assert self.device is not None
        self.device.told(About(int(SystemClock().wall()), hub.authority.trust))
        return self.device.other_trust

    async def renews(self) -> bool:
        assert self.device is not None
        return await self.device.renew()

    def believes(self) -> int:
        found = identity.read(self.folder)
        assert found is not None
        return found.issued.ca.count("BEGIN CERTIFICATE")


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    with running(tmp_path / "api") as api:
        async with KubeClient(load(api.at.kubeconfig)) as admin:
            await tokens.ensure_namespace(admin)
            made = Stage(tmp_path, admin)
            yield made
            if made.broker is not None:
                made.broker.stop()


async def test_every_device_goes_through_all_phases_and_one_that_slept_through_two_of_them_too(stage: Stage) -> None:
    awake, sleepy = Board(stage, "awake"), Board(stage, "sleepy")
    async with stage.phase(stage.old) as hub:
        for board in (awake, sleepy):
            await board.enrols(hub)
            await board.connects()
            assert not board.hears(hub)
    async with stage.phase(stage.old, stage.new) as hub:  # 1: the new one is believed
        for board in (awake, sleepy):
            await board.connects()
            assert board.hears(hub), "its Hello is answered with another set of authorities"
            assert await board.renews()
            assert board.believes() == 2
            assert not board.hears(hub)
    async with stage.phase(stage.new, stage.old) as hub:  # 2: the new one signs
        await awake.connects()
        assert not awake.hears(hub), "it believes both already"
    async with stage.phase(stage.new) as hub:  # 3: the old one is gone
        for board in (awake, sleepy):
            await board.is_refused()
            assert await board.renews(), "the hub knows its keys, whatever its certificate"
            await board.connects()
            assert board.believes() == 1
            assert not board.hears(hub)


async def test_who_slept_through_the_whole_overlap_needs_a_token_and_says_so(stage: Stage) -> None:
    board = Board(stage, "sleepy")
    async with stage.phase(stage.old) as hub:
        await board.enrols(hub)
    async with stage.phase(stage.new) as hub:
        with pytest.raises(LinkLost, match="certificate"):
            await board.connects()
        with pytest.raises(EnrolmentRefused, match="it is not the hub"):
            await asyncio.to_thread(renewal.renew, board.folder, KEYS)
        await board.enrols(hub)
        await board.connects()


async def test_renewed_once_more_in_the_second_phase_nothing_is_refused_in_the_third(stage: Stage) -> None:
    """As happens by itself after half of a certificate's life."""
    board = Board(stage, "board")
    async with stage.phase(stage.old, stage.new) as hub:
        await board.enrols(hub)
    async with stage.phase(stage.new, stage.old):
        assert await board.renews(), "its certificates are of the old one"
        await board.connects()
    async with stage.phase(stage.new) as hub:
        await board.connects()
        assert board.hears(hub)
