"""Paths, queries and Accept headers: each is a value or a Status, whatever a client sends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry_hub.apiserver import kinds, views
from skerry_hub.apiserver.requests import continue_token, delete_options, list_options, target, write_options
from skerry_hub.apiserver.status import ApiError
from skerry_hub.http import Request

PARTS = [
    "api",
    "apis",
    "v1",
    "namespaces",
    "pods",
    "ns",
    "status",
    "watch",
    "coordination.k8s.io",
    "leases",
    "",
    "..",
    "%2f",
]
TEXT = st.one_of(st.text(max_size=12), st.sampled_from(["", "0", "1", "true", "All", "Exact", "NotOlderThan", "a=b"]))
NAMES = ["labelSelector", "fieldSelector", "limit", "continue", "resourceVersion", "resourceVersionMatch", "watch"]
NAMES += ["sendInitialEvents", "allowWatchBookmarks", "timeoutSeconds", "dryRun", "fieldValidation"]
NAMES += ["gracePeriodSeconds", "propagationPolicy", "orphanDependents"]


def request(query: dict[str, str] | None = None) -> Request:
    return Request("GET", "/", {k: [v] for k, v in (query or {}).items()}, (), b"", None)


@pytest.mark.parametrize(
    ("path", "key", "sub"),
    [
        ("/api/v1/pods", ("pods", "", ""), ""),
        ("/api/v1/namespaces/n/pods/p", ("pods", "n", "p"), ""),
        ("/api/v1/namespaces/n/pods/p/status", ("pods", "n", "p"), "status"),
        ("/api/v1/namespaces/n", ("namespaces", "", "n"), ""),
        ("/api/v1/namespaces/n/status", ("namespaces", "", "n"), "status"),
        ("/api/v1/namespaces/pods/pods", ("pods", "pods", ""), ""),
        ("/api/v1/watch/namespaces/n/secrets/a", ("secrets", "n", "a"), ""),
        ("/apis/coordination.k8s.io/v1/namespaces/n/leases/l", ("leases.coordination.k8s.io", "n", "l"), ""),
    ],
)
def test_a_path_names_its_object(path: str, key: tuple[str, str, str], sub: str) -> None:
    found = target(path)
    assert (found.key, found.subresource, found.watch) == (key, sub, "/watch/" in path)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api",
        "/api/v1",
        "/api/v2/pods",
        "/api/v1/nope",
        "/api/v1/pods/p",
        "/api/v1/namespaces/n/nodes",
        "/api/v1/namespaces/n/pods/p/eviction",
        "/api/v1/namespaces/n/pods/p/status/x",
        "/apis/apps/v1/deployments",
        "/x/y/z/w",
    ],
)
def test_other_paths_are_not_found(path: str) -> None:
    with pytest.raises(ApiError) as why:
        target(path)
    assert why.value.code == 404


@given(st.lists(st.sampled_from(PARTS) | st.text(max_size=5), max_size=9))
def test_any_path_is_an_object_or_not_found(parts: list[str]) -> None:
    code = 404
    try:
        target("/" + "/".join(parts))
    except ApiError as why:
        code = why.code
    assert code == 404


@given(st.dictionaries(st.sampled_from(NAMES), TEXT, max_size=6))
def test_any_query_is_understood_or_refused(query: dict[str, str]) -> None:
    asked = request(query)
    for read in (
        lambda: list_options(asked, kinds.PODS),
        lambda: write_options(asked, "Create"),
        lambda: delete_options(asked, {}),
    ):
        code = 400
        try:
            read()
        except ApiError as why:
            code = why.code
        assert code in (400, 422)


@given(st.text(max_size=60) | st.sampled_from(["application/json;as=Table;v=v9;g=x", "*/*;q=0", ",", "text/html"]))
def test_any_accept_header_is_a_view_or_not_acceptable(header: str) -> None:
    code = 406
    try:
        views.choose(header, "")
    except ApiError as why:
        code = why.code
    assert code == 406


@given(st.integers(0, 10**15), st.text(max_size=20), st.text(max_size=20))
def test_a_continue_token_comes_back_as_it_was(version: int, ns: str, name: str) -> None:
    token = continue_token(version, (ns, name))
    options = list_options(request({"continue": token}), kinds.PODS)
    assert (options.after, options.version, options.match) == ((ns, name), version, "Exact")
