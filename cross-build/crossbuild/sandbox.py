"""Runs one command where only what it declared exists. Decides what is fixed; knows nothing of units, keys and stores.

The command sees: its inputs in /build, its needs below /needs, the files of its tools in /usr, an own /proc, /dev and
/tmp. It has no network but an own, empty loopback; user 1000 of an own user namespace, host name "build", umask 022,
locale C.UTF-8, time zone UTC, SOURCE_DATE_EPOCH, and no other environment. bubblewrap does it, as root or not.
Not hidden: the kernel's version, the number of cores, the real clock.

A command that asks for root is uid 0 with the capabilities of ROOT; all else is as above. The real root gives it device
nodes below /build and /tmp, and it is then no wall against malice. Another user gives it a user namespace with the ids
that /etc/subuid and /etc/subgid grant: it may chroot, mount and chown there, and make no device nodes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from crossbuild.declare import NEEDS
from crossbuild.errors import ToolMissing
from crossbuild.limits import SOURCE_DATE_EPOCH

BUILD = "/build"
FIXED = {
    "HOME": BUILD, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/usr/sbin", "TZ": "UTC",
    "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0", "SOURCE_DATE_EPOCH": str(SOURCE_DATE_EPOCH),
    "TMPDIR": "/tmp", "USER": "build",  # noqa: S108  (its own)
}  # fmt: skip
ETC = {
    "passwd": f"build:x:1000:1000::{BUILD}:/bin/sh\n",
    "group": "build:x:1000:\n",
    "hosts": "127.0.0.1 localhost build\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}
ROOT_ETC = {"passwd": "root:x:0:0::/root:/bin/sh\n", "group": "root:x:0:\n"}
ROOT = (  # what chroot, mount, mknod, dpkg and mmdebstrap need
    "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_ADMIN",
    "SYS_CHROOT",
)  # fmt: skip

# newuidmap and newgidmap map the ids; unshare asks them for all that this user was granted.
OWN_IDS = ("unshare", "--user", "--map-root-user", "--map-auto", "--")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended: its code, None when its time was over, and what it wrote to both outputs."""

    code: int | None
    said: str


def run(
    argv: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    needs: Mapping[str, Path],
    tools: Path,
    timeout_s: float,
    root: bool = False,
) -> Ended:
    """Run `argv` in `folder`, seen as /build; `needs` are folders by their name under /needs. Raises ToolMissing."""
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise ToolMissing(
            "bwrap", "", "is not installed; it is the sandbox of builds", "Run: apt-get install bubblewrap"
        )
    etc, tmp = folder.parent / "etc", folder.parent / "tmp"
    etc.mkdir()
    tmp.mkdir()
    tmp.chmod(0o1777)
    for name, text in ETC.items():
        (etc / name).write_text((ROOT_ETC.get(name, "") if root else "") + text)
    ids = OWN_IDS if root and os.geteuid() != 0 else ()
    log = folder.parent / "log"
    with log.open("wb") as said:
        try:
            code = subprocess.run(
                [*ids, bwrap, *_options(environment, folder, needs, tools, etc, root), "--", *argv],
                stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, env={}, umask=0o022,
                timeout=timeout_s, check=False,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:  # the child is killed, and with it (--die-with-parent) all it started
            code = None
    if ids:  # what is left there belongs to the granted ids: only they may give it back, to be read and removed
        subprocess.run([*ids, "chown", "-R", "0:0", str(folder), str(tmp)], check=False, capture_output=True)
    return Ended(code, log.read_text(errors="replace"))


def why_not_root() -> str:
    """Why this user can give no command root, as unshare tells it; nothing when it can."""
    if os.geteuid() == 0:
        return ""
    done = subprocess.run([*OWN_IDS, "true"], capture_output=True, text=True, check=False)
    return done.stderr.strip() if done.returncode != 0 else ""


def _options(
    environment: Mapping[str, str], folder: Path, needs: Mapping[str, Path], tools: Path, etc: Path, root: bool
) -> list[str]:
    options = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    options += ["--cap-drop", "ALL"]
    if root:
        options += [word for name in ROOT for word in ("--cap-add", f"CAP_{name}")]
    else:
        options += ["--unshare-user", "--uid", "1000", "--gid", "1000"]
    options += [
        "--hostname", "build", "--die-with-parent", "--new-session", "--clearenv",
        "--ro-bind", str(tools / "usr"), "/usr", "--ro-bind", str(etc), "/etc",
    ]  # fmt: skip
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        options += ["--symlink", f"usr/{name}", f"/{name}"]
    options += ["--proc", "/proc", "--dev", "/dev"]
    if root:  # a root file system is made in /tmp, with devices; it is too big for memory
        options += ["--dev-bind", str(folder), BUILD, "--dev-bind", str(folder.parent / "tmp"), "/tmp"]  # noqa: S108
    else:
        options += ["--bind", str(folder), BUILD, "--tmpfs", "/tmp"]  # noqa: S108
    for name, path in needs.items():
        options += ["--ro-bind", str(path), f"{NEEDS}/{name}"]
    options += ["--remount-ro", "/", "--chdir", BUILD]
    for name, value in {**FIXED, **environment}.items():
        options += ["--setenv", name, value]
    return options
