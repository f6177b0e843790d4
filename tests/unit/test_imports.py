"""The import contracts of pyproject.toml hold, and each of them notices a violation."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLANTED = {  # what a contract is called → (file, line that breaks it)
    "The device's layers": ("agent/skerry/model/report.py", "import skerry.ports"),
    "The runtimes know the seams": ("agent/skerry/containerd/convert.py", "import skerry.plan.backoff"),
    "The core is pure": ("agent/skerry/plan/backoff.py", "import random"),
    "A pod never waits": ("agent/skerry/loops/watch.py", "import skerry.wire.session"),
    "Generated stubs": ("agent/skerry/world/clock.py", "import skerry.containerd.stubs.cri"),
    "The hub uses the wire": ("hub/skerry_hub/limits.py", "import skerry.journal.outbox"),
    "The device knows nothing": ("agent/skerry/cli.py", "import skerry_hub.limits"),
    "Enrolment needs no broker": ("hub/skerry_hub/enrolment/judge.py", "import skerry.world.mqtt_values"),
    "The hub's parts": ("hub/skerry_hub/apiserver/limits.py", "import skerry_hub.cloudhub.session"),
}


def lint(root: Path) -> str:
    """Its output, one line for each contract that is not cut in the middle by the terminal's width."""
    path = os.pathsep.join(str(root / part) for part in ("agent", "hub", "native"))
    code = "from importlinter.cli import lint_imports_command as main; main()"
    argv = [sys.executable, "-c", code, "--no-cache", "--config", str(ROOT / "pyproject.toml")]
    env = {**os.environ, "PYTHONPATH": path, "COLUMNS": "200", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(argv, cwd=root, env=env, text=True, capture_output=True, check=False).stdout


def copied(to: Path) -> Path:
    for part in ("agent", "hub", "native"):
        shutil.copytree(ROOT / part, to / part, ignore=shutil.ignore_patterns("__pycache__", "*.so", "build"))
    return to


def test_every_contract_is_kept() -> None:
    said = lint(ROOT)
    assert re.search(rf"Contracts: {len(PLANTED)} kept, 0 broken", said), said


def test_every_contract_notices_a_violation(tmp_path: Path) -> None:
    root = copied(tmp_path)
    for file, line in PLANTED.values():
        with (root / file).open("a") as out:
            out.write(f"\n{line}\n")
    said = lint(root)
    for name in PLANTED:
        assert re.search(rf"^{re.escape(name)}.* BROKEN", said, re.MULTILINE), (name, said)
