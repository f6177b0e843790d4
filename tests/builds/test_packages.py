"""The real packages: at work on an emulated board, clean for lintian, and built by who is not root.

Needs the network once (compiler, sysroots, wheels: some 150 MB), so `make deb-test` runs these and nothing else does.
That they are equal twice is `make reproduce`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from builds.build_places import ENGINE

ROOT = ENGINE.parent
pytestmark = [
    pytest.mark.slow_build,
    pytest.mark.skipif(not os.environ.get("SKERRY_SLOW_BUILD"), reason="make deb-test"),
]


def built(unit: str, out: Path) -> Path:
    """The outputs of a unit, from the store of this user where it has them."""
    argv = [sys.executable, "-m", "crossbuild", "build", unit, "--root", "tests", "--out", str(out)]
    env = {**os.environ, "PYTHONPATH": str(ENGINE)}
    done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out / unit.partition(":")[0]


# Ubuntu's Python 3.10 for ARM is in no Debian suite, so that one cannot run here.
@pytest.mark.parametrize("target", ["aarch64-bookworm", "aarch64-trixie", "armhf-bookworm"])
def test_the_agent_works_on_an_emulated_board(target: str, tmp_path: Path) -> None:
    """Every module is imported, the commands start, the native modules pass their tests at both speeds."""
    said = (built(f"tests:agent-emulated@{target}", tmp_path) / f"agent-emulated-{target}.txt").read_text()
    assert "usage: skerry" in said
    assert "'compiled': " in said


@pytest.mark.parametrize("target", ["aarch64-bookworm", "aarch64-trixie", "amd64-bookworm", "amd64-trixie"])
def test_the_hub_works_on_an_emulated_machine(target: str, tmp_path: Path) -> None:
    said = (built(f"tests:hub-emulated@{target}", tmp_path) / f"hub-emulated-{target}.txt").read_text()
    assert "usage: skerry-hub" in said
    assert re.search(r"^\d+ modules, [1-9]\d* native, ", said)


@pytest.mark.skipif(shutil.which("lintian") is None, reason="needs the Debian package lintian")
@pytest.mark.parametrize(
    "unit",
    [
        *(
            f"agent:deb@{target}"
            for target in ("aarch64-bookworm", "aarch64-trixie", "aarch64-jammy", "armhf-bookworm")
        ),
        *(f"hub:deb@{target}" for target in ("aarch64-bookworm", "aarch64-trixie", "amd64-bookworm", "amd64-trixie")),
    ],
)
def test_lintian_has_nothing_to_say(unit: str, tmp_path: Path) -> None:
    (deb,) = built(unit, tmp_path).glob("*/*.deb")
    done = subprocess.run(["lintian", "--tag-display-limit", "0", deb], capture_output=True, text=True, check=False)
    assert [line for line in done.stdout.splitlines() if line.startswith(("E:", "W:"))] == []
