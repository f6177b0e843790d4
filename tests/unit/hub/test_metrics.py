"""What a hub tells Prometheus: a real hub's snapshot, read by the client library's own parser; asked over HTTP."""

from __future__ import annotations

import asyncio
import os
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from skerry import metrics as device
from skerry.exposition import page
from skerry.model.report import OutboxItem, Phase
from skerry.wire import message
from skerry.wire.message import Message
from skerry_hub import listener, metrics
from skerry_hub.cli import main
from skerry_hub.cloudhub.sessions import topic
from skerry_hub.edgecontroller.registration import new_node
from skerry_hub.hub import Hub
from skerry_hub.kubelet.counts import Counts
from skerry_hub.limits import DEVICES_SHOWN_MAX
from skerry_hub.metrics import METRICS
from skerry_hub.ports import NAMESPACES, NODES
from unit.hub.fakes import Dice, FakeBroker, ManualClock, ScriptedCluster
from unit.hub.session_site import Device
from unit.prometheus import Found, read, wrong_names
from unit.wire.pair import NODE

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"
OTHER = "pi-8"


class Site:
    """A whole hub on fakes; `Device` of session_site talks to it."""

    def __init__(self) -> None:
        self.clock, self.broker, self.cluster = ManualClock(), FakeBroker(), ScriptedCluster()
        self.cluster.put(NAMESPACES, {"metadata": {"name": "kube-system", "uid": "store"}})
        for name in (NODE, OTHER):
            node = new_node(name, tainted=False)
            node["metadata"]["uid"] = f"uid of {name}"
            self.cluster.put(NODES, node)
        self.hub = Hub(self.cluster, self.broker, FakeBroker(), self.clock, Dice(), lambda _line: None)
        self.sessions = self.hub.sessions
        self.requests = {("list", "200"): 4, ("patch", "409"): 1, ("watch", "none"): 2}

    def up(self, node: str, said: Message) -> bool:
        return self.broker.say(topic(node, "up"), message.encode(said))

    def read(self) -> Found:
        endpoint = {**Counts(requests=5, forbidden=1).snapshot(), "nodes": 2, "connections": 1}
        asked = {"enrolled": 3, "renewed": 5, "refused": 2, "limited": 1, "failed": 0}
        enrolment = {**asked, "connections": 1, "turned_away": 4}
        shown = {**self.hub.snapshot(), "kubelet": endpoint, "enrolment": enrolment}
        return read(metrics.text(shown, self.requests), METRICS)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    task = asyncio.ensure_future(site.hub.run())
    while not site.sessions.snapshot()["devices"]:
        await site.clock.advance(1)
    yield site
    assert not task.done(), task.result()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_every_metric_is_served_in_the_form_that_prometheus_reads(site: Site) -> None:
    await Device(site, NODE).connect()  # type: ignore[arg-type]
    found = site.read()
    assert set(found) == {m.name for m in METRICS}
    assert found["skerry_hub_devices"] == {(): 2}
    assert found["skerry_hub_sessions"] == {("away",): 1, ("greeted",): 0, ("live",): 1}
    assert found["skerry_hub_device_live"] == {(NODE,): 1, (OTHER,): 0}
    assert found["skerry_hub_device_drift"] == {(NODE,): 0}, "of the other nothing is known"
    assert found["skerry_hub_api_requests_total"] == {("list", "200"): 4, ("patch", "409"): 1, ("watch", "none"): 2}
    assert found["skerry_hub_informer_synced"][("nodes",)] == 1
    assert found["skerry_hub_hellos_total"] == {(): 1}
    refused = found["skerry_hub_endpoint_requests_refused_total"]
    assert refused == {("unauthorized",): 0, ("forbidden",): 1, ("wrong",): 0}
    assert found["skerry_hub_enrolments_refused_total"] == {("refused",): 2, ("limited",): 1, ("failed",): 0}
    assert found["skerry_hub_device_received_bytes_total"][(NODE,)] == found["skerry_hub_received_bytes_total"][()] > 0
    assert found["skerry_hub_device_sent_bytes_total"][(NODE,)] > 0


async def test_what_came_wrong_has_a_cause_and_a_device(site: Site) -> None:
    site.broker.say(topic(NODE, "up"), b"\xff nonsense")
    await site.clock.advance(1)
    found = site.read()
    causes = found["skerry_hub_frames_dropped_total"]
    none = {(cause,): 0 for cause in ("queue", "credit", "hello", "too_large", "refused", "replayed")}
    assert causes == {**none, ("malformed",): 1}
    assert found["skerry_hub_device_frames_dropped_total"] == {(NODE,): 1, (OTHER,): 0}


async def test_a_report_that_is_not_stored_ages_from_when_it_came_about_on_the_device(site: Site) -> None:
    def ages() -> dict[tuple[str, ...], float]:
        return site.read()["skerry_hub_device_outbox_age_seconds"]

    one = Device(site, NODE)  # type: ignore[arg-type]
    await one.connect()
    assert ages() == {(NODE,): 0}, "of what a device keeps that is away nothing is known"
    api_up, store_reports = asyncio.Event(), site.hub.controller.store_reports

    async def once_it_is_up(node: str, items: Sequence[OutboxItem]) -> None:
        await api_up.wait()
        await store_reports(node, items)

    site.hub.controller.store_reports = once_it_is_up  # type: ignore[method-assign]
    one.board.waited_s = 3_600  # it was in holdover
    await one.tell("a", Phase.RUNNING)
    one.board.waited_s = 0
    await one.tell("b", Phase.RUNNING)
    await site.clock.advance(20)
    assert ages()[(NODE,)] == pytest.approx(3_620, abs=1)
    api_up.set()
    await one.converse()
    assert one.board.items == {}
    assert ages() == {(NODE,): 0}


