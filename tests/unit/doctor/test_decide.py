"""What each fact means: verdict, why and cure. A fail is what keeps pods from running, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from skerry.doctor import decide
from skerry.doctor.decide import (
    Answer,
    Broker,
    Cgroups,
    Check,
    Clock,
    Disk,
    Facts,
    Identity,
    Journal,
    Kernel,
    Runtime,
    Verdict,
    Watchdog,
    checks,
)
from skerry.limits import MIB

GOOD = Facts(
    cgroups=Cgroups("v2", ("cpu", "memory", "pids")),
    kernel=Kernel("6.1", {"overlayfs": Answer.YES}),
    runtime=Runtime("/run/c.sock", Answer.YES, "containerd://1.6.20", "/usr/bin/crun", "99-skerry.conflist"),
    disk=Disk("/var/lib/skerry", False, 1000 * MIB, 500 * MIB, 1000, 500, Answer.YES),
    clock=Clock(2_000.0, 1_000.0, "rtc0", True),
    identity=Identity("/var/lib/skerry", Answer.YES, "", "pi", "mqtts://hub:8883", 0.0, 9e6),
    broker=Broker("hub:1883"),
    journal=Journal("/var/lib/skerry/journal", Answer.YES, "", 7, 0.1),
    watchdog=Watchdog("/dev/watchdog0", "Broadcom BCM2835", True),
)


def of(part: str, **changes: Any) -> Check:
    """The verdict on a good board's part with something changed. All others stay good."""
    facts = replace(GOOD, **{part: replace(getattr(GOOD, part), **changes)})
    bad = [c for c in checks(facts) if c.verdict is not Verdict.OK]
    assert len(bad) == 1, bad
    return bad[0]


def test_a_good_board_is_good_in_everything() -> None:
    found = checks(GOOD)
    assert [c.name for c in found] == [
        "cgroups", "kernel", "runtime", "network", "disk", "journal", "clock", "identity", "broker", "watchdog",
    ]  # fmt: skip
    assert all(c.verdict is Verdict.OK and c.why and not c.cure for c in found)


