"""`kubectl logs` of every version that is here, through the embedded API, the endpoint and a device's stream."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from skerry.model.streams import Logs
from unit.apiserver.serving import Client
from unit.kubelet.clients import DEADLINE_S, FOUND, Kubectl
from unit.kubelet.local_streams import NS
from unit.kubelet.site import Site

pytestmark = pytest.mark.skipif(not FOUND, reason="no kubectl here")


@pytest.fixture(params=list(FOUND.values()), ids=list(FOUND))
def kubectl(request: pytest.FixtureRequest, cluster: Client, home: Path, site: Site) -> Kubectl:
    return Kubectl(request.param, cluster.at.kubeconfig, home)


def until(what: Callable[[], bool], seconds: float = DEADLINE_S) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


def write(site: Site, *texts: str) -> None:
    def grow() -> None:
        first = len(site.streams.lines)
        site.streams.lines += [((first + n) * NS, text) for n, text in enumerate(texts)]
        assert site.streams.grown is not None
        site.streams.grown.set()

    site.call(grow)


def test_logs_with_their_flags(kubectl: Kubectl, site: Site) -> None:
    write(site, *(f"line {n}" for n in range(10)))
    assert kubectl("logs", "web").decode().splitlines() == [f"line {n}" for n in range(10)]
    assert kubectl("logs", "web", "--tail=2") == b"line 8\nline 9\n"
    assert kubectl("logs", "web", "--tail=1", "--timestamps") == b"2026-01-01T00:00:09.000000000Z line 9\n"
    assert kubectl("logs", "web", "--limit-bytes=8") == b"line 0\nl"
    assert kubectl("logs", "web", "--since-time=1970-01-01T00:00:08Z") == b"line 8\nline 9\n"
    kubectl("logs", "web", "--since=5m")
    last = site.streams.opened[-1]
    assert isinstance(last, Logs)
    assert last.since_unix_ns is not None
    assert abs(time.time_ns() - 300 * NS - last.since_unix_ns) < 60 * NS
    assert kubectl("logs", "pair", "-c", "first", "--tail=1") == b"line 9\n"
    until(lambda: not site.streams.now)


def test_following_shows_lines_as_they_come_and_ends_with_the_client(kubectl: Kubectl, site: Site) -> None:
    write(site, "old")
    with kubectl.start("logs", "-f", "web") as following:
        assert following.stdout is not None
        assert following.stdout.readline() == b"old\n"
        for n in range(3):
            write(site, f"new {n}")
            assert following.stdout.readline() == f"new {n}\n".encode()
        following.terminate()
    until(lambda: not site.streams.now)


def test_a_client_that_does_not_read_stops_the_source(kubectl: Kubectl, site: Site) -> None:
    site.streams.flood = True
    with kubectl.start("logs", "-f", "web") as following:
        until(lambda: bool(site.streams.now))
        source = site.streams.now[0]
        before = -1
        while before != source.sent:  # type: ignore[attr-defined]
            before = source.sent  # type: ignore[attr-defined]
            time.sleep(1.0)
        assert before < 64 * 1024 * 1024, "what the buffers on the way hold"
        following.kill()
    until(lambda: not site.streams.now)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("web", "--previous"), 'previous terminated container "a" in pod "web" not found'),
        (("gone",), "pod does not exist"),
        (("web", "-c", "b"), "container b is not valid for pod web"),
        (("none",), 'pods "none" not found'),
        (("astray",), "dial tcp 127.0.0.1:9: connect: connection refused"),
        (("orphan",), 'nodes "dev3" not found'),
    ],
)
def test_what_cannot_be_had_is_told_in_one_line(kubectl: Kubectl, args: tuple[str, ...], said: str) -> None:
    done = kubectl.run("logs", *args)
    assert done.returncode == 1
    assert said in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1


def test_a_device_that_is_away_is_told_at_once(kubectl: Kubectl, site: Site) -> None:
    site.streams.away = True
    done = kubectl.run("logs", "web")
    assert done.returncode == 1
    assert "device dev1 is not connected" in done.stderr.decode()


def test_a_pod_without_a_node_has_no_log_yet(kubectl: Kubectl) -> None:
    assert kubectl("logs", "nowhere") == b""
