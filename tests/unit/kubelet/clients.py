"""The kubectls that are here: what tools/setup and tools/kubectls have unpacked, else the one on PATH."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(__file__).resolve().parents[3] / ".cache" / "kubectl"
DEADLINE_S = float(os.environ.get("SKERRY_DEADLINE_S", "90"))


def _found() -> dict[str, str]:
    said = os.environ.get("SKERRY_KUBECTL")
    if said:
        return {path: path for path in said.split(":") if path}
    found = {path.parent.name: str(path) for path in sorted(CACHE.glob("*/kubectl"))}
    if (CACHE / "kubectl").exists():
        found["default"] = str(CACHE / "kubectl")
    elif path := shutil.which("kubectl"):
        found["default"] = path
    return found


FOUND = _found()


@dataclass
class Kubectl:
    binary: str
    kubeconfig: Path
    home: Path

    @property
    def env(self) -> dict[str, str]:
        return {"HOME": str(self.home), "PATH": os.environ["PATH"], "KUBECONFIG": str(self.kubeconfig)}

    def run(self, *args: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        """To its end, whatever the exit code."""
        return subprocess.run([self.binary, *args], input=stdin, capture_output=True, timeout=DEADLINE_S, env=self.env)

    def __call__(self, *args: str, stdin: bytes | None = None) -> bytes:
        done = self.run(*args, stdin=stdin)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, *args: str, stdin: int | None = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [self.binary, *args], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.env
        )