async def test_a_counter_never_goes_back_though_its_device_does(site: Site) -> None:
    await Device(site, NODE).connect()  # type: ignore[arg-type]
    before = site.read()["skerry_hub_received_bytes_total"][()]
    site.sessions.nodes([OTHER])
    after = site.read()
    assert after["skerry_hub_received_bytes_total"] == {(): before}
    assert list(after["skerry_hub_device_live"]) == [(OTHER,)]


async def test_silence_of_the_api_grows(site: Site) -> None:
    before = site.read()["skerry_hub_informer_silence_seconds"][("pods",)]
    await site.clock.advance(30)
    assert site.read()["skerry_hub_informer_silence_seconds"][("pods",)] == before + 30


async def test_devices_beyond_the_bound_are_counted_only(site: Site) -> None:
    shown: dict[str, Any] = site.hub.snapshot()
    one = shown["devices"][NODE]
    shown["devices"] = {f"pi-{i}": one for i in range(DEVICES_SHOWN_MAX + 3)}
    found = metrics.samples(shown, {})
    assert found["skerry_hub_devices"] == DEVICES_SHOWN_MAX + 3
    assert found["skerry_hub_devices_without_own_metrics"] == 3
    assert len(found["skerry_hub_device_live"]) == DEVICES_SHOWN_MAX


async def test_it_is_asked_over_http(site: Site) -> None:
    app = listener.metrics_app(lambda: metrics.text(site.hub.snapshot(), {}), metrics.TYPE)
    served = await listener.listen("--metrics-listen", "127.0.0.1:0", False, app)

    def ask(path: str, method: str = "GET") -> tuple[int, str, bytes]:
        try:
            with urllib.request.urlopen(urllib.request.Request(served.url + path, method=method), timeout=30) as reply:
                return reply.status, reply.headers["content-type"], reply.read()
        except urllib.error.HTTPError as why:
            return why.code, "", b""

    status, kind, body = await asyncio.to_thread(ask, "/metrics")
    assert (status, kind) == (200, metrics.TYPE)
    assert read(body, METRICS)["skerry_hub_devices"] == {(): 2}
    assert (await asyncio.to_thread(ask, "/"))[0] == 404
    assert (await asyncio.to_thread(ask, "/metrics", "POST"))[0] == 405
    await served.close()


@pytest.mark.parametrize("where", ["0.0.0.0:9", "10.0.0.1:9", "9", "127.0.0.1:x", "127.0.0.1:99999"])
def test_other_addresses_are_refused(where: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "k").write_text('{"clusters":[{"name":"k","cluster":{"server":"http://127.0.0.1:1"}}],"current-context":"c",'
                                '"contexts":[{"name":"c","context":{"cluster":"k","user":"u"}}],'
                                '"users":[{"name":"u","user":{"token":"t"}}]}')  # fmt: skip
    argv = ["run", "--broker", "mqtt://127.0.0.1:1", "--kubeconfig", str(tmp_path / "k"), "--metrics-listen", where]
    assert main(argv) == 2
    assert "--metrics-listen" in capsys.readouterr().err


def test_names_follow_the_conventions() -> None:
    assert wrong_names(METRICS, "skerry_hub") == []
    assert wrong_names(device.METRICS, "skerry") == []


def document() -> str:
    """docs/metrics.md, from both tables."""
    lines = [
        "# Metrics",
        "",
        "Prometheus text, made when it is asked for; nothing runs in between. Counters begin anew with the process",
        "unless they say otherwise. docs/operating.md says how to switch them on.",
        "",
        *page("The hub: `skerry-hub run --metrics-listen HOST:PORT`", HUB, METRICS),
        *page("The device: `metrics_listen` in its configuration", DEVICE, device.METRICS),
        "This page is made from `skerry_hub.metrics.METRICS` and `skerry.metrics.METRICS`:",
        "`SKERRY_WRITE_DOCS=1 pytest tests/unit/hub/test_metrics.py`.",
        "",
    ]
    return "\n".join(lines)


HUB = [
    f"Those with the label `node` are told for at most {DEVICES_SHOWN_MAX:,} devices; every other label has a fixed",
    "set of values. With more than one replica each one tells of its own devices.",
]
DEVICE = [
    "Bytes written per day: `increase(skerry_journal_written_bytes_total[1d])`. A device in holdover cannot be scraped",
    "through the hub: scrape it in its own network, or look at its hub's `skerry_hub_device_live`.",
]


def test_the_page_tells_what_the_code_does() -> None:
    if os.environ.get("SKERRY_WRITE_DOCS"):
        PAGE.write_text(document())
    assert PAGE.read_text() == document(), "stale: SKERRY_WRITE_DOCS=1 pytest tests/unit/hub/test_metrics.py"
