"""A node's stats summary as Prometheus text: what metrics-server and `kubectl top` read at /metrics/resource. Pure.

Names and labels are the kubelet's (pkg/kubelet/metrics/collectors/resource_metrics.go). What is missing is left out.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator, Mapping
from typing import Any

TYPE = "text/plain; version=0.0.4; charset=utf-8"
_METRICS = (
    ("container_cpu_usage_seconds_total", "counter", "CPU time of the container in core-seconds"),
    ("container_memory_working_set_bytes", "gauge", "Working set of the container in bytes"),
    ("container_start_time_seconds", "gauge", "Start of the container since 1970 in seconds"),
    ("node_cpu_usage_seconds_total", "counter", "CPU time of the node in core-seconds"),
    ("node_memory_working_set_bytes", "gauge", "Working set of the node in bytes"),
    ("pod_cpu_usage_seconds_total", "counter", "CPU time of the pod in core-seconds"),
    ("pod_memory_working_set_bytes", "gauge", "Working set of the pod in bytes"),
)
_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(\.\d+)?Z")
Sample = tuple[str, str, float, str]  # name, labels, value, timestamp


def text(summary: Mapping[str, Any]) -> bytes:
    """The exposition of a summary (stats.v1alpha1.Summary as JSON). Fields of another type are left out."""
    samples: dict[str, list[str]] = {}
    for name, labels, value, at in _samples(summary):
        shown = f"{value:.9f}".rstrip("0").rstrip(".")
        samples.setdefault(name, []).append(f"{name}{labels} {shown}{' ' + at if at else ''}\n")
    out = []
    for name, kind, say in _METRICS:
        if name in samples:
            out += [f"# HELP {name} {say}\n# TYPE {name} {kind}\n", *samples[name]]
    error = "resource_scrape_error"
    out.append(f"# HELP {error} 1 if the metrics could not be had\n# TYPE {error} gauge\n{error} 0\n")
    return "".join(out).encode()


def _samples(summary: Mapping[str, Any]) -> Iterator[Sample]:
    yield from _usage("node", "", _dict(summary.get("node")))
    for pod in _list(summary.get("pods")):
        ref = _dict(pod.get("podRef"))
        whose = {"namespace": ref.get("namespace"), "pod": ref.get("name")}
        yield from _usage("pod", _labels(whose), pod)
        for container in _list(pod.get("containers")):
            labels = _labels({"container": container.get("name"), **whose})
            yield from _usage("container", labels, container)
            started = _seconds(container.get("startTime"))
            if started is not None:
                yield "container_start_time_seconds", labels, started, ""


def _usage(what: str, labels: str, of: Mapping[str, Any]) -> Iterator[Sample]:
    for part, field, name, scale in (
        ("cpu", "usageCoreNanoSeconds", "cpu_usage_seconds_total", 1e-9),
        ("memory", "workingSetBytes", "memory_working_set_bytes", 1.0),
    ):
        shown = _dict(of.get(part))
        value, at = shown.get(field), _seconds(shown.get("time"))
        if isinstance(value, int) and not isinstance(value, bool):
            yield f"{what}_{name}", labels, value * scale, "" if at is None else str(int(at * 1000))


def _labels(pairs: Mapping[str, Any]) -> str:
    def quoted(value: Any) -> str:
        return str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    return "{" + ",".join(f'{name}="{quoted(value)}"' for name, value in sorted(pairs.items())) + "}"


def _seconds(value: Any) -> float | None:
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return None
    whole = calendar.timegm((*(int(part) for part in found.groups()[:6]), 0, 0, 0))
    return whole + float(found.group(7) or 0)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
