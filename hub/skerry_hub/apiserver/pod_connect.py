"""Where a pod's log, exec, attach or port-forward is had: the checks that a real API server makes, and the request that
it sends to the pod's node. Pure.

Texts are those of kube-apiserver (pkg/registry/core/pod/strategy.go, rest/log.go): kubectl's users know them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from skerry_hub.http import Request

from .requests import truth
from .status import ApiError, Cause, bad_request, forbidden_value, invalid, invalid_value

Obj = dict[str, Any]
KUBELET_PORT = 10250  # where a node says none
_CONTAINERS = ("initContainers", "containers", "ephemeralContainers")
_INT64 = re.compile(r"[+-]?[0-9]{1,18}")


@dataclass(frozen=True)
class Backend:
    """The endpoint of a node."""

    host: str
    port: int

    @property
    def authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def backend(node: Obj) -> Backend:
    """Raises ApiError 500 for a node that says no address."""
    status = node.get("status") or {}
    known = status.get("addresses") or []
    host = next((str(a["address"]) for a in known if a.get("type") == "InternalIP" and a.get("address")), "")
    if not host:
        shown = " ".join(f"{{{a.get('type')} {a.get('address')}}}" for a in known)
        raise plain_error(f"no preferred addresses found; known addresses: [{shown}]")
    port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port")
    return Backend(host, port if isinstance(port, int) and 0 < port <= 0xFFFF else KUBELET_PORT)


def container_of(pod: Obj, wanted: str) -> str:
    """The container that is meant. Raises ApiError 400."""
    name, spec = pod["metadata"]["name"], pod.get("spec") or {}
    plain = [c["name"] for c in spec.get("containers") or ()]
    every = [c["name"] for part in _CONTAINERS for c in spec.get(part) or ()]
    if wanted:
        if wanted not in every:
            raise bad_request(f"container {wanted} is not valid for pod {name}")
        return wanted
    if len(plain) == 1:
        return str(plain[0])
    choose = f", choose one of: [{' '.join(every)}]" if plain else ""
    raise bad_request(f"a container name must be specified for pod {name}{choose}")


def log_path(request: Request, pod: Obj) -> str:
    """Path and query of the node's answer to `GET …/log`. Raises ApiError 400 or 422."""
    meta = pod["metadata"]
    numbers = {name: _int64(request, name) for name in ("sinceSeconds", "tailLines", "limitBytes")}
    causes = [*_log_causes(numbers, bool(request.param("sinceTime"))), *_not_served(request)]
    if causes:
        raise invalid("PodLogOptions", "", meta["name"], causes)
    container = container_of(pod, request.param("container"))
    query = [(name, "true") for name in ("follow", "previous", "timestamps") if truth(request, name)]
    query += [(name, str(value)) for name, value in numbers.items() if value is not None]
    if request.param("sinceTime"):
        query.append(("sinceTime", request.param("sinceTime")))
    path = f"/containerLogs/{meta['namespace']}/{meta['name']}/{container}"
    return path + ("?" + urlencode(sorted(query)) if query else "")


def stream_path(request: Request, pod: Obj, subresource: str) -> str:
    """Path and query of exec, attach or portforward at the node. Raises ApiError 400."""
    where = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
    if subresource == "portforward":
        query = [("port", port) for port in request.query.get("ports", [])]
        return f"/portForward/{where}" + ("?" + urlencode(query) if query else "")
    container = container_of(pod, request.param("container"))
    if not (pod.get("spec") or {}).get("nodeName"):
        raise no_host(pod)
    names = (("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty"))
    query = [(there, "1") for here, there in names if truth(request, here)]
    if subresource == "exec":
        query += [("command", part) for part in request.query.get("command", [])]
    return f"/{subresource}/{where}/{container}?{urlencode(query)}"


def no_host(pod: Obj) -> ApiError:
    return bad_request(f"pod {pod['metadata']['name']} does not have a host assigned")


def plain_error(message: str) -> ApiError:
    """A failure without a reason of its own; kubectl shows it as `Error from server: …`."""
    return ApiError(500, "", message)


def node_refused(status: int, text: str, pod: str) -> ApiError:
    """What a client hears of a node's refusal of a log (apimachinery's GenericHttpResponseChecker)."""
    if status == 500:
        return ApiError(500, "InternalError", f"Internal error occurred: {text}", {"causes": [{"message": text}]})
    if status == 400:
        return bad_request(text)
    reason, message = {
        401: ("Unauthorized", "the server has asked for the client to provide credentials"),
        403: ("Forbidden", text),
        404: ("NotFound", "the server could not find the requested resource"),
        429: ("TooManyRequests", "the server has received too many requests and has asked us to try again later"),
        503: ("ServiceUnavailable", "the server is currently unable to handle the request"),
        504: (
            "Timeout",
            "the server was unable to return a response in the time allotted, but may still be processing",
        ),
    }.get(
        status, ("InternalError" if status > 500 else "Unknown", f"the server responded with the status code {status}")
    )
    details = {"name": pod, "kind": "pods/log", "causes": [{"reason": "UnexpectedServerResponse", "message": text}]}
    return ApiError(status, reason, f"{message} ( pods/log {pod})", details)


def _int64(request: Request, name: str) -> int | None:
    text = request.param(name)
    if not text:
        return None
    if not _INT64.fullmatch(text):
        raise bad_request(f'strconv.ParseInt: parsing "{text[:40]}": invalid syntax')
    return int(text)


def _not_served(request: Request) -> list[Cause]:
    """Options of a log that would change what it is, or who is believed."""
    out = []
    if truth(request, "insecureSkipTLSVerifyBackend"):
        out.append(forbidden_value("insecureSkipTLSVerifyBackend", "the certificates of nodes are always verified"))
    if request.param("stream") not in ("", "All"):
        out.append(forbidden_value("stream", "may not be specified"))  # as with PodLogsQuerySplitStreams off
    return out


def _log_causes(numbers: dict[str, int | None], since_time: bool) -> list[Cause]:
    out = []
    tail, limit, seconds = numbers["tailLines"], numbers["limitBytes"], numbers["sinceSeconds"]
    if tail is not None and tail < 0:
        out.append(invalid_value("tailLines", tail, "must be greater than or equal to 0"))
    if limit is not None and limit < 1:
        out.append(invalid_value("limitBytes", limit, "must be greater than 0"))
    if seconds is not None and since_time:
        out.append(forbidden_value("", "at most one of `sinceTime` or `sinceSeconds` may be specified"))
    elif seconds is not None and seconds < 1:
        out.append(invalid_value("sinceSeconds", seconds, "must be greater than 0"))
    return out
