"""A measured row, the table that people read, the JSON that programs read, and the SVG bars. Measures nothing."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One figure beside its peer or limit. `ratio` is value / peer; `better` says which side of 1 is good."""

    group: str
    name: str
    value: float
    unit: str
    peer_name: str = ""
    peer: float | None = None
    better: str = "lower"
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return self.value / self.peer if self.peer else None


def machine() -> dict[str, Any]:
    return {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": [round(x, 2) for x in os.getloadavg()],
    }


def table(rows: Sequence[Row]) -> list[str]:
    """Lines of equal columns."""
    head = ("figure", "value", "unit", "beside", "peer", "ratio", "")
    cells = [head]
    for r in rows:
        peer = "" if r.peer is None else f"{r.peer:.4g}"
        ratio = "" if r.ratio is None else f"{r.ratio:.2f}"
        cells.append((f"{r.group}: {r.name}", f"{r.value:.4g}", r.unit, r.peer_name, peer, ratio, r.note))
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    return ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells]


def write(rows: Sequence[Row], folder: Path) -> None:
    """report.json and one SVG per group."""
    folder.mkdir(parents=True, exist_ok=True)
    data = {"machine": machine(), "rows": [{**asdict(r), "ratio": r.ratio} for r in rows]}
    (folder / "report.json").write_text(json.dumps(data, indent=1) + "\n")
    for group in dict.fromkeys(r.group for r in rows):
        (folder / f"{group}.svg").write_text(svg(group, [r for r in rows if r.group == group]))


BAR, WIDTH, LEFT = 18, 420, 330


def svg(title: str, rows: Sequence[Row]) -> str:
    """Horizontal bars: ours in blue, the peer in grey, each pair on its own scale."""
    out, y = [f'<text x="8" y="20" font-size="14" font-weight="bold">{title}</text>'], 34
    for r in rows:
        top = max(r.value, r.peer or 0.0) or 1.0
        bars = [(r.value, "#2b6cb0", f"{r.value:.4g} {r.unit}", r.name)]
        if r.peer is not None:
            bars.append((r.peer, "#a0aec0", f"{r.peer:.4g} {r.unit}", r.peer_name))
        for value, colour, label, name in bars:
            width = max(1, int(WIDTH * value / top))
            out.append(f'<text x="{LEFT - 8}" y="{y + 13}" text-anchor="end">{name}</text>')
            out.append(f'<rect x="{LEFT}" y="{y}" width="{width}" height="{BAR - 4}" fill="{colour}"/>')
            out.append(f'<text x="{LEFT + width + 6}" y="{y + 12}">{label}</text>')
            y += BAR
        y += 8
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="900" height="{y}" font-family="sans-serif" font-size="11">'
    return head + '<rect width="100%" height="100%" fill="white"/>' + "".join(out) + "</svg>\n"


def progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
