"""Requests as a kubelet reads them, and the right that each needs."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from properties.amount import examples
from skerry.model.streams import Attach, Exec, Logs
from skerry_hub.kubelet.routes import NS, Document, Forward, Wrong, right, route, unix_ns

NOW = 1_000_000 * NS


def asked(path: str, method: str = "GET", **query: str | list[str]) -> object:
    lists = {name: value if isinstance(value, list) else [value] for name, value in query.items()}
    return route(method, path, lists, NOW)


def test_logs() -> None:
    assert asked("/containerLogs/n/p/c") == Logs("n", "p", "c")
    every = asked(
        "/containerLogs/n/p/c", follow="true", previous="1", timestamps="true", tailLines="0", limitBytes="9",
        sinceSeconds="60",
    )  # fmt: skip
    assert every == Logs("n", "p", "c", True, True, True, 0, 9, NOW - 60 * NS)
    at = asked("/containerLogs/n/p/c", sinceTime="1970-01-01T00:00:01.5Z")
    assert at == Logs("n", "p", "c", since_unix_ns=1_500_000_000)


def test_processes_by_the_kubelets_names_and_by_the_apis() -> None:
    command = ["sh", "-c", "a b"]
    want = Exec("n", "p", "c", ("sh", "-c", "a b"), True, True, True, False)
    assert asked("/exec/n/p/c", "POST", command=command, input="1", output="1", error="1") == want
    assert asked("/exec/n/p/c", command=command, stdin="true", stdout="true", stderr="true", tty="false") == want
    terminal = asked("/attach/n/p/c", "POST", input="1", output="1", error="1", tty="1")
    assert terminal == Attach("n", "p", "c", True, True, False, True), "a terminal has one output"
    assert asked("/portForward/n/p", "POST") == Forward("n", "p")
    assert asked("/metrics/resource") == Document("metrics")


@pytest.mark.parametrize(
    ("path", "method", "query", "status"),
    [
        ("/containerLogs/n/p", "GET", {}, 404),
        ("/containerLogs/n/p/c/d", "GET", {}, 404),
        ("/containerLogs/n/../c", "GET", {}, 400),
        ("/containerLogs/n/p%2fq/c", "GET", {}, 400),
        ("/containerLogs/n/p/c", "POST", {}, 405),
        ("/containerLogs/n/p/c", "GET", {"tailLines": "-1"}, 400),
        ("/containerLogs/n/p/c", "GET", {"limitBytes": "0"}, 400),
        ("/containerLogs/n/p/c", "GET", {"sinceTime": "2026-02-30T00:00:00Z"}, 400),
        ("/containerLogs/n/p/c", "GET", {"sinceTime": "2026-01-01T00:00:00Z", "sinceSeconds": "1"}, 400),
        ("/exec/n/p/c", "POST", {"output": "1", "command": "x" * 100_000}, 400),
        ("/exec/n/p/c", "PUT", {"output": "1", "command": "x"}, 405),
        ("/", "GET", {}, 404),
    ],
)
def test_what_no_node_can_serve(path: str, method: str, query: dict[str, str], status: int) -> None:
    with pytest.raises(Wrong) as why:
        asked(path, method, **query)
    assert why.value.status == status


def test_times_are_those_of_rfc_3339() -> None:
    assert unix_ns("1970-01-02T00:00:00+01:00") == 82_800 * NS
    assert unix_ns("1970-01-01T00:00:00.000000001-00:30") == 1_800 * NS + 1


@pytest.mark.parametrize(
    ("method", "path", "needed"),
    [
        ("GET", "/containerLogs/n/p/c", ("get", ("proxy",))),
        ("GET", "/exec/n/p/c", ("create", ("proxy",))),
        ("POST", "/exec/n/p/c", ("create", ("proxy",))),
        ("GET", "/portForward/n/p", ("create", ("proxy",))),
        ("GET", "/stats/summary", ("get", ("stats",))),
        ("GET", "/metrics/resource", ("get", ("metrics",))),
        ("GET", "/healthz", ("get", ("healthz", "proxy"))),
        ("HEAD", "/pods", ("get", ("pods", "proxy"))),
        ("GET", "/logs/x", ("get", ("log",))),
        ("DELETE", "/pods", ("delete", ("pods", "proxy"))),
        ("BREW", "/pods", ("", ("pods", "proxy"))),
    ],
)
def test_the_right_that_is_needed(method: str, path: str, needed: tuple[str, tuple[str, ...]]) -> None:
    assert right(method, path) == needed


@settings(max_examples=examples(300), deadline=None)
@given(
    st.sampled_from(["GET", "POST", "PUT"]),
    st.text(max_size=30).map(lambda t: f"/{t}")
    | st.from_regex(r"/(exec|containerLogs)/[a-z%.\-]{0,9}/p/c", fullmatch=True),
    st.dictionaries(st.sampled_from(["tailLines", "sinceTime", "command", "output", "sinceSeconds"]),
                    st.lists(st.text(max_size=20), max_size=3)),
)  # fmt: skip
def test_any_request_is_a_route_or_wrong(method: str, path: str, query: dict[str, list[str]]) -> None:
    with contextlib.suppress(Wrong):
        assert route(method, path, query, NOW) is not None
