"""The endpoint's certificate from the cluster's signer: the way of a request from the hub to what a client is shown.

The first part goes through HTTP to the stand-in of a cluster with the shipped rights, the second without the network.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from skerry_hub.kube.client import KubeClient
from skerry_hub.kube.config import Access
from skerry_hub.kubelet.app import Parts
from skerry_hub.kubelet.options import EndpointOptions, endpoint_options
from skerry_hub.kubelet.serve import KubeletEndpoints
from skerry_hub.kubelet.serving_certificate import RIGHTS, ServingCertificate
from skerry_hub.limits import KUBELET_CSR_AGAIN_S, KUBELET_CSR_POLL_S
from skerry_hub.ports import ClusterAway, ClusterBusy, ClusterError, Conflict, Forbidden, Invalid, NotFound, Obj
from unit.apiserver.serving import Client, running
from unit.hub.fakes import Dice, ManualClock
from unit.hub.hostile_api import HostileApi, shipped
from unit.hub.signing_controller import SigningController
from unit.kubelet.local_streams import LocalStreams
from unit.kubelet.plain import Everybody

HOST, PORTS = "127.0.0.1", (21_650, 21_690)
FASTER = 2_000.0  # than the wall: between two looks at the clock lies an hour
WAIT_S = 60.0
DAY_S = 86_400.0


class FastClock:
    """Sleeps are short; the wall's clock is the real one and may be turned ahead."""

    ahead_s = 0.0

    def now(self) -> float:
        return time.monotonic() * FASTER

    def wall(self) -> float:
        return time.time() + self.ahead_s

    async def sleep_until(self, when: float) -> None:
        await asyncio.sleep(max(0.0, when - self.now()) / FASTER)


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with running(tmp_path_factory.mktemp("api")) as client:
        yield client


class Site:
    """An endpoint with the options of a command line, and the loop that asks for its certificate."""

    def __init__(self, hostile: HostileApi, hub: KubeClient, client_ca: Path) -> None:
        self.signing, self.hostile, self.clock, self.log = hostile.signing, hostile, FastClock(), list[str]()
        options = endpoint_options(None, None, client_ca, HOST, "", "", tls_bootstrap=True)
        assert isinstance(options, EndpointOptions)
        self.endpoints = KubeletEndpoints(
            Parts(LocalStreams(), Everybody()), options.keys, listen=HOST, advertise=HOST, ports=PORTS,
            shown=lambda _node: None,
        )  # fmt: skip
        self.at = self.endpoints.endpoint_of("pi")
        self.loop = ServingCertificate(
            hub, self.clock, Dice(5), self.log.append, replica="hub-0", address=options.address, use=self._use
        )

    def _use(self, certificate: str, key: str) -> None:
        self.endpoints.renew(replace(self.endpoints.keys, certificate=certificate, key=key))

    async def shown(self, verify: bool = True) -> int:
        """The serial number of what a client is shown that believes the cluster's signer and dials the address."""
        tls = ssl.create_default_context(cadata=self.signing.authority.certificate_pem.decode())
        if not verify:
            tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        assert self.at is not None
        _, writer = await asyncio.wait_for(asyncio.open_connection(*self.at, ssl=tls), 30)
        found = writer.get_extra_info("ssl_object").getpeercert()
        writer.close()
        return int(found["serialNumber"], 16) if found else 0

    async def until(self, condition: Callable[[], Any], what: str) -> Any:
        deadline = time.monotonic() + WAIT_S
        while not (found := condition()):
            assert time.monotonic() < deadline, f"not in time: {what}; {self.log}; {self.hostile.refused}"
            await asyncio.sleep(0.01)
        return found

    async def asked(self) -> str:
        (name,) = await self.until(lambda: self.signing.pending, "a request")
        return str(name)

    async def told(self, words: str) -> None:
        await self.until(lambda: [line for line in self.log if words in line], words)


