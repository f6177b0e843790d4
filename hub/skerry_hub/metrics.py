"""What a running hub tells Prometheus: the table of its metrics, and their values out of one snapshot. Pure.

Decides names and which of them carry a device's name: only what an operator acts on, for DEVICES_SHOWN_MAX devices at
most. Knows no listener; docs/metrics.md is made from the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skerry import exposition
from skerry.exposition import Metric
from skerry_hub.limits import DEVICES_SHOWN_MAX

TYPE = exposition.TYPE
Snapshot = Mapping[str, Any]  # Hub.snapshot()
Requests = Mapping[tuple[str, str], int]  # KubeClient.requests
_DROPS = {"queue": "dropped_queue", "credit": "dropped_credit", "hello": "dropped_hello"}
_DROPS |= {name: name for name in ("malformed", "too_large", "refused", "replayed")}
_REPORTS_DROPPED = ("superseded", "without_pod", "malformed", "refused")
_P = "skerry_hub"


def _counter(name: str, about: str, *labels: str) -> Metric:
    return Metric(f"{_P}_{name}", "counter", about, labels)


def _gauge(name: str, about: str, *labels: str) -> Metric:
    return Metric(f"{_P}_{name}", "gauge", about, labels)


METRICS = (
    _gauge("broker_connected", "1 while the connection to the broker for states is up"),
    _counter("broker_connects_total", "connections to the broker made"),
    _counter("broker_disconnects_total", "connections to the broker lost"),
    _gauge("devices", "devices that this replica serves"),
    _gauge("sessions", "sessions by state: away, greeted, live", "state"),
    _gauge("sessions_held", "devices whose set is of another store or epoch: they wait for skerry-hub adopt"),
    _gauge("sessions_drifting", "devices that are known not to have what they should have, those in holdover included"),
    _gauge("sessions_deaf", "devices that flooded the hub and are not listened to now"),
    _gauge("queue_frames", "frames of devices that wait to be read, over all sessions"),
    _gauge("queue_frames_peak", "most frames that ever waited in one session"),
    _counter("frames_received_total", "frames of devices, dropped ones included"),
    _counter("frames_sent_total", "frames handed to the broker"),
    _counter("received_bytes_total", "bytes of frames received, MQTT payload without streams"),
    _counter("sent_bytes_total", "bytes of frames sent, MQTT payload without streams"),
    _counter("frames_dropped_total", "dropped: queue, credit, hello, malformed, too_large, refused, replayed", "cause"),
    _counter("frames_stray_total", "messages on topics of no device"),
    _counter("hellos_total", "Hellos taken: sessions begun, reconnects included"),
    _counter("sessions_lost_total", "sessions that ended"),
    _counter("floods_total", "times that a device was not listened to for a while"),
    _counter("rejects_sent_total", "frames answered by Reject"),
    _counter("rejects_received_total", "changes that a device rejected"),
    _counter("session_crashes_total", "failures of a session's task; each is a bug"),
    _counter("reports_stored_total", "items of Reports that the API has stored"),
    _counter("reports_dropped_total", "items of Reports that were not stored, by cause", "cause"),
    _counter("status_patches_total", "patches of pod status"),
    _counter("events_total", "Events written"),
    _counter("pod_deletions_total", "deletes of pods finished with grace 0"),
    _counter("report_retries_total", "writes of reports tried again"),
    _gauge("streams_open", "streams open now"),
    _gauge("stream_lanes", "devices whose connection for streams is up"),
    _counter("streams_opened_total", "streams that a device accepted"),
    _counter("streams_refused_total", "streams that a device refused"),
    _counter("streams_broken_total", "streams that ended otherwise than well"),
    _counter("stream_received_bytes_total", "bytes that devices sent on streams"),
    _counter("stream_sent_bytes_total", "bytes sent to devices on streams"),
    _counter("stream_frames_malformed_total", "frames on connections for streams that do not parse"),
    _counter("stream_frames_stray_total", "frames of streams that are over"),
    _counter("stream_frames_refused_total", "frames of streams that no device made, or that came before"),
    _gauge("endpoint_nodes", "devices whose logs and exec are served here"),
    _gauge("endpoint_connections", "connections to the endpoint that are open"),
    _counter("endpoint_requests_total", "requests to the endpoint"),
    _counter("endpoint_requests_refused_total", "requests refused: unauthorized, forbidden, wrong", "cause"),
    _counter("endpoint_streams_total", "streams opened towards devices for the endpoint's clients"),
    _counter("endpoint_streams_broken_total", "of these, ended otherwise than well while the client was there"),
    _counter("endpoint_malformed_total", "connections ended because their bytes do not parse"),
    _counter("enrolments_total", "requests of devices that were answered with certificates"),
    _counter("certificate_renewals_total", "requests of enrolled devices that were answered with certificates"),
    _counter("enrolments_refused_total", "others: refused, limited (too many of them), failed (API away)", "cause"),
    _gauge("enrolment_connections", "connections to the enrolment server that are open"),
    _counter("enrolment_connections_refused_total", "connections turned away, because there were too many"),
    _counter("api_requests_total", "requests to the Kubernetes API; code none: no reply came", "verb", "code"),
    _gauge("informer_synced", "1 while the collection follows the API without a gap", "resource"),
    _gauge("informer_objects", "objects in the collection", "resource"),
    _gauge("informer_silence_seconds", "time since the API was last heard, bookmarks included", "resource"),
    _counter("informer_lists_total", "lists of the collection", "resource"),
    _counter("informer_watches_total", "watches of the collection opened", "resource"),
    _counter("informer_failures_total", "lists and watches that failed", "resource"),
    _gauge("leases", "Leases of devices that are kept"),
    _counter("lease_renewals_total", "Leases of devices renewed"),
    _gauge("replicas", "replicas alive, this one included; 0 without --replica"),
    _gauge("device_live", "1 while the device's Node shows it live", "node"),
    _gauge("device_certificate_end_seconds", "until when the device's certificates are valid, since 1970", "node"),
    _gauge("device_queue_frames", "frames of the device that wait", "node"),
    _gauge("device_drift", "1 while the device is known not to have what it should have", "node"),
    _gauge(
        "device_outbox_age_seconds",
        "how long the oldest report of the device that the API has not stored has waited; nothing while it is away",
        "node",
    ),
    _counter("device_frames_dropped_total", "frames of the device that were dropped, whatever the cause", "node"),
    _counter("device_received_bytes_total", "bytes of the device's frames, MQTT payload without streams", "node"),
    _counter("device_sent_bytes_total", "bytes of frames sent to the device, MQTT payload without streams", "node"),
    _gauge("devices_without_own_metrics", "devices beyond the bound of metrics with a device's name"),
)  # fmt: skip


def text(snapshot: Snapshot, requests: Requests) -> bytes:
    """The whole exposition."""
    return exposition.text(METRICS, samples(snapshot, requests))


def samples(snapshot: Snapshot, requests: Requests) -> dict[str, Any]:
    """Values by metric."""
    plain = _sessions(snapshot) | _reports(snapshot) | _streams(snapshot["streams"]) | _api(snapshot)
    plain |= _endpoint(snapshot["kubelet"]) if "kubelet" in snapshot else {}
    plain |= _enrolment(snapshot["enrolment"]) if "enrolment" in snapshot else {}
    plain["api_requests_total"] = dict(sorted(requests.items()))
    return {f"{_P}_{name}": value for name, value in (plain | _devices(snapshot["devices"])).items()}


def _sessions(snapshot: Snapshot) -> dict[str, Any]:
    devices, total, broker = list(snapshot["devices"].values()), snapshot["total"], snapshot["broker"]
    return {
        "broker_connected": int(snapshot["connected"]),
        "broker_connects_total": broker["connects"],
        "broker_disconnects_total": broker["disconnects"],
        "frames_stray_total": broker["strays"],
        "devices": len(devices),
        "sessions": {(s,): sum(d["state"] == s for d in devices) for s in ("away", "greeted", "live")},
        "sessions_held": sum(d["held"] for d in devices),
        "sessions_drifting": sum(d["drift"] is True for d in devices),
        "sessions_deaf": sum(not d["listening"] for d in devices),
        "queue_frames": sum(d["queue"] for d in devices),
        "queue_frames_peak": total["queue_peak"],
        "frames_received_total": total["frames"],
        "frames_sent_total": total["sent"],
        "received_bytes_total": total["bytes_in"],
        "sent_bytes_total": total["bytes_out"],
        "frames_dropped_total": {(cause,): total[name] for cause, name in _DROPS.items()},
        "hellos_total": total["hellos"],
        "sessions_lost_total": total["lost"],
        "floods_total": total["floods"],
        "rejects_sent_total": total["rejects"],
        "rejects_received_total": total["rejected"],
        "session_crashes_total": total["crashes"],
    }


def _reports(snapshot: Snapshot) -> dict[str, Any]:
    reports = snapshot["reports"]
    return {
        "reports_stored_total": reports["stored"],
        "reports_dropped_total": {(cause,): reports[cause] for cause in _REPORTS_DROPPED},
        "status_patches_total": reports["patches"],
        "events_total": reports["events"],
        "pod_deletions_total": reports["deletions"],
        "report_retries_total": reports["retried"],
    }


def _streams(streams: Mapping[str, int]) -> dict[str, Any]:
    return {
        "streams_open": streams["open"],
        "stream_lanes": streams["lanes"],
        "streams_opened_total": streams["opened"],
        "streams_refused_total": streams["refused"],
        "streams_broken_total": streams["broken"],
        "stream_received_bytes_total": streams["bytes_in"],
        "stream_sent_bytes_total": streams["bytes_out"],
        "stream_frames_malformed_total": streams["malformed"],
        "stream_frames_stray_total": streams["strays"],
        "stream_frames_refused_total": streams["unopened"],
    }


def _endpoint(counts: Mapping[str, int]) -> dict[str, Any]:
    """Of the kubelet endpoint, where this hub serves one."""
    return {
        "endpoint_nodes": counts["nodes"],
        "endpoint_connections": counts["connections"],
        "endpoint_requests_total": counts["requests"],
        "endpoint_requests_refused_total": {(c,): counts[c] for c in ("unauthorized", "forbidden", "wrong")},
        "endpoint_streams_total": counts["streams"],
        "endpoint_streams_broken_total": counts["broken"],
        "endpoint_malformed_total": counts["malformed"],
    }


def _enrolment(counts: Mapping[str, int]) -> dict[str, Any]:
    """Of the enrolment server, where this hub has one."""
    return {
        "enrolments_total": counts["enrolled"],
        "certificate_renewals_total": counts["renewed"],
        "enrolments_refused_total": {(c,): counts[c] for c in ("refused", "limited", "failed")},
        "enrolment_connections": counts["connections"],
        "enrolment_connections_refused_total": counts["turned_away"],
    }


def _api(snapshot: Snapshot) -> dict[str, Any]:
    def each(name: str) -> dict[tuple[str, ...], float]:
        return {(plural,): float(informer[name]) for plural, informer in snapshot["api"].items()}

    return {
        "informer_synced": each("synced"),
        "informer_objects": each("objects"),
        "informer_silence_seconds": each("silent_s"),
        "informer_lists_total": each("lists"),
        "informer_watches_total": each("watches"),
        "informer_failures_total": each("failures"),
        "leases": snapshot["leases"]["kept"],
        "lease_renewals_total": snapshot["leases"]["renewals"],
        "replicas": len(snapshot["replicas"]),
    }


def _devices(devices: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    shown = {(name,): device for name, device in list(devices.items())[:DEVICES_SHOWN_MAX]}
    return {
        "device_live": {node: int(d["live"]) for node, d in shown.items()},
        "device_certificate_end_seconds": {
            node: d["certificate_end_s"] for node, d in shown.items() if d.get("certificate_end_s")
        },
        "device_queue_frames": {node: d["queue"] for node, d in shown.items()},
        "device_drift": {node: int(d["drift"]) for node, d in shown.items() if d["drift"] is not None},
        "device_outbox_age_seconds": {
            node: d["outbox_age_s"] for node, d in shown.items() if d["outbox_age_s"] is not None
        },
        "device_frames_dropped_total": {node: sum(d[n] for n in _DROPS.values()) for node, d in shown.items()},
        "device_received_bytes_total": {node: d["bytes_in"] for node, d in shown.items()},
        "device_sent_bytes_total": {node: d["bytes_out"] for node, d in shown.items()},
        "devices_without_own_metrics": len(devices) - len(shown),
    }
