"""How zig is told to compile for a target: the environment that setuptools and autoconf read. Runs nothing.

zig is PyPI's `ziglang`. Without -O it builds in its undefined behaviour checks, without -O at the link a debug runtime
library, and `-mcpu` without the minus signs means NEON: see the targets.
"""

from __future__ import annotations

import importlib
import shlex
from pathlib import Path

from refusal import Refusal
from target import Target

OPTIMISE = "-O2"


def program() -> Path:
    """The compiler that lies beside this Python. Raises Refusal."""
    try:
        place = importlib.import_module("ziglang").__file__
    except ImportError as why:
        raise Refusal("PYTHONPATH", "ziglang", "not there", "the unit cross-build:zig") from why
    return Path(str(place)).parent / "zig"


def environment(target: Target, headers: Path, work: Path, epoch: int) -> dict[str, str]:
    """For builds below `work`. `headers` holds the target's `pythonX.Y` folders; no path of either enters an output."""
    zig = shlex.quote(str(program()))
    # -O2 in the name itself: autoconf also links without any flags, and each level needs a runtime library of its own.
    compiler = f"{zig} cc -target {target.zig} -mcpu={target.mcpu} {OPTIMISE}"
    # Debian's pyconfig.h includes <TRIPLET/python3.11/pyconfig.h>, so both folders are needed.
    places = [*sorted(headers.glob("python3.*")), headers]
    flags = [OPTIMISE, "-g0", "-fwrapv", f"-ffile-prefix-map={work}=.", *(f"-I{place}" for place in places)]
    return {
        "CC": compiler,
        "CXX": f"{zig} c++ -target {target.zig} -mcpu={target.mcpu} {OPTIMISE}",
        "LDSHARED": f"{compiler} -shared -s",
        "CFLAGS": shlex.join(flags),
        "LDFLAGS": "-s",
        "AR": f"{zig} ar",
        "RANLIB": f"{zig} ranlib",
        "_PYTHON_HOST_PLATFORM": f"linux-{target.arch}",
        "SOURCE_DATE_EPOCH": str(epoch),
        "PYTHONHASHSEED": "0",
        "LC_ALL": "C",
        "TZ": "UTC",
    }


def has_headers(headers: Path, target: Target) -> bool:
    """Whether the folder has a Python's headers for this target's architecture."""
    return any(headers.glob(f"{target.triple}/python3.*/pyconfig.h"))
