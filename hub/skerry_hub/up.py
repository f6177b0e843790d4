"""`skerry-hub up`: mosquitto, the API and the hub as children on one machine; one that ends is started again.

Decides the order, the ports and when to give up waiting. Everything listens on loopback only. The children end with
this process, however it ends (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import os
import pwd
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from skerry.errors import ConfigInvalid, SkerryError
from skerry.plan.backoff import full_jitter
from skerry.world.clock import SystemClock
from skerry.world.entropy import SystemEntropy
from skerry_hub.boot import log, stop_event
from skerry_hub.limits import CHILD_BACKOFF_S, CHILD_READY_S, CHILD_STEADY_S, CHILD_STOP_S

PROGRAM = "skerry-hub"
MQTT_PORT = 1883
LOOPBACK = "127.0.0.1"
SBIN = "/usr/sbin:/usr/local/sbin"
BROKER_USERS = ("mosquitto", "nobody")
PR_SET_PDEATHSIG = 1
POLL_S = 0.05


@dataclass(slots=True)
class Child:
    """One process that is kept running. `ready` is polled until it answers True."""

    name: str
    argv: Sequence[str]
    ready: Callable[[], bool]
    prepare: Callable[[], None] = lambda: None  # in the child, before exec
    fds: tuple[int, ...] = ()
    process: asyncio.subprocess.Process | None = field(default=None)

    async def start(self) -> None:
        """Raises SkerryError when it cannot be started or does not become ready in time."""
        clock = SystemClock()
        try:
            self.process = await asyncio.create_subprocess_exec(
                *self.argv, stdin=asyncio.subprocess.DEVNULL, stdout=2, preexec_fn=self.prepare, pass_fds=self.fds
            )
        except OSError as why:
            raise SkerryError(f"{self.name}: {self.argv[0]}: {why.strerror}") from None
        deadline = clock.now() + CHILD_READY_S
        while not self.ready():
            if self.process.returncode is not None:
                raise SkerryError(f"{self.name} ended with {self.process.returncode} before it was ready")
            if clock.now() > deadline:
                raise SkerryError(f"{self.name} was not ready within {CHILD_READY_S:.0f} s")
            await clock.sleep_until(clock.now() + POLL_S)

    async def stop(self) -> None:
        """SIGTERM, after CHILD_STOP_S SIGKILL; raises nothing."""
        process = self.process
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), CHILD_STOP_S)
        except asyncio.TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def up(data: Path, listen: str, mqtt_port: int | None) -> int:
    """Run all three until a signal. Raises SkerryError when they do not come up."""
    stop = stop_event()
    folder = _folder(data)  # locked as long as this process lives
    port = _mqtt_port(folder, mqtt_port)
    kubeconfig, broker = folder / "api" / "admin.kubeconfig", f"mqtt://{LOOPBACK}:{port}"
    children = [
        _mosquitto(folder, port),
        Child("api", [*_self(), "api", "--data", str(folder / "api"), "--listen", listen], kubeconfig.exists, _die_too),
        Child(
            "hub",
            [
                *_self(), "run", "--kubeconfig", str(kubeconfig), "--broker", broker,
                "--status-socket", str(folder / "hub.sock"),
                "--kubelet-cert", str(folder / "api" / "kubelet.crt"),
                "--kubelet-key", str(folder / "api" / "kubelet.key"),
                "--kubelet-client-ca", str(folder / "api" / "ca.crt"),
            ],
            (folder / "hub.sock").exists,
            _die_too,
        ),
    ]  # fmt: skip
    keepers: list[asyncio.Task[None]] = []
    try:
        for child in children:
            await _unless(stop, child.start())
            if stop.is_set():
                return 0
            log(f"skerry-hub up: {child.name} is running")
        _explain(kubeconfig, broker, folder)
        keepers = [asyncio.ensure_future(_keep(child)) for child in children]
        waits = [*keepers, asyncio.ensure_future(stop.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for keeper in keepers:
            if keeper.done():
                keeper.result()
    finally:
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        for child in reversed(children):
            await child.stop()
    log("skerry-hub up: stopped")
    return 0


# --- private ----------------------------------------------------------------------------------------------------------


def _explain(kubeconfig: Path, broker: str, folder: Path) -> None:
    lines = (
        "ready",
        f"kubectl:  export KUBECONFIG={kubeconfig}",
        f"a device: skerry-hub join NAME --no-taint --kubeconfig {kubeconfig} --broker {broker} > config.toml",
        "          skerry run --config config.toml  (on the device, as root, beside containerd)",
        "a pod:    names its device in spec.nodeName, for there is no scheduler yet",
        f"look:     skerry-hub status --socket {folder / 'hub.sock'}",
        f"a page:   skerry-hub ui --kubeconfig {kubeconfig} --socket {folder / 'hub.sock'}",
    )
    for line in lines:
        log(f"skerry-hub up: {line}")


async def _unless(stop: asyncio.Event, start: object) -> None:
    """Wait for a start, or for the signal that makes it pointless."""
    task = asyncio.ensure_future(start)  # type: ignore[call-overload]
    waiting = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        for one in (task, waiting):
            one.cancel()
        await asyncio.gather(task, waiting, return_exceptions=True)


async def _keep(child: Child) -> None:
    """Start a child again whenever it has ended, after a jittered back-off."""
    clock, entropy, failures = SystemClock(), SystemEntropy(), 0
    began = clock.now()
    while True:
        if child.process is not None:
            code = await child.process.wait()
            failures = failures + 1 if clock.now() - began < CHILD_STEADY_S else 1
            log(f"skerry-hub up: {child.name} ended with {code}, starting it again")
        await clock.sleep_until(clock.now() + full_jitter(CHILD_BACKOFF_S, failures, entropy.uniform()))
        began = clock.now()
        try:
            await child.start()
            log(f"skerry-hub up: {child.name} is running again")
        except SkerryError as why:
            log(f"skerry-hub up: {why}")
            await child.stop()


def _folder(data: Path) -> Path:
    try:
        folder = data.absolute()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as why:
        raise ConfigInvalid("--data", f"{data}: {why.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise SkerryError(f"{data}: another skerry-hub up runs on this folder") from None
    try:
        (folder / "hub.sock").unlink(missing_ok=True)
    except OSError as why:
        raise ConfigInvalid("--data", f"{data}: {why.strerror}") from None
    return folder


def _self() -> list[str]:
    """What this process was started as: a package's launcher knows where its libraries are, a bare Python does not."""
    program = Path(sys.argv[0])
    if program.name == PROGRAM and os.access(program, os.X_OK):
        return [str(program.resolve())]
    return [sys.executable, "-m", "skerry_hub.cli"]


