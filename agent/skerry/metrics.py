"""What the device tells Prometheus: the table of its metrics, and their values at this moment. Reads, counts nothing.

Everything is computed when somebody asks; nothing here runs by itself. Imported only where `metrics_listen` is set.
docs/metrics.md is made from the table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from skerry import exposition
from skerry.exposition import Metric
from skerry.journal.journal import Journal
from skerry.limits import OUTBOX_ITEMS_MAX
from skerry.model.report import Phase
from skerry.mux import StreamCounts
from skerry.ports import Clock
from skerry.wire.session import DeviceSession, State

TYPE = exposition.TYPE
_P = "skerry"


def _counter(name: str, about: str, *labels: str) -> Metric:
    return Metric(f"{_P}_{name}", "counter", about, labels)


def _gauge(name: str, about: str, *labels: str) -> Metric:
    return Metric(f"{_P}_{name}", "gauge", about, labels)


METRICS = (
    _gauge("session_live", "1 while the hub serves this device; 0 in holdover"),
    _counter("link_connects_total", "connections to the broker made"),
    _counter("link_losses_total", "connections to the broker lost or not made"),
    _gauge("certificate_end_seconds", "until when this device's certificates are valid, since 1970; nothing without"),
    _counter("certificate_renewals_total", "times that the hub gave new certificates"),
    _counter("certificate_renewals_failed_total", "times that it did not, though they were due"),
    _counter("frames_refused_total", "frames that were not the hub's for this device now, those of streams included"),
    _counter("frames_replayed_total", "frames of the hub that came before"),
    _counter("session_notes_total", "oddities of the session, each one a line in the log"),
    _gauge("generation", "generation of the set that this device has"),
    _counter("changes_applied_total", "changes of the hub that were journaled"),
    _gauge("outbox_items", "reports that the hub has not stored yet"),
    _gauge("outbox_oldest_age_seconds", "how long the oldest of them has waited, at most since the agent began"),
    _counter("outbox_dropped_total", "reports that were dropped from a full outbox, since the journal began"),
    _gauge("journal_used_bytes", "bytes of the journal that hold records"),
    _gauge("journal_max_bytes", "journal_bytes_max of the configuration"),
    _counter("journal_written_bytes_total", "bytes that the journal wrote, as the kernel accounts them"),
    _counter("journal_full_total", "commits that found no room"),
    _gauge("runtime_up", "1 while the container runtime answers"),
    _counter("runtime_losses_total", "times that the container runtime went away"),
    _gauge("pods", "pods here, by the phase that was told last", "phase"),
    _counter("decisions_total", "steps that were taken against the runtime, by kind", "action"),
    _counter("failed_decisions_total", "steps that failed"),
    _counter("streams_opened_total", "streams (logs, exec, port-forward) that were accepted"),
    _counter("streams_refused_total", "streams that were refused"),
    _counter("streams_broken_total", "streams that ended otherwise than well"),
    _counter("stream_links_lost_total", "connections for streams that were lost"),
    _counter("stream_received_bytes_total", "bytes received on streams"),
    _counter("stream_sent_bytes_total", "bytes sent on streams"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sources:
    """What is read. `counters` are those of the loops."""

    journal: Journal
    journal_bytes_max: int
    session: DeviceSession
    counters: Mapping[str, int]
    streams: StreamCounts
    clock: Clock
    certificate_ends: Callable[[], float | None] = lambda: None

    def text(self) -> bytes:
        """The whole exposition."""
        return exposition.text(METRICS, {f"{_P}_{name}": value for name, value in self.samples().items()})

    def samples(self) -> dict[str, Any]:
        """Values by metric."""
        journal, counters = self.journal, self.counters
        first, beyond = journal.outbox_first, journal.outbox_next
        waited = journal.outbox_waited_s(first, self.clock.now()) if first < beyond else 0
        return {
            "session_live": int(self.session.state is State.LIVE),
            "link_connects_total": counters.get("link_connects", 0),
            "link_losses_total": counters.get("link_lost", 0),
            **({} if self.certificate_ends() is None else {"certificate_end_seconds": self.certificate_ends()}),
            "certificate_renewals_total": counters.get("certificate_renewals", 0),
            "certificate_renewals_failed_total": counters.get("certificate_renewals_failed", 0),
            "frames_refused_total": counters.get("frames_refused", 0),
            "frames_replayed_total": counters.get("frames_replayed", 0),
            "session_notes_total": counters.get("session_notes", 0),
            "generation": journal.desired.generation,
            "changes_applied_total": counters.get("changes_applied", 0),
            "outbox_items": len(journal.outbox(0, OUTBOX_ITEMS_MAX)),
            "outbox_oldest_age_seconds": waited,
            "outbox_dropped_total": journal.dropped,
            "journal_used_bytes": journal.store.usage() * self.journal_bytes_max,
            "journal_max_bytes": self.journal_bytes_max,
            "journal_written_bytes_total": journal.store.written_bytes(),
            "journal_full_total": counters.get("store_full", 0),
            "runtime_up": int(journal.runtime_up),
            "runtime_losses_total": counters.get("runtime_lost", 0),
            "pods": self._pods(),
            "decisions_total": {(n,): count for n, count in sorted(counters.items()) if n[:1].isupper()},
            "failed_decisions_total": counters.get("failed_steps", 0),
            "streams_opened_total": self.streams.opened,
            "streams_refused_total": self.streams.refused,
            "streams_broken_total": self.streams.broken,
            "stream_links_lost_total": counters.get("streams_lost", 0),
            "stream_received_bytes_total": self.streams.bytes_in,
            "stream_sent_bytes_total": self.streams.bytes_out,
        }

    def _pods(self) -> dict[tuple[str, ...], float]:
        counted = Counter(status.phase for status in self.journal.statuses.values() if not status.gone)
        return {(phase.value,): counted[phase] for phase in Phase}
