"""No part of a hub leaves a core file: keys and Secrets are in its memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from contract.broker import MOSQUITTO, free_port
from patience import WAIT_S

HUB = [sys.executable, "-m", "skerry_hub.cli"]


@pytest.mark.parametrize("part", ["api", "up"])
def test_a_part_that_is_aborted_dumps_nothing_though_it_might(tmp_path: Path, part: str) -> None:
    if part == "up" and MOSQUITTO is None:
        pytest.skip("mosquitto is not installed")
    data, ports = tmp_path / "data", ["--mqtt-port", "0", "--enroll-port", "0"] if part == "up" else []
    argv = [*HUB, part, "--data", str(data), "--listen", f"127.0.0.1:{free_port()}", *ports]
    begun = data / ("api/admin.kubeconfig" if part == "up" else "admin.kubeconfig")
    with (tmp_path / "log").open("wb") as log:
        shell = ["/bin/sh", "-c", 'ulimit -c 1024; exec "$@"', "sh", *argv]
        process = subprocess.Popen(shell, stdout=log, stderr=log, cwd=tmp_path)
        try:
            deadline = time.monotonic() + WAIT_S
            while not begun.exists():
                assert process.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < deadline, (tmp_path / "log").read_text()
                time.sleep(0.05)
            process.send_signal(signal.SIGABRT)
            _, status, _ = os.wait4(process.pid, 0)
        finally:
            process.kill()
    assert os.WTERMSIG(status) == signal.SIGABRT
    assert not os.WCOREDUMP(status)
