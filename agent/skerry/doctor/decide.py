"""Facts of a board → verdicts, each with why and a cure. Pure; `facts` reads them.

`fail`: pods cannot run, or would not survive; `warn`: they run, with less than there could be. What only the hub would
miss (a broker that does not answer, a clock that is wrong) never fails: pods run without it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from skerry.limits import JOURNAL_ALARM_RATIO, MIB
from skerry.plan.certificate import Life, Time, begun, ended, time_of

DISK_FREE_FAIL_BYTES = 16 * MIB  # less: neither an image nor the journal can grow
DISK_FREE_WARN_RATIO = 0.1
INODES_FREE_WARN_RATIO = 0.05
RENEW_LATE_PART = 0.3  # of a certificate's life is left: it should have been renewed
CGROUPS_WANTED = ("cpu", "pids")


class Verdict(str, Enum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Answer(str, Enum):
    """What asking came to."""

    YES = "yes"
    NO = "no"
    FORBIDDEN = "forbidden"  # only root may ask
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    verdict: Verdict
    why: str
    cure: str = ""


@dataclass(frozen=True, slots=True)
class Cgroups:
    version: str  # v2, v1, hybrid; empty: none is mounted
    controllers: tuple[str, ...] = ()
    disabled: bool = False  # cgroup_disable=memory on the kernel line
    command_line: str = ""  # the file that makes the kernel line, as far as it can be told


@dataclass(frozen=True, slots=True)
class Kernel:
    release: str
    needs: Mapping[str, Answer]  # what for → whether the kernel has it, as built in or as a module


@dataclass(frozen=True, slots=True)
class Runtime:
    socket: str
    answer: Answer
    said: str = ""  # its version, or why it did not answer
    oci: str = ""  # path of crun or runc
    network: str = ""  # the CNI configuration that is used
    plugins_missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Disk:
    folder: str
    read_only: bool = False
    total_bytes: int = 0
    free_bytes: int = 0
    inodes: int = 0  # 0: this file system does not count them
    inodes_free: int = 0
    ballast: Answer = Answer.UNKNOWN
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Clock:
    wall_s: float
    floor_s: float  # what it cannot be before: skerry's own files, the journal's last word
    rtc: str = ""  # its name
    synchronized: bool = False


@dataclass(frozen=True, slots=True)
class Broker:
    address: str  # empty: none is set
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this device is enrolled as. `answer` NO: it is not; UNKNOWN: it cannot be told (`problem`)."""

    folder: str
    answer: Answer
    problem: str = ""
    node: str = ""
    broker: str = ""
    begins_s: float = 0.0  # of the certificate
    ends_s: float = 0.0
    token: bool = False  # one lies here and waits
    wanted: bool = False  # by a broker with TLS in the configuration
    in_clear: bool = False  # that broker is one without TLS
    mode: int = 0o700  # of the folder


@dataclass(frozen=True, slots=True)
class Journal:
    folder: str
    answer: Answer  # whether it opens; NO: there is none yet
    problem: str = ""  # why it does not open
    generation: int = 0
    used: float = 0.0  # part of journal_bytes_max
    quarantined: int = 0  # damaged ones that were kept


@dataclass(frozen=True, slots=True)
class Watchdog:
    device: str  # empty: none
    identity: str = ""
    active: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    cgroups: Cgroups
    kernel: Kernel
    runtime: Runtime
    disk: Disk
    clock: Clock
    identity: Identity
    broker: Broker
    journal: Journal
    watchdog: Watchdog


def checks(facts: Facts) -> tuple[Check, ...]:
    """One verdict for each, in the order in which a person would cure them."""
    return (
        cgroups(facts.cgroups),
        kernel(facts.kernel),
        runtime(facts.runtime),
        network(facts.runtime),
        disk(facts.disk),
        journal(facts.journal),
        clock(facts.clock),
        identity(facts.identity, _time(facts.clock)),
        broker(facts.broker),
        watchdog(facts.watchdog),
    )


def cgroups(said: Cgroups) -> Check:
    name = "cgroups"
    if not said.version:
        cure = "boot with systemd, or mount cgroup2 at /sys/fs/cgroup"
        return Check(name, Verdict.FAIL, "no control groups are mounted: no container can be made", cure)
    if "memory" not in said.controllers:
        place = said.command_line or "the boot loader's kernel command line"
        less = "take cgroup_disable=memory out of" if said.disabled else "add cgroup_enable=memory to"
        why = f"{said.version}, but the memory controller is off: pods run without their memory limits"
        line = ", in its single line," if place.endswith("cmdline.txt") else ""
        return Check(name, Verdict.WARN, why, f"{less} {place}{line} and reboot")
    missing = [c for c in CGROUPS_WANTED if c not in said.controllers]
    if missing:
        why = f"{said.version} without {', '.join(missing)}: those limits of pods do nothing"
        return Check(name, Verdict.WARN, why, "boot a kernel that has them and does not turn them off")
    return Check(name, Verdict.OK, f"{said.version} with {', '.join(said.controllers)}")


