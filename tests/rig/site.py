"""The hub's side of a fleet: one network with mosquitto, whatever else is started in it, and the boards plugged in.

Decides addresses and the life of the whole: leaving the `with` block cuts the power of every board, ends every process
and removes every trace. Knows what mosquitto and kubectl need to run, nothing of skerry's own parts.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

from .device import Device
from .namespaces import Namespace
from .process import WAIT_TIMEOUT_S, Process, RigError, until
from .run import Run

ROOT = Path(__file__).resolve().parents[2]
BRIDGE = "site0"
NETWORK = "10.77.0"
PREFIX_BITS = 16
MQTT_PORT = 1883
BIN_FOLDERS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Site:
    """`folder` holds everything, `logs` one file for each process; `address` is the hub's as boards see it.

    Set RIG_KEEP=1 to find the folder after the run.
    """

    address = f"{NETWORK}.1"
    mqtt_port = MQTT_PORT

    def __init__(self) -> None:
        if os.geteuid() != 0:
            raise RigError("the rig makes namespaces, mounts and control groups: run it as root")
        self._extend_path()
        self.run_ = Run()
        self.id = self.run_.id
        self.folder = self.run_.folder
        self.logs = self.folder / "logs"
        self.kubeconfig = self.folder / "kubeconfig"
        self.ns = Namespace(f"site-{self.id}", f"{self.run_.cgroup}/site", self.logs, self._script())
        self.devices: list[Device] = []
        self.processes: list[Process] = []

    def __enter__(self) -> Site:
        try:
            self.ns.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cut every power and remove every trace; may be called twice."""
        for device in self.devices:
            device.power_off()
        self.ns.cut_power()
        for process in self.processes:
            process.wait()
        self.run_.close()

    def device(self, name: str, **options: Any) -> Device:
        """A new board, still off; the options are those of Device."""
        return Device(self, name, **options)

    def spawn(
        self, argv: list[str], name: str, env: dict[str, str] | None = None, cwd: str | Path | None = None
    ) -> Process:
        """Start a process on the hub's side (API server, hub, a tool); its output is in `logs/NAME.log`."""
        process = self.ns.spawn(argv, name, {**self._env(), **(env or {})}, cwd or self.folder)
        self.processes.append(process)
        return process

    def run(
        self,
        argv: list[str],
        timeout_s: float = 120.0,
        env: dict[str, str] | None = None,
        stdin: str | None = None,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the hub's side to its end."""
        return self.ns.run(argv, timeout_s, {**self._env(), **(env or {})}, stdin, check)

    def kubectl(self, *args: str, stdin: str | None = None, timeout_s: float = 180.0, check: bool = True) -> str:
        """`kubectl ARGS` with the site's kubeconfig; returns its output, RigError with its stderr when it fails."""
        return self.run([kubectl(), *args], timeout_s, stdin=stdin, check=check).stdout

    def mosquitto(self, config: str | None = None, port: int = MQTT_PORT) -> Process:
        """Start mosquitto with its default limits, open to all, nothing kept on disk; or with another configuration.

        Returned once `port` takes connections. Call again after `kill()` or `stop()` for a broker with an empty head.
        """
        file = self.folder / "mosquitto.conf"
        file.write_text(config if config is not None else self.mosquitto_config())
        process = self.spawn(["mosquitto", "-c", str(file)], "mosquitto")

        def listening() -> bool:
            if not process.running:
                raise RigError(f"mosquitto ended:\n{process.log()}")
            return self.listens(port)

        until(listening, "mosquitto to listen")
        return process

    def mosquitto_config(self) -> str:
        # `user root`: nothing here is worth giving up root for, and its files are the rig's own.
        return (
            f"listener {MQTT_PORT} 127.0.0.1\nlistener {MQTT_PORT} {self.address}\n"
            "allow_anonymous true\npersistence false\nuser root\nlog_dest stderr\n"
        )

    def dial(self, port: int, host: str = "127.0.0.1", timeout_s: float = WAIT_TIMEOUT_S) -> socket.socket:
        """A TCP connection made in the hub's network, for use here."""
        sock = self.ns.socket()
        sock.settimeout(timeout_s)
        try:
            sock.connect((host, port))
        except OSError:
            sock.close()
            raise
        return sock

    def listens(self, port: int, host: str = "127.0.0.1") -> bool:
        """Whether something in the hub's network takes connections on `port`."""
        try:
            self.dial(port, host, 1.0).close()
        except OSError:
            return False
        return True

    def wait_port(self, port: int, process: Process | None = None, timeout_s: float = WAIT_TIMEOUT_S) -> None:
        """Wait until `port` takes connections; RigError at once when `process` ends before."""

        def ready() -> bool:
            if process is not None and not process.running:
                raise RigError(f"{process.name} ended ({process.returncode}):\n{process.log()[-4000:]}")
            return self.listens(port)

        until(ready, f"port {port} to take connections", timeout_s, process.log if process else None)

    def _env(self) -> dict[str, str]:
        return {"KUBECONFIG": str(self.kubeconfig), "HOME": str(self.folder)}

    def _script(self) -> str:
        return (
            f"ip link add {BRIDGE} type bridge\n"
            f"ip address add {self.address}/{PREFIX_BITS} dev {BRIDGE}\n"
            f"ip link set {BRIDGE} up\n"
        )

    @staticmethod
    def _extend_path() -> None:
        """Some shells leave sbin out of PATH; iptables, mosquitto and losetup live there."""
        have = os.environ.get("PATH", "").split(":")
        os.environ["PATH"] = ":".join([*have, *(f for f in BIN_FOLDERS.split(":") if f not in have)])


def kubectl() -> str:
    """The kubectl that tools/setup has unpacked, else the one on PATH."""
    own = ROOT / ".cache" / "kubectl" / "kubectl"
    found = str(own) if own.exists() else shutil.which("kubectl")
    if found is None:
        raise RigError("no kubectl: run tools/setup")
    return found
