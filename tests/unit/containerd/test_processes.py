"""Which processes belong to an exec, on a /proc made of files; and that a signal reaches only who is meant."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from skerry.containerd.processes import Process, family, locate, read_process, send

BOX = "f" * 64


def proc(folder: Path, *rows: tuple[int, int, int, str, str]) -> Path:
    """(pid, parent, session, control group, numbers in the namespaces below) each."""
    for pid, parent, session, group, below in rows:
        home = folder / str(pid)
        home.mkdir()
        fields = [str(parent), "0", str(session), *["0"] * 15, str(1000 + pid)]
        (home / "stat").write_text(f"{pid} (a) b) S {' '.join(fields)} 0 0\n")
        (home / "cgroup").write_text(f"0::/skerry/{group}\n")
        (home / "status").write_text(f"Name:\ta\nNSpid:\t{pid} {below}\n")
    return folder


def test_what_belongs_to_a_command(tmp_path: Path) -> None:
    root = proc(
        tmp_path,
        (10, 1, 10, BOX, "1"),  # the container's own
        (20, 9, 20, BOX, "7"),  # the command
        (21, 20, 20, BOX, "8"),
        (22, 1, 20, BOX, "9"),  # its parent is gone
        (23, 21, 23, BOX, "10"),  # a session of its own
        (24, 1, 24, BOX, "11"),  # a daemon
        (25, 20, 20, "e" * 64, "12"),  # another container's, whatever its parent says
    )
    leader = read_process(20, root)
    assert leader == Process(20, 9, 20, 1020)
    assert leader is not None
    assert {one.pid for one in family(BOX, leader, root)} == {20, 21, 22, 23}


def test_the_number_that_the_runtime_names_is_looked_for_in_the_container_alone(tmp_path: Path) -> None:
    root = proc(tmp_path, (20, 1, 20, "other", "1"), (120, 1, 120, BOX, "20 7"), (121, 1, 121, BOX, "30 20"))
    found = locate(BOX, 20, root)
    assert found is not None
    assert found.pid == 120  # the runtime's own pid namespace lies below ours
    assert locate(BOX, 99, root) is None
    assert locate("no such", 20, root) is None
    direct = locate("other", 20, root)
    assert direct is not None
    assert direct.pid == 20


def test_a_signal_reaches_who_is_still_the_one() -> None:
    child = subprocess.Popen(["sleep", "600"])
    try:
        one = read_process(child.pid)
        assert one is not None
        send([Process(one.pid, one.parent, one.session, one.started - 1), Process(2**22, 1, 1, 1)], signal.SIGKILL)
        assert child.poll() is None
        send([one], signal.SIGKILL)
        assert child.wait(30) == -signal.SIGKILL
        send([one], signal.SIGKILL)
    finally:
        child.kill()


def test_a_process_that_has_ended_is_none() -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert read_process(child.pid) is None  # a zombie
    child.wait()
    assert read_process(child.pid) is None