def kernel(said: Kernel) -> Check:
    name, missing = "kernel", [what for what, answer in said.needs.items() if answer is Answer.NO]
    if missing:
        why = f"{said.release} has nothing for: {', '.join(missing)}"
        return Check(name, Verdict.FAIL, why, "install a kernel that has it, and the modules of the kernel that runs")
    unknown = [what for what, answer in said.needs.items() if answer is not Answer.YES]
    if unknown:
        why = f"{said.release}: it cannot be told whether it has: {', '.join(unknown)}"
        return Check(name, Verdict.WARN, why, "make /proc/config.gz or /boot/config-* readable")
    return Check(name, Verdict.OK, f"{said.release} has {', '.join(said.needs)}")


def runtime(said: Runtime) -> Check:
    name = "runtime"
    if said.answer is Answer.FORBIDDEN:
        return Check(name, Verdict.WARN, f"{said.socket}: only root may ask it", "run skerry doctor as root")
    if said.answer is not Answer.YES:
        cure = "install and start containerd, or set containerd_socket; systemctl status containerd says more"
        return Check(name, Verdict.FAIL, f"containerd does not answer at {said.socket}: {said.said}", cure)
    if not said.oci:
        cure = "apt install crun, and name it in containerd's configuration"
        return Check(name, Verdict.FAIL, f"{said.said}, but neither crun nor runc is here", cure)
    return Check(name, Verdict.OK, f"{said.said} with {said.oci}")


def network(said: Runtime) -> Check:
    name = "network"
    if not said.network:
        cure = "install one of /usr/share/doc/containernetworking-plugins, or skerry's own 99-skerry.conflist"
        return Check(name, Verdict.FAIL, "no CNI configuration in /etc/cni/net.d: no pod gets an address", cure)
    if said.plugins_missing:
        why = f"{said.network} names plugins that are not here: {', '.join(said.plugins_missing)}"
        return Check(name, Verdict.FAIL, why, "apt install containernetworking-plugins")
    return Check(name, Verdict.OK, f"pods get their addresses by {said.network}")


def disk(said: Disk) -> Check:
    name, free = "disk", f"{_size(said.free_bytes)} of {_size(said.total_bytes)} free in {said.folder}"
    if said.problem:
        return Check(name, Verdict.FAIL, f"{said.folder}: {said.problem}", "mount the data partition, or set data_dir")
    if said.read_only:
        cure = "mount it writable; if the kernel did this itself, check the file system and the medium (dmesg)"
        return Check(name, Verdict.FAIL, f"{said.folder} is read-only: nothing can be journaled", cure)
    if said.free_bytes < DISK_FREE_FAIL_BYTES:
        return Check(name, Verdict.FAIL, free, "remove images (crictl rmi --prune), logs or files")
    if said.ballast is Answer.NO:
        why = f"{free}, and the journal has given back its reserve: the disk was full"
        return Check(name, Verdict.WARN, why, "make room; the reserve is made again by itself")
    if said.free_bytes < said.total_bytes * DISK_FREE_WARN_RATIO:
        return Check(name, Verdict.WARN, free, "remove images (crictl rmi --prune), logs or files")
    if said.inodes and said.inodes_free < said.inodes * INODES_FREE_WARN_RATIO:
        why = f"{said.inodes_free} of {said.inodes} inodes free in {said.folder}"
        return Check(name, Verdict.WARN, why, "remove small files, or make the file system anew with more inodes")
    return Check(name, Verdict.OK, free)


def journal(said: Journal) -> Check:
    name = "journal"
    if said.answer is Answer.FORBIDDEN:
        return Check(name, Verdict.WARN, f"{said.folder}: only root may read it", "run skerry doctor as root")
    if said.answer is Answer.NO:
        cure = "systemctl enable --now skerry"
        return Check(name, Verdict.WARN, f"{said.folder} holds no journal yet: skerry has not run here", cure)
    if said.answer is not Answer.YES:
        cure = "systemctl restart skerry: it recovers from the second copy; journalctl -u skerry says what it did"
        return Check(name, Verdict.FAIL, said.problem, cure)
    why = f"generation {said.generation}, {said.used:.0%} of journal_bytes_max used"
    if said.used > JOURNAL_ALARM_RATIO:
        return Check(name, Verdict.WARN, why, "set journal_bytes_max higher, or give this device fewer objects")
    if said.quarantined:
        cure = f"look at or delete {said.folder}/quarantine; if it comes again, check the medium"
        return Check(name, Verdict.WARN, f"{why}; {said.quarantined} damaged before, and recovered", cure)
    return Check(name, Verdict.OK, why)


