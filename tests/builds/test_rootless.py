"""A unit that asks for root, built by a user who is not root: in a user namespace, with ids that the machine grants."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from builds.build_places import ENGINE, NOBODY, give, needs_sandbox

UNIT = """
[workspace]
name = "probe"

[unit.look]
inputs = ["seen.txt"]
tools = ["debian:busybox-static", "debian:coreutils", "debian:dash", "debian:mount"]
command = ["sh", "-c", '''
{
id -u
mkdir -p tree/bin tree/proc && cp /usr/bin/busybox tree/bin
chown 33:44 tree/bin && stat -c %u:%g tree/bin
mount -t proc proc tree/proc && chroot tree /bin/busybox test -e /proc/self && echo in the chroot
umount tree/proc
mkdir tree/closed && chown 77:77 tree/closed && chmod 700 tree/closed
} > out.txt
''']
root = true
outputs = ["out.txt"]
"""
# Grants ids to one user in a mount namespace of its own: the machine's files stay as they are.
GRANTED = """
mount --bind "$1" /etc/subuid && mount --bind "$1" /etc/subgid || exit 99
shift
exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"
"""


@needs_sandbox
@pytest.mark.skipif(os.geteuid() != 0, reason="granting ids is for root")
@pytest.mark.skipif(shutil.which("newuidmap") is None, reason="apt-get install uidmap")
def test_another_user_builds_it_with_granted_ids_and_can_clean_up_after_it(open_tmp: Path) -> None:
    place, granted = open_tmp / "probe", open_tmp / "granted"
    granted.write_text("nobody:400000:65536\n")
    place.mkdir()
    (place / "build.toml").write_text(UNIT)
    (place / "seen.txt").write_text("seen\n")
    shutil.copytree(ENGINE / "crossbuild", open_tmp / "engine/crossbuild")
    (open_tmp / "cache").mkdir()
    for folder in (place, open_tmp / "cache", open_tmp / "engine"):
        give(folder, NOBODY)
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", GRANTED, "sh", str(granted), "/usr/bin/python3", "-B", "-m", "crossbuild",
         "build", "probe:look", "--root", str(place), "--cache", str(open_tmp / "cache"), "--out",
         str(open_tmp / "cache/out"), "--output", "json"],
        env={**os.environ, "PYTHONPATH": str(open_tmp / "engine"), "HOME": str(open_tmp / "cache")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [unit["status"] for unit in json.loads(done.stdout)] == ["built"]
    said = (open_tmp / "cache/out/probe/out.txt").read_text().split("\n")
    assert said == ["0", "33:44", "in the chroot", ""]
    assert list((open_tmp / "cache/tmp").iterdir()) == [], "a tree of other ids was removed too"
