"""The endpoint's certificate from the cluster's own signer, as a kubelet with serverTLSBootstrap gets its own.

Decides when to ask, when to look, and when to ask again; what a request holds and means is `signing`'s. The key never
leaves this process. What was shown before stays in use until the next certificate is there, however long that takes:
an administrator approves (`kubectl certificate approve`), or denies, or forgets it, and none of these is the end.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import ec

from skerry.errors import ConfigInvalid, SkerryError
from skerry.plan.backoff import full_jitter
from skerry.ports import Clock, Entropy
from skerry_hub import pki
from skerry_hub.kubelet.signing import (
    CERTIFICATE_SIGNING_REQUESTS,
    Ended,
    Issued,
    Pending,
    renew_at,
    request_of,
    state_of,
)
from skerry_hub.limits import KUBELET_CSR_AGAIN_S, KUBELET_CSR_POLL_S, KUBELET_RENEW_LOOK_S
from skerry_hub.ports import ClusterBusy, ClusterError, Conflict, Forbidden, Invalid, NotFound, Obj, Resource

Use = Callable[[str, str], None]  # certificate and key, PEM; raises ConfigInvalid
RIGHTS = "the hub needs create and get on certificatesigningrequests"


class Requests(Protocol):
    """What is used of a Cluster."""

    async def create(self, resource: Resource, namespace: str, obj: Obj) -> Obj: ...
    async def get(self, resource: Resource, namespace: str, name: str) -> Obj: ...


class NotSigned(SkerryError):
    """A request has ended without a certificate that can be used."""


class ServingCertificate:
    """Of one process, which asks for itself: replicas have a key and a request each."""

    def __init__(
        self,
        cluster: Requests,
        clock: Clock,
        entropy: Entropy,
        log: Callable[[str], None],
        *,
        replica: str,
        address: str,
        use: Use,
    ) -> None:
        """`address` is what the nodes show, `replica` may be empty. `use` shows a pair from then on."""
        self._cluster, self._clock, self._entropy, self._log = cluster, clock, entropy, log
        self._replica, self._address, self._use = replica, address, use
        self._told = ""

    async def run(self) -> None:
        """Never returns, raises nothing."""
        failures = 0
        while True:
            try:
                valid = await self._certificate()
            except NotSigned as why:
                failures += 1
                pause = full_jitter(KUBELET_CSR_AGAIN_S, failures, self._entropy.uniform())
                self._tell(f"{why}; what is shown now stays; approve the request that follows in {pause:.0f} s")
                await self._sleep(pause)
                continue
            failures = 0
            await self._until(renew_at(valid, self._entropy.uniform()))

    # --- private ------------------------------------------------------------------------------------------------------

    async def _certificate(self) -> tuple[float, float]:
        """Ask for one, wait for it, and use it; from when to when it is valid. Raises NotSigned."""
        key = pki.new_key()
        request = request_of(self._replica, self._address, key)
        name = str(request["metadata"]["name"])
        await self._create(name, request)
        self._tell(f"request {name} waits for an administrator: kubectl certificate approve {name}")
        certificate = await self._signed(name)
        return self._used(name, certificate, key)

    async def _create(self, name: str, request: Obj) -> None:
        """Raises NotSigned when the API will never take it."""
        while True:
            try:
                await self._cluster.create(CERTIFICATE_SIGNING_REQUESTS, "", request)
                return
            except Conflict:
                if await self._exists(name):  # the answer to an earlier attempt was lost
                    return
            except Invalid as why:
                raise NotSigned(f"request {name} is refused by the API ({why})") from None
            except NotFound:
                self._tell("this API has no certificates.k8s.io/v1, so no request can be made")
            except ClusterError as why:
                self._tell(f"request {name}: {why}{_rights(why)}")
                await self._pause(_asked_to_wait(why))
                continue
            await self._pause()

    async def _exists(self, name: str) -> bool:
        try:
            await self._cluster.get(CERTIFICATE_SIGNING_REQUESTS, "", name)
        except ClusterError:
            return False
        return True

    async def _signed(self, name: str) -> str:
        """The certificate, PEM, once it is there. Raises NotSigned."""
        wait_s = 0.0
        while True:
            await self._pause(wait_s)
            wait_s = 0.0
            try:
                state = state_of(await self._cluster.get(CERTIFICATE_SIGNING_REQUESTS, "", name))
            except NotFound:  # the controller manager deletes what nobody decided in 24 h, or signed in one
                raise NotSigned(f"request {name} is gone: deleted, or not approved and signed in time") from None
            except ClusterError as why:
                self._tell(f"request {name}: {why}{_rights(why)}")
                wait_s = _asked_to_wait(why)
                continue
            match state:
                case Pending(approved=True):
                    self._tell(f"request {name} is approved and waits for the signer (kube-controller-manager)")
                case Pending():
                    pass
                case Issued(certificate):
                    return certificate
                case Ended(why_ended):
                    raise NotSigned(f"request {name} {why_ended}")
                case _:
                    raise AssertionError(state)

    def _used(self, name: str, certificate: str, key: ec.EllipticCurvePrivateKey) -> tuple[float, float]:
        """Raises NotSigned, and what is shown stays."""
        try:
            valid = pki.validity(certificate)
            if valid[1] <= self._clock.wall():
                raise NotSigned(f"request {name} has a certificate that is no longer valid")
            self._use(certificate, pki.private_pem(key).decode())
        except (pki.PkiError, ConfigInvalid) as why:
            raise NotSigned(f"request {name}: {why}") from None
        end = datetime.fromtimestamp(valid[1], timezone.utc)
        self._tell(f"shows the certificate of request {name}, valid until {end:%Y-%m-%dT%H:%M:%SZ}")
        return valid

    async def _until(self, wall: float) -> None:
        """Until the wall's clock shows this, and some minutes at least: a signer whose certificates are old when they
        come is not asked without end."""
        await self._sleep(full_jitter(KUBELET_CSR_AGAIN_S, 1, self._entropy.uniform()))
        while self._clock.wall() < wall:
            await self._sleep(min(wall - self._clock.wall(), KUBELET_RENEW_LOOK_S))

    async def _pause(self, at_least_s: float = 0.0) -> None:
        first, last = KUBELET_CSR_POLL_S
        await self._sleep(max(at_least_s, first + (last - first) * self._entropy.uniform()))

    async def _sleep(self, seconds: float) -> None:
        await self._clock.sleep_until(self._clock.now() + seconds)

    def _tell(self, line: str) -> None:
        """Once, however long it stays so."""
        if line != self._told:
            self._log(f"kubelet endpoint: {line}")
        self._told = line


def _asked_to_wait(why: ClusterError) -> float:
    """Seconds, as the server's Retry-After says."""
    return why.retry_after_s if isinstance(why, ClusterBusy) else 0.0


def _rights(why: ClusterError) -> str:
    return f"; {RIGHTS}" if isinstance(why, Forbidden) else ""
