"""The server before devices that are slow, broken or hostile: each hears why, and none of them is another's trouble."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from patience import WAIT_S, until
from skerry.errors import ConfigInvalid, Malformed
from skerry.limits import ENROL_BYTES_MAX
from skerry.wire import enrolment as wire
from skerry_hub import limits
from skerry_hub.enrolment import app as paths
from skerry_hub.enrolment import authority, serve
from skerry_hub.enrolment.app import EnrolmentPaths
from skerry_hub.enrolment.options import EnrolmentOptions, enrolment_options
from skerry_hub.enrolment.serve import EnrolmentServer
from skerry_hub.limits import ENROL_FAILURES_ADDRESS
from skerry_hub.listener import ListenError
from skerry_hub.ports import ClusterAway, Obj, Resource
from unit.enrolment.site import BROKER, Reply, Site, WallClock, ask, csr_for, hung_up, new_key, part_on, raw, trusting
from unit.hub.fakes import Dice, ManualClock, settle


class Served:
    """A server in front of an enrolment that says what the test says."""

    def __init__(self, server: EnrolmentServer, ca: authority.Authority) -> None:
        self.server, self.ca, self.lines = server, ca, list[str]()
        self.answer: Callable[[wire.Request], Any] = lambda _request: issued()
        challenge = lambda: wire.Challenge(bytes(24), 0)  # noqa: E731
        self.paths = EnrolmentPaths(
            self._enrol, self._renew, challenge, ca.certificate_pem, WallClock(), self.lines.append
        )

    async def _renew(self, _request: wire.Renewal) -> wire.Issued:
        return issued()

    async def _enrol(self, request: wire.Request) -> wire.Issued:
        found = self.answer(request)
        made: wire.Issued = await found if asyncio.iscoroutine(found) else found
        return made

    async def post(self, body: bytes = b"", path: str = wire.ENROLL_PATH, method: str = "POST") -> Reply:
        return await ask(self.server.port, trusting(self.ca), method, path, body)

    async def raw(self, data: bytes) -> Reply:
        return await raw(self.server.port, trusting(self.ca), data)


def issued() -> wire.Issued:
    pem = "-----BEGIN CERTIFICATE-----\n"
    return wire.Issued("pi", pem, pem, pem, BROKER, "https://hub:1", "AAAA")


def good() -> bytes:
    return wire.encode_request(wire.Request("abcdef", bytes(16), csr_for("pi"), bytes(32), bytes(32)))


@pytest.fixture
async def served(tmp_path: Path) -> Any:
    ca = authority.load(*authority.make(tmp_path))
    server = EnrolmentServer("127.0.0.1:0", ("127.0.0.1",), ca, WallClock(), Dice(), print)
    made = Served(server, ca)
    task = asyncio.ensure_future(server.run(made.paths))
    yield made
    await server.close()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


# --- what it serves ---------------------------------------------------------------------------------------------------


async def test_the_authority_is_given_to_anybody(served: Served) -> None:
    """Who asks compares it with the token's digest, and cannot verify anything before."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    reply = await ask(served.server.port, context, "GET", wire.CA_PATH)
    assert (reply.status, reply.body) == (200, served.ca.certificate_pem)


async def test_the_server_is_the_authoritys_and_has_its_name(served: Served) -> None:
    assert (await served.post(good())).status == 200
    with pytest.raises(ssl.SSLCertVerificationError):
        await raw(served.server.port, trusting(served.ca), b"", host="localhost")


async def test_an_older_tls_is_refused_and_plain_http_is_not_answered(served: Served) -> None:
    context = trusting(served.ca)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await ask(served.server.port, context, "GET", wire.CA_PATH)
    with pytest.raises((ConnectionError, ValueError, IndexError)):
        await ask(served.server.port, None, "GET", wire.CA_PATH)
    await until(lambda: served.server.open == 0, "the connections to be counted no more")


