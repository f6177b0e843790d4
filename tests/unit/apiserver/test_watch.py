"""Watches: what a change means to a selector, and that a client who does not read hurts nobody but himself."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import pytest

from patience import until
from skerry_hub import limits as hub_limits
from skerry_hub.apiserver import kinds, limits, views
from skerry_hub.apiserver.requests import ListOptions
from skerry_hub.apiserver.selectors import Selector, parse_fields, parse_labels
from skerry_hub.apiserver.store import Store, Write
from skerry_hub.apiserver.watch import Watch, Watchers, event_type
from unit.apiserver.serving import Client

MAPS = "/api/v1/namespaces/default/configmaps"


def options(selector: Selector | None = None, version: int | None = None, timeout_s: float = 60.0) -> ListOptions:
    return ListOptions(selector or Selector(), 0, None, version, "", True, False, None, timeout_s)


class Sink:
    """A client's stream: `gate` closed means that it does not read."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.events += [json.loads(line) for line in data.splitlines()]

    async def drain(self) -> None:
        if not self.gate.is_set():
            await asyncio.wait_for(self.gate.wait(), hub_limits.HTTP_WRITE_STALL_S)

    def abort(self) -> None:
        self.aborted = True


def config_map(name: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "ns", "resourceVersion": "", "labels": labels}}


def start(watchers: Watchers, sink: Sink, opts: ListOptions) -> asyncio.Task[None]:
    watch = Watch(watchers, kinds.CONFIG_MAPS, "ns", "", opts, views.View())
    watchers.add(watch)

    async def run() -> None:
        try:
            await watch.run(sink)
        finally:
            watchers.remove(watch)

    return asyncio.get_running_loop().create_task(run())


async def put(store: Store, name: str, **labels: str) -> None:
    key = ("configmaps", "ns", name)
    await store.commit(Write(key, store.latest(key), config_map(name, **labels)))


def test_an_events_type_follows_from_before_and_now() -> None:
    assert [event_type(a, b) for a in (False, True) for b in (False, True)] == ["", "ADDED", "DELETED", "MODIFIED"]


async def test_an_object_that_leaves_the_selector_is_deleted_for_the_watch(tmp_path: Path) -> None:
    store = Store(tmp_path / "db", kinds.index_of)
    sink, watchers = Sink(), Watchers(store)
    task = start(watchers, sink, options(Selector(parse_labels("app=x"))))
    await put(store, "a", app="x")
    await put(store, "b", app="y")
    await put(store, "a", app="y")
    await put(store, "b", app="x")
    await until(lambda: len(sink.events) >= 3, "what is selected")
    told = [
        (e["type"], e["object"]["metadata"]["name"], e["object"]["metadata"]["resourceVersion"]) for e in sink.events
    ]
    assert told == [("ADDED", "a", "1"), ("DELETED", "a", "3"), ("ADDED", "b", "4")]
    assert sink.events[1]["object"]["metadata"]["labels"] == {"app": "x"}, "its last selected state"
    task.cancel()
    await store.close()


async def test_a_watch_that_falls_behind_is_ended_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WATCH_QUEUE_EVENTS_MAX", 10)
    monkeypatch.setattr(hub_limits, "HTTP_WRITE_STALL_S", 0.3)
    store = Store(tmp_path / "db", kinds.index_of)
    watchers = Watchers(store)
    slow, quick = Sink(), Sink()
    slow.gate.clear()
    tasks = [start(watchers, slow, options()), start(watchers, quick, options())]
    for i in range(40):
        await put(store, f"c{i}")
    await asyncio.wait([tasks[0]], timeout=30)
    assert tasks[0].done()
    assert slow.aborted
    assert watchers.counters.ended_slow == 1
    await until(lambda: len(quick.events) >= 40, "the quick one's events")
    assert len(quick.events) == 40
    assert not quick.aborted
    tasks[1].cancel()
    await store.close()


async def test_nothing_is_lost_or_doubled_between_the_list_and_the_changes(tmp_path: Path) -> None:
    store = Store(tmp_path / "db", kinds.index_of)
    watchers = Watchers(store)
    for i in range(5):
        await put(store, f"c{i}")
    sinks = [Sink() for _ in range(20)]
    writes = [asyncio.ensure_future(put(store, f"d{i}")) for i in range(60)]
    tasks = []
    for sink in sinks:
        tasks.append(start(watchers, sink, options()))
        await asyncio.sleep(0.001)
    await asyncio.gather(*writes)
    await until(lambda: all(len(sink.events) >= 65 for sink in sinks), "every event")
    for sink in sinks:
        assert sorted(e["object"]["metadata"]["name"] for e in sink.events) == sorted(
            n for _, n in store.keys("configmaps")
        )
    for task in tasks:
        task.cancel()
    await store.close()


async def test_too_many_watches_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WATCHERS_MAX", 1)
    store = Store(tmp_path / "db", kinds.index_of)
    watchers = Watchers(store)
    task = start(watchers, Sink(), options())
    with pytest.raises(Exception, match="too many watches"):
        start(watchers, Sink(), options())
    task.cancel()
    await store.close()


def test_field_selectors_know_their_paths() -> None:
    known = kinds.PODS.field_paths()
    assert parse_fields("spec.nodeName=n,status.phase!=Failed", known) == (
        ("spec.nodeName", True, "n"),
        ("status.phase", False, "Failed"),
    )


def cut_within(deaf: ssl.SSLSocket, seconds: float) -> bool:
    """Whether the server ends the connection of a client that only writes."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.5)
        try:
            deaf.sendall(b"\r\n" * 1000)
        except OSError:
            return True
    return False


def test_a_client_that_never_reads_does_not_delay_another(api: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_limits, "HTTP_WRITE_STALL_S", 1.0)
    raw = socket.create_connection((api.at.host, api.at.port))
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf: ssl.SSLSocket = api.tls.wrap_socket(raw, server_hostname=api.at.host)
    head = f"GET {MAPS}?watch=1 HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {api.token}\r\n\r\n"
    deaf.sendall(head.encode())
    connection, reply = api.open("GET", f"{MAPS}?watch=1")
    times = []
    for i in range(60):
        body = {"metadata": {"name": f"big{i}"}, "data": {"a": "x" * 100_000}}
        began = time.monotonic()
        assert api.call("POST", MAPS, body)[0] == 201
        event = json.loads(reply.readline())
        times.append(time.monotonic() - began)
        assert event["type"] == "ADDED"
    connection.close()
    assert max(times) < 20
    assert cut_within(deaf, 60.0), "the deaf client was not cut"
    deaf.close()
    assert api.call("DELETE", MAPS)[0] == 200
    assert "skerry_api_watches_ended_slow_total 0" not in api.call("GET", "/metrics")[1]["text"]


def test_a_watch_in_the_middle_of_its_version_history_is_exact(api: Client) -> None:
    version = api.call("GET", MAPS)[1]["metadata"]["resourceVersion"]
    for verb, path in (("POST", MAPS), ("DELETE", f"{MAPS}/h")):
        api.call(verb, path, {"metadata": {"name": "h"}} if verb == "POST" else None)
    connection, reply = api.open("GET", f"{MAPS}?watch=true&timeoutSeconds=1&resourceVersion={version}")
    assert [json.loads(line)["type"] for line in reply] == ["ADDED", "DELETED"]
    connection.close()
