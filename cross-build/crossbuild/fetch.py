"""Fetch units: pinned files from this machine's own package sources, the only units with a network.

A lock says which bytes, so the outputs of a fetch unit are known without fetching. Through pip and apt as they are
configured here; no host is named. The form of a lock (`crossbuild lock UNIT` writes the [[file]] tables):

    from = "pip"                         # or "debian"
    want = ["ziglang==0.17.1"]           # exact versions; for debian: package names, of the day on which it is locked
    platforms = ["manylinux_2_28_aarch64"], python = "3.11"      # pip, wheels for elsewhere; without: for any platform
    source = 1                           # pip: the source archive instead of a wheel
    architecture = "arm64", suite = "bookworm"                   # debian
    [[file]]
    name, want, sha256                   # want: "ziglang==0.17.1", "libc6=2.36-9"
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossbuild.declare import Fetch, Unit, read_toml
from crossbuild.errors import DeclarationInvalid, EntryRefused, FetchFailed
from crossbuild.keys import Output, file_digest
from crossbuild.limits import FETCH_RETRY_S, FETCH_TIMEOUT_S, FETCH_TRIES_MAX
from crossbuild.store import HEX, Store

_KEYS = {
    "from": str,
    "want": list,
    "platforms": list,
    "python": str,
    "source": int,
    "architecture": str,
    "suite": str,
    "file": list,
}
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~!%-]*")


@dataclass(frozen=True, slots=True)
class Locked:
    """One pinned file."""

    name: str
    want: str
    sha256: str


def locked(unit: Unit) -> tuple[Output, ...]:
    """The outputs of a fetch unit, as its lock has them. Raises DeclarationInvalid."""
    files = _files(unit)
    if not files:
        raise DeclarationInvalid(_lock(unit), "file", "nothing is locked", f"Run: crossbuild lock {unit.id}")
    return tuple(Output(f.name, "file", f.sha256) for f in files)


def fetch(unit: Unit, store: Store, cache: Path) -> None:
    """Bring the files that the store does not have. Raises FetchFailed: cannot be had, or has other bytes."""
    missing = [f for f in _files(unit) if not _has(store, f.sha256)]
    with tempfile.TemporaryDirectory(dir=store.temporary, prefix="fetch-") as place:
        _bring(unit, [f.want for f in missing], Path(place), cache, {f.want: f.sha256 for f in missing})
        for file in missing:
            got = Path(place) / file.name
            digest = file_digest(got) if got.exists() else "absent"
            if digest != file.sha256:
                raise _gone(
                    unit, file.want, f"is locked with sha256 {file.sha256}, this machine's source gave {digest}"
                )
            store.keep_blob(got, file.sha256)


def lock(unit: Unit, store: Store, cache: Path) -> Path:
    """Write the [[file]] tables anew from `want`, keeping the rest of the file. Raises FetchFailed."""
    said, files = _read(unit), []
    for want in said.get("want", []):
        if said["from"] == "debian":
            want = f"{want}={_candidate(unit, want, cache)}"
        with tempfile.TemporaryDirectory(dir=store.temporary, prefix="lock-") as place:
            _bring(unit, [want], Path(place), cache, {})
            (got,) = Path(place).iterdir()
            sha256 = file_digest(got)
            store.keep_blob(got, sha256)
            files.append(Locked(got.name, want, sha256))
    path = _lock(unit)
    head = path.read_text().partition("\n[[file]]")[0].rstrip()
    tables = "".join(
        f"\n\n[[file]]\nname = {json.dumps(f.name)}\nwant = {json.dumps(f.want)}\nsha256 = {json.dumps(f.sha256)}"
        for f in files
    )
    path.write_text(f"{head}{tables}\n")
    return path


def _lock(unit: Unit) -> Path:
    assert isinstance(unit.work, Fetch)
    return unit.work.lock


def _read(unit: Unit) -> dict[str, Any]:
    path = _lock(unit)
    said = read_toml(path)
    for key, value in said.items():
        if key not in _KEYS or not isinstance(value, _KEYS[key]):
            raise DeclarationInvalid(path, key, "unknown key or another type", f"Known are {', '.join(sorted(_KEYS))}")
    if said.get("from") not in ("pip", "debian"):
        raise DeclarationInvalid(path, "from", "is missing", 'Write "pip" or "debian"')
    for key in ("architecture", "suite") if said["from"] == "debian" else ():
        if not re.fullmatch(r"[a-z0-9-]+", said.get(key, "")):
            raise DeclarationInvalid(path, key, "is missing or odd", "Name Debian's architecture and suite")
    return said


def _files(unit: Unit) -> list[Locked]:
    path, files = _lock(unit), []
    for n, table in enumerate(_read(unit).get("file", [])):
        try:
            file = Locked(**table)
        except TypeError as e:
            raise DeclarationInvalid(path, f"file.{n}", str(e), f"Run: crossbuild lock {unit.id}") from e
        if not HEX.fullmatch(file.sha256) or not _FILE_NAME.fullmatch(file.name):
            raise DeclarationInvalid(path, f"file.{n}", "an odd name or digest", f"Run: crossbuild lock {unit.id}")
        files.append(file)
    return files


def _has(store: Store, sha256: str) -> bool:
    try:
        store.blob(sha256)
    except EntryRefused:
        return False
    return True


def _bring(unit: Unit, wants: Sequence[str], into: Path, cache: Path, digests: dict[str, str]) -> None:
    if not wants:
        return
    said = _read(unit)
    if said["from"] == "debian":
        apt = _apt(unit, said, cache)
        try:
            _again(unit, [apt[0], *apt[1:], "download", *wants], into, 1)
        except FetchFailed:  # lists of another day may name files that are gone
            _update(unit, apt)
            _again(unit, [*apt, "download", *wants], into, FETCH_TRIES_MAX)
    else:
        asked = into / "wanted.txt"
        asked.write_text("".join(f"{w} --hash=sha256:{digests[w]}\n" if w in digests else f"{w}\n" for w in wants))
        kind = ["--no-binary=:all:", "--no-build-isolation"] if said.get("source") else ["--only-binary=:all:"]
        where = [f"--platform={p}" for p in said.get("platforms", [])]
        where += [f"--python-version={said['python']}"] if "python" in said else []
        _again(
            unit,
            [*_pip(unit), "download", "-q", "--no-deps", *kind, *where, "-d", str(into), "-r", str(asked)],
            into,
            FETCH_TRIES_MAX,
        )
        asked.unlink()


def _pip(unit: Unit) -> list[str]:
    for python in (sys.executable, "/usr/bin/python3"):
        if subprocess.run([python, "-c", "import pip"], capture_output=True, check=False).returncode == 0:
            return [python, "-m", "pip", "--disable-pip-version-check"]
    raise FetchFailed(_lock(unit), "from", "pip is not on this machine", "Run: apt-get install python3-pip")


def _apt(unit: Unit, said: dict[str, Any], cache: Path) -> list[str]:
    """apt-get for another architecture and suite, from this machine's own sources, with lists and state of its own."""
    if shutil.which("apt-get") is None:
        raise FetchFailed(
            _lock(unit), "from", "apt-get is not on this machine", "Build on Debian, or use a filled store"
        )
    arch, suite = said["architecture"], said["suite"]
    state = cache.resolve() / "apt" / f"{suite}-{arch}"
    for folder in ("lists/partial", "cache/archives/partial", "parts"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    release = dict(re.findall(r'^(\w+)="?([^"\n]*)', Path("/etc/os-release").read_text(), re.MULTILINE))
    here = release.get("VERSION_CODENAME", suite)
    sources = Path("/etc/apt")
    for file in [sources / "sources.list", *sources.glob("sources.list.d/*")]:
        text = file.read_text() if file.is_file() else ""
        if re.search(rf"\b{re.escape(here)}\b", text):
            (state / "parts" / file.name).write_text(re.sub(rf"\b{re.escape(here)}\b", suite, text))
    options = {
        "APT::Architecture": arch,
        "APT::Architectures": arch,
        "Dir::State": state,
        "Dir::State::lists": state / "lists",
        "Dir::State::status": state / "status",
        "Dir::Cache": state / "cache",
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": state / "parts",
        "APT::Sandbox::User": "root",
    }
    return ["apt-get", "-qq", *(word for key, value in options.items() for word in ("-o", f"{key}={value}"))]


def _update(unit: Unit, apt: Sequence[str]) -> None:
    _again(unit, [*apt, "-o", "APT::Update::Error-Mode=any", "update"], Path.cwd(), FETCH_TRIES_MAX)


def _candidate(unit: Unit, package: str, cache: Path) -> str:
    """The version of `package` that the sources have today."""
    apt = _apt(unit, _read(unit), cache)
    if not any((cache / "apt").glob("*/lists/*Packages*")):
        _update(unit, apt)
    show = ["apt-cache", *apt[2:], "show", "--no-all-versions", package]
    said = _again(unit, show, Path.cwd(), 1)
    found = re.search(r"^Version: (\S+)$", said, re.MULTILINE)
    if not found:
        raise FetchFailed(_lock(unit), f"want {package}", "the sources do not have it", "Is it spelled as Debian does?")
    return found[1]


def _again(
    unit: Unit, argv: Sequence[str], folder: Path, tries: int, sleep: Callable[[float], None] = time.sleep
) -> str:
    """Run a fetching command; what fails is tried again after a growing, jittered while. Raises FetchFailed."""
    for n in range(tries):
        if n:
            sleep(FETCH_RETRY_S * 2 ** (n - 1) * random.uniform(0.5, 1.5))  # noqa: S311
        try:
            done = subprocess.run(
                argv, cwd=folder, capture_output=True, text=True, check=False, timeout=FETCH_TIMEOUT_S,
                env={**os.environ, "LC_ALL": "C.UTF-8"},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            why = f"no answer in {FETCH_TIMEOUT_S:.0f} s"
            continue
        if done.returncode == 0:
            return done.stdout
        why = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
    raise _gone(unit, " ".join(argv[-3:]), f"cannot be had: {why}")


def _gone(unit: Unit, what: str, why: str) -> FetchFailed:
    cure = f"If the source no longer has this version, take today's: crossbuild lock {unit.id}"
    return FetchFailed(_lock(unit), what, why, cure)