def clock(said: Clock) -> Check:
    name = "clock"
    rtc = f"real-time clock {said.rtc}" if said.rtc else "no real-time clock"
    if said.wall_s < said.floor_s:
        why = f"it is not set: it shows a time before this skerry was made or last wrote; {rtc}"
        return Check(name, Verdict.WARN, why, "let it reach a time server; pods run meanwhile, times in logs are wrong")
    if said.synchronized:
        return Check(name, Verdict.OK, f"synchronized since boot, {rtc}")
    if not said.rtc:
        why = f"not synchronized since boot, and {rtc}: it may be behind"
        return Check(name, Verdict.WARN, why, "let it reach a time server, or fit a real-time clock")
    return Check(name, Verdict.OK, f"not synchronized since boot, {rtc}")


def _time(said: Clock) -> Time:
    """As the agent takes it before a hub has told it."""
    return time_of(said.wall_s, said.synchronized, said.floor_s, None, 0.0)


def identity(said: Identity, time: Time) -> Check:
    """Whether this device is one of a hub, and for how long its certificate is good: by a clock that is sure, else by
    what the time is at least."""
    name, anew = "identity", "skerry-hub token create --node NODE, then skerry enroll --token-file F"
    if said.answer is Answer.FORBIDDEN:
        return Check(name, Verdict.WARN, f"{said.folder}: only root may read it", "run skerry doctor as root")
    if said.mode & 0o077:
        why = f"{said.folder} has mode {said.mode:04o}: the device's key lies there, and others may look in"
        return Check(name, Verdict.WARN, why, f"chmod 700 {said.folder}")
    if said.answer is Answer.UNKNOWN:
        return Check(name, Verdict.WARN, said.problem, anew)
    if said.answer is Answer.NO:
        if said.token:
            cure = "journalctl -u skerry says what the hub answered; another token in its place is tried at once"
            return Check(name, Verdict.WARN, f"not enrolled; a token waits in {said.folder}", cure)
        if said.in_clear:
            return Check(name, Verdict.OK, "not enrolled; the configured broker is one in clear")
        what = "the configured broker wants a certificate" if said.wanted else "this device belongs to no hub"
        return Check(name, Verdict.WARN, f"not enrolled: {what}", anew)
    who = f"enrolled as {said.node} at {said.broker}, certificate valid until {_day(said.ends_s)}"
    life, left_s = Life(said.begins_s, said.ends_s), said.ends_s - time.least_s
    if not begun(life, time):
        why = f"{who}, but only from {_day(said.begins_s)}, and the clock says {_day(time.now_s)}"
        return Check(name, Verdict.WARN, why, "let the clock reach a time server")
    reach = "let it reach the hub, which renews it; journalctl -u skerry | grep renewal says why not"
    if ended(life, time):
        return Check(name, Verdict.WARN, f"{who}, which is over: no broker lets it in; pods run on", reach)
    if left_s < (said.ends_s - said.begins_s) * RENEW_LATE_PART:
        return Check(name, Verdict.WARN, f"{who}, and should have been renewed by now", reach)
    if said.token:
        cure = "journalctl -u skerry says what the hub answered; without it there: nothing changes"
        return Check(name, Verdict.WARN, f"{who}; another token waits in {said.folder}", cure)
    return Check(name, Verdict.OK, who)


def broker(said: Broker) -> Check:
    name = "broker"
    if not said.address:
        cure = "enrol it: skerry-hub token create --node NODE, then skerry enroll --token-file F"
        return Check(name, Verdict.WARN, "none is set: this device has no hub, and runs what its journal holds", cure)
    if said.problem:
        cure = "check the network, the hub's address and its firewall; nothing is lost, it is tried again and again"
        return Check(name, Verdict.WARN, f"{said.address}: {said.problem}; pods run on", cure)
    return Check(name, Verdict.OK, f"{said.address} answers")


def watchdog(said: Watchdog) -> Check:
    name = "watchdog"
    if not said.device:
        cure = "load the board's watchdog driver (on a Pi: dtparam=watchdog=on), then set RuntimeWatchdogSec="
        return Check(name, Verdict.WARN, "no watchdog device: a frozen kernel stays frozen", cure)
    if not said.active:
        why = f"{said.device} ({said.identity or 'unknown'}) is there, and nobody feeds it"
        return Check(name, Verdict.WARN, why, "set RuntimeWatchdogSec= in /etc/systemd/system.conf.d/, and reboot")
    return Check(name, Verdict.OK, f"{said.device} ({said.identity or 'unknown'}) is fed")


def _size(count: int) -> str:
    return f"{count / MIB:.0f} MiB" if count < 10 * 1024 * MIB else f"{count / MIB / 1024:.0f} GiB"


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))
