"""How the hub comes to its broker: who it is there, what it believes, and that its certificates cannot expire on it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from contract.broker import MOSQUITTO, Broker, free_port
from skerry.errors import ConfigInvalid, LinkLost
from skerry.world.mqtt_values import MqttOptions
from skerry_hub import mosquitto, pki
from skerry_hub.broker_options import BrokerFiles, BrokerOptions, broker_options
from skerry_hub.cli import main
from skerry_hub.cloudhub.mqtt import MqttBroker
from skerry_hub.enrolment import authority
from skerry_hub.enrolment.authority import Authority

URL = "mqtts://127.0.0.1:8883"


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return authority.load(*authority.make(tmp_path))


def options(
    url: str = URL, files: BrokerFiles | None = None, ca: Authority | None = None, **more: Any
) -> BrokerOptions:
    said = {"replica": "", "client_id": "me", "insecure": False, **more}
    return broker_options(url, files or BrokerFiles(), ca, **said)


def own(folder: Path, ca: Authority, *names: str) -> BrokerFiles:
    paths = []
    for i, name in enumerate(names):
        paths += [folder / f"{i}.crt", folder / f"{i}.key"]
        pki.save(ca.client(name, pki.utc_now()), *paths[-2:])
    return BrokerFiles(None, *paths)


def test_without_tls_it_is_whoever_it_likes() -> None:
    found = options("mqtt://127.0.0.1")
    assert (found.host, found.port, found.client_ids, found.tls) == ("127.0.0.1", 1883, ("me", "me.streams"), None)


def test_with_the_devices_authority_nothing_else_is_needed(ca: Authority) -> None:
    found = options("mqtts://b.example", ca=ca)
    assert (found.host, found.port, found.client_ids) == ("b.example", 8883, mosquitto.hub_names())
    assert options(ca=ca, replica="hub-1").client_ids == mosquitto.hub_names("hub-1")
    assert found.tls is not None
    context = found.tls[0]()
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3


def test_files_say_who_it_is(tmp_path: Path, ca: Authority) -> None:
    assert options(files=own(tmp_path, ca, "us", "us-too"), ca=ca).client_ids == ("us", "us-too")


@pytest.mark.parametrize(
    ("url", "replica", "field"),
    [
        ("mqtts://", "", "--broker"),
        ("http://b:1", "", "--broker"),
        ("mqtts://b:0", "", "--broker"),
        ("mqtts://u@b:1", "", "--broker"),
        ("mqtt://10.0.0.1", "", "--broker"),
        (URL, "r" * 60, "--replica"),
    ],
)
def test_what_makes_no_sense_is_refused(ca: Authority, url: str, replica: str, field: str) -> None:
    with pytest.raises(ConfigInvalid) as why:
        options(url, ca=ca, replica=replica)
    assert why.value.field == field


def test_files_that_lack_one_of_them_or_do_not_fit(tmp_path: Path, ca: Authority) -> None:
    whole = own(tmp_path, ca, "us", "us-too")
    (tmp_path / "empty").write_text("")
    cases: list[tuple[str, BrokerFiles, Authority | None, str]] = [
        (URL, BrokerFiles(), None, "--broker-ca"),
        (URL, BrokerFiles(ca=tmp_path / "device-ca.crt"), None, "--broker-cert"),
        (URL, BrokerFiles(ca=tmp_path / "none"), ca, "--broker-ca"),
        (URL, BrokerFiles(certificate=whole.certificate), ca, "--broker-key"),
        (URL, BrokerFiles(None, whole.certificate, whole.key), ca, "--broker-streams-cert"),
        (URL, own(tmp_path, ca, "us", "us"), ca, "--broker-streams-cert"),
        (URL, BrokerFiles(None, *[tmp_path / "empty"] * 4), ca, "--broker-cert"),
        ("mqtt://127.0.0.1", BrokerFiles(ca=tmp_path / "device-ca.crt"), ca, "--broker-ca"),
    ]
    for url, files, given, field in cases:
        with pytest.raises(ConfigInvalid) as why:
            options(url, files, given)
        assert why.value.field == field, files


def test_the_command_line_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--broker", URL]) == 2
    assert "--broker-ca: is needed" in capsys.readouterr().err
    assert main(["run", "--broker", "mqtt://127.0.0.1", "--enroll-listen", "127.0.0.1:0"]) == 2
    assert "--device-ca-cert: is needed with --enroll-listen" in capsys.readouterr().err


# --- at a real broker -------------------------------------------------------------------------------------------------


class Site:
    def __init__(self, folder: Path) -> None:
        self.ca = authority.load(*authority.make(folder))
        self.folder, self.port, self.now = folder, free_port(), pki.utc_now()
        server = pki.issue(self.ca.pair, "b", (), ("127.0.0.1",), 2, self.now)
        pki.save(server, folder / "server.crt", folder / "server.key")
        (folder / "rules").write_text(mosquitto.rules(mosquitto.hub_names()))
        names = ("device-ca.crt", "server.crt", "server.key", "rules")
        files = mosquitto.Files(*(str(folder / name) for name in names))
        self.broker = Broker(folder, whole=mosquitto.configuration(["127.0.0.1"], self.port, files))

    def clock(self) -> datetime:
        return self.now

    def hub(self, host: str = "127.0.0.1") -> MqttBroker:
        found = broker_options(
            f"mqtts://{host}:{self.port}", BrokerFiles(), self.ca, replica="", client_id="", insecure=False,
            now=self.clock,
        )  # fmt: skip
        assert found.tls is not None
        return MqttBroker(MqttOptions(found.host, found.port, found.client_ids[0], connect_timeout_s=5), found.tls[0])


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed")
    made = Site(tmp_path)
    yield made
    made.broker.stop()


async def test_the_hub_is_let_in_and_hears_devices(site: Site) -> None:
    hub, heard = site.hub(), asyncio.Event()
    await hub.connect(lambda topic, payload: heard.set())
    await hub.subscribe(["skerry/v1/pi/up"])
    await hub.publish("skerry/v1/pi/down", b"hello")
    await hub.close()


async def test_a_broker_with_another_name_is_not_believed(site: Site) -> None:
    with pytest.raises(LinkLost, match=r"(?i)certificate|hostname"):
        await site.hub("localhost").connect(lambda topic, payload: None)


async def test_a_reconnect_shows_a_fresh_certificate(site: Site) -> None:
    """The first one is from long ago: the broker does not take it, and the next attempt is not bound to it."""
    site.now -= timedelta(days=400)
    hub = site.hub()

    async def listen() -> None:
        await hub.connect(lambda topic, payload: None)
        await hub.subscribe(["skerry/v1/pi/up"])

    with pytest.raises(LinkLost):
        await listen()
    site.now = pki.utc_now()
    await listen()
    await hub.close()


async def test_files_are_read_again_and_ones_that_are_broken_are_a_link_that_is_lost(site: Site) -> None:
    names = mosquitto.hub_names()
    files = own(site.folder, site.ca, *names)
    found = broker_options(f"mqtts://127.0.0.1:{site.port}", files, site.ca, replica="", client_id="", insecure=False)
    assert found.tls is not None
    hub = MqttBroker(MqttOptions(found.host, found.port, found.client_ids[0], connect_timeout_s=5), found.tls[0])
    assert files.key is not None
    right = files.key.read_bytes()
    files.key.write_bytes(b"half of")
    with pytest.raises(LinkLost, match="cannot be used"):
        await hub.connect(lambda topic, payload: None)
    files.key.write_bytes(right)
    await hub.connect(lambda topic, payload: None)
    await hub.close()
