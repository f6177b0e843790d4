"""`skerry-hub up`: mosquitto, the API and the hub as children on one machine; one that ends is started again.

Decides the order, the ports, the keys and when to give up waiting. What devices need, the broker and the enrolment,
listens on the address that the operator gives, else on loopback only, as all the rest does. The children end with this
process, however it ends (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import ipaddress
import os
import pwd
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from skerry.errors import ConfigInvalid, SkerryError
from skerry.plan.backoff import full_jitter
from skerry.world.clock import SystemClock
from skerry.world.entropy import SystemEntropy
from skerry.world.private_memory import keep_private
from skerry_hub import folders, mosquitto, pki, pki_files, revoked_file
from skerry_hub.boot import log, stop_event
from skerry_hub.enrolment.authority import NAME, STEM
from skerry_hub.limits import CHILD_BACKOFF_S, CHILD_READY_S, CHILD_STEADY_S, CHILD_STOP_S, REVOKED_LOOK_S

PROGRAM = "skerry-hub"
MQTT_PORT, ENROLL_PORT = 8883, 10443
LOOPBACK = "127.0.0.1"
SBIN = "/usr/sbin:/usr/local/sbin"
BROKER_USERS = ("mosquitto", "nobody")
PR_SET_PDEATHSIG = 1
REVOKED, RULES = "revoked", "mosquitto.acl"
SOCKET, KUBECONFIG = "hub.sock", "api/admin.kubeconfig"
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


async def up(data: Path, listen: str, mqtt_port: int | None, enroll_port: int | None, address: str) -> int:
    """Run all three until a signal; devices reach this machine at `address`. Raises SkerryError when they do not come
    up."""
    keep_private(log)  # the authority's key
    with _folder(data) as folder:
        return await _up(folder, listen, mqtt_port, enroll_port, address)


async def _up(folder: Path, listen: str, mqtt_port: int | None, enroll_port: int | None, address: str) -> int:
    stop = stop_event()
    port = await _port(folder, "mqtt-port", mqtt_port, MQTT_PORT)
    enrolling = await _port(folder, "enroll-port", enroll_port, ENROLL_PORT, port)
    kubeconfig, authority = folder / KUBECONFIG, pki_files.authority(folder, STEM, NAME)
    ending = partial(_die_too, os.getpid())
    children = [
        _mosquitto(folder, address, port, authority),
        Child("api", [*_self(), "api", "--data", str(folder / "api"), "--listen", listen], kubeconfig.exists, ending),
        Child(
            "hub",
            [
                *_self(), "run", "--kubeconfig", str(kubeconfig), "--broker", f"mqtts://{LOOPBACK}:{port}",
                "--device-ca-cert", str(folder / f"{STEM}.crt"),
                "--device-ca-key", str(folder / f"{STEM}.key"),
                "--device-broker", f"mqtts://{_shown(address)}:{port}",
                "--enroll-listen", f"{_shown(address)}:{enrolling}",
                "--status-socket", str(folder / SOCKET),
                "--revoked-file", str(folder / REVOKED),
                "--kubelet-cert", str(folder / "api" / "kubelet.crt"),
                "--kubelet-key", str(folder / "api" / "kubelet.key"),
                "--kubelet-client-ca", str(folder / "api" / "ca.crt"),
            ],
            (folder / SOCKET).exists,
            ending,
        ),
    ]  # fmt: skip
    keepers: list[asyncio.Task[None]] = []
    try:
        for child in children:
            await _unless(stop, child.start())
            if stop.is_set():
                return 0
            log(f"skerry-hub up: {child.name} is running")
        _explain(kubeconfig, folder)
        keepers = [asyncio.ensure_future(_keep(child)) for child in children]
        keepers.append(asyncio.ensure_future(_rules_kept(folder, children[0])))
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


def reachable(address: str) -> str:
    """`address` as --address may be: a name or an address of this machine, that can be listened on. Raises
    ConfigInvalid."""
    try:
        for found in _addresses(address):
            if ipaddress.ip_address(found.partition("%")[0]).is_unspecified:
                raise ConfigInvalid("--address", f"{address!r} is no address that a device can dial")
            family = socket.AF_INET6 if ":" in found else socket.AF_INET
            with socket.socket(family, socket.SOCK_STREAM) as sock:
                sock.bind((found, 0))
    except (OSError, UnicodeError) as why:
        reason = why.strerror if isinstance(why, OSError) else "no host name"
        raise ConfigInvalid("--address", f"{address!r} is none of this machine: {reason}") from None
    return address


# --- private ----------------------------------------------------------------------------------------------------------


def _addresses(host: str) -> tuple[str, ...]:
    """What a name stands for, each once. Raises OSError, UnicodeError."""
    found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(where[0]) for *_, where in found))


def _explain(kubeconfig: Path, folder: Path) -> None:
    lines = (
        "ready",
        f"kubectl:  export KUBECONFIG={kubeconfig}",
        f"a device: skerry-hub token create --node NAME --no-taint --kubeconfig {kubeconfig}",
        "          skerry enroll TOKEN && skerry run  (on the device, as root, beside containerd)",
        "a pod:    names its device in spec.nodeName, for there is no scheduler yet",
        f"look:     skerry-hub status --socket {folder / SOCKET}",
        f"a page:   skerry-hub ui --kubeconfig {kubeconfig} --socket {folder / SOCKET}",
    )
    for line in lines:
        log(f"skerry-hub up: {line}")


def _shown(host: str) -> str:
    """As a URL has it."""
    return f"[{host}]" if ":" in host else host


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


async def _rules_kept(folder: Path, broker: Child) -> None:
    """Let the broker hear no more whom the hub has revoked. Its rules are written in place: it has that file open, in a
    folder that is closed to it."""
    clock, shown = SystemClock(), _revoked(folder)
    while True:
        await clock.sleep_until(clock.now() + REVOKED_LOOK_S)
        names = _revoked(folder)
        if names is None or names == shown:
            continue
        try:
            (folder / RULES).write_text(mosquitto.rules(mosquitto.hub_names(), sorted(names)))
        except OSError as why:
            log(f"skerry-hub up: {folder / RULES}: {why.strerror}") if shown is not None else None
            shown = None
            continue
        shown = names
        if broker.process is not None and broker.process.returncode is None:
            with suppress(ProcessLookupError):
                broker.process.send_signal(signal.SIGHUP)
        log(f"skerry-hub up: the broker hears {len(names)} revoked nodes no more")


def _revoked(folder: Path) -> set[str] | None:
    """None while it cannot be read."""
    try:
        return revoked_file.read(folder / REVOKED)
    except (OSError, UnicodeDecodeError):
        return None


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


@contextmanager
def _folder(data: Path) -> Iterator[Path]:
    """The folder, for this process alone. Raises ConfigInvalid and SkerryError."""
    folder = data.absolute()
    try:
        folders.private(folder)
    except folders.FolderError as why:
        raise ConfigInvalid("--data", str(why)) from None
    try:
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as why:
        raise ConfigInvalid("--data", f"{data}: {why.strerror}") from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for name in (SOCKET, KUBECONFIG):  # they say that their part is ready
                (folder / name).unlink(missing_ok=True)
        except BlockingIOError:
            raise SkerryError(f"{data}: another skerry-hub up runs on this folder") from None
        except OSError as why:
            raise ConfigInvalid("--data", f"{data}: {why.strerror}") from None
        yield folder
    finally:
        os.close(lock)


def _self() -> list[str]:
    """What this process was started as: a package's launcher knows where its libraries are, a bare Python does not."""
    program = Path(sys.argv[0])
    if program.name == PROGRAM and os.access(program, os.X_OK):
        return [str(program.resolve())]
    return [sys.executable, "-m", "skerry_hub.cli"]


