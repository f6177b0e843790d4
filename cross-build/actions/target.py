"""What a build is for: the eleven values of `targets/NAME.toml`, checked. Knows no tool."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path

from refusal import Refusal, Refusals, toml

FEATURES = ("neon", "d32", "v8")
_FORMS = {
    "arch": r"aarch64|armv7l|x86_64",
    "suite": r"[a-z]+",
    "python": r"3\.\d+",
    "triple": r"[a-z0-9_]+-linux-gnu(eabihf)?",
    "mcpu": r"[a-z0-9_+-]+",
    "glibc_min": r"2\.\d+",
    "glibc_max": r"2\.\d+",
    "float_abi": r"hard|soft",
    "abi3": r"[a-z0-9]+-[a-z]+",
    "sysroot": r"[a-z0-9]+-[a-z]+",
}


@dataclass(frozen=True, slots=True)
class Target:
    """One architecture, suite and Python.

    `glibc_min` is what our compiler links against, `glibc_max` the newest symbol version that the target's libc has.
    `abi3` names the target whose wheel of our native modules is taken: one does for every suite of an architecture.
    `sysroot` names the target whose Debian packages are there at the build: its own, where Debian has the suite.
    """

    arch: str
    suite: str
    python: str
    triple: str
    mcpu: str
    glibc_min: str
    glibc_max: str
    float_abi: str
    features_forbidden: tuple[str, ...]
    abi3: str
    sysroot: str

    @property
    def deb_arch(self) -> str:
        return {"aarch64": "arm64", "armv7l": "armhf", "x86_64": "amd64"}[self.arch]

    @property
    def zig(self) -> str:
        return f"{self.triple}.{self.glibc_min}"

    @property
    def platform_tag(self) -> str:
        return f"manylinux_{self.glibc_min.replace('.', '_')}_{self.arch}"

    @property
    def has_python(self) -> bool:
        """Whether the target's own Python is in the sysroot."""
        return self.sysroot.endswith(f"-{self.suite}")

    @property
    def python_minor(self) -> int:
        return int(self.python.partition(".")[2])

    @property
    def glibc(self) -> tuple[int, ...]:
        return version(self.glibc_max)


def version(text: str) -> tuple[int, ...]:
    """`2.36` as (2, 36), so that 2.9 is older than 2.10."""
    return tuple(int(part) for part in text.split("."))


def parsed(where: str, text: str) -> Target:
    """The target that `text` describes. Raises Refusals that name each key."""
    said = toml(where, text)
    known = [field.name for field in fields(Target)]
    wrong = [Refusal(where, key, "an unknown key", "one of " + ", ".join(known)) for key in said if key not in known]
    wrong += [Refusal(where, key, "nothing", _FORMS.get(key, "a list")) for key in known if key not in said]
    for key, form in _FORMS.items():
        if key in said and not (isinstance(said[key], str) and re.fullmatch(form, said[key])):
            wrong.append(Refusal(where, key, repr(said[key]), form))
    banned = said.get("features_forbidden", [])
    if not isinstance(banned, list) or any(feature not in FEATURES for feature in banned):
        wrong.append(Refusal(where, "features_forbidden", repr(banned), "a list of " + ", ".join(FEATURES)))
    if wrong:
        raise Refusals(wrong)
    if version(said["glibc_min"]) > version(said["glibc_max"]):
        raise Refusal(where, "glibc_min", said["glibc_min"], f"one that is not newer than {said['glibc_max']}")
    return Target(**{**said, "features_forbidden": tuple(banned)})


def read(path: Path) -> Target:
    """The target in a file. Raises Refusals."""
    try:
        return parsed(path.name, path.read_text())
    except OSError as why:
        raise Refusal(path.name, "file", why.strerror or str(why), "a readable target file") from why
