"""Figures as Prometheus text: a table says which there are, samples say their values. Pure; knows no figure itself.

Source: the Prometheus text exposition format 0.0.4, and "Metric and label naming" of its documentation: counters end in
_total, units are base units in the name. Both the device and the hub serve this; docs/decisions/0009 says why by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

TYPE = "text/plain; version=0.0.4; charset=utf-8"
Labels = tuple[str, ...]
Samples = Mapping[str, "float | Mapping[Labels, float]"]  # by metric; a plain number where it has no labels


@dataclass(frozen=True, slots=True)
class Metric:
    """One row: `kind` is counter or gauge, `about` one line for people, `labels` the names of its labels."""

    name: str
    kind: str
    about: str
    labels: Labels = ()


def text(metrics: Iterable[Metric], samples: Samples) -> bytes:
    """The exposition, in the table's order. A metric without a sample is left out; one that is not in the table is a
    bug."""
    out: list[str] = []
    known = set()
    for metric in metrics:
        known.add(metric.name)
        said = samples.get(metric.name)
        if said is None:
            continue
        rows = said.items() if isinstance(said, Mapping) else [((), said)]
        out.append(f"# HELP {metric.name} {metric.about}\n# TYPE {metric.name} {metric.kind}\n")
        out += [f"{metric.name}{_labels(metric, values)} {_number(value)}\n" for values, value in rows]
    assert known.issuperset(samples), f"not in the table: {sorted(samples.keys() - known)}"
    return "".join(out).encode()


def page(title: str, intro: Iterable[str], metrics: Iterable[Metric]) -> list[str]:
    """The table for people, as lines of Markdown."""
    rows = [f"| `{m.name}` | {m.kind} | {', '.join(f'`{label}`' for label in m.labels)} | {m.about} |" for m in metrics]
    return [f"## {title}", "", *intro, "", "| metric | type | labels | what it is |", "|---|---|---|---|", *rows, ""]


def _labels(metric: Metric, values: Labels) -> str:
    if not values:
        return ""
    pairs = zip(metric.labels, values, strict=True)
    return "{" + ",".join(f'{name}="{_quoted(value)}"' for name, value in pairs) + "}"


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:.6f}".rstrip("0")
