"""`skerry doctor`: is this board fit to run pods? `facts` reads what is, `decide` says what it means; this file prints.

Imported by its own command only, so that it costs the agent nothing. Changes nothing, and needs root for little.
"""

from __future__ import annotations

from typing import Any

from skerry.config import Config
from skerry.doctor.decide import Check, Verdict, checks
from skerry.doctor.facts import look


def examine(config: Config) -> dict[str, Any]:
    """A report as of inspect_journal, and under "good" whether nothing failed."""
    found = checks(look(config))
    good = all(check.verdict is not Verdict.FAIL for check in found)
    return {"lines": [line for check in found for line in _lines(check)], "data": _data(found, good), "good": good}


def _lines(check: Check) -> list[str]:
    line = f"{check.verdict.value:<5} {check.name:<9} {check.why}"
    return [line, f"{'':<15} cure: {check.cure}"] if check.cure else [line]


def _data(found: tuple[Check, ...], good: bool) -> dict[str, Any]:
    listed = [{"name": c.name, "verdict": c.verdict.value, "why": c.why, "cure": c.cure} for c in found]
    return {"good": good, "checks": listed}
