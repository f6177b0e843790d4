"""A board → its facts, by reading only. Decides nothing: what could not be asked is told as such.

Everything lies below a root, so that a test can show another board.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gzip
import json
import os
import shutil
import socket
import stat
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import skerry
from skerry import identity as stored
from skerry.boot import journal_folder
from skerry.config import Config
from skerry.containerd.adapter import version_within
from skerry.doctor.decide import (
    Answer,
    Broker,
    Cgroups,
    Clock,
    Disk,
    Facts,
    Identity,
    Journal,
    Kernel,
    Runtime,
    Watchdog,
)
from skerry.doctor.kernel_needs import needs
from skerry.errors import IdentityBroken, Malformed, SkerryError, StoreBroken
from skerry.journal.record import DESIRED, HISTORY, OBJECT, read_decision, read_desired, read_object
from skerry.wire import x509
from skerry.wire.address import broker_address
from skerry.world.clock import SystemClock
from skerry.world.store import ENV, SHELF, open_reader

ROOT = Path("/")
ANSWER_S = 3.0  # for the broker, and for containerd
REPLY_BYTES_MAX = 64 * 1024
COMMAND_LINES = ("boot/firmware/cmdline.txt", "boot/cmdline.txt", "boot/extlinux/extlinux.conf", "etc/default/grub")
CNI_CONFIGS, CNI_PLUGINS = "etc/cni/net.d", ("usr/lib/cni", "opt/cni/bin")


def look(config: Config, root: Path = ROOT) -> Facts:
    """Raises nothing for what a board may lack."""
    journal, last_s = _journal(config, root)
    identity = _identity(config, root)
    return Facts(
        cgroups=_cgroups(root),
        kernel=_kernel(root),
        runtime=_runtime(config, root),
        disk=_disk(config, root),
        clock=_clock(root, last_s),
        identity=identity,
        broker=_broker(config, identity),
        journal=journal,
        watchdog=_watchdog(root),
    )


def below(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


def _cgroups(root: Path) -> Cgroups:
    groups, line = root / "sys/fs/cgroup", _text(root / "proc/cmdline").split()
    off = [word.partition("=")[2].split(",") for word in line if word.startswith("cgroup_disable=")]
    place = next((f"/{name}" for name in COMMAND_LINES if _there(root / name)), "")
    disabled = any("memory" in words for words in off)
    if _there(groups / "cgroup.controllers"):
        return Cgroups("v2", tuple(_text(groups / "cgroup.controllers").split()), disabled, place)
    names = {"memory": "memory.limit_in_bytes", "cpu": "cpu.shares", "pids": "cgroup.procs", "devices": "cgroup.procs"}
    there = tuple(sorted(name for name, file in names.items() if _there(groups / name / file)))
    version = "hybrid" if _there(groups / "unified/cgroup.controllers") else "v1"
    return Cgroups(version if there else "", there, disabled, place)


def _kernel(root: Path) -> Kernel:
    release = os.uname().release if root == ROOT else _text(root / "proc/sys/kernel/osrelease")
    return Kernel(release, needs(root, release))


def _runtime(config: Config, root: Path) -> Runtime:
    path = below(root, config.containerd_socket)
    oci = next((found for name in ("crun", "runc") if (found := _program(root, name))), "")
    network, missing = _network(root)
    answer, said = _ask(path)
    return Runtime(str(config.containerd_socket), answer, said, oci, network, missing)


def _ask(path: Path) -> tuple[Answer, str]:
    try:
        path.stat()
    except OSError as why:
        return (Answer.FORBIDDEN if isinstance(why, PermissionError) else Answer.NO), why.strerror or "no such socket"
    if not os.access(path, os.W_OK):
        return Answer.FORBIDDEN, ""
    try:
        return Answer.YES, asyncio.run(version_within(path, SystemClock(), ANSWER_S))
    except SkerryError as why:
        return Answer.NO, str(why)


def _network(root: Path) -> tuple[str, tuple[str, ...]]:
    """The CNI configuration that sorts first, as libcni chooses, and which of its plugins are not here."""
    for file in _listed(root / CNI_CONFIGS):
        if file.suffix not in (".conflist", ".conf", ".json"):
            continue
        try:
            said = json.loads(_text(file))
            plugins = said["plugins"] if file.suffix == ".conflist" else [said]
            wanted = [p["type"] for p in plugins] + [p["ipam"]["type"] for p in plugins if "ipam" in p]
        except (ValueError, KeyError, TypeError):
            return f"{file.name} (cannot be read)", ()
        return file.name, tuple(name for name in wanted if not any(_there(root / d / name) for d in CNI_PLUGINS))
    return "", ()


def _program(root: Path, name: str) -> str:
    if root == ROOT:
        return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin") or ""
    places = (f"usr/bin/{name}", f"usr/sbin/{name}", f"usr/local/bin/{name}")
    return next((f"/{place}" for place in places if _there(root / place)), "")


def _disk(config: Config, root: Path) -> Disk:
    folder = below(root, config.data_dir)
    while not _there(folder) and folder != root:
        folder = folder.parent
    try:
        has = os.statvfs(folder)
    except OSError as why:
        return Disk(str(config.data_dir), problem=why.strerror or "cannot be asked")
    ballast = Answer.UNKNOWN
    journal = below(root, journal_folder(config))
    if _there(journal / ENV):
        ballast = Answer.YES if _there(journal / "ballast") else Answer.NO
    total, free = has.f_blocks * has.f_frsize, has.f_bavail * has.f_frsize
    read_only = bool(has.f_flag & os.ST_RDONLY)
    return Disk(str(config.data_dir), read_only, total, free, has.f_files, has.f_favail, ballast)


def _clock(root: Path, last_s: float) -> Clock:
    made_s = Path(skerry.__file__).stat().st_mtime
    rtc = next((_text(rtc / "name") or rtc.name for rtc in _listed(root / "sys/class/rtc")), "")
    synchronized = _there(root / "run/systemd/timesync/synchronized")
    return Clock(time.time(), max(made_s, last_s), rtc, synchronized)


def _identity(config: Config, root: Path) -> Identity:
    folder = below(root, config.data_dir)
    in_clear = bool(config.broker_host) and not config.broker_tls
    told = partial(
        Identity,
        str(config.data_dir),
        token=_there(folder / stored.TOKEN),
        wanted=config.broker_tls,
        in_clear=in_clear,
    )
    try:
        mode = stat.S_IMODE(folder.stat().st_mode)
        enrolled = stored.read(folder)
        if enrolled is None:
            return told(Answer.NO, mode=mode)
        issued = enrolled.issued
        ours = x509.read(x509.pem_blocks(issued.certificate)[0])
    except FileNotFoundError:
        return told(Answer.NO)
    except PermissionError:
        return told(Answer.FORBIDDEN)
    except (IdentityBroken, Malformed, OSError) as why:
        return told(Answer.UNKNOWN, str(why))
    return told(Answer.YES, "", issued.node, issued.broker, ours.begins, ours.ends, mode=mode)


def _broker(config: Config, identity: Identity) -> Broker:
    """The configured one, else the one that enrolment gave."""
    host, port = config.broker_host, config.broker_port
    if not host and identity.broker:
        try:
            given = broker_address(identity.broker)
        except Malformed as why:
            return Broker(identity.broker, str(why))
        host, port = given.host, given.port
    if not host:
        return Broker("")
    address = f"{host}:{port}"
    try:
        socket.create_connection((host, port), ANSWER_S).close()
    except OSError as why:
        return Broker(address, why.strerror or str(why) or type(why).__name__)
    return Broker(address)


def _watchdog(root: Path) -> Watchdog:
    for device in _listed(root / "sys/class/watchdog"):
        return Watchdog(f"/dev/{device.name}", _text(device / "identity"), _text(device / "state") == "active")
    return Watchdog("/dev/watchdog" if _there(root / "dev/watchdog") else "")


# --- the journal ------------------------------------------------------------------------------------------------------


def _journal(config: Config, root: Path) -> tuple[Journal, float]:
    """And the time of its last decision, 0 if it tells none."""
    folder, name = below(root, journal_folder(config)), str(journal_folder(config))
    try:
        (folder / ENV / "data.mdb").stat()
        if not os.access(folder / ENV / "data.mdb", os.R_OK):
            return Journal(name, Answer.FORBIDDEN), 0.0
    except PermissionError:
        return Journal(name, Answer.FORBIDDEN), 0.0
    except OSError:
        return Journal(name, Answer.NO), 0.0
    said = _in_child(folder, config.journal_bytes_max)
    if "problem" in said:
        return Journal(name, Answer.UNKNOWN, said["problem"]), 0.0
    quarantined = len(list(_listed(folder / SHELF)))
    journal = Journal(name, Answer.YES, "", said["generation"], said["used"], quarantined)
    return journal, float(said["last_s"])


def _in_child(folder: Path, map_bytes: int) -> dict[str, Any]:
    """Read in a forked child: a damaged file may kill the process that maps it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            faulthandler.disable()
            os.write(writing, json.dumps(_read(folder, map_bytes)).encode()[:REPLY_BYTES_MAX])
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        said = answer.read(REPLY_BYTES_MAX)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) or not said:
        return {"problem": f"reading it ends the process with signal {os.WTERMSIG(status)}"}
    told: dict[str, Any] = json.loads(said)
    return told


def _read(folder: Path, map_bytes: int) -> dict[str, Any]:
    try:
        reader = open_reader(folder)
        try:
            head = reader.get(DESIRED)
            if head is None:
                raise StoreBroken(f"journal {folder}: it was made and nothing is in it yet")
            desired = read_desired(head, [read_object(k, v) for k, v in reader.scan(OBJECT)])
            last_ms = max((read_decision(k, v).at_ms for k, v in reader.scan(HISTORY)), default=0)
            used = reader.used_bytes() / map_bytes
        finally:
            reader.close()
    except SkerryError as why:
        return {"problem": str(why)[:1000]}
    return {"generation": desired.generation, "used": used, "last_s": last_ms / 1000}


# --- files ------------------------------------------------------------------------------------------------------------


def _there(path: Path) -> bool:
    try:
        path.stat()
    except OSError:
        return False
    return True


def _listed(folder: Path) -> Iterable[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return ()


def _text(path: Path) -> str:
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, gzip.BadGzipFile):
        return ""
    return data.decode(errors="replace").strip(" \n\0")