async def test_it_asks_for_no_certificate_of_the_client(served: Served) -> None:
    reply = await served.post(good())
    assert reply.issued == issued()
    assert reply.headers["cache-control"] == "no-store"


# --- what it refuses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/enroll", 405),
        ("DELETE", "/ca", 405),
        ("PUT", "/enroll", 405),
        ("POST", "/", 404),
        ("GET", "/enroll/../ca", 404),
        ("GET", "/api/v1/secrets", 404),
        ("OPTIONS", "*", 404),
    ],
)
async def test_other_paths_and_methods(served: Served, method: str, path: str, status: int) -> None:
    reply = await served.post(b"", path, method)
    assert reply.status == status
    assert reply.problem.message.startswith("only ") or "there are only" in reply.problem.message


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b"\xff" * 10, b'{"token": 1}', b"[" * 20_000,
        json.dumps({"token": "abcdef", "secret": "AA==", "csr": csr_for("pi")}).encode(),
        json.dumps({"token": "abcdef", "secret": "A" * 22 + "==", "csr": "none"}).encode(),
    ],
)  # fmt: skip
async def test_a_body_that_makes_no_sense_is_malformed(served: Served, body: bytes) -> None:
    reply = await served.post(body)
    assert (reply.status, reply.problem.reason) == (400, "Malformed")


async def test_too_much_is_refused_before_it_is_read(served: Served) -> None:
    head = f"POST /enroll HTTP/1.1\r\nhost: h\r\ncontent-length: {ENROL_BYTES_MAX + 1}\r\n\r\n".encode()
    reply = await served.raw(head)
    assert (reply.status, reply.problem.reason) == (413, "BadRequest")
    chunk = b"8000\r\n" + bytes(0x8000) + b"\r\n"
    reply = await served.raw(b"POST /enroll HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n" + chunk * 3)
    assert reply.status == 413


@pytest.mark.parametrize(
    "data", [b"\x16\x03\x01garbage\r\n\r\n", b"POST\r\n\r\n", b"POST /enroll HTTP/1.1\r\n\r\n", b"A" * 70_000]
)
async def test_what_is_no_http_is_refused_as_a_problem(served: Served, data: bytes) -> None:
    reply = await served.raw(data)
    assert 400 <= reply.status < 500
    assert reply.problem.reason == "BadRequest"


async def test_the_api_being_away_is_no_failure_of_the_device(served: Served) -> None:
    def away(_request: wire.Request) -> wire.Issued:
        raise ClusterAway("10.0.0.1: connection refused")

    served.answer = away
    for _ in range(ENROL_FAILURES_ADDRESS[0] + 5):
        reply = await served.post(good())
        assert (reply.status, reply.problem.reason, reply.headers["retry-after"]) == (503, "ApiAway", "5")
        assert "10.0.0.1" not in reply.problem.message
    assert len(served.lines) == 1, "however many ask"


async def test_a_bug_shows_nobody_a_traceback(served: Served) -> None:
    def broken(_request: wire.Request) -> wire.Issued:
        raise RuntimeError("secret\ninside")

    served.answer = broken
    reply = await served.post(good())
    assert (reply.status, reply.problem.message) == (500, "the hub failed, see its log; ask again")


async def test_an_api_that_hangs_is_given_up(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "ENROL_WORK_S", 0.05)

    async def hang() -> wire.Issued:
        await asyncio.Event().wait()
        raise AssertionError

    served.answer = lambda _request: hang()
    reply = await served.post(good())
    assert (reply.status, reply.problem.reason) == (503, "ApiAway")


async def test_many_failures_have_to_wait_and_good_requests_cost_nothing(served: Served) -> None:
    burst, each_s = ENROL_FAILURES_ADDRESS
    for _ in range(burst + 5):
        assert (await served.post(good())).status == 200
    answers = [await served.post(b"{}") for _ in range(burst + 1)]
    assert [reply.status for reply in answers[:burst]] == [400] * burst
    late = answers[-1] if answers[-1].status == 429 else await served.post(b"{}")
    assert (late.status, late.problem.reason) == (429, "TooManyFailures")
    assert 1 <= int(late.headers["retry-after"]) <= each_s
    assert (await served.post(good())).status == 429, "nobody can tell whether a guess was right"
    assert served.paths.snapshot()["limited"] >= 2


