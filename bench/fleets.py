"""What groups on real fleets share: agents with time stamps or from a private interpreter, containerd's events.

Decides nothing about figures.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from bench import traced
from fleet import Fleet, pod
from rig import Device, cgroups, until
from rig.process import Process

TASK = re.compile(r"^(\S+ \S+) \+0000 UTC \S+ /tasks/(start|exit) \{.*?\"container_id\":\"([0-9a-f]+)\"", re.MULTILINE)


class Stamped(Fleet):
    """A fleet whose agents and hub write when they do what."""

    def __enter__(self) -> Stamped:
        super().__enter__()
        return self

    def start_hub(self) -> None:
        argv = ["run", "--kubeconfig", str(self.site.kubeconfig), "--broker", "mqtt://127.0.0.1:1883"]
        self.hub = self.site.spawn(traced.argv("stamps", self.stamps("hub"), "hub", *argv), name="hub")
        self.hub.wait_log("ready", 60.0)

    def stamps(self, name: str) -> Path:
        return self.site.folder / f"stamps-{name}"


def stamped(fleet: Stamped) -> Callable[[Device], list[str]]:
    """agent_argv for a board of this fleet."""

    def argv(board: Device) -> list[str]:
        stamps = fleet.stamps(board.name)
        return traced.argv("stamps", stamps, "agent", "run", "--config", str(board.config_path))

    return argv


def read_stamps(path: Path, since: float) -> list[tuple[float, str]]:
    """(wall clock, word) from `since` on."""
    pairs = (line.split(" ", 1) for line in path.read_text().splitlines())
    return [(float(at), what) for at, what in pairs if float(at) >= since]


@dataclass(frozen=True)
class TaskEvent:
    """A task of containerd, by containerd's own clock."""

    at: float
    what: str  # start or exit
    container: str


class Events:
    """`ctr events` of a board: what containerd says happened and when, without asking it again and again."""

    def __init__(self, board: Device) -> None:
        self._process: Process = board.spawn(
            ["ctr", "--address", "/run/containerd/containerd.sock", "--namespace", "k8s.io", "events"], "events"
        )
        time.sleep(0.3)  # nothing tells that it is subscribed

    def since(self, at: float) -> list[TaskEvent]:
        found = []
        for stamp, what, container in TASK.findall(self._process.log()):
            day, clock = stamp.split()
            whole, _, part = clock.partition(".")
            moment = datetime.strptime(f"{day} {whole}", "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc)
            found.append(TaskEvent(moment.timestamp() + float(f"0.{part or 0}"), what, container))
        return [e for e in found if e.at >= at]

    def starts(self, at: float, count: int, timeout_s: float = 60.0) -> list[TaskEvent]:
        """Once `count` tasks (sandboxes included) were started since `at`."""

        def enough() -> list[TaskEvent]:
            found = [e for e in self.since(at) if e.what == "start"]
            return found if len(found) >= count else []

        return until(enough, f"{count} starts", timeout_s)


def weigh(fleet: Fleet, processes: int = 8) -> None:
    """To the scheduler the whole fleet is one group, which weighs no more than one process beside it. Let it weigh what
    its busy processes would without a group, so that a figure is less about what else runs on this machine."""
    for folder in cgroups.folders(fleet.site.run_.cgroup):
        for name, each in (("cpu.shares", 1024), ("cpu.weight", 100)):
            if (folder / name).exists():
                (folder / name).write_text(str(each * processes))


def grow(fleet: Fleet, board: Device, have: int, want: int) -> None:
    """Pods foot-HAVE … foot-(WANT-1), running."""
    names = [f"foot-{i}" for i in range(have, want)]
    if names:
        fleet.apply(*(pod(n, board.name) for n in names))
    for n in names:
        fleet.wait_phase(n)
    until(lambda: len(board.containers()) == want, f"{want} containers")


def empty(fleet: Fleet, board: Device) -> None:
    """Delete all pods and wait until nothing of them is left."""
    fleet.kubectl("delete", "pod", "--all", "--grace-period=1", "--timeout=60s")
    until(lambda: not board.containers() and not board.sandboxes(), "the board to be empty", 60)


DEVICE_PACKAGES = (
    "_cbor2*",
    "cbor2",
    "_cffi_backend*",
    "google",
    "grpclib",
    "h2",
    "hpack",
    "hyperframe",
    "lmdb",
    "multidict",
    "nacl",
    "paho",
)
NOT_COPIED = ("test", "tests", "idlelib", "tkinter", "lib2to3", "__pycache__", "site-packages", "ensurepip", "config-*")


def private_python(folder: Path) -> list[str]:
    """Copy interpreter, standard library, the device's packages, skerry and the libraries that they load into `folder`,
    compiled to .pyc; return the argv that runs skerry from there. But for libc's, no page is shared with another
    process of this machine."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    base, site, lib = Path(sys.base_prefix), folder / "site", folder / "lib"
    lib.mkdir()
    site.mkdir()
    shutil.copy2((base / "bin" / version).resolve(), folder / "python")
    shutil.copytree(base / "lib" / version, lib / version, ignore=shutil.ignore_patterns(*NOT_COPIED))
    packages = Path(sys.prefix) / "lib" / version / "site-packages"
    found = [p for pattern in (*DEVICE_PACKAGES, "uvloop") for p in packages.glob(pattern)]
    for path in (*found, traced.ROOT / "agent" / "skerry", traced.ROOT / "native" / "skerry_native"):
        if path.is_dir():
            shutil.copytree(path, site / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(path, site / path.name)
    for library in _libraries([folder / "python", *(lib / version / "lib-dynload").glob("*.so")]):
        shutil.copy2(library, lib / library.name)
    env = ["env", "-u", "PYTHONDONTWRITEBYTECODE", "-u", "PYTHONPYCACHEPREFIX", f"PYTHONHOME={folder}"]
    env += [f"PYTHONPATH={site}", f"LD_LIBRARY_PATH={lib}"]
    compiling = [*env, str(folder / "python"), "-m", "compileall", "-q", str(site), str(lib / version)]
    subprocess.run(compiling, check=False, capture_output=True)
    return [*env, str(folder / "python"), "-S", "-m", "skerry.cli"]


def _libraries(binaries: list[Path]) -> set[Path]:
    """What the dynamic linker loads for them, libc's own parts excepted."""
    listed = subprocess.run(["ldd", *map(str, binaries)], capture_output=True, text=True, check=False).stdout
    paths = {Path(m) for m in re.findall(r"=> (/\S+)", listed)}
    return {p for p in paths if not re.match(r"lib(c|m|dl|rt|pthread|util)\.so|ld-", p.name)}
