"""Run a command as skerry.service would let it run, without systemd: `python -m unit.packaging.confined UNIT ARGV…`.

What systemd.exec(5) says of the options in HANDLED, done with setpriv(1) and libseccomp. Groups of system calls are
those of the installed systemd-analyze. Needs root.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

HANDLED = {
    "CapabilityBoundingSet", "SystemCallFilter", "SystemCallErrorNumber", "RestrictAddressFamilies",
    "RestrictNamespaces", "MemoryDenyWriteExecute", "UMask",
}  # fmt: skip
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
EQ, MASKED_EQ = 4, 7
NO_NEW_PRIVS = 3  # SCMP_FLTATR_CTL_NNP
W, X = 2, 4
KINDS = {"net": 0x40000000}  # as far as a unit of ours names them; to another one no process goes
NAMESPACES = 0x7E020080  # CLONE_NEW*, without CLONE_NEWTIME, which clone(2) does not take


class Compare(ctypes.Structure):
    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


def options(unit: Path) -> dict[str, list[str]]:
    """Every option of a unit with its values in order; comments left out."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith(("#", ";", "[")):
            found.setdefault(name, []).append(value)
    return found


def group(name: str) -> set[str]:
    """The system calls of a group, groups within it resolved."""
    if not name.startswith("@"):
        return {name}
    said = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True)
    words = [line.strip() for line in said.stdout.splitlines()[1:]]
    return {call for word in words if word and not word.startswith("#") for call in group(word)}


def allowed(filters: list[str]) -> set[str]:
    """SystemCallFilter= lines: the first allows, those with ~ take away. What exec needs is always there."""
    calls: set[str] = set()
    for line in filters:
        names = {call for word in line.removeprefix("~").split() for call in group(word)}
        calls = calls - names if line.startswith("~") else calls | names
    return calls | group("@default")


def confine(unit: Path) -> None:
    """Apply the filters of a unit to this process and all that it will run."""
    said = options(unit)
    lib = ctypes.CDLL("libseccomp.so.2")
    lib.seccomp_init.restype = ctypes.c_void_p
    rules = ctypes.c_void_p(lib.seccomp_init(ERRNO | errno.EPERM))
    assert lib.seccomp_attr_set(rules, NO_NEW_PRIVS, 0) == 0

    def rule(call: str, *compare: Compare, action: int = ALLOW) -> None:
        number = lib.seccomp_syscall_resolve_name(call.encode())
        if number >= 0:
            array = (Compare * max(1, len(compare)))(*compare)
            assert lib.seccomp_rule_add_array(rules, action, number, len(compare), array) == 0, call

    kept = [word for word in said["RestrictNamespaces"][0].split() if word in KINDS]
    refused = NAMESPACES & ~sum(KINDS[kind] for kind in kept)
    special = {
        "mmap": [Compare(2, MASKED_EQ, W | X, value) for value in (0, W, X)],
        "mprotect": [Compare(2, MASKED_EQ, X, 0)],
        "pkey_mprotect": [Compare(2, MASKED_EQ, X, 0)],
        "socket": [Compare(0, EQ, getattr(socket, name)) for name in said["RestrictAddressFamilies"][0].split()],
        "clone": [Compare(0, MASKED_EQ, refused, 0)],
        "unshare": [Compare(0, MASKED_EQ, refused, 0)],
        "setns": [Compare(1, EQ, KINDS[kind]) for kind in kept],
    }
    for call in sorted(allowed(said["SystemCallFilter"]) - {"clone3"}):
        for compare in special.get(call, [None]):
            rule(call, *([compare] if compare else []))
    rule("clone3", action=ERRNO | errno.ENOSYS)  # as systemd does: its flags lie in memory
    os.umask(int(said["UMask"][0], 8))
    assert lib.seccomp_load(rules) == 0


def command(unit: Path, argv: list[str]) -> list[str]:
    """What runs `argv` under the unit's capabilities and filters."""
    capabilities = [
        f"+{word.removeprefix('CAP_').lower()}" for word in options(unit)["CapabilityBoundingSet"][0].split()
    ]
    bounds = ",".join(["-all", *capabilities])
    return ["setpriv", "--bounding-set", bounds, "--inh-caps=-all", sys.executable, __file__, str(unit), *argv]


if __name__ == "__main__":
    confine(Path(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