@pytest.fixture
async def site(behind: Client) -> AsyncIterator[Site]:
    hostile = HostileApi(behind, shipped(), moody=False)
    async with hostile.serve() as api, KubeClient(Access(api.url, token="hub")) as hub:
        found = Site(hostile, hub, behind.data / "ca.crt")
        task = asyncio.ensure_future(found.loop.run())
        yield found
        task.cancel()
        (end,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(end, asyncio.CancelledError), end
        await found.endpoints.close()
        assert hostile.refused == []


async def test_an_approved_request_is_what_a_client_that_checks_is_shown(site: Site) -> None:
    name = await site.asked()
    await site.told(f"kubectl certificate approve {name}")
    with pytest.raises(ssl.SSLCertVerificationError):
        await site.shown()
    await site.shown(verify=False)  # an API server that does not check is served from the beginning
    site.signing.approve(name)
    await site.told("shows the certificate")
    assert await site.shown() > 0


async def test_after_a_denial_another_key_is_asked_for(site: Site) -> None:
    first = await site.asked()
    site.signing.deny(first, "who is this?")
    await site.told(f"{first} was denied (who is this?)")
    second = await site.asked()
    assert second != first
    keys = {one["spec"]["request"] for one in site.signing.requests.values()}
    assert len(keys) == 2
    site.signing.approve(second)
    await site.told(f"shows the certificate of request {second}")
    assert await site.shown() > 0


async def test_it_is_renewed_before_it_ends_and_shown_until_the_next_is_there(site: Site) -> None:
    first = await site.asked()
    site.signing.approve(first)
    await site.told(f"shows the certificate of request {first}")
    old = await site.shown()
    site.clock.ahead_s = 330 * DAY_S
    second = await site.asked()
    site.clock.ahead_s = 0.0
    assert second != first
    assert await site.shown() == old
    site.signing.approve(second)
    await site.told(f"shows the certificate of request {second}")
    assert await site.shown() not in (0, old)


# --- without the network ----------------------------------------------------------------------------------------------


class Cluster:
    """What is used of an API; the test says what goes wrong."""

    def __init__(self, clock: ManualClock) -> None:
        self.signing = SigningController(clock.wall)
        self.trouble: list[ClusterError] = []  # one for each call from now on
        self.lost: list[ClusterError] = []  # the same, after the call was done
        self.calls = 0

    async def create(self, resource: Any, namespace: str, obj: Obj, **_of: str) -> Obj:
        return self._call(lambda: self.signing.create(obj))

    async def get(self, resource: Any, namespace: str, name: str) -> Obj:
        return self._call(lambda: self.signing.answer("get", name, b""))

    def _call(self, do: Callable[[], tuple[int, Obj]]) -> Obj:
        self.calls += 1
        if self.trouble:
            raise self.trouble.pop(0)
        code, obj = do()
        if self.lost:
            raise self.lost.pop(0)
        kinds: dict[int, type[ClusterError]] = {404: NotFound, 409: Conflict, 422: Invalid}
        if code in kinds:
            raise kinds[code](obj["message"])
        return obj


class Quiet:
    """The loop on a clock that the test moves."""

    def __init__(self) -> None:
        self.clock, self.log, self.used = ManualClock(), list[str](), list[tuple[str, str]]()
        self.cluster = Cluster(self.clock)
        self.signing = self.cluster.signing
        self.loop = ServingCertificate(
            self.cluster, self.clock, Dice(7), self.log.append, replica="", address="10.0.0.1",
            use=lambda certificate, key: self.used.append((certificate, key)),
        )  # fmt: skip

    async def look(self) -> None:
        """Until the request was looked at."""
        await self.clock.advance(KUBELET_CSR_POLL_S[1])

    async def again(self, failures: int = 1) -> str:
        """The request that follows one that ended."""
        await self.clock.advance(KUBELET_CSR_AGAIN_S[0] * 2.0**failures)
        (name,) = self.signing.pending
        return name


@pytest.fixture
async def quiet() -> AsyncIterator[Quiet]:
    found = Quiet()
    task = asyncio.ensure_future(found.loop.run())
    await found.clock.advance(0)
    yield found
    assert not task.done(), task.result()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_a_request_that_expires_is_followed_by_another(quiet: Quiet) -> None:
    """kube-controller-manager deletes it after a day, and every day until somebody looks."""
    for day in (1, 2, 3):
        (name,) = quiet.signing.pending
        await quiet.clock.advance(DAY_S)
        assert quiet.signing.pending == [name], "one request is enough for a day"
        quiet.signing.delete(name)
        await quiet.look()
        assert f"request {name} is gone" in quiet.log[-1]
        await quiet.again(day)
    assert len(quiet.log) == 7, "a line for each request and one for each end"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda signing, name: signing.condition(name, "Failed", "bad usages"), "could not be signed (bad usages)"),
        (lambda signing, name: signing.requests[name]["status"].update(certificate="bm8gUEVN"), "not a usable"),
    ],
)
async def test_what_cannot_be_used_is_told_and_asked_for_again(
    quiet: Quiet, spoil: Callable[[SigningController, str], None], words: str
) -> None:
    (first,) = quiet.signing.pending
    spoil(quiet.signing, first)
    await quiet.look()
    assert words in quiet.log[-1]
    assert "what is shown now stays" in quiet.log[-1]
    quiet.signing.delete(first)
    quiet.signing.approve(await quiet.again())
    await quiet.look()
    assert len(quiet.used) == 1


