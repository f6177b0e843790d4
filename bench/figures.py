"""`python -m bench.figures REPORT.json…`: the rows of one or more reports as a Markdown table for docs/figures.md."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


def lines(reports: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The table; a group that several reports measured is taken from the last of them."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for report in reports:
        for group in dict.fromkeys(row["group"] for row in report["rows"]):
            groups[group] = [row for row in report["rows"] if row["group"] == group]
    yield "| figure | value | beside | ratio | |"
    yield "|---|---|---|---|---|"
    for rows in groups.values():
        for row in rows:
            peer = "" if row["peer"] is None else f"{row['peer_name']} {row['peer']:.4g}"
            ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
            name = row["name"].replace("  ", "· ")
            yield f"| {row['group']}: {name} | {row['value']:.4g} {row['unit']} | {peer} | {ratio} | {row['note']} |"


if __name__ == "__main__":
    print("\n".join(lines([json.loads(Path(path).read_text()) for path in sys.argv[1:]])))
