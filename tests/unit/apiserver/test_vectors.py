"""The server behaves as a real one was recorded to: every scenario of this issue's kinds and verbs, texts included."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from unit.apiserver.serving import Client
from vectors import replay

FOLDER = Path(replay.__file__).parent
SCENARIOS = {f"{s['theme']}: {s['name']}": s for s in replay.load([str(FOLDER / "kubernetes")])}
LATER: dict[str, list[str]] = json.loads((FOLDER / "later.json").read_text())
POSTPONED = [name for names in LATER.values() for name in names]
NOW = [name for name in SCENARIOS if name not in POSTPONED]
# What a scenario of a later issue is recognised by. Nothing else may be put off.
MARKS = (
    "/apis/apps/", "/apis/batch/", "/apis/autoscaling", "rbac.authorization.k8s.io", "authorization.k8s.io",
    "authentication.k8s.io", "apiextensions.k8s.io", "apply-patch+yaml", "/services", "/eviction", "/token", "/log",
    '"as": "nobody"', '"managedFields"', '"controllers"', '"scheduler"', '"name": "bindings"',
    '"resource": "bindings"',
)  # fmt: skip


@pytest.mark.parametrize("name", NOW)
def test_a_recorded_scenario_replays(api: Client, name: str) -> None:
    server = replay.Server(api.at.url, str(api.data / "ca.crt"), None, None, api.token)
    run = replay.Run(server, SCENARIOS[name], messages=True)
    try:
        run.go()
    except replay.Mismatch as why:
        got = json.dumps(why.got, ensure_ascii=False)[:2000]
        want = json.dumps(why.want, ensure_ascii=False)[:2000]
        pytest.fail(f"step {run.number} {why.path}:\n  recorded {want}\n  got      {got}", pytrace=False)
    assert run.extra == [], "fields that the real server does not send"


def test_every_scenario_is_replayed_or_put_off_for_a_reason() -> None:
    assert len(POSTPONED) == len(set(POSTPONED))
    assert sorted([*NOW, *POSTPONED]) == sorted(SCENARIOS)
    assert len(NOW) >= 140


@pytest.mark.parametrize("name", POSTPONED)
def test_what_is_put_off_needs_something_of_a_later_issue(name: str) -> None:
    scenario: dict[str, Any] = SCENARIOS[name]
    text = json.dumps({key: scenario.get(key) for key in ("steps", "setup", "needs")})
    assert any(mark in text for mark in MARKS)