async def test_a_certificate_of_the_past_is_not_used(quiet: Quiet) -> None:
    (first,) = quiet.signing.pending
    quiet.signing.wall = lambda: quiet.clock.wall() - 400 * DAY_S
    quiet.signing.approve(first)
    await quiet.look()
    assert "no longer valid" in quiet.log[-1]
    assert quiet.used == []


async def test_an_approved_request_that_nobody_signs_is_told_once(quiet: Quiet) -> None:
    quiet.signing.absent = True
    (name,) = quiet.signing.pending
    quiet.signing.approve(name)
    await quiet.clock.advance(600)
    assert [line for line in quiet.log if "waits for the signer" in line] == [quiet.log[-1]]
    quiet.signing.absent = False
    quiet.signing.sign(name)
    await quiet.look()
    assert len(quiet.used) == 1


async def test_an_answer_that_was_lost_makes_no_second_request() -> None:
    quiet = Quiet()
    quiet.cluster.lost = [ClusterAway("broken off")]
    task = asyncio.ensure_future(quiet.loop.run())
    await quiet.look()
    await quiet.look()
    (name,) = quiet.signing.requests
    assert f"approve {name}" in quiet.log[-1]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (Forbidden("no"), RIGHTS),
        (NotFound("no"), "no certificates.k8s.io/v1"),
        (ClusterAway("the API is away"), "the API is away"),
        (ClusterBusy("slow down", 60.0), "slow down"),
        (Conflict("somebody else was faster"), "approve"),
    ],
)
async def test_while_the_api_does_not_take_a_request_it_is_tried_again(trouble: ClusterError, words: str) -> None:
    quiet = Quiet()
    quiet.cluster.trouble = [trouble] * 3
    task = asyncio.ensure_future(quiet.loop.run())
    for _ in range(3):
        await quiet.clock.advance(60 + KUBELET_CSR_POLL_S[1])
    assert len([line for line in quiet.log if words in line]) == 1, "once, however long it lasts"
    (name,) = quiet.signing.pending
    quiet.cluster.trouble = [trouble] if not isinstance(trouble, NotFound) else []
    quiet.signing.approve(name)
    await quiet.clock.advance(60 + KUBELET_CSR_POLL_S[1])
    await quiet.look()
    assert len(quiet.used) == 1, quiet.log
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_request_that_the_api_calls_invalid_is_no_reason_to_hurry(quiet: Quiet) -> None:
    (first,) = quiet.signing.pending
    quiet.signing.delete(first)
    await quiet.look()
    calls = quiet.cluster.calls
    quiet.cluster.trouble = [Invalid("a policy")] * 50
    await quiet.clock.advance(DAY_S)
    assert calls < quiet.cluster.calls < calls + 50
    assert "refused by the API (a policy)" in quiet.log[-1]


async def test_a_signer_whose_certificates_are_old_is_not_asked_without_end(quiet: Quiet) -> None:
    """Each is past 90 % of its life when it comes."""
    quiet.signing.wall = lambda: quiet.clock.wall() - 364 * DAY_S
    began = quiet.clock.now()
    while quiet.clock.now() < began + DAY_S / 4:
        for name in quiet.signing.pending:
            quiet.signing.approve(name)
        await quiet.look()
    assert 1 < len(quiet.used) <= (DAY_S / 4) / (KUBELET_CSR_AGAIN_S[0] / 2) + 1


async def test_a_clock_that_jumps_ahead_is_noticed(quiet: Quiet) -> None:
    (first,) = quiet.signing.pending
    quiet.signing.approve(first)
    await quiet.clock.advance(DAY_S)
    assert quiet.signing.pending == []
    wall = quiet.clock.wall
    quiet.clock.wall = lambda: wall() + 360 * DAY_S  # type: ignore[method-assign]
    await quiet.clock.advance(3_700)
    assert len(quiet.signing.pending) == 1
