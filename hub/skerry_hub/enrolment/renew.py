"""One renewal, done: a device that the API knows by its keys gets certificates anew, also after the old ones ended.

The keys stay; what changes is how long they are good and which authorities the device believes. Who asks again soon is
given what it was given before, so an answer that was lost costs nothing and a request that somebody recorded gains
nothing. Refuses to know HTTP and the broker.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone

from skerry.errors import Malformed
from skerry.plan.backoff import full_jitter
from skerry.ports import Clock, Entropy
from skerry.wire.enrolment import Challenge, Issued, Renewal
from skerry_hub import pki
from skerry_hub.crypto import OpenSsl
from skerry_hub.enrolment import records
from skerry_hub.enrolment.authority import Authority, DeviceCertificates
from skerry_hub.enrolment.enrol import Declined, Terms
from skerry_hub.enrolment.events import NAMESPACE as EVENTS_NAMESPACE
from skerry_hub.enrolment.events import node_event
from skerry_hub.enrolment.judge import Refuse, Renew, Renewing, judge_renewal
from skerry_hub.enrolment.records import NAMESPACE, Identity
from skerry_hub.limits import ENROL_RACE_S, ENROL_RACES_MAX, RENEW_AGAIN_PART, RENEW_CHALLENGE_S
from skerry_hub.ports import EVENTS, SECRETS, Cluster, ClusterBusy, Conflict, NotFound, Obj

_TIME_BYTES, _MARK_BYTES = 8, 16


class Challenges:
    """A time and a mark on it that only who has the authority's key can make: any replica knows those of any other, and
    none has to remember one."""

    def __init__(self, authority: Authority) -> None:
        self._key = authority.shared_key(b"skerry renewal challenge")

    def made(self, wall: float) -> Challenge:
        """Of `wall`, seconds since 1970."""
        at = int(wall)
        stamp = at.to_bytes(_TIME_BYTES, "big")
        return Challenge(stamp + self._mark(stamp), at)

    def good(self, value: bytes, wall: float) -> bool:
        """Whether it was made in the last RENEW_CHALLENGE_S; replicas' clocks may differ by as much."""
        stamp, mark = value[:_TIME_BYTES], value[_TIME_BYTES:]
        return hmac.compare_digest(mark, self._mark(stamp)) and abs(wall - int.from_bytes(stamp, "big")) <= (
            RENEW_CHALLENGE_S
        )

    def _mark(self, stamp: bytes) -> bytes:
        return hmac.digest(self._key, stamp, "sha256")[:_MARK_BYTES]