def _mosquitto(folder: Path, address: str, port: int, authority: pki.Pair) -> Child:
    """On `address` for the devices and on loopback for the hub."""
    binary = shutil.which("mosquitto") or shutil.which("mosquitto", path=SBIN)
    if binary is None:
        raise SkerryError("mosquitto is not installed (Debian: apt install mosquitto)")
    user = _broker_user()
    # The broker runs as nobody, to whom the folder is closed: it gets its files open.
    names = tuple(dict.fromkeys((LOOPBACK, "localhost", address)))
    pki_files.pair(folder, "broker", authority, "mosquitto", (), names)
    _write_private(folder / RULES, mosquitto.rules(mosquitto.hub_names(), sorted(_revoked(folder) or ())))
    own = [folder / name for name in (f"{STEM}.crt", "broker.crt", "broker.key", RULES)]
    fds = [_open_for(file, user) for file in own]
    files = mosquitto.Files(*(f"/proc/self/fd/{fd}" for fd in fds))
    file = folder / "mosquitto.conf"
    # As numbers, because a name may be loopback's too, and mosquitto listens twice on none.
    listens = tuple(dict.fromkeys((LOOPBACK, *_addresses(address))))
    _write_private(file, mosquitto.configuration(listens, port, files))
    fds.append(_open_for(file, user))
    argv = [binary, "-c", f"/proc/self/fd/{fds[-1]}"]
    return Child("mosquitto", argv, lambda: _listens(port), partial(_become, user, os.getpid()), tuple(fds))


