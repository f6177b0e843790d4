"""Files that somebody renews while the endpoint serves: what can be used is shown, what cannot changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from skerry_hub import pki
from skerry_hub.kubelet.app import Parts
from skerry_hub.kubelet.key_files import follow
from skerry_hub.kubelet.options import EndpointOptions, endpoint_options
from skerry_hub.kubelet.serve import KubeletEndpoints
from skerry_hub.limits import KUBELET_FILES_S
from unit.hub.fakes import Dice, ManualClock
from unit.kubelet.local_streams import LocalStreams
from unit.kubelet.plain import Everybody

HOST, PORTS = "127.0.0.1", (21_600, 21_640)
SOON_S = KUBELET_FILES_S[1]


def authority(name: str) -> pki.Pair:
    return pki.new_authority(name, 1, pki.utc_now())


def signed(by: pki.Pair, *names: str) -> pki.Pair:
    return pki.issue(by, "of a test", (), names, 1, pki.utc_now())


class Site:
    """An endpoint whose files lie in `folder`, followed on a clock that the test moves."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock, self.log = folder, ManualClock(), list[str]()
        self.node_ca, self.client_ca = authority("of nodes"), authority("of clients")
        self.pair = signed(self.node_ca, HOST)
        pki.save(self.pair, folder / "tls.crt", folder / "tls.key")
        (folder / "ca.crt").write_bytes(self.client_ca.certificate_pem)
        options = endpoint_options(folder / "tls.crt", folder / "tls.key", folder / "ca.crt", HOST, "", "")
        assert isinstance(options, EndpointOptions)
        self.options = options
        self.endpoints = KubeletEndpoints(
            Parts(LocalStreams(), Everybody()), options.keys, listen=HOST, advertise=HOST, ports=PORTS,
            shown=lambda _node: None,
        )  # fmt: skip
        self.at = self.endpoints.endpoint_of("pi")

    async def following(self) -> None:
        await follow(self.options.files, self.endpoints, self.clock, Dice(), self.log.append)

    async def soon(self) -> None:
        await self.clock.advance(SOON_S)

    async def connect(self, who: pki.Pair | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """As an API server does: it checks the certificate for the address that the node shows, and names none."""
        assert self.at is not None
        return await asyncio.wait_for(asyncio.open_connection(*self.at, ssl=self.client_context(who)), 30)

    def client_context(self, who: pki.Pair | None) -> ssl.SSLContext:
        tls = ssl.create_default_context(cadata=self.node_ca.certificate_pem.decode())
        if who is not None:
            pki.save(who, self.folder / "client.crt", self.folder / "client.key")
            tls.load_cert_chain(self.folder / "client.crt", self.folder / "client.key")
        return tls

    async def shown(self, who: pki.Pair | None = None) -> int:
        """The serial number of what a new connection is shown, once a request is answered on it."""
        reader, writer = await self.connect(who)
        found = await healthy(reader, writer)
        writer.close()
        return found


async def healthy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: n\r\n\r\n")
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\nok"), 30)).startswith(b"HTTP/1.1 200 ")
    return int(writer.get_extra_info("peercert")["serialNumber"], 16)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    found = Site(tmp_path)
    task = asyncio.ensure_future(found.following())
    yield found
    assert not task.done(), task.result()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await found.endpoints.close()


async def test_a_renewed_pair_is_shown_to_new_connections_and_open_ones_go_on(site: Site) -> None:
    reader, writer = await site.connect()
    assert await healthy(reader, writer) == site.pair.certificate.serial_number
    await site.soon()
    assert site.log == [], "nothing has changed"
    new = signed(site.node_ca, HOST)
    pki.save(new, site.folder / "tls.crt", site.folder / "tls.key")
    await site.soon()
    assert await site.shown() == new.certificate.serial_number
    assert await healthy(reader, writer) == site.pair.certificate.serial_number
    writer.close()
    assert site.log == ["kubelet endpoint: has read its certificate, key and client authorities again"]


async def test_a_certificate_without_its_key_waits_for_it(site: Site) -> None:
    new = signed(site.node_ca, HOST)
    (site.folder / "tls.crt").write_bytes(new.certificate_pem)
    for _ in range(3):
        await site.soon()
    assert await site.shown() == site.pair.certificate.serial_number
    (line,) = site.log
    assert "kubelet certificate: cannot be used" in line
    assert "stays in use" in line
    (site.folder / "tls.key").write_bytes(new.key_pem)
    await site.soon()
    assert await site.shown() == new.certificate.serial_number


@pytest.mark.parametrize("name", ["tls.crt", "tls.key", "ca.crt"])
@pytest.mark.parametrize("half", [b"", b"-----BEGIN CERTIFICATE-----\nMIIB", b"\xff\xfe", None])
async def test_a_file_that_is_half_written_or_gone_changes_nothing(site: Site, name: str, half: bytes | None) -> None:
    before = (site.folder / name).read_bytes()
    if half is None:
        (site.folder / name).unlink()
    else:
        (site.folder / name).write_bytes(half)
    await site.soon()
    await site.soon()
    assert len(site.log) == 1, site.log
    assert await site.shown(signed(site.client_ca)) == site.pair.certificate.serial_number
    (site.folder / name).write_bytes(before)
    await site.soon()
    assert len(site.log) == 1, "all is as it was"
    (site.folder / name).unlink()
    await site.soon()
    assert len(site.log) == 2, "and told again the next time"


async def test_another_client_authority_is_believed_and_the_one_before_no_more(site: Site) -> None:
    before = signed(site.client_ca)
    await site.shown(before)
    other = authority("of other clients")
    (site.folder / "ca.crt").write_bytes(other.certificate_pem)
    await site.soon()
    assert await site.shown(signed(other)) == site.pair.certificate.serial_number
    with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
        await site.shown(before)


async def test_no_session_is_there_to_resume(site: Site) -> None:
    """It would bring along a client whose authority is believed no more."""
    tls = site.client_context(signed(site.client_ca))

    def ask(session: ssl.SSLSession | None) -> tuple[bool, ssl.SSLSession | None]:
        assert site.at is not None
        with tls.wrap_socket(socket.create_connection(site.at, 30), server_hostname=HOST, session=session) as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: n\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
            return bool(client.session_reused), client.session

    reused, session = await asyncio.to_thread(ask, None)
    assert not reused
    assert (await asyncio.to_thread(ask, session))[0] is False


async def test_the_symbolic_links_of_a_secret_volume_are_followed(tmp_path: Path) -> None:
    """A kubelet swaps the folder that the files' links lead through."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    site = Site(tmp_path / "one")
    new = signed(site.node_ca, HOST)
    pki.save(new, tmp_path / "two" / "tls.crt", tmp_path / "two" / "tls.key")
    (tmp_path / "two" / "ca.crt").write_bytes(site.client_ca.certificate_pem)
    (tmp_path / "data").symlink_to("one")
    through = [type(f)(f.field, f.option, tmp_path / "data" / f.path.name) for f in site.options.files]
    task = asyncio.ensure_future(follow(through, site.endpoints, site.clock, Dice(), site.log.append))
    await site.soon()
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").replace(tmp_path / "data")
    await site.soon()
    assert await site.shown() == new.certificate.serial_number
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await site.endpoints.close()