# --- who is slow, and who comes in numbers ----------------------------------------------------------------------------


async def test_a_peer_that_says_nothing_is_cut_off(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "TLS_HANDSHAKE_S", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", served.server.port)
    await until(lambda: served.server.open == 1, "it to be counted")
    assert await asyncio.wait_for(reader.read(), WAIT_S) == b""
    await until(lambda: served.server.open == 0, "it to be counted no more")
    await hung_up(writer)


async def test_a_peer_that_drips_is_cut_off_whatever_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "ENROL_CONNECTION_S", 0.6)
    ca = authority.load(*authority.make(tmp_path))
    server = EnrolmentServer("127.0.0.1:0", ("127.0.0.1",), ca, WallClock(), Dice(), print)
    task = asyncio.ensure_future(server.run(Served(server, ca).paths))
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=trusting(ca))
    writer.write(b"POST /enroll HTTP/1.1\r\nhost: h\r\ncontent-length: 60000\r\n\r\n")
    ended = asyncio.ensure_future(reader.read())
    for _ in range(2_000):
        if ended.done() or writer.is_closing():
            break
        writer.write(b" ")
        await asyncio.sleep(0.01)
    assert await asyncio.wait_for(asyncio.gather(ended, return_exceptions=True), WAIT_S)
    await until(lambda: server.open == 0, "it to be counted no more")
    await hung_up(writer)
    await server.close()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_connections_of_one_address_are_bounded_and_others_still_come(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "ENROL_ADDRESS_CONNECTIONS_MAX", 3)
    silent = [socket.create_connection(("127.0.0.1", served.server.port)) for _ in range(3)]
    await until(lambda: served.server.open == 3, "three to be counted")
    with pytest.raises((ConnectionError, ssl.SSLError)):
        await served.post(good())
    assert served.server.turned_away == 1
    other = await from_address("127.0.0.2", served)
    assert other.startswith(b"HTTP/1.1 200")
    for one in silent:
        one.close()
    await until(lambda: served.server.open == 0, "them to be counted no more")
    assert (await served.post(good())).status == 200


async def test_all_connections_together_are_bounded(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "ENROL_CONNECTIONS_MAX", 2)
    silent = [socket.create_connection(("127.0.0.1", served.server.port)) for _ in range(2)]
    await until(lambda: served.server.open == 2, "two to be counted")
    with pytest.raises((ConnectionError, ssl.SSLError)):
        await from_address("127.0.0.2", served)
    for one in silent:
        one.close()


async def from_address(address: str, served: Served) -> bytes:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", served.server.port, ssl=trusting(served.ca), local_addr=(address, 0)
    )
    writer.write(b"GET /ca HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")
    said = await asyncio.wait_for(reader.read(), WAIT_S)
    await hung_up(writer)
    return said


# --- the certificate and the listener ---------------------------------------------------------------------------------


async def test_its_certificate_is_made_anew_in_time(tmp_path: Path) -> None:
    ca, clock = authority.load(*authority.make(tmp_path)), ManualClock()
    server = EnrolmentServer("127.0.0.1:0", ("127.0.0.1",), ca, clock, Dice(), print)
    task = asyncio.ensure_future(server.run(Served(server, ca).paths))
    first = server._pair.certificate
    await clock.advance(3_600)
    assert server._pair.certificate == first
    clock.jump(limits.OWN_DAYS * 86_400 * limits.OWN_RENEW_PART)
    await clock.advance(3_600)
    await settle()
    assert server._pair.certificate.not_valid_after_utc > first.not_valid_after_utc
    await server.close()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_an_address_that_is_taken_names_the_option(tmp_path: Path) -> None:
    ca = authority.load(*authority.make(tmp_path))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ListenError, match="--enroll-listen"):
            EnrolmentServer(f"127.0.0.1:{taken.getsockname()[1]}", ("x",), ca, WallClock(), Dice(), print)


