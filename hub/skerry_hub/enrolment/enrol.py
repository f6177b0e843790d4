"""One enrolment, done: what `judge` decides of a token becomes two certificates, with a record of each step in the API.

The steps go in an order in which any of them can be the last before a crash: the token is marked with the key first,
and whoever comes again with that key and token is taken through the same steps, which then find what is there. Any
replica can do any step. Refuses to know HTTP and the broker.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from skerry.errors import Malformed, SkerryError
from skerry.plan.backoff import full_jitter
from skerry.ports import Clock, Entropy
from skerry.wire.enrolment import Issued, Request
from skerry_hub import pki
from skerry_hub.enrolment import records, signing
from skerry_hub.enrolment.authority import Authority, DeviceCertificates
from skerry_hub.enrolment.events import NAMESPACE as EVENTS_NAMESPACE
from skerry_hub.enrolment.events import node_event
from skerry_hub.enrolment.judge import Again, Asked, Refuse, Use, cure, judge, superseded
from skerry_hub.enrolment.records import NAMESPACE, Identity, TokenRecord
from skerry_hub.limits import ENROL_RACE_S, ENROL_RACES_MAX
from skerry_hub.ports import EVENTS, SECRETS, Cluster, ClusterBusy, Conflict, Invalid, NotFound, Obj

MakeNode = Callable[[Cluster, str, bool], Awaitable[bool]]  # as skerry_hub.join.join


class Declined(SkerryError):
    """This request gets no certificates; `refusal` says why, and by which HTTP status."""

    def __init__(self, refusal: Refuse) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


@dataclass(frozen=True)
class Terms:
    """What a device is told and given: where the broker is (mqtts://HOST:PORT), where the hub enrols and renews
    (https://HOST:PORT), and for how many days its certificates are valid."""

    broker: str
    url: str
    days: int


class Enrolment:
    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        entropy: Entropy,
        authority: Authority,
        terms: Terms,
        make_node: MakeNode,
        log: Callable[[str], None],
    ) -> None:
        self._cluster, self._clock, self._entropy = cluster, clock, entropy
        self._authority, self._terms = authority, terms
        self._make_node, self._log = make_node, log

    async def enrol(self, request: Request) -> Issued:
        """Raises Malformed (the request makes no sense), Declined, or ClusterError when the API does not let it be done
        now; then the same request may come again."""
        asked_key = pki.read_request(request.csr)
        keys = asked_key.key_digest, request.signing.hex(), request.sealing.hex()
        asked = Asked(request.ident, request.secret, asked_key.common_name, *keys)
        if self._authority.expired(self._now()):
            raise Declined(Refuse(503, "NoAuthority", "the hub's device authority has expired: its operator must act"))
        record = await self._claimed(asked)
        await self._make_node(self._cluster, record.node, record.tainted)
        made = await self._signed(record, asked_key)
        replaced = await self._remember(record, asked, made)
        await self._tell(record, asked, made, replaced)
        certificate, streams = made.texts
        ca = self._authority.believed_pem.decode()
        statement = base64.b64encode(self._authority.statement(record.node, request.signing, request.sealing)).decode()
        return Issued(record.node, certificate, streams, ca, self._terms.broker, self._terms.url, statement)

    # --- the token ----------------------------------------------------------------------------------------------------

    async def _claimed(self, asked: Asked) -> TokenRecord:
        """The token, marked with this key. Raises Declined, ClusterError."""
        for lost in range(ENROL_RACES_MAX):
            await self._pause(lost)
            record = await self._token(asked.ident)
            verdict = judge(record, asked, self._clock.wall())
            if isinstance(verdict, Refuse):
                if verdict.reason == "UsedToken":
                    self._log(f"enrolment: token {asked.ident} was used, and another key has asked with it")
                raise Declined(verdict)
            assert record is not None, "no verdict but Refuse is for none"
            if isinstance(verdict, Again):
                return record
            assert isinstance(verdict, Use)
            used, patch = records.use(record, asked.keys, self._clock.wall())
            try:
                await self._cluster.patch(SECRETS, NAMESPACE, records.token_name(record.ident), patch)
            except (Conflict, NotFound):  # another replica was first, or the token was deleted: look again
                continue
            return used
        raise ClusterBusy(f"token {asked.ident} changes all the time")

    async def _token(self, ident: str) -> TokenRecord | None:
        if not records.IDENT.fullmatch(ident):
            return None
        try:
            return records.token_record(await self._cluster.get(SECRETS, NAMESPACE, records.token_name(ident)))
        except NotFound:
            return None
        except Malformed as why:
            self._log(f"enrolment: {why}")
            return None

    # --- the certificates ---------------------------------------------------------------------------------------------

    async def _signed(self, record: TokenRecord, asked: pki.SigningRequest) -> DeviceCertificates:
        """Raises Declined, ClusterError."""
        found = await self._request(record, asked)
        name = signing.request_name(record.node, record.ident)
        for lost in range(ENROL_RACES_MAX):
            self._check_ours(found, name, asked)
            try:
                match signing.state_of(found):
                    case signing.Denied(why):
                        message = f"an administrator has denied it ({why[:200]}); {cure(record.node)}"
                        raise Declined(Refuse(403, "Denied", message))
                    case signing.Signed(pem):
                        return self._read_back(pem, name, record.node, asked)
                    case signing.Approved():
                        now = self._now()
                        made = self._authority.device(asked.key, record.node, self._terms.days, now)
                        patch, part = signing.sign(found, made.pem), "status"
                    case signing.Pending():
                        patch, part = signing.approve(found, record.ident, self._clock.wall()), "approval"
                found = await self._cluster.patch(signing.REQUESTS, "", name, patch, subresource=part)
            except Conflict:
                await self._pause(lost + 1)
                found = await self._cluster.get(signing.REQUESTS, "", name)
        raise ClusterBusy(f"CertificateSigningRequest {name} changes all the time")

    async def _request(self, record: TokenRecord, asked: pki.SigningRequest) -> Obj:
        """The object that is there, or a new one. Raises ClusterError, and Malformed for a request that this code can
        read and the API cannot."""
        wanted = signing.request_object(record.node, record.ident, asked.pem, self._terms.days)
        try:
            return await self._cluster.create(signing.REQUESTS, "", wanted)
        except Conflict:
            return await self._cluster.get(signing.REQUESTS, "", wanted["metadata"]["name"])
        except Invalid as why:
            raise Malformed(f"csr: the API does not take it: {why}") from None

    def _check_ours(self, found: Obj, name: str, asked: pki.SigningRequest) -> None:
        try:
            key_digest = pki.read_request(signing.request_pem(found).decode()).key_digest
        except (Malformed, ValueError):
            key_digest = ""
        if key_digest != asked.key_digest:
            raise self._foreign(name)

    def _read_back(self, pem: bytes, name: str, node: str, asked: pki.SigningRequest) -> DeviceCertificates:
        try:
            return self._authority.accepts(pem, asked.key, node, self._now())
        except Malformed as why:
            self._log(f"enrolment: CertificateSigningRequest {name}: {why}")
            raise self._foreign(name) from None

    @staticmethod
    def _foreign(name: str) -> Declined:
        """Somebody else made the object, or another authority signed it: a person must look."""
        message = (
            f"CertificateSigningRequest {name} is not this hub's: its operator must delete it (kubectl delete csr)"
        )
        return Declined(Refuse(503, "ForeignRequest", message))

    # --- what stays ---------------------------------------------------------------------------------------------------

    async def _remember(self, record: TokenRecord, asked: Asked, made: DeviceCertificates) -> bool:
        """Have the device's identity stored; whether it had another key before. Raises Declined, ClusterError."""
        identity = Identity(
            record.node, asked.key_digest, made.serials, made.not_after, record.used, record.ident,
            asked.signing, asked.sealing, trust=self._authority.trust.hex(),
        )  # fmt: skip
        name = records.identity_name(record.node)
        for lost in range(ENROL_RACES_MAX):
            await self._pause(lost)
            try:
                await self._cluster.create(SECRETS, NAMESPACE, records.identity_secret(identity))
                return False
            except Conflict:
                pass
            try:
                found = await self._cluster.get(SECRETS, NAMESPACE, name)
                before = _known(found)
                if before is not None:
                    refuse = superseded(before, record)
                    if refuse is not None:
                        raise Declined(refuse)
                    if made.serials[0] in {*before.serials, *(serial for serial, _ in before.earlier)}:
                        return False  # it asked before, and was renewed since, perhaps
                    kept = records.succeeded(before, made.serials, self._clock.wall())
                    identity = replace(identity, earlier=kept.earlier)
                await self._cluster.patch(SECRETS, NAMESPACE, name, records.identity_patch(found, identity))
                return before is None or before.key_digest != asked.key_digest
            except (Conflict, NotFound):
                continue
        raise ClusterBusy(f"the identity of {record.node} changes all the time")

    async def _tell(self, record: TokenRecord, asked: Asked, made: DeviceCertificates, replaced: bool) -> None:
        """An Event on the Node, and a line in the log. Raises ClusterError."""
        until = records.stamp(made.not_after)
        text = f"key {asked.key_digest[:16]} by token {record.ident}, certificates valid until {until}"
        text += "; it replaces another key" if replaced else ""
        with suppress(Conflict):  # told when it asked before
            event = node_event(record.node, record.ident, "Enrolled", text, self._clock.wall())
            await self._cluster.create(EVENTS, EVENTS_NAMESPACE, event)
        self._log(f"enrolment: node {record.node}: {text}")

    async def _pause(self, lost: int) -> None:
        """After another replica was first `lost` times in a row: it is at it now, and soon done."""
        if lost:
            wait_s = full_jitter(ENROL_RACE_S, lost, self._entropy.uniform())
            await self._clock.sleep_until(self._clock.now() + wait_s)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.wall(), timezone.utc)


def _known(found: Obj) -> Identity | None:
    """None for what somebody wrote by hand."""
    try:
        return records.identity_of(found)
    except Malformed:
        return None
