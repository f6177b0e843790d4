"""Words for the tests of a board's own scripts: a boot, in which one meets the boot partition as it is there."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

# A mount of its own, read-only. What is on it at the end is copied back.
BOARD = """
mounted=$1 card=$2 left=$3 after=$4; shift 4
mount -t tmpfs boot "$mounted" && cp "$card"/. "$mounted" -r && mount -o remount,ro "$mounted" || exit 99
script=$1; shift
"$script" "$mounted" "$@"; ended=$?
touch "$mounted/x" 2>/dev/null && exit 98
cp -r "$mounted/." "$left"
$after
exit $ended
"""
UNSHARE = ["unshare", "--map-root-user", "--uts", "--mount"]


def boot(card: Path, folder: Path, script: Path, *more: Path, after: str = "") -> subprocess.CompletedProcess[str]:
    """Run `script PARTITION MORE...`; the partition begins with the files of `card`, which are then those it ends with.

    `folder` is for what has to lie somewhere; the command `after` is run in the same namespaces. A script that leaves
    the partition writable fails the test.
    """
    mounted, left = folder / "boot", folder / "left"
    mounted.mkdir(exist_ok=True)
    left.mkdir()
    argv = [*UNSHARE, "sh", "-c", BOARD, "sh", *map(str, (mounted, card, left)), after, *map(str, (script, *more))]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60, cwd=folder)
    assert done.returncode not in (98, 99), done.stderr
    shutil.rmtree(card)
    left.rename(card)
    return done


def needs_namespaces(folder: Path) -> Path:
    """`folder`, or the test is skipped."""
    if subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine gives no namespaces")
    return folder