def test_options(tmp_path: Path) -> None:
    ca = authority.load(*authority.make(tmp_path))

    def options(**more: Any) -> EnrolmentOptions | None:
        said = {"listen": "127.0.0.1:0", "addresses": (), "url": "", "device_broker": BROKER, "broker": "", "days": 90}
        return enrolment_options(**{"authority": ca, **said, **more})

    assert options(listen="") is None
    found = options(addresses=["hub.example", "[::1]", "10.0.0.1"])
    assert found is not None
    assert found.names == ("hub.example", "::1", "10.0.0.1")
    assert found.url_at(8443) == "https://hub.example:8443"
    found = options(addresses=["::1"], url="https://hub:1/")
    assert found is not None
    assert found.url_at(2) == "https://hub:1"
    found = options(listen="0.0.0.0:1", addresses=["::1"], device_broker="", broker="mqtts://b:1")
    assert found is not None
    assert (found.url_at(1), found.broker) == ("https://[::1]:1", "mqtts://b:1")
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"authority": None}, "--device-ca-cert"),
        ({"listen": "0.0.0.0:1"}, "--enroll-address"),
        ({"listen": "[::]:1"}, "--enroll-address"),
        ({"listen": "nowhere"}, "--enroll-listen"),
        ({"addresses": ["*.example"]}, "--enroll-address"),
        ({"addresses": ["a:b"]}, "--enroll-address"),
        ({"addresses": [""]}, "--enroll-address"),
        ({"addresses": ["hub..example"]}, "--enroll-address"),
        ({"url": "http://hub:1"}, "--enroll-url"),
        ({"url": "https://hub"}, "--enroll-url"),
        ({"url": "https://hub..example:1"}, "--enroll-url"),
        ({"device_broker": "mqtt://b:1"}, "--device-broker"),
        ({"device_broker": f"mqtts://{'b' * 64}:1"}, "--device-broker"),
        ({"device_broker": "", "broker": "mqtt://b:1"}, "--broker"),
        ({"days": 0}, "--device-cert-days"),
        ({"days": 10_000}, "--device-cert-days"),
    ]
    for more, field in wrong:
        with pytest.raises(ConfigInvalid) as why:
            options(**more)
        assert why.value.field == field, more


# --- on a real API ----------------------------------------------------------------------------------------------------


async def test_a_hub_that_was_started_again_goes_on(hub: Site) -> None:
    token, key = await hub.token("pi"), new_key()
    first = (await hub.enroll(token, key)).issued
    async with part_on(hub.admin, hub.authority, hub.clock, hub.lines) as second:
        hub.parts.append(second)
        again = (await hub.enroll(token, key, replica=1)).issued
    assert (again.certificate, again.streams) == (first.certificate, first.streams)


async def test_without_the_api_it_is_temporary(hub: Site) -> None:
    class Away:
        async def get(self, resource: Resource, namespace: str, name: str) -> Obj:
            raise ClusterAway("gone")

        create = get

    token = await hub.token("pi")
    async with part_on(Away(), hub.authority, hub.clock, hub.lines) as second:  # type: ignore[arg-type]
        hub.parts.append(second)
        reply = await hub.enroll(token, replica=1)
    assert (reply.status, reply.problem.reason) == (503, "ApiAway")
    assert (await hub.enroll(token)).status == 200


SERVED_BYTES = st.one_of(
    st.binary(max_size=200),
    st.dictionaries(
        st.sampled_from(["token", "secret", "csr", "x"]), st.one_of(st.text(), st.integers(), st.none())
    ).map(lambda said: json.dumps(said).encode()),
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(SERVED_BYTES)
def test_any_body_is_read_or_malformed(body: bytes) -> None:
    with suppress(Malformed):
        assert isinstance(wire.decode_request(body), wire.Request)
