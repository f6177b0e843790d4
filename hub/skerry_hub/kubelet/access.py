"""Who asks a node, and whether they may: a client certificate or a bearer token, then the API's answer about rights.

Nobody is anonymous and nothing turns this off. Group system:masters may everything, as it may at any API server, so an
API server with such a certificate costs no review. Answers are believed for a short time, and only so many are kept.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from skerry.ports import Clock
from skerry_hub.limits import REVIEW_CACHE_MAX, REVIEW_NO_S, REVIEW_YES_S
from skerry_hub.ports import Cluster, ClusterError, Obj, Resource

MASTERS, AUTHENTICATED = "system:masters", "system:authenticated"
TOKEN_REVIEWS = Resource("apis/authentication.k8s.io/v1", "tokenreviews", namespaced=False)
ACCESS_REVIEWS = Resource("apis/authorization.k8s.io/v1", "subjectaccessreviews", namespaced=False)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Identity:
    """UserInfo of authentication.k8s.io/v1."""

    user: str
    groups: tuple[str, ...]
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


class Access(Protocol):
    """The checks that every request passes."""

    async def identify(self, certificate: Mapping[str, Any] | None, authorization: str) -> Identity | None:
        """Who shows this verified certificate (`ssl.getpeercert`) or this Authorization header; None: nobody."""

    async def allowed(self, who: Identity, verb: str, subresource: str, node: str) -> bool:
        """Whether `who` may `verb` nodes/`subresource` of `node`. Raises ClusterError when that cannot be told."""


class Reviews:
    """Access by certificate, TokenReview and SubjectAccessReview."""

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        self._cluster = cluster
        self._tokens: Believed[Identity | None] = Believed(clock)
        self._rights: Believed[bool] = Believed(clock)
        self.reviews = self.failures = 0

    async def identify(self, certificate: Mapping[str, Any] | None, authorization: str) -> Identity | None:
        if certificate is not None:
            return of_certificate(certificate)
        scheme, _, token = authorization.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            return None
        key = hashlib.sha256(token.encode("latin-1", "replace")).digest()
        known, value = self._tokens.get(key)
        if known:
            return value
        self.reviews += 1
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        try:
            found = of_review(await self._cluster.create(TOKEN_REVIEWS, "", review))
        except ClusterError:  # as a kubelet: who cannot be told is nobody, and is asked for again the next time
            self.failures += 1
            return None
        self._tokens.put(key, found, found is not None)
        return found

    async def allowed(self, who: Identity, verb: str, subresource: str, node: str) -> bool:
        if MASTERS in who.groups:
            return True
        key = (who, verb, subresource, node)
        known, value = self._rights.get(key)
        if known:
            return bool(value)
        self.reviews += 1
        wanted = {"verb": verb, "version": "v1", "resource": "nodes", "subresource": subresource, "name": node}
        spec: Obj = {"user": who.user, "groups": list(who.groups), "resourceAttributes": wanted}
        if who.uid:
            spec["uid"] = who.uid
        if who.extra:
            spec["extra"] = {name: list(values) for name, values in who.extra}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        try:
            status = (await self._cluster.create(ACCESS_REVIEWS, "", review)).get("status")
        except ClusterError:
            self.failures += 1
            raise
        answer = isinstance(status, dict) and status.get("allowed") is True and status.get("denied") is not True
        self._rights.put(key, answer, answer)
        return answer


def of_certificate(certificate: Mapping[str, Any]) -> Identity | None:
    """Common name and organisations, as Kubernetes reads them."""
    names = [pair for part in certificate.get("subject", ()) for pair in part]
    user = next((value for key, value in names if key == "commonName"), "")
    groups = tuple(value for key, value in names if key == "organizationName")
    return Identity(user, (*groups, AUTHENTICATED)) if user else None


def of_review(review: Mapping[str, Any]) -> Identity | None:
    """The user of a TokenReview that was answered."""
    status = review.get("status")
    user = status.get("user") if isinstance(status, dict) and status.get("authenticated") is True else None
    if not isinstance(user, dict) or not user.get("username"):
        return None
    extra = user.get("extra") if isinstance(user.get("extra"), dict) else {}
    assert isinstance(extra, dict)
    return Identity(
        str(user["username"]),
        tuple(str(group) for group in user.get("groups") or ()),
        str(user.get("uid") or ""),
        tuple((str(k), tuple(str(v) for v in values or ())) for k, values in sorted(extra.items())),
    )


class Believed(Generic[T]):
    """Answers with an end: at most REVIEW_CACHE_MAX, of which the oldest gives way."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: OrderedDict[Hashable, tuple[float, T]] = OrderedDict()

    def get(self, key: Hashable) -> tuple[bool, T | None]:
        """(True, answer), or (False, None)."""
        found = self._known.get(key)
        if found is None or found[0] <= self._clock.now():
            self._known.pop(key, None)
            return False, None
        return True, found[1]

    def put(self, key: Hashable, value: T, good: bool) -> None:
        self._known[key] = (self._clock.now() + (REVIEW_YES_S if good else REVIEW_NO_S), value)
        self._known.move_to_end(key)
        while len(self._known) > REVIEW_CACHE_MAX:
            self._known.popitem(last=False)

    def __len__(self) -> int:
        return len(self._known)