CASES = [
    ("cgroups", {"version": "", "controllers": ()}, Verdict.FAIL, "no control groups", "cgroup2"),
    ("cgroups", {"controllers": ("cpu", "pids")}, Verdict.WARN, "without their memory limits", "add cgroup_enable=mem"),
    (
        "cgroups",
        {"controllers": ("cpu", "pids"), "command_line": "/boot/firmware/cmdline.txt"},
        Verdict.WARN,
        "memory controller is off",
        "add cgroup_enable=memory to /boot/firmware/cmdline.txt, in its single line, and reboot",
    ),
    (
        "cgroups",
        {"controllers": (), "disabled": True, "command_line": "/etc/default/grub"},
        Verdict.WARN,
        "memory controller is off",
        "take cgroup_disable=memory out of /etc/default/grub and reboot",
    ),
    ("cgroups", {"controllers": ("memory",)}, Verdict.WARN, "without cpu, pids", "kernel"),
    (
        "kernel",
        {"needs": {"overlayfs": Answer.NO, "x": Answer.UNKNOWN}},
        Verdict.FAIL,
        "nothing for: overlayfs",
        "inst",
    ),
    ("kernel", {"needs": {"overlayfs": Answer.UNKNOWN}}, Verdict.WARN, "cannot be told", "config"),
    ("runtime", {"answer": Answer.NO, "said": "no such socket"}, Verdict.FAIL, "c.sock: no such socket", "containerd"),
    ("runtime", {"answer": Answer.FORBIDDEN}, Verdict.WARN, "only root", "as root"),
    ("runtime", {"oci": ""}, Verdict.FAIL, "neither crun nor runc", "apt install crun"),
    ("runtime", {"network": ""}, Verdict.FAIL, "no CNI configuration", "conflist"),
    ("runtime", {"plugins_missing": ("portmap",)}, Verdict.FAIL, "not here: portmap", "containernetworking-plugins"),
    ("disk", {"read_only": True}, Verdict.FAIL, "read-only", "writable"),
    ("disk", {"problem": "Input/output error"}, Verdict.FAIL, "Input/output error", "mount"),
    ("disk", {"free_bytes": 15 * MIB}, Verdict.FAIL, "15 MiB of 1000 MiB free", "crictl rmi"),
    ("disk", {"free_bytes": 99 * MIB}, Verdict.WARN, "99 MiB of", "crictl rmi"),
    ("disk", {"inodes_free": 49}, Verdict.WARN, "49 of 1000 inodes", "inodes"),
    ("disk", {"ballast": Answer.NO}, Verdict.WARN, "reserve", "room"),
    ("clock", {"wall_s": 10.0}, Verdict.WARN, "not set", "time server"),
    ("clock", {"synchronized": False, "rtc": ""}, Verdict.WARN, "may be behind", "time server"),
    ("identity", {"answer": Answer.FORBIDDEN}, Verdict.WARN, "only root", "as root"),
    ("identity", {"answer": Answer.UNKNOWN, "problem": "is not JSON"}, Verdict.WARN, "is not JSON", "token create"),
    ("identity", {"answer": Answer.NO}, Verdict.WARN, "belongs to no hub", "skerry enroll --token-file F"),
    ("identity", {"answer": Answer.NO, "wanted": True}, Verdict.WARN, "wants a certificate", "token create"),
    ("identity", {"answer": Answer.NO, "token": True}, Verdict.WARN, "a token waits in /var/lib", "journalctl"),
    ("identity", {"token": True}, Verdict.WARN, "another token waits in", "journalctl"),
    ("identity", {"begins_s": -1e7, "ends_s": 3e6}, Verdict.WARN, "should have been renewed", "let it reach the hub"),
    ("identity", {"ends_s": 1_000.0}, Verdict.WARN, "which is over: no broker lets it in", "let it reach the hub"),
    ("identity", {"begins_s": 86_400.0}, Verdict.WARN, "only from 1970-01-02, and the clock says 1970-01-01", "clock"),
    ("identity", {"mode": 0o755}, Verdict.WARN, "has mode 0755", "chmod 700 /var/lib/skerry"),
    ("broker", {"address": ""}, Verdict.WARN, "has no hub", "skerry enroll"),
    ("broker", {"problem": "Connection refused"}, Verdict.WARN, "hub:1883: Connection refused; pods run on", "network"),
    ("journal", {"answer": Answer.NO}, Verdict.WARN, "no journal yet", "systemctl"),
    ("journal", {"answer": Answer.FORBIDDEN}, Verdict.WARN, "only root", "as root"),
    ("journal", {"answer": Answer.UNKNOWN, "problem": "CRC"}, Verdict.FAIL, "CRC", "second copy"),
    ("journal", {"used": 0.81}, Verdict.WARN, "generation 7, 81% of", "journal_bytes_max"),
    ("journal", {"quarantined": 2}, Verdict.WARN, "2 damaged before", "quarantine"),
    ("watchdog", {"device": ""}, Verdict.WARN, "no watchdog device", "driver"),
    ("watchdog", {"active": False}, Verdict.WARN, "nobody feeds it", "RuntimeWatchdogSec"),
]


@pytest.mark.parametrize(("part", "changes", "verdict", "why", "cure"), CASES)
def test_a_verdict_says_why_and_what_cures_it(
    part: str, changes: dict[str, Any], verdict: Verdict, why: str, cure: str
) -> None:
    check = of(part, **changes)
    assert check.verdict is verdict
    assert why in check.why
    assert cure in check.cure
    assert "\n" not in check.why + check.cure


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("disk", {"inodes": 0, "inodes_free": 0}),  # a file system that does not count them
        ("disk", {"ballast": Answer.UNKNOWN}),
        ("clock", {"synchronized": False}),
        ("clock", {"rtc": ""}),
        ("identity", {"answer": Answer.NO, "in_clear": True}),
    ],
)
def test_what_is_no_trouble(part: str, changes: dict[str, Any]) -> None:
    facts = replace(GOOD, **{part: replace(getattr(GOOD, part), **changes)})
    assert all(c.verdict is Verdict.OK for c in checks(facts))


def test_what_only_the_hub_would_miss_never_fails() -> None:
    assert decide.broker(Broker("hub:1883", "timed out")).verdict is not Verdict.FAIL
    assert decide.broker(Broker("")).verdict is not Verdict.FAIL
    assert decide.clock(Clock(0.0, 1e9)).verdict is not Verdict.FAIL
