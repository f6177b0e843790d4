"""A device's stats as /metrics/resource, read by Prometheus' own parser as metrics-server reads it."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from skerry_hub.kubelet import metrics
from unit.kubelet.local_streams import SUMMARY

Row = tuple[dict[str, str], float, float | None]


def read(summary: dict[str, Any]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for family in text_string_to_metric_families(metrics.text(summary).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value, sample.timestamp))  # type: ignore[arg-type]
    return found


def test_what_metrics_server_wants_is_there() -> None:
    """Its decoder takes node, pod and container figures by these names and labels, with the time of the sample."""
    at, found = 1767225600.0, read(SUMMARY)
    whose = {"container": "a", "namespace": "default", "pod": "web"}
    assert found["node_cpu_usage_seconds_total"] == [({}, 2.5, at)]
    assert found["node_memory_working_set_bytes"] == [({}, 4096, at)]
    assert found["container_cpu_usage_seconds_total"] == [(whose, 0.9, at)]
    assert found["container_memory_working_set_bytes"] == [(whose, 1000, at)]
    assert found["container_start_time_seconds"] == [(whose, at + 1, None)]
    assert found["pod_cpu_usage_seconds_total"] == [({"namespace": "default", "pod": "web"}, 1.0, at)]
    assert found["resource_scrape_error"] == [({}, 0, None)]


@pytest.mark.parametrize("summary", [{}, {"node": []}, {"node": {"cpu": 3}, "pods": [None, {"containers": {}}]}])
def test_what_is_missing_is_left_out(summary: dict[str, Any]) -> None:
    assert list(read(summary)) == ["resource_scrape_error"]