class Renewals:
    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        entropy: Entropy,
        authority: Authority,
        terms: Terms,
        log: Callable[[str], None],
    ) -> None:
        self._cluster, self._clock, self._entropy, self._log = cluster, clock, entropy, log
        self._authority, self._terms = authority, terms
        self._challenges, self._crypto = Challenges(authority), OpenSsl()

    def challenge(self) -> Challenge:
        """For a renewal that is asked for within RENEW_CHALLENGE_S."""
        return self._challenges.made(self._clock.wall())

    async def renew(self, request: Renewal) -> Issued:
        """Raises Malformed (the request makes no sense), Declined, or ClusterError when the API does not let it be done
        now; then the device asks again, with another challenge."""
        asked = pki.read_request(request.csr)
        if not self._challenges.good(request.challenge, self._clock.wall()):
            raise Declined(Refuse(408, "StaleChallenge", "the request is too old, or the hub's authority is another"))
        if self._authority.expired(self._now()):
            raise Declined(Refuse(503, "NoAuthority", "the hub's device authority has expired: its operator must act"))
        for lost in range(ENROL_RACES_MAX):
            if lost:
                wait_s = full_jitter(ENROL_RACE_S, lost, self._entropy.uniform())
                await self._clock.sleep_until(self._clock.now() + wait_s)
            found = await self._identity(request.node)
            known = self._judged(found, request, asked)
            made = self._kept(known, asked) or self._authority.device(
                asked.key, known.node, self._terms.days, self._now()
            )
            try:
                await self._remember(found, known, made)
            except (Conflict, NotFound):  # another replica, or an operator: look again
                continue
            await self._tell(known, made)
            certificate, streams = made.texts
            ca, statement = self._authority.believed_pem.decode(), self._statement(known)
            return Issued(known.node, certificate, streams, ca, self._terms.broker, self._terms.url, statement)
        raise ClusterBusy(f"the identity of {request.node} changes all the time")

    # --- private ------------------------------------------------------------------------------------------------------

    async def _identity(self, node: str) -> Obj | None:
        if not records.device_name(node):
            return None
        try:
            return await self._cluster.get(SECRETS, NAMESPACE, records.identity_name(node))
        except NotFound:
            return None

    def _judged(self, found: Obj | None, request: Renewal, asked: pki.SigningRequest) -> Identity:
        """Raises Declined."""
        known: Identity | None = None
        with suppress(Malformed, ValueError):
            known = records.identity_of(found) if found is not None else self._stated(request, asked)
        public = bytes.fromhex(known.signing) if known is not None else bytes(32)
        proven = request.proven(self._crypto, public)
        verdict = judge_renewal(known, Renewing(request.node, asked.common_name, asked.key_digest, proven))
        if isinstance(verdict, Refuse):
            if verdict.reason == "Revoked":
                self._log(f"enrolment: node {request.node}: is revoked, and has asked for new certificates")
            raise Declined(verdict)
        assert isinstance(verdict, Renew)
        return verdict.identity

    def _stated(self, request: Renewal, asked: pki.SigningRequest) -> Identity | None:
        """Of a device that the API lost, by what the authority stated of it. Raises Malformed."""
        if not request.statement:
            return None
        signing, sealing = self._authority.stated(request.statement, request.node)
        now = self._clock.wall()
        return Identity(request.node, asked.key_digest, (), 0.0, now, "", signing.hex(), sealing.hex())

    def _kept(self, known: Identity, asked: pki.SigningRequest) -> DeviceCertificates | None:
        """What it was given a short while ago, by this authority."""
        try:
            made = self._authority.accepts(known.certificates.encode(), asked.key, known.node, self._now())
        except Malformed:
            return None
        begins, ends = made.certificate.not_valid_before_utc, made.certificate.not_valid_after_utc
        late = begins + pki.CLOCK_SKEW + (ends - begins) * RENEW_AGAIN_PART
        return made if begins <= self._now() < late else None  # not one that this hub made when its clock was ahead

    async def _remember(self, found: Obj | None, known: Identity, made: DeviceCertificates) -> None:
        """Raises Conflict, NotFound and other ClusterErrors."""
        now = self._clock.wall()
        after = replace(
            records.succeeded(known, made.serials, now),
            not_after=made.not_after,
            certificates=made.pem.decode(),
            trust=self._authority.trust.hex(),
        )
        if after == known:
            return
        after = replace(after, renewed=now)
        if found is None:
            await self._cluster.create(SECRETS, NAMESPACE, records.identity_secret(after))
            return
        await self._cluster.patch(
            SECRETS, NAMESPACE, records.identity_name(known.node), records.identity_patch(found, after)
        )

    async def _tell(self, known: Identity, made: DeviceCertificates) -> None:
        """An Event on the Node and a line in the log, once for each certificate. Raises ClusterError."""
        if made.serials == known.serials:
            return
        text = f"key {known.key_digest[:16]}, certificates valid until {records.stamp(made.not_after)}"
        event = node_event(known.node, made.serials[0][:16], "Renewed", text, self._clock.wall())
        with suppress(Conflict):
            await self._cluster.create(EVENTS, EVENTS_NAMESPACE, event)
        self._log(f"enrolment: node {known.node}: renewed, {text}")

    def _statement(self, known: Identity) -> str:
        """Of the authority of today, which a replaced one's is no good beside for ever."""
        keys = bytes.fromhex(known.signing), bytes.fromhex(known.sealing)
        return base64.b64encode(self._authority.statement(known.node, *keys)).decode()

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.wall(), timezone.utc)
