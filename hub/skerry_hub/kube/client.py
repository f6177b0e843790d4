"""ports.Cluster over HTTP with aiohttp: plain objects, no model classes. Decides how a reply becomes a value or error.

Retries nothing: informers and writers do, because they know what waits.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import quote

import aiohttp
from yarl import URL

from skerry.errors import ConfigInvalid
from skerry_hub.kube.config import Access, tls_context
from skerry_hub.limits import (
    API_CONNECT_TIMEOUT_S,
    API_CONNECTIONS_MAX,
    API_REPLY_BYTES_MAX,
    API_TIMEOUT_S,
    LIST_PAGE_ITEMS,
    RETRY_AFTER_S_MAX,
    WATCH_LINE_BYTES_MAX,
)
from skerry_hub.ports import (
    ClusterAway,
    ClusterBusy,
    ClusterError,
    Conflict,
    Expired,
    Forbidden,
    Invalid,
    Listing,
    NotFound,
    Obj,
    PatchForm,
    Resource,
    WatchEvent,
    WatchType,
)

AGENT = "skerry-hub"
KINDS: dict[int, type[ClusterError]] = {401: Forbidden, 403: Forbidden, 404: NotFound, 409: Conflict, 410: Expired}
BUSY = (408, 429)
VERBS = {"GET": "get", "POST": "create", "PATCH": "patch", "DELETE": "delete"}
PAGE_SHRINKS_BY = 8  # a page that is too large, as of Secrets that hold Helm's releases, is asked for again in parts
NO_REPLY = "none"  # instead of a status
TYPES = {kind.value: kind for kind in WatchType}


class _TooLarge(ClusterAway):
    """A reply is larger than API_REPLY_BYTES_MAX."""


class KubeClient:
    """Use as an async context manager, on the loop that uses it."""

    def __init__(self, access: Access) -> None:
        """Raises ConfigInvalid when the credentials cannot be used."""
        self._access = access
        self._tls = tls_context(access)
        self._token = (0.0, access.token)
        self._http: aiohttp.ClientSession | None = None
        self.requests: Counter[tuple[str, str]] = Counter()  # verb of the API, status of HTTP or "none" without a reply

    async def __aenter__(self) -> KubeClient:
        connector = aiohttp.TCPConnector(limit=API_CONNECTIONS_MAX, ssl=self._tls if self._tls is not None else True)
        timeout = aiohttp.ClientTimeout(total=API_TIMEOUT_S, sock_connect=API_CONNECT_TIMEOUT_S)
        self._http = aiohttp.ClientSession(
            connector=connector, timeout=timeout, headers={"User-Agent": AGENT, "Accept": "application/json"}
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._http is not None
        await self._http.close()

    # --- ports.Cluster ------------------------------------------------------------------------------------------------

    async def list(self, resource: Resource, *, namespace: str = "", labels: str = "", fields: str = "") -> Listing:
        items: list[Obj] = []
        size, query = LIST_PAGE_ITEMS, _selectors(labels, fields)
        while True:
            query["limit"] = str(size)
            try:
                page = await self._call("GET", self._path(resource, namespace), query)
            except _TooLarge:
                if size == 1:
                    raise
                size = max(1, size // PAGE_SHRINKS_BY)
                continue
            meta = page.get("metadata") or {}
            items += page.get("items") or []
            if not meta.get("continue"):
                return Listing(tuple(items), _version(meta))
            query["continue"] = meta["continue"]

    async def watch(
        self, resource: Resource, version: int, *, timeout_s: float, labels: str = "", fields: str = ""
    ) -> AsyncIterator[WatchEvent]:
        query = {
            **_selectors(labels, fields),
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": str(version),
            "timeoutSeconds": str(max(1, int(timeout_s))),
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=API_CONNECT_TIMEOUT_S)
        try:
            async with self._request("GET", self._path(resource), query, timeout=timeout) as reply:
                self.requests["watch", str(reply.status)] += 1
                if reply.status != 200:
                    raise _error(reply, await _body(reply))
                async for line in _lines(reply.content):
                    event = _event(line)
                    if event is not None:
                        yield event
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as why:
            self.requests["watch", NO_REPLY] += 1
            raise _away(why) from None

    async def get(self, resource: Resource, namespace: str, name: str) -> Obj:
        return await self._call("GET", self._path(resource, namespace, name))

    async def create(
        self, resource: Resource, namespace: str, obj: Obj, *, name: str = "", subresource: str = ""
    ) -> Obj:
        return await self._call("POST", self._path(resource, namespace, name, subresource), {}, obj)

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        patch: Mapping[str, Any],
        *,
        form: PatchForm = PatchForm.MERGE,
        subresource: str = "",
    ) -> Obj:
        path = self._path(resource, namespace, name, subresource)
        return await self._call("PATCH", path, {"fieldManager": AGENT}, patch, form.value)

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, uid: str = "", grace_s: int | None = None
    ) -> None:
        body: Obj = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if uid:
            body["preconditions"] = {"uid": uid}
        if grace_s is not None:
            body["gracePeriodSeconds"] = grace_s
        await self._call("DELETE", self._path(resource, namespace, name), {}, body)

    # --- private ------------------------------------------------------------------------------------------------------

    def _path(self, resource: Resource, namespace: str = "", name: str = "", subresource: str = "") -> str:
        space = f"/namespaces/{quote(namespace, safe='')}" if resource.namespaced and namespace else ""
        tail = "".join(f"/{quote(part, safe='')}" for part in (name, subresource) if part)
        return f"{self._access.server}/{resource.root}{space}/{resource.plural}{tail}"

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: bytes | None = None,
        content: str = "",
        timeout: aiohttp.ClientTimeout | None = None,
    ) -> Any:
        assert self._http is not None, "the client is used as a context manager"
        headers = {"Content-Type": content} if content else {}
        token = self._bearer()
        if token:
            headers["Authorization"] = f"Bearer {token}"
        more: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
        if self._access.server_name:
            more["server_hostname"] = self._access.server_name
        url = URL(path, encoded=True).update_query(dict(query)) if query else URL(path, encoded=True)
        return self._http.request(method, url, data=body, headers=headers, allow_redirects=False, **more)

    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content: str = "application/json",
    ) -> Obj:
        raw = None if body is None else json.dumps(body).encode()
        verb = "list" if "limit" in (query or {}) else VERBS[method]
        try:
            async with self._request(method, path, query or {}, raw, content if raw is not None else "") as reply:
                text = await _body(reply)
                self.requests[verb, str(reply.status)] += 1
                if not 200 <= reply.status < 300:
                    raise _error(reply, text)
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as why:
            self.requests[verb, NO_REPLY] += 1
            raise _away(why) from None
        return _object(text)

    def _bearer(self) -> str:
        file = self._access.token_file
        if file is None:
            return self._token[1]
        try:
            changed = file.stat().st_mtime
            if changed != self._token[0]:
                self._token = (changed, file.read_text().strip())
        except (OSError, UnicodeDecodeError) as why:
            raise ClusterAway(f"{file}: the token cannot be read: {why}") from None
        return self._token[1]


def _selectors(labels: str, fields: str) -> dict[str, str]:
    said = {"labelSelector": labels, "fieldSelector": fields}
    return {name: value for name, value in said.items() if value}


def _version(meta: Mapping[str, Any]) -> int:
    try:
        return int(meta["resourceVersion"])
    except (KeyError, TypeError, ValueError):
        raise ClusterAway("the API's reply has no resourceVersion that is a number") from None


async def _body(reply: aiohttp.ClientResponse) -> bytes:
    data = bytearray()
    async for part in reply.content.iter_any():
        data += part
        if len(data) > API_REPLY_BYTES_MAX:
            raise _TooLarge(f"the API's reply is larger than API_REPLY_BYTES_MAX ({API_REPLY_BYTES_MAX})")
    return bytes(data)


def _object(text: bytes) -> Obj:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise ClusterAway("the API's reply is not JSON") from None
    if not isinstance(value, dict):
        raise ClusterAway("the API's reply is no object")
    return value


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Whole lines, however long; aiohttp's own reading of lines stops at 64 KiB."""
    rest = bytearray()
    async for part in content.iter_any():
        rest += part
        if b"\n" in part:
            *whole, last = bytes(rest).split(b"\n")
            rest = bytearray(last)
            for line in whole:
                if line.strip():
                    yield line
        elif len(rest) > WATCH_LINE_BYTES_MAX:
            raise ClusterAway(f"one watch event is larger than WATCH_LINE_BYTES_MAX ({WATCH_LINE_BYTES_MAX})")


