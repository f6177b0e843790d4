"""bench/ does not rot: its short form measures groups on real parts and writes what it promises. The groups of the
whole chain and of the hub take minutes and stay with `make bench`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.__main__ import GROUPS

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.e2e
def test_the_short_bench_gives_rows_of_every_group_and_plots(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}"}
    groups = [group for group in GROUPS if group not in ("streams", "hub")]
    only = [word for group in groups for word in ("--only", group)]
    argv = [sys.executable, "-m", "bench", "--quick", *only, "--out", str(tmp_path)]
    done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "report.json").read_text())["rows"]
    assert {row["group"] for row in rows} == set(groups)
    assert all(row["name"] in done.stdout and row["unit"] for row in rows)
    for group in groups:
        assert ElementTree.parse(tmp_path / f"{group}.svg").getroot().tag.endswith("svg")
