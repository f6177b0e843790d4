"""What the server counts, as Prometheus text. Pure; knows the counters' names and nothing else.

Source: the Prometheus text exposition format 0.0.4.
"""

from __future__ import annotations

TYPE = "text/plain; version=0.0.4; charset=utf-8"


def text(counters: dict[str, int], gauges: dict[str, int]) -> bytes:
    """Counters and gauges under `skerry_api_`."""
    lines = []
    for kind, values in (("counter", counters), ("gauge", gauges)):
        for name, value in values.items():
            lines += [f"# TYPE skerry_api_{name} {kind}", f"skerry_api_{name} {value}"]
    return ("\n".join(lines) + "\n").encode()
