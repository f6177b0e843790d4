"""A stand-in for a real cluster's API server that is in a bad mood, in front of the embedded one.

It answers what the shipped RBAC allows and nothing else, keeps NodeRestriction's rules where a hub could break them,
gives every object fields that no hub knows, and with moods: Conflict for every third write, 429 with Retry-After, and
watches that end with 410, that close, or that stay open and silent. The embedded API behind it does what admission does
on a cluster: tolerations of 300 s and the service account's token. `signing` has the requests for certificates.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web

from skerry_hub.enrolment.signing import SIGNER
from unit.apiserver.serving import Client
from unit.hub.signing_controller import SigningController

RBAC = Path(__file__).resolve().parents[3] / "hub" / "deploy" / "rbac.yaml"
TOKENS = RBAC.parent / "tokens" / "rbac.yaml"  # what a component adds
FUTURE = {"a": [1, {"b": "c"}]}
# NodeRestriction: labels with these prefixes that a node may set on itself (admission plugin reference).
RESERVED = ("kubernetes.io/", "k8s.io/")
NODE_MAY = ("kubernetes.io/hostname", "kubernetes.io/os", "kubernetes.io/arch", "node.kubernetes.io/instance-type")
WRITES = {"create", "update", "patch", "delete"}
BUSY_EVERY, CONFLICT_EVERY = 7, 3


@dataclass(frozen=True)
class Rule:
    """One verb of one rule of a role; `namespace` is empty for a ClusterRole."""

    namespace: str
    group: str
    resource: str  # with its subresource
    names: tuple[str, ...]
    verb: str

    def __str__(self) -> str:
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{self.verb} {self.resource}{where}{' ' + '|'.join(self.names) if self.names else ''}"


def shipped(path: Path = RBAC) -> list[Rule]:
    """Every verb that hub/deploy gives to the hub, one by one."""
    return list(_rules(yaml.safe_load_all(path.read_text())))


def _rules(documents: Iterator[Any]) -> Iterator[Rule]:
    for document in documents:
        namespace = document["metadata"].get("namespace", "")
        for rule in document.get("rules", []):
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    for verb in rule["verbs"]:
                        yield Rule(namespace, group, resource, tuple(rule.get("resourceNames", ())), verb)


@dataclass(frozen=True)
class Asked:
    """A request as an authoriser sees it."""

    verb: str
    group: str
    resource: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource} {self.namespace}/{self.name}"


def asked(method: str, path: str, watch: bool) -> Asked:
    parts = path.strip("/").split("/")
    group, parts = (parts[1], parts[3:]) if parts[0] == "apis" else ("", parts[2:])
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 2:
        namespace, parts = parts[1], parts[2:]
    resource, name = parts[0], parts[1] if len(parts) > 1 else ""
    if len(parts) > 2:
        resource = f"{resource}/{parts[2]}"
    if resource == "namespaces" and name:
        namespace = name
    reads = "watch" if watch else "get" if name else "list"
    verb = {"GET": reads, "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}[method]
    return Asked(verb, group, resource, namespace, name)


def allowed(rules: list[Rule], what: Asked) -> bool:
    return any(
        (rule.verb, rule.group, rule.resource) == (what.verb, what.group, what.resource)
        and rule.namespace in ("", what.namespace)
        and (not rule.names or what.name in rule.names)
        for rule in rules
    )


class HostileApi:
    """`url` takes plain HTTP on loopback. `refused` holds what RBAC or NodeRestriction did not allow."""

    def __init__(self, behind: Client, rules: list[Rule], moody: bool) -> None:
        self._behind, self._rules, self._moody = behind, rules, moody
        self._session: aiohttp.ClientSession | None = None
        self.url = ""
        self.refused: list[str] = []
        self.signing = SigningController()
        self.trouble: Counter[str] = Counter()  # what it did to the hub
        self._writes = self._requests = 0
        self._watches: Counter[str] = Counter()

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[HostileApi]:
        app = web.Application(client_max_size=16 << 20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self._behind.tls, limit=0))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        try:
            yield self
        finally:
            await runner.cleanup()
            await self._session.close()

    # --- private ------------------------------------------------------------------------------------------------------

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        what = asked(request.method, request.path, request.query.get("watch") == "true")
        why = next((f"RBAC: {one}" for one in (what, *_by_admission(what)) if not allowed(self._rules, one)), "")
        why = why or _restricted(what, body)
        if why:
            self.refused.append(f"{what}: {why}")
            return _status(403, "Forbidden", f"{what}: {why}")
        mood = self._mood(what)
        if mood is not None:
            return mood
        if what.resource in ("tokenreviews", "subjectaccessreviews"):
            return _review(json.loads(body))
        if what.resource == "serviceaccounts/token":
            return _token(json.loads(body))
        if what.resource == "certificatesigningrequests" and self._of_another_signer(what, body):
            code, obj = self.signing.answer(what.verb, what.name, body)
            return web.json_response(obj, status=code)
        if what.verb == "watch":
            with suppress(ConnectionResetError):  # the hub has left it
                return await self._watch(request, what)
        return await self._forward(request, body)

    def _of_another_signer(self, what: Asked, body: bytes) -> bool:
        """What the hub itself signs, the embedded API keeps."""
        if what.verb == "create":
            return bool(json.loads(body)["spec"]["signerName"] != SIGNER)
        return what.name in self.signing.requests

    def _mood(self, what: Asked) -> web.Response | None:
        if not self._moody or what.verb == "watch":
            return None
        self._requests += 1
        if self._requests % BUSY_EVERY == 0:
            self.trouble["429"] += 1
            return _status(429, "TooManyRequests", "slow down", {"Retry-After": "1"})
        if what.verb in WRITES and "reviews" not in what.resource:
            self._writes += 1
            if self._writes % CONFLICT_EVERY == 0:
                self.trouble["409"] += 1
                return _status(409, "Conflict", "somebody else was faster")
        return None

    def _upstream(self, request: web.Request, body: bytes | None) -> Any:
        assert self._session is not None
        headers = {k: v for k, v in request.headers.items() if k in ("Accept", "Content-Type")}
        headers["Authorization"] = f"Bearer {self._behind.token}"
        return self._session.request(request.method, self._behind.at.url + request.path_qs, data=body, headers=headers)

    async def _forward(self, request: web.Request, body: bytes) -> web.Response:
        async with self._upstream(request, body or None) as reply:
            value = json.loads(await reply.read())
            for obj in value.get("items", [value]):
                _from_the_future(obj)
            return web.json_response(value, status=reply.status)

    async def _watch(self, request: web.Request, what: Asked) -> web.StreamResponse:
        """The first watches of each collection end badly, each in another way."""
        self._watches[what.resource] += 1
        end = ("410", "closed", "silent", "")[min(self._watches[what.resource], 4) - 1] if self._moody else ""
        out = web.StreamResponse(headers={"Content-Type": "application/json"})
        out.enable_chunked_encoding()
        async with self._upstream(request, None) as reply:
            await out.prepare(request)
            lines = reply.content.__aiter__()
            while True:
                try:
                    line = await asyncio.wait_for(lines.__anext__(), 0.5 if end else None)
                except (StopAsyncIteration, asyncio.TimeoutError, aiohttp.ClientError):
                    line = b""
                if line.strip():
                    event = json.loads(line)
                    _from_the_future(event["object"])
                    await out.write(json.dumps(event).encode() + b"\n")
                if end:
                    self.trouble[end] += 1
                    if end == "410":
                        gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
                        await out.write(json.dumps({"type": "ERROR", "object": gone}).encode() + b"\n")
                    elif end == "silent":
                        await asyncio.Event().wait()
                if end or not line:
                    return out


def _from_the_future(obj: dict[str, Any]) -> None:
    """Fields that a later API has."""
    if isinstance(obj.get("metadata"), dict) and obj.get("kind") != "Status":
        obj["metadata"]["futureMeta"] = FUTURE
        for part in ("spec", "status"):
            if isinstance(obj.get(part), dict):
                obj[part]["futureField"] = FUTURE


def _by_admission(what: Asked) -> list[Asked]:
    """The rights that admission asks for besides: to approve, and to sign, for a signer (admission plugins
    CertificateApproval and CertificateSigning). Nobody but skerry's own signer is approved for here."""
    verb = {"certificatesigningrequests/approval": "approve", "certificatesigningrequests/status": "sign"}
    if what.resource not in verb or what.verb not in WRITES:
        return []
    return [Asked(verb[what.resource], "certificates.k8s.io", "signers", "", SIGNER)]


