"""What the API asks a node for, and the texts of a real API server for what it refuses itself."""

from __future__ import annotations

from typing import Any

import pytest

from skerry_hub.apiserver import pod_connect
from skerry_hub.apiserver.status import ApiError
from skerry_hub.http import Request

ONE = {"metadata": {"name": "web", "namespace": "n"}, "spec": {"nodeName": "d", "containers": [{"name": "a"}]}}
TWO = {
    "metadata": {"name": "pair", "namespace": "n"},
    "spec": {"nodeName": "d", "containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]},
}


def asks(**query: str | list[str]) -> Request:
    lists = {name: value if isinstance(value, list) else [value] for name, value in query.items()}
    return Request("GET", "/", lists, (), b"", None)


def test_a_log_is_asked_for_as_a_kubelet_takes_it() -> None:
    assert pod_connect.log_path(asks(), ONE) == "/containerLogs/n/web/a"
    every = asks(
        container="i", follow="true", previous="true", timestamps="true", tailLines="5", limitBytes="7",
        sinceTime="2026-01-01T00:00:00+01:00", pretty="true", stream="All", insecureSkipTLSVerifyBackend="false",
    )  # fmt: skip
    assert pod_connect.log_path(every, TWO) == (
        "/containerLogs/n/pair/i?follow=true&limitBytes=7&previous=true"
        "&sinceTime=2026-01-01T00%3A00%3A00%2B01%3A00&tailLines=5&timestamps=true"
    )


def test_processes_and_ports_are_asked_for_as_a_kubelet_takes_them() -> None:
    query = asks(command=["sh", "-c", "a b&c"], stdin="true", stdout="true", stderr="false", tty="1", container="b")
    want = "/exec/n/pair/b?input=1&output=1&tty=1&command=sh&command=-c&command=a+b%26c"
    assert pod_connect.stream_path(query, TWO, "exec") == want
    assert pod_connect.stream_path(asks(stdout="true"), ONE, "attach") == "/attach/n/web/a?output=1"
    assert pod_connect.stream_path(asks(), TWO, "portforward") == "/portForward/n/pair"


@pytest.mark.parametrize(
    ("query", "code", "text"),
    [
        ({}, 400, "a container name must be specified for pod pair, choose one of: [i a b]"),
        ({"container": "x"}, 400, "container x is not valid for pod pair"),
        ({"tailLines": "x"}, 400, 'strconv.ParseInt: parsing "x": invalid syntax'),
        (
            {"tailLines": "-1"},
            422,
            'PodLogOptions "pair" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0',
        ),
        (
            {"insecureSkipTLSVerifyBackend": "true", "container": "a"},
            422,
            'PodLogOptions "pair" is invalid: insecureSkipTLSVerifyBackend: Forbidden: '
            "the certificates of nodes are always verified",
        ),
        (
            {"stream": "Stderr", "container": "a"},
            422,
            'PodLogOptions "pair" is invalid: stream: Forbidden: may not be specified',
        ),
        (
            {"limitBytes": "0"},
            422,
            'PodLogOptions "pair" is invalid: limitBytes: Invalid value: 0: must be greater than 0',
        ),
        ({"sinceSeconds": "1", "sinceTime": "x"}, 422, "at most one of `sinceTime` or `sinceSeconds` may be specified"),
    ],
)
def test_what_is_refused_before_any_node_is_asked(query: dict[str, str], code: int, text: str) -> None:
    with pytest.raises(ApiError) as why:
        pod_connect.log_path(asks(**query), TWO)
    assert why.value.code == code
    assert text in why.value.message


def test_a_pod_that_is_bound_to_no_node_cannot_run_anything() -> None:
    unbound = {**ONE, "spec": {"containers": [{"name": "a"}]}}
    with pytest.raises(ApiError, match="pod web does not have a host assigned"):
        pod_connect.stream_path(asks(command="x"), unbound, "exec")


def test_the_endpoint_is_the_internal_address_and_the_port_of_the_status() -> None:
    node: dict[str, Any] = {"status": {"addresses": [{"type": "ExternalIP", "address": "192.0.2.1"}]}}
    with pytest.raises(ApiError) as why:
        pod_connect.backend(node)
    assert (why.value.code, why.value.reason) == (500, "")
    assert why.value.message == "no preferred addresses found; known addresses: [{ExternalIP 192.0.2.1}]"
    node["status"]["addresses"].append({"type": "InternalIP", "address": "2001:db8::1"})
    assert pod_connect.backend(node).authority == "[2001:db8::1]:10250"
    node["status"]["daemonEndpoints"] = {"kubeletEndpoint": {"Port": 10351}}
    assert pod_connect.backend(node).authority == "[2001:db8::1]:10351"


@pytest.mark.parametrize(
    ("status", "reason", "message"),
    [
        (400, "BadRequest", "why"),
        (403, "Forbidden", "why ( pods/log web)"),
        (404, "NotFound", "the server could not find the requested resource ( pods/log web)"),
        (500, "InternalError", "Internal error occurred: why"),
        (418, "Unknown", "the server responded with the status code 418 ( pods/log web)"),
    ],
)
def test_a_nodes_refusal_of_a_log_is_worded_as_by_a_real_server(status: int, reason: str, message: str) -> None:
    found = pod_connect.node_refused(status, "why", "web")
    assert (found.code, found.reason, found.message) == (status, reason, message)
