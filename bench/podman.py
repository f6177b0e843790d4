"""`podman kube play` of a pod, the daemonless peer: Debian's package, crun, host network, a storage of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.report import progress
from rig import images

# Its default ulimits are above what a container of CI may set: `setrlimit RLIMIT_NOFILE: Operation not permitted`.
CONF = '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n'
# podman takes the machine for cgroup v2 when the hybrid layout's part of it is mounted, and then fails.
WRAP = ["unshare", "-m", "--propagation", "slave", "sh", "-c",
        'umount /sys/fs/cgroup/unified 2>/dev/null; exec "$@"', "sh"]  # fmt: skip


def ready(install: bool) -> bool:
    """Whether podman is there, after installing Debian's if `install`."""
    if not _there() and install and shutil.which("apt-get") and os.geteuid() == 0:
        progress("          podman is not here: apt-get install podman catatonit")
        argv = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", "podman", "catatonit"]
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        subprocess.run(argv, env=env, capture_output=True, check=False)
    if not _there():
        progress("          podman is not here and is left out (a full run installs it)")
        return False
    return True


def _there() -> bool:
    """podman builds its pause image around catatonit."""
    return all(shutil.which(name) or Path("/usr/libexec/podman", name).exists() for name in ("podman", "catatonit"))


def version() -> str:
    return subprocess.run(["podman", "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]


def play(manifest: dict[str, Any], rounds: int) -> Iterator[float]:
    """Seconds of each `podman kube play`, the first (cold) one left out; nothing more once it fails."""
    folder = Path(tempfile.mkdtemp(prefix="skerry-podman-", dir="/var/tmp"))
    base = [*WRAP, "podman", "--root", str(folder / "root"), "--runroot", str(folder / "run"), "--runtime", "crun",
            "--cgroup-manager", "cgroupfs", "--events-backend", "none"]  # fmt: skip
    conf = folder / "containers.conf"
    conf.write_text(CONF)
    env = {**os.environ, "CONTAINERS_CONF": str(conf)}
    name = manifest["metadata"]["name"]
    try:
        _run([*base, "load", "-q", "-i", str(images.hello().write(folder))], env)
        for i in range(rounds + 1):
            path = folder / f"pod-{i}.yaml"
            path.write_text(json.dumps({**manifest, "metadata": {"name": f"{name}-{i}"}}))
            began = time.time()
            _run([*base, "kube", "play", "--network", "host", str(path)], env)
            took = time.time() - began
            _run([*base, "kube", "down", str(path)], env)
            if i:
                yield took
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as why:
        told = (why.stderr or b"").decode(errors="replace").strip()[-300:]
        progress(f"          podman failed and is left out: {told}")
    finally:
        subprocess.run([*base, "rm", "-a", "-f", "-t", "0"], env=env, capture_output=True, check=False)
        subprocess.run([*base, "pod", "rm", "-a", "-f"], env=env, capture_output=True, check=False)
        subprocess.run(["umount", "-q", str(folder / "root" / "overlay")], check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


def _run(argv: list[str], env: dict[str, str]) -> None:
    subprocess.run(argv, env=env, check=True, capture_output=True, timeout=60, stdin=subprocess.DEVNULL)