def _mosquitto(folder: Path, port: int) -> Child:
    binary = shutil.which("mosquitto") or shutil.which("mosquitto", path=SBIN)
    if binary is None:
        raise SkerryError("mosquitto is not installed (Debian: apt install mosquitto)")
    file = folder / "mosquitto.conf"
    _write(
        file,
        "# Written by skerry-hub up at each start.\n"
        f"listener {port} {LOOPBACK}\nallow_anonymous true\npersistence false\nlog_dest stderr\nlog_type error\n"
        "set_tcp_nodelay true\n",  # or a change right after another waits 40 ms for a delayed ACK
    )
    file.chmod(0o644)
    # The broker runs as nobody, to whom the folder is closed: it gets its configuration as an open file.
    fd = os.open(file, os.O_RDONLY)
    argv = [binary, "-c", f"/proc/self/fd/{fd}"]
    return Child("mosquitto", argv, lambda: _listens(port), _drop_root, (fd,))


def _mqtt_port(folder: Path, asked: int | None) -> int:
    """The given port, else the one of last time, else 1883 or a free one; remembered, because devices are told it."""
    if asked is not None and not 0 <= asked < 1 << 16:
        raise ConfigInvalid("--mqtt-port", f"must be between 0 and 65535, got {asked}")
    file = folder / "mqtt-port"
    port = asked or 0
    if asked is None:
        with suppress(OSError, ValueError):
            port = int(file.read_text())
        port = port or (MQTT_PORT if not _listens(MQTT_PORT) else 0)
    if not port:
        with socket.socket() as sock:
            sock.bind((LOOPBACK, 0))
            port = int(sock.getsockname()[1])
    if _listens(port):
        raise SkerryError(f"{LOOPBACK}:{port} is taken; choose another one with --mqtt-port")
    _write(file, f"{port}\n")
    return port


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text)
    except OSError as why:
        raise ConfigInvalid("--data", f"{file}: {why.strerror}") from None


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        sock.settimeout(1.0)
        return sock.connect_ex((LOOPBACK, port)) == 0


def _die_too() -> None:
    """In the child: end when the parent does."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _drop_root() -> None:
    """In the child: be nobody from the beginning; changing users later would undo _die_too."""
    if os.getuid() == 0:
        for name in BROKER_USERS:
            with suppress(KeyError):
                user = pwd.getpwnam(name)
                os.setgroups([])
                os.setgid(user.pw_gid)
                os.setuid(user.pw_uid)
                break
    _die_too()