def _restricted(what: Asked, body: bytes) -> str:
    """NodeRestriction, as far as it is about what a hub writes for a node."""
    if what.verb == "update":
        return "a PUT would drop the fields that this hub does not know"
    if what.resource in ("nodes", "nodes/status") and what.verb == "patch":
        patch = json.loads(body)
        labels = (patch.get("metadata") or {}).get("labels") or {}
        bad = [k for k in labels if k.partition("/")[0].endswith(tuple(r[:-1] for r in RESERVED)) and k not in NODE_MAY]
        if bad:
            return f"NodeRestriction: label {bad[0]}"
        if "spec" in patch:
            return "NodeRestriction: taints and the rest of a node's spec"
    return ""


def _review(review: dict[str, Any]) -> web.Response:
    """What authenticators and authorisers say: one token is good, and its owner may everything on nodes."""
    if review["kind"] == "TokenReview":
        good = review["spec"]["token"] == "good"
        review["status"] = {"authenticated": good, "user": {"username": "ops", "groups": ["sre"]} if good else {}}
    else:
        review["status"] = {"allowed": review["spec"]["user"] == "ops"}
    return web.json_response(review, status=201)


def _token(request: dict[str, Any]) -> web.Response:
    """What an API server checks of a TokenRequest (pkg/registry/core/serviceaccount/storage/token.go), and gives."""
    spec, bound = request["spec"], request["spec"].get("boundObjectRef") or {}
    if spec["expirationSeconds"] < 600:
        return _status(422, "Invalid", "may not specify a duration less than 10 minutes")
    if (bound.get("kind"), bound.get("apiVersion")) != ("Pod", "v1") or not (bound.get("name") and bound.get("uid")):
        return _status(422, "Invalid", f"cannot bind token to {bound}")
    audience = spec["audiences"] or ["https://kubernetes.default.svc"]
    request["status"] = {"token": f"jwt-of-{bound['name']}-for-{audience[0]}"}
    return web.json_response(request, status=201)


def _status(code: int, reason: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code}
    return web.json_response({**body, "message": message}, status=code, headers=headers or {})


def without(rules: list[Rule], gone: Rule) -> list[Rule]:
    """The same RBAC with one verb fewer."""
    left = [rule for rule in rules if rule != gone]
    assert len(left) == len(rules) - 1
    return left
