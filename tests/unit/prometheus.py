"""Prometheus text read by the client library's parser, and held against a table of metrics."""

from __future__ import annotations

import re
from collections.abc import Iterable

from prometheus_client.parser import text_string_to_metric_families

from skerry.exposition import Metric

Found = dict[str, dict[tuple[str, ...], float]]


def read(served: bytes, metrics: Iterable[Metric]) -> Found:
    """Values by metric and labels. Asserts that each one is in the table, of its type, with its labels, once."""
    table = {m.name: m for m in metrics}
    out: Found = {}
    for family in text_string_to_metric_families(served.decode()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        metric = table[name]
        assert (family.type, family.documentation) == (metric.kind, metric.about)
        assert name not in out, f"{name} is told twice"
        rows = out[name] = {}
        for sample in family.samples:
            assert sample.name == name
            assert tuple(sample.labels) == metric.labels
            labels = tuple(sample.labels.values())
            assert labels not in rows
            rows[labels] = sample.value
    return out


def wrong_names(metrics: Iterable[Metric], prefix: str) -> list[str]:
    """Those that break the conventions of Prometheus, "Metric and label naming"."""
    wrong = []
    for m in metrics:
        counts = m.name.endswith("_total")
        good = re.fullmatch(rf"{prefix}(_[a-z]+)+", m.name) and counts == (m.kind == "counter")
        units = not re.search(r"_(ms|kib|mib|minutes|kilobytes)(_|$)", m.name)
        if not (good and units and m.about and "|" not in m.about and "\n" not in m.about):
            wrong.append(m.name)
    return wrong
