"""A machine within this machine: pid, mount, network, uts, ipc and cgroup namespaces whose init the rig owns.

Decides how such a machine is made, how a process is started in it and how its power is cut: SIGKILL of the init ends
everything inside at once, and mounts, interfaces and tmpfs go with it. The init ends by itself when the owner does,
even by kill -9, because it holds a pipe to it. Knows nothing of what runs inside.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shlex
import signal
import socket
import subprocess
import threading
from pathlib import Path

from . import cgroups
from .process import Process, RigError, children, until

KINDS = ("pid", "mnt", "net", "uts", "ipc", "cgroup")
BOOT_TIMEOUT_S = 60.0
CLONE_NEWNET = 0x40000000


class Namespace:
    """`cgroup` is the relative path of its own group; processes live in its child `system`, containers beside it.

    `script` is run by the init as root of the new machine, once /proc, /sys and /sys/fs/cgroup are its own and `lo`
    is up; a line that fails stops the boot.
    """

    def __init__(self, name: str, cgroup: str, logs: Path, script: str = "") -> None:
        self.name = name
        self.cgroup = cgroup
        self.logs = logs
        self.script = script
        self._unshare: subprocess.Popen[bytes] | None = None
        self.init_pid = 0
        self.inodes: dict[str, int] = {}

    @property
    def running(self) -> bool:
        return self._unshare is not None and self._unshare.poll() is None

    def start(self) -> None:
        """Make the namespaces and run the script; RigError with its output when a line of it fails."""
        cgroups.make(self.cgroup)
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / "init.log"
        into = _enter_lines(self.cgroup)
        flags = "--pid --fork --kill-child --mount --propagation private --net --uts --ipc --cgroup"
        with log.open("ab") as out:
            self._unshare = subprocess.Popen(
                ["sh", "-c", f'{into}exec unshare {flags} sh -c "$1"', "sh", self._init_script()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=out,
                start_new_session=True,  # an interrupt at the terminal is for the owner to handle
            )
        assert self._unshare.stdout is not None
        if self._unshare.stdout.readline() != b"ready\n":
            self.cut_power()
            raise RigError(f"{self.name} did not boot:\n{log.read_text(errors='replace')}")
        self.init_pid = until(lambda: next(iter(children(self._launcher.pid)), 0), "init", BOOT_TIMEOUT_S)
        # The group itself is the root of the cgroup namespace; on v2 it must hold no process to hand controllers down.
        cgroups.make(f"{self.cgroup}/system")
        for pid in (self._launcher.pid, self.init_pid):
            cgroups.enter(pid, f"{self.cgroup}/system")
        cgroups.hand_down(self.cgroup)
        self.inodes = {kind: (Path(f"/proc/{self.init_pid}/ns") / kind).stat().st_ino for kind in KINDS}
        self._go()

    def cut_power(self) -> None:
        """SIGKILL the init: the kernel ends every process inside, and with the last one every mount and interface."""
        if self._unshare is None:
            return
        if self.init_pid and self._unshare.poll() is None:
            os.kill(self.init_pid, signal.SIGKILL)
        elif self._unshare.poll() is None:
            self._unshare.kill()
        self._unshare.wait(BOOT_TIMEOUT_S)
        for stream in (self._unshare.stdin, self._unshare.stdout):
            if stream is not None:
                stream.close()
        self._unshare, self.init_pid = None, 0

    def argv_inside(self, argv: list[str], network_only: bool = False) -> list[str]:
        """The argv that runs `argv` inside, to be started from outside."""
        if not self.running:
            raise RigError(f"{self.name} is off")
        flags = ["--net"] if network_only else ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]
        enter = ["nsenter", "--target", str(self.init_pid), *flags, "--", *argv]
        return ["sh", "-c", f'{_enter_lines(f"{self.cgroup}/system")}exec "$@"', "sh", *enter]

    def spawn(
        self, argv: list[str], name: str, env: dict[str, str] | None = None, cwd: str | Path | None = None
    ) -> Process:
        """Start `argv` inside, with its output in `logs/NAME.log`; `env` adds to the environment of this process."""
        log = self.logs / f"{name}.log"
        # nsenter changes to / of the mount namespace; the shell inside goes where it was asked to.
        inside = ["sh", "-c", f'cd {shlex.quote(str(cwd or "/"))} && exec "$@"', "sh", *argv]
        with log.open("ab") as out:
            start = out.tell()
            launcher = subprocess.Popen(
                self.argv_inside(inside),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        return Process(name, argv, launcher, log, start)

    def run(
        self,
        argv: list[str],
        timeout_s: float = 60.0,
        env: dict[str, str] | None = None,
        stdin: str | None = None,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run `argv` inside to its end, output captured; RigError with its stderr when it fails and `check` is set."""
        try:
            done = subprocess.run(
                self.argv_inside(argv),
                input=stdin or "",
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_s,
                env={**os.environ, **(env or {})},
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise RigError(f"not done within {timeout_s:g} s: {shlex.join(argv)}") from None
        if check and done.returncode != 0:
            raise RigError(f"failed with {done.returncode}: {shlex.join(argv)}\n{done.stdout}{done.stderr}")
        return done

    def run_ip(self, *args: str) -> str:
        """`ip ARGS` in this network, with the pids and files of the outside (so `netns PID` can name another)."""
        argv = self.argv_inside(["ip", *args], network_only=True)
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RigError(f"{self.name}: ip {shlex.join(args)}: {done.stderr.strip()}")
        return done.stdout

    def run_ip_quiet(self, *args: str) -> None:
        """The same where failure is no news: what is to be deleted may be gone already."""
        with contextlib.suppress(RigError):
            self.run_ip(*args)

    def outside(self, path: str | Path) -> Path:
        """Where a path inside is reachable from outside while the machine is on (tmpfs and sockets too)."""
        return Path(f"/proc/{self.init_pid}/root") / str(path).lstrip("/")

    def socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """A socket of this machine's network, for use by the caller: a socket keeps the network it was made in."""
        made: list[socket.socket | OSError] = []

        def make() -> None:
            # Only this thread enters the network namespace, and it ends with it.
            try:
                with Path(f"/proc/{self.init_pid}/ns/net").open() as net:
                    if ctypes.CDLL(None, use_errno=True).setns(net.fileno(), CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), "setns")
                made.append(socket.socket(family, kind))
            except OSError as error:
                made.append(error)

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        if isinstance(made[0], OSError):
            raise made[0]
        return made[0]

    @property
    def _launcher(self) -> subprocess.Popen[bytes]:
        assert self._unshare is not None
        return self._unshare

    def _init_script(self) -> str:
        """`cat` ends when the owner does, and the shell reaps orphans while it waits for it, as an init must."""
        return f"""set -e
mount -t proc proc /proc
mount -t sysfs sysfs /sys
{cgroups.mount_script()}hostname {shlex.quote(self.name)}
ip link set lo up
{self.script}
mount --make-rshared /
echo ready
read -r go
exec >/dev/null
cat
"""

    def _go(self) -> None:
        """The init is alone until it is in its group: what it starts before that would stay in the wrong one."""
        assert self._launcher.stdin is not None
        self._launcher.stdin.write(b"go\n")
        self._launcher.stdin.flush()


def _enter_lines(cgroup: str) -> str:
    """Shell lines with which a process moves itself into the group before it becomes something else."""
    return "".join(f"echo $$ > {shlex.quote(str(file))} || exit 125\n" for file in cgroups.procs_files(cgroup))
