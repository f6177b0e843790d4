"""What the board is: NodeFacts from /proc, /sys, uname and os-release.

Everything lies below a root, so that a test can show another board. A file that is missing gives an empty fact, never
an error.
"""

from __future__ import annotations

import os
import shlex
import socket
import sys
from pathlib import Path

from skerry import __version__
from skerry.limits import PODS_MAX
from skerry.model.report import NodeFacts

# uname's machine → Go's GOARCH, for a 64-bit and a 32-bit userland on that kernel
GOARCH = {
    "x86_64": ("amd64", "386"),
    "aarch64": ("arm64", "arm"),
    "riscv64": ("riscv64", "riscv64"),
    "ppc64le": ("ppc64le", "ppc64le"),
    "s390x": ("s390x", "s390x"),
    "loongarch64": ("loong64", "loong64"),
}
NO_LIMIT = 1 << 60  # cgroup v1 writes a page-rounded 2^63 for "none"
SOMEWHERE = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))  # RFC 5737, RFC 3849: nobody's


def node_facts(root: Path = Path("/")) -> NodeFacts:
    """With `runtime` empty: the runtime says that itself."""
    uname = os.uname()
    return NodeFacts(
        cpu_millis=1000 * len(os.sched_getaffinity(0)),
        memory_bytes=memory_bytes(root),
        pods_max=PODS_MAX,
        architecture=architecture(uname.machine, sys.maxsize > 2**32),
        operating_system="linux",
        os_image=os_image(root),
        kernel=uname.release,
        boot_id=_text(root / "proc/sys/kernel/random/boot_id"),
        machine_id=_text(root / "etc/machine-id") or _text(root / "var/lib/dbus/machine-id"),
        runtime="",
        agent=__version__,
        addresses=addresses(),
    )


def architecture(machine: str, wide: bool) -> str:
    """Go's name; `wide`: a 64-bit userland. A Pi with a 64-bit kernel and a 32-bit userland runs `arm` images."""
    if machine in GOARCH:
        return GOARCH[machine][0 if wide else 1]
    if machine.startswith("arm"):
        return "arm"
    return "386" if machine in ("i386", "i486", "i586", "i686") else machine


def memory_bytes(root: Path) -> int:
    """MemTotal, or the smallest limit of an enclosing control group. The agent's own unit is not enclosing: pods live
    outside of it, so a limit on the agent is none on them."""
    total = 0
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            total = int(line.split()[1]) * 1024
    limits = [limit for file in _limit_files(root) if (limit := _limit(file)) < NO_LIMIT]
    return min([total, *limits]) if total else min(limits, default=0)


def memory_cgroup(root: Path = Path("/")) -> bool:
    """Whether the kernel can limit memory; without it a container with a limit cannot be made. Of a board that shows no
    control groups at all nothing is known, and the runtime will say it itself."""
    groups = root / "sys/fs/cgroup"
    if (groups / "cgroup.controllers").exists():
        return "memory" in _text(groups / "cgroup.controllers").split()
    return not groups.is_dir() or not any(groups.iterdir()) or (groups / "memory/memory.limit_in_bytes").exists()


def os_image(root: Path) -> str:
    """PRETTY_NAME of os-release(5)."""
    for place in ("etc/os-release", "usr/lib/os-release"):
        for line in _text(root / place).splitlines():
            key, _, value = line.partition("=")
            if key == "PRETTY_NAME":
                return " ".join(shlex.split(value))
    return ""


def addresses() -> tuple[str, ...]:
    """The addresses that packets to the outside would carry, IPv4 first; none without a route. Sends nothing."""
    found = []
    for family, target in SOMEWHERE:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.connect((target, 9))
                found.append(str(sock.getsockname()[0]))
        except OSError:
            continue
    return tuple(found)


def _limit_files(root: Path) -> list[Path]:
    files = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            base, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        parts = [part for part in path.split("/") if part]
        if parts and parts[-1].endswith((".service", ".scope")):
            parts.pop()
        files += [base.joinpath(*parts[:depth]) / name for depth in range(len(parts) + 1)]
    return files


def _limit(file: Path) -> int:
    text = _text(file)
    return int(text) if text.isdigit() else NO_LIMIT


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
