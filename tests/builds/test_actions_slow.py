"""The real packages: built from the locks, equal twice, clean for lintian, and at work on an emulated board.

Needs the network once (compiler, sysroots, wheels: some 150 MB), so `make deb-test` runs these and nothing else does.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.slow_build,
    pytest.mark.skipif(not os.environ.get("SKERRY_SLOW_BUILD"), reason="make deb-test"),
]
# Ubuntu's Python 3.10 for ARM is in no Debian suite, so that one cannot run here.
EMULATED = ["aarch64-bookworm", "aarch64-trixie", "armhf-bookworm"]


def made(out: Path, target: str, *words: str, umask: int = 0o022) -> Path:
    argv = [sys.executable, "cross-build/make_deb.py", "--target", target, "--out", str(out), *words]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, umask=umask)
    assert done.returncode == 0, done.stdout + done.stderr
    (deb,) = out.glob("*.deb")
    return deb


@pytest.mark.parametrize("target", [*EMULATED, "aarch64-jammy"])
def test_a_package_is_equal_with_another_umask_and_a_cold_compiler(target: str, tmp_path: Path) -> None:
    first = made(tmp_path / "one", target)
    second = made(tmp_path / "two", target, "--cold", umask=0o077)
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("target", EMULATED)
def test_a_package_works_on_an_emulated_board(target: str, tmp_path: Path) -> None:
    """Every module is imported, the commands start, the native modules pass their tests at both speeds."""
    deb = made(tmp_path, target)
    argv = [
        sys.executable,
        "cross-build/emulated.py",
        "--target",
        target,
        "--deb",
        str(deb),
        "--hypothesis-profile=few",
    ]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "usage: skerry" in done.stdout
    assert "'compiled': " in done.stdout


@pytest.mark.skipif(shutil.which("lintian") is None, reason="needs the Debian package lintian")
@pytest.mark.parametrize(
    ("package", "target"),
    [("skerry", "aarch64-bookworm"), ("skerry-hub", "aarch64-bookworm"), ("skerry-hub", "amd64-bookworm")],
)
def test_lintian_has_nothing_to_say(package: str, target: str, tmp_path: Path) -> None:
    deb = made(tmp_path, target, "--package", package)
    done = subprocess.run(["lintian", "--tag-display-limit", "0", deb], capture_output=True, text=True, check=False)
    said = [line for line in done.stdout.splitlines() if line.startswith(("E:", "W:"))]
    assert said == []