def _open_for(file: Path, user: pwd.struct_passwd | None) -> int:
    """The file, open, and by no other than `user` to be opened again. Raises ConfigInvalid."""
    try:
        if user is not None and file.suffix != ".crt":
            os.chown(file, user.pw_uid, user.pw_gid)
        return os.open(file, os.O_RDONLY)
    except OSError as why:
        raise ConfigInvalid("--data", f"{file}: {why.strerror}") from None


async def _port(folder: Path, name: str, asked: int | None, usual: int, others: int = 0) -> int:
    """The given port, else the one of last time, else the usual or a free one, not `others`; remembered, because
    devices are told it. Raises ConfigInvalid and SkerryError."""
    if asked is not None and not 0 <= asked < 1 << 16:
        raise ConfigInvalid(f"--{name}", f"must be between 0 and 65535, got {asked}")
    file, before = folder / name, 0
    with suppress(OSError, ValueError):
        before = int(file.read_text())
    port = asked or 0
    if asked is None:
        port = before if 0 < before < 1 << 16 else 0
        port = port or (usual if not _listens(usual) else 0)
    if not port:
        with socket.socket() as sock:
            sock.bind((LOOPBACK, 0))
            port = int(sock.getsockname()[1])
    if port == others:
        raise ConfigInvalid(f"--{name}", f"{port} is for the broker already")
    if port == before:
        await _freed(port)
    if _listens(port):
        raise SkerryError(f"{LOOPBACK}:{port} is taken; choose another one with --{name}")
    if port != before:
        _write_private(file, f"{port}\n")
    return port


async def _freed(port: int) -> None:
    """Children of an earlier one, which was killed, may be about to end."""
    clock = SystemClock()
    deadline = clock.now() + CHILD_STOP_S
    while _listens(port) and clock.now() < deadline:
        await clock.sleep_until(clock.now() + POLL_S)


def _write_private(file: Path, text: str) -> None:
    try:
        pki.write_private(file, text.encode())
    except pki.PkiError as why:
        raise ConfigInvalid("--data", str(why)) from None


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        sock.settimeout(1.0)
        return sock.connect_ex((LOOPBACK, port)) == 0


def _die_too(parent: int) -> None:
    """In the child: end when the parent does, also where it has ended before this."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _broker_user() -> pwd.struct_passwd | None:
    """Who the broker is; None: who we are, who are nobody in particular."""
    if os.getuid() == 0:
        for name in BROKER_USERS:
            with suppress(KeyError):
                return pwd.getpwnam(name)
    return None


def _become(user: pwd.struct_passwd | None, parent: int) -> None:
    """In the child: be `user` from the beginning; changing users later would undo _die_too."""
    if user is not None:
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
    _die_too(parent)
