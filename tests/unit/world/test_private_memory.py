"""No core dump of the agent, by its own doing: whatever the service manager or core_pattern say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SAYS = """
import ctypes
from skerry.world.private_memory import keep_private
libc = ctypes.CDLL(None)
before = libc.prctl(3, 0, 0, 0, 0)
keep_private(print)
print(before, libc.prctl(3, 0, 0, 0, 0), flush=True)
"""
DIES = "import os, resource; resource.setrlimit(resource.RLIMIT_CORE, (1 << 20, 1 << 20)); "
DIES += "from skerry.world.private_memory import keep_private; keep_private(print); os.abort()"


def test_a_process_is_not_dumpable_any_more() -> None:
    done = subprocess.run([sys.executable, "-c", SAYS], capture_output=True, text=True, check=True)
    assert done.stdout == "1 0\n"


def test_not_even_where_core_files_are_allowed(tmp_path: Path) -> None:
    done = subprocess.Popen([sys.executable, "-c", DIES], stderr=subprocess.DEVNULL, cwd=tmp_path)
    _, status, _ = os.wait4(done.pid, 0)
    assert status & 0x7F == 6, "it was aborted"
    assert not status & 0x80, "the kernel says that it dumped"
