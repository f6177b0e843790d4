"""From a request to its answer: who asks, what for, and the reply in the form that was asked.

One `Api` per server. Every failure leaves as a Status object; nothing that a client sends can stop another client.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from skerry_hub.http import Reply, Request

from . import authn, decode, discovery, metrics, openapi, reads, top, verbs, views
from .normalize import WrongType, normalise
from .proxy import SUBRESOURCES, NodeProxy
from .requests import Target, delete_options, list_options, target, truth, write_options
from .status import ApiError, bad_request, internal, method_not_allowed, no_such_path
from .store import Store
from .top import Top
from .watch import Watch, Watchers

Obj = dict[str, Any]
Headers = Sequence[tuple[str, str]]
log = logging.getLogger("skerry_hub.apiserver")
_JSON = ("content-type", "application/json")
_TEXT = ("content-type", "text/plain; charset=utf-8")
_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_HEALTH = ("/healthz", "/livez", "/readyz")


class Api:
    """The application behind the connections."""

    def __init__(self, store: Store, watchers: Watchers, token: str, nodes: NodeProxy, of_nodes: Top) -> None:
        self._store, self._watchers, self._token, self._nodes = store, watchers, token.encode(), nodes
        self._top = of_nodes
        self.requests = 0

    async def __call__(self, request: Request, reply: Reply) -> None:
        self.requests += 1
        try:
            await self._dispatch(request, reply, authn.identify(request, self._token))
        except ApiError as why:
            if why.code in (404, 409):  # because of a write on its way, perhaps, which the next question must show
                await self._store.settled()
            self._fail(reply, why)
        except ConnectionError:
            reply.abort()
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            self._fail(reply, internal("unexpected failure, see the server's log"))

    @staticmethod
    def _fail(reply: Reply, why: ApiError) -> None:
        if reply.started:
            reply.abort()
        else:
            reply.send(why.code, [_JSON, *why.headers], views.dumps(why.body))

    async def _dispatch(self, request: Request, reply: Reply, who: authn.Identity) -> None:
        fixed = self._metrics() if request.path == "/metrics" else _fixed(request)
        if fixed is not None:
            if request.method not in ("GET", "HEAD"):
                raise method_not_allowed()
            headers, body = fixed
            reply.send(200, headers, body)
            return
        where = target(request.path)
        if where.resource.id == "pods" and where.subresource in SUBRESOURCES and where.name and not where.watch:
            await self._nodes.serve(request, reply, where)
        elif where.resource.group == top.GROUP:
            await self._top.serve(request, reply, where)
        elif request.method == "GET":
            await self._read(request, reply, where)
        elif request.method == "DELETE":
            await self._delete(request, reply, where)
        else:
            await self._write(request, reply, where, who)

    def _metrics(self) -> tuple[Headers, bytes]:
        watches = self._watchers
        counters = {
            "requests_total": self.requests,
            "watches_total": watches.counters.opened,
            "watches_ended_slow_total": watches.counters.ended_slow,
            "node_requests_total": self._nodes.opened,
            "node_requests_failed_total": self._nodes.failed,
            "stats_fetches_total": self._top.fetches,
            "stats_fetches_failed_total": self._top.failures,
        }
        gauges = {
            "watches": watches.open,
            "resource_version": self._store.rv,
            "object_bytes": self._store.bytes,
        }
        return [("content-type", metrics.TYPE)], metrics.text(counters, gauges)

    async def _read(self, request: Request, reply: Reply, where: Target) -> None:
        if where.subresource and "get" not in _sub_verbs(where):
            raise method_not_allowed()
        view = views.choose(request.header("accept"), request.param("includeObject"))
        if where.name and not where.watch:
            if truth(request, "watch"):
                raise bad_request(
                    "a watch of one object is a watch of its collection with fieldSelector=metadata.name="
                )
            reply.send(200, [_JSON], reads.get(self._store, where, view))
            return
        options = list_options(request, where.resource)
        if options.watch or where.watch:
            await self._watch(
                reply, where, Watch(self._watchers, where.resource, where.namespace, where.name, options, view)
            )
        else:
            reply.send(200, [_JSON], reads.collection(self._store, where, options, view))

    async def _watch(self, reply: Reply, where: Target, watch: Watch) -> None:
        self._watchers.add(watch)
        try:
            reply.start(200, [_JSON, ("transfer-encoding", "chunked"), ("cache-control", "no-cache, private")])
            await watch.run(reply)
        finally:
            self._watchers.remove(watch)
        reply.end()

    async def _write(self, request: Request, reply: Reply, where: Target, who: authn.Identity) -> None:
        kind = request.header("content-type")
        if request.method == "POST" and where.subresource == "binding":
            options = write_options(request, "Create")
            outcome = await verbs.bind(self._store, where, request.body, kind, options)
        elif request.method == "POST" and not where.name and not where.watch and _scoped(where):
            options = replace(write_options(request, "Create"), user=who.user, groups=who.groups)
            outcome = await verbs.create(self._store, where, request.body, kind, options)
        elif request.method == "PUT" and where.name and _allows(where, "update"):
            options = write_options(request, "Update")
            outcome = await verbs.update(self._store, where, request.body, kind, options)
        elif request.method == "PATCH" and where.name and _allows(where, "patch"):
            options = write_options(request, "Patch")
            outcome = await verbs.patch(self._store, where, request.body, kind, options)
        else:
            raise method_not_allowed()
        self._send(request, reply, where, outcome)

    async def _delete(self, request: Request, reply: Reply, where: Target) -> None:
        if where.subresource or where.watch:
            raise method_not_allowed()
        options = delete_options(request, _delete_body(request))
        if where.name:
            self._send(request, reply, where, await verbs.delete(self._store, where, options))
            return
        if "deletecollection" not in where.resource.verbs or not _scoped(where):
            raise method_not_allowed()
        found, version = reads.select(self._store, where, list_options(request, where.resource))
        gone = await verbs.delete_collection(self._store, where, found, options)
        body = views.list_body(
            views.View(), where.resource, [views.dumps(o) for o in gone], {"resourceVersion": str(version)}
        )
        reply.send(200, [_JSON], body)

    def _send(self, request: Request, reply: Reply, where: Target, outcome: verbs.Outcome) -> None:
        headers: list[tuple[str, str]] = [_JSON]
        headers += [("warning", f"299 - {_quoted(text)}") for text in outcome.warnings]
        body = outcome.obj
        if body.get("kind") == where.resource.kind:
            view = views.choose(request.header("accept"), request.param("includeObject"))
            if view.form != "plain":
                stored = {key: value for key, value in body.items() if key not in ("kind", "apiVersion")}
                body = views.one(view, where.resource, stored)
        reply.send(outcome.code, headers, views.dumps(body))


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else "?" for c in escaped)[:1000] + '"'


def _scoped(where: Target) -> bool:
    """Whether the path names the one namespace that a write needs."""
    return bool(where.namespace) or not where.resource.namespaced


def _sub_verbs(where: Target) -> tuple[str, ...]:
    return next((sub.verbs for sub in where.resource.subresources if sub.name == where.subresource), ())


def _allows(where: Target, verb: str) -> bool:
    return not where.watch and (verb in _sub_verbs(where) if where.subresource else verb in where.resource.verbs)


def _delete_body(request: Request) -> Obj:
    if not request.body:
        return {}
    obj = decode.decode_object(request.body, request.header("content-type"), "DeleteOptions", "DeleteOptions").obj
    try:
        out, _ = normalise("DeleteOptions", obj)
    except WrongType as why:
        raise bad_request(f'DeleteOptions in version "v1" cannot be handled as a DeleteOptions: {why}') from None
    return out


def _fixed(request: Request) -> tuple[Headers, bytes] | None:
    """The documents that do not depend on any object."""
    path = request.path.rstrip("/") or "/"
    if path in _HEALTH:
        return [_TEXT], b"ok"
    if path == "/version":
        return [_JSON], views.dumps(discovery.version())
    if path == "/openapi/v2":
        return [("content-type", openapi.V2_TYPE)], openapi.v2_document()
    if path == "/openapi/v3":
        return [_JSON], openapi.v3_index()
    if path in ("/api", "/apis"):
        return _discovery_root(request, core=path == "/api")
    parts = path.strip("/").split("/")
    found: Obj | None = None
    if parts[:2] == ["openapi", "v3"]:
        document = openapi.v3_document(*_group_version(parts[2:]))
        if document is None:
            raise no_such_path()
        return [_JSON], document
    if parts[0] == "apis" and len(parts) == 2:
        found = discovery.api_group(parts[1])
    elif (parts[0] == "api" and len(parts) == 2) or (parts[0] == "apis" and len(parts) == 3):
        found = discovery.resources(*_group_version(parts))
    else:
        return None
    if found is None:
        raise no_such_path()
    return [_JSON], views.dumps(found)


def _group_version(parts: list[str]) -> tuple[str, str]:
    if len(parts) == 2 and parts[0] == "api":
        return "", parts[1]
    if len(parts) == 3 and parts[0] == "apis":
        return parts[1], parts[2]
    raise no_such_path()


def _discovery_root(request: Request, core: bool) -> tuple[Headers, bytes]:
    for form in views.acceptable(request.header("accept")):
        if form.kind == views.DISCOVERY_KIND and form.version == "v2":
            return [("content-type", _AGGREGATED), ("vary", "Accept")], views.dumps(discovery.aggregated(core))
        if not form.kind:
            break
    return [_JSON, ("vary", "Accept")], views.dumps(discovery.api_versions() if core else discovery.api_groups())
