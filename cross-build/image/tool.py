"""How the acting parts run a program: bounded, its output kept, its absence told with the package that has it."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import limits
from .refusal import ToolFailed

SETUP = "run tools/setup image"


def run(
    argv: Sequence[object],
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
    codes: Sequence[int] = (0,),
) -> str:
    """Run to the end and return standard output. Raises ToolFailed with the end of what it said."""
    said = [str(word) for word in argv]
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    whole = {**os.environ, "LC_ALL": "C.UTF-8", "PATH": path, "TZ": "UTC", **(env or {})}
    try:
        done = subprocess.run(
            said, env=whole, cwd=cwd, input=stdin, capture_output=True, text=True, errors="replace",
            timeout=limits.TOOL_TIMEOUT_S, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        raise ToolFailed(f"{said[0]} is not installed; {SETUP}") from None
    except subprocess.TimeoutExpired:
        raise ToolFailed(f"{said[0]} did not end within {limits.TOOL_TIMEOUT_S:g} s") from None
    if done.returncode not in codes:
        tail = (done.stdout + done.stderr)[-limits.OUTPUT_CHARS_MAX :]
        raise ToolFailed(f"{said[0]} ended with {done.returncode}:\n{tail}")
    return done.stdout


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