def _event(line: bytes) -> WatchEvent | None:
    """None for a type of a later API. Raises what an ERROR event says."""
    value = _object(line)
    obj = value.get("object")
    if value.get("type") == "ERROR":
        status = obj if isinstance(obj, dict) else {}
        raise _from_status(int(status.get("code") or 500), status, 0.0)
    kind = TYPES.get(str(value.get("type")))
    return WatchEvent(kind, obj) if kind is not None and isinstance(obj, dict) else None


def _error(reply: aiohttp.ClientResponse, text: bytes) -> ClusterError:
    try:
        status = _object(text)
    except ClusterAway:
        status = {"message": f"HTTP {reply.status} {reply.reason}"}
    return _from_status(reply.status, status, _seconds(reply.headers.get("Retry-After")))


def _from_status(code: int, status: Mapping[str, Any], retry_after_s: float) -> ClusterError:
    message = " ".join(str(status.get("message") or f"HTTP {code}").split())
    details = status.get("details") if isinstance(status.get("details"), dict) else {}
    assert isinstance(details, dict)
    causes = {c.get("reason") for c in details.get("causes") or () if isinstance(c, dict)}
    if "ResourceVersionTooLarge" in causes:
        return Expired(message)
    if "NamespaceTerminating" in causes:
        return Invalid(message)
    if code >= 500 or code in BUSY:
        return ClusterBusy(message, retry_after_s or _seconds(details.get("retryAfterSeconds")))
    return KINDS.get(code, Invalid)(message)


def _seconds(value: Any) -> float:
    """Whole seconds, as Kubernetes sends them; 0 for anything else."""
    text = str(value)
    return min(float(text), RETRY_AFTER_S_MAX) if text.isascii() and text.isdigit() and len(text) < 10 else 0.0


def _away(why: BaseException) -> ClusterAway:
    if isinstance(why, asyncio.TimeoutError):
        return ClusterAway("the Kubernetes API did not answer in time")
    return ClusterAway(f"the Kubernetes API: {' '.join(str(why).split()) or type(why).__name__}")


__all__ = ["ConfigInvalid", "KubeClient"]
