"""What the device tells Prometheus: read by the client library's own parser; asked over a real socket."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from skerry.config import listen_address, parse
from skerry.errors import ConfigInvalid
from skerry.exposition import Metric, text
from skerry.journal.journal import Journal
from skerry.journal.recovery import recover
from skerry.loops.report import Counters
from skerry.metrics import METRICS, TYPE, Sources
from skerry.model.report import Event, Phase, PodStatus
from skerry.mux import StreamCounts
from skerry.wire.session import DeviceSession, Identity
from skerry.world.entropy import SystemEntropy
from skerry.world.metrics import REQUEST_BYTES_MAX, SCRAPES_MAX, Scrapes
from skerry.world.store import open_store
from unit.hub.fakes import ManualClock
from unit.prometheus import read

BOUND = 8 * 1024 * 1024


@pytest.fixture
async def journal(tmp_path: Path) -> Journal:
    return (await recover(open_store(tmp_path / "journal", map_bytes=BOUND).store, SystemEntropy())).journal


def sources(journal: Journal, clock: ManualClock, counters: Counters | None = None) -> Sources:
    session = DeviceSession(Identity("pi", "boot", "0.1.0"))
    streams = StreamCounts(opened=2, bytes_out=7)
    return Sources(journal, BOUND, session, counters or Counters(), streams, clock, lambda: 2e9)


async def test_every_metric_is_served_in_the_form_that_prometheus_reads(journal: Journal) -> None:
    counters = Counters(link_lost=3, link_connects=4, RunPodSandbox=5, StopContainer=1, failed_steps=1, looks=9)
    counters.update(frames_refused=6, frames_replayed=2)
    await journal.tell(PodStatus("u1", "default", "web", Phase.RUNNING))
    found = read(sources(journal, ManualClock(), counters).text(), METRICS)
    assert found["skerry_link_losses_total"] == {(): 3}
    assert (found["skerry_frames_refused_total"], found["skerry_frames_replayed_total"]) == ({(): 6}, {(): 2})
    assert found["skerry_decisions_total"] == {("RunPodSandbox",): 5, ("StopContainer",): 1}
    assert found["skerry_pods"] == {("Pending",): 0, ("Running",): 1, ("Succeeded",): 0, ("Failed",): 0}
    assert found["skerry_certificate_end_seconds"] == {(): 2e9}
    assert found["skerry_outbox_items"] == {(): 1}
    assert found["skerry_streams_opened_total"] == {(): 2}
    assert found["skerry_stream_sent_bytes_total"] == {(): 7}
    assert 0 < found["skerry_journal_used_bytes"][()] < BOUND
    assert found["skerry_journal_written_bytes_total"][()] >= 0
    assert set(found) == {m.name for m in METRICS}


async def test_the_oldest_report_ages_until_the_hub_has_it(tmp_path: Path) -> None:
    clock = ManualClock()
    store = open_store(tmp_path / "journal", map_bytes=BOUND).store
    journal = (await recover(store, SystemEntropy(), clock)).journal
    told = sources(journal, clock)

    def age() -> float:
        return read(told.text(), METRICS)["skerry_outbox_oldest_age_seconds"][()]

    assert age() == 0
    await journal.tell(None, [Event("u1", "default", "web", "Pulled", "", False, 0, "e1")])
    assert age() == 0
    await clock.advance(60)
    await journal.tell(None, [Event("u1", "default", "web", "Started", "", False, 0, "e2")])
    await clock.advance(60)
    assert age() == 120, "nobody looked in between"
    await journal.trim(journal.outbox_first)
    assert age() == 60
    later = (await recover(store, SystemEntropy(), clock)).journal
    await clock.advance(7)
    assert later.outbox_waited_s(later.outbox_first, clock.now()) == 7, "as far as that process can tell"
    await journal.trim(journal.outbox_next)
    assert age() == 0


async def test_it_is_asked_over_http(journal: Journal) -> None:
    server = Scrapes(sources(journal, ManualClock()).text, TYPE)
    listening = await asyncio.start_server(server.answer, "127.0.0.1", 0, limit=REQUEST_BYTES_MAX)
    port = listening.sockets[0].getsockname()[1]

    async def ask(head: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head)
        try:
            return await asyncio.wait_for(reader.read(), 30)
        except ConnectionError:
            return b""
        finally:
            writer.close()

    async with listening:
        head, _, body = (await ask(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert f"Content-Length: {len(body)}".encode() in head
        assert read(body, METRICS)["skerry_runtime_up"] == {(): 0}
        assert (await ask(b"HEAD /metrics HTTP/1.1\r\n\r\n")).endswith(b"\r\n\r\n")
        assert (await ask(b"GET /secret HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 404")
        assert (await ask(b"POST /metrics HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 405")
        assert await ask(b"nonsense\r\n\r\n") == b""
        assert await ask(b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 3 * REQUEST_BYTES_MAX + b"\r\n\r\n") == b""


async def test_those_who_only_connect_keep_others_out_but_not_the_device(journal: Journal) -> None:
    """More than SCRAPES_MAX connections are closed at once; the first ones end by REQUEST_S."""
    server = Scrapes(lambda: b"", TYPE)
    async with await asyncio.start_server(server.answer, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(SCRAPES_MAX)]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await asyncio.wait_for(reader.read(), 30) == b""
        for other in (writer, *(w for _, w in silent)):
            other.close()


@pytest.mark.parametrize("where", ["9100", "localhost:9100", "127.0.0.1:0", "127.0.0.1:x", "0.0.0.0:9100", "[::]:9100"])
def test_it_listens_on_an_address_of_this_machine_only(where: str) -> None:
    with pytest.raises(ConfigInvalid, match="metrics_listen"):
        parse({"node": "pi", "metrics_listen": where})


def test_where_it_may_listen() -> None:
    assert parse({"node": "pi"}).metrics_listen == ""
    assert parse({"node": "pi", "metrics_listen": "127.0.0.1:9100"}).metrics_listen == "127.0.0.1:9100"
    assert parse({"node": "pi", "metrics_listen": "10.0.0.1:9100", "insecure": True}).insecure
    assert listen_address("[::1]:9100", insecure=False) == ("::1", 9100)


def test_labels_are_escaped_and_an_unknown_metric_is_a_bug() -> None:
    metric = Metric("m", "gauge", "about", ("a",))
    served = text([metric], {"m": {('q"\\\n',): 1.25}}).decode()
    family = next(iter(text_string_to_metric_families(served)))
    assert [(s.labels, s.value) for s in family.samples] == [({"a": 'q"\\\n'}, 1.25)]
    with pytest.raises(AssertionError, match="not in the table"):
        text([metric], {"other": 1})
