"""`make lock-image`: which Debian packages the boards' lists resolve to today, by apt, into the locks of the targets.

The versions come from this machine's own apt sources, through apt and its signature check. Fetching what is locked is
the build engine's; so is apt for another architecture, which is borrowed from there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from crossbuild import fetch
from crossbuild.declare import Unit, read_units
from crossbuild.errors import BuildError
from crossbuild.locks import lock_of, read_lock

from .check import STORE
from .lock import Pinned, written
from .read import Tree
from .refusal import ToolFailed
from .tool import run

_FIELD = re.compile(r"^(Package|Version|Architecture|SHA256): (.+)$", re.MULTILINE)
_INST = re.compile(r"^Inst (\S+) \((\S+) .*\[(\w+)\]\)", re.MULTILINE)


def lock(tree: Tree, target: str, arch: str, install: Sequence[str], unpack: Sequence[str]) -> list[Pinned]:
    """Pin all that `install` needs, and `unpack` by itself, in the target's two locks. Raises ToolFailed."""
    units, made = read_units(tree.folder / "root"), []
    for kind, names in (("debs", install), ("unpacked", unpack)):
        unit = units[f"roots:{kind}@{target}"]
        pins = _resolved(unit, names, closure=kind == "debs")
        path = lock_of(unit)
        said = read_lock(unit)
        path.write_text(written(arch, said["suite"], pins, said.get("pockets", ())))
        made += pins
    return made


def _resolved(unit: Unit, names: Sequence[str], closure: bool) -> list[Pinned]:
    try:
        apt = fetch.apt_of(unit, read_lock(unit), STORE)
        fetch.update(unit, apt)
    except BuildError as why:
        raise ToolFailed(str(why)) from why
    options = apt[2:]
    wanted = list(names)
    if closure:
        said = run(["apt-get", *options, "-s", "-o", "APT::Install-Recommends=false", "install", "?essential", *names])
        wanted = [f"{name.partition(':')[0]}={version}" for name, version, _ in _INST.findall(said)]
    # One question for all names: apt reads its lists anew for each.
    pins = []
    for stanza in run(["apt-cache", *options, "show", "--no-all-versions", *wanted]).strip().split("\n\n"):
        field = dict(_FIELD.findall(stanza))
        pins.append(Pinned(field["Package"], field["Version"], field["Architecture"], field["SHA256"]))
    return pins
