"""Brings what fetch units have locked, through pip and apt as they are configured on this machine; no host is named.

The only code of a build that uses the network, but for a remote store. What comes is checked against the lock.
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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from crossbuild.declare import Unit
from crossbuild.errors import EntryRefused, FetchFailed
from crossbuild.keys import file_digest
from crossbuild.limits import FETCH_RETRY_S, FETCH_TIMEOUT_S, FETCH_TRIES_MAX, LINE_SHOWN
from crossbuild.locks import Locked, files_of, lock_of, read_lock, wanted
from crossbuild.store import Store


def fetch(unit: Unit, store: Store, cache: Path) -> None:
    """Bring the files that the store does not have. Raises FetchFailed: cannot be had, or has other bytes."""
    with store.alone("fetch"), tempfile.TemporaryDirectory(dir=store.temporary, prefix="fetch-") as place:
        missing = [f for f in files_of(unit) if not _has(store, f.sha256)]
        _bring(unit, {f.want: (f.sha256,) for f in missing}, Path(place), cache)
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
    said, path = read_lock(unit), lock_of(unit)
    wants = wanted(unit, said)
    if said["from"] == "debian":
        wants = dict.fromkeys(_candidates(unit, said, list(wants), store, cache), ())
    files = []
    with tempfile.TemporaryDirectory(dir=store.temporary, prefix="lock-") as place:
        _bring(unit, wants, Path(place), cache)
        came = {_flat(got.name): got for got in Path(place).iterdir()}
        for want in wants:
            (got,) = (file for name, file in came.items() if name.startswith(f"{_flat(want)}-"))
            files.append(Locked(got.name, want, file_digest(got)))
            store.keep_blob(got, files[-1].sha256)
    head = path.read_text().partition("\n[[file]]")[0].rstrip()
    said_of = (
        f"name = {json.dumps(f.name)}\nwant = {json.dumps(f.want)}\nsha256 = {json.dumps(f.sha256)}" for f in files
    )
    path.write_text("\n\n[[file]]\n".join([head, *said_of]) + "\n")
    return path


def _has(store: Store, sha256: str) -> bool:
    try:
        store.blob(sha256)
    except EntryRefused:
        return False
    return True


def _bring(unit: Unit, wants: Mapping[str, tuple[str, ...]], into: Path, cache: Path) -> None:
    """Download `wants`, each with the digests that pip may take, into the empty folder `into`."""
    if not wants:
        return
    said = read_lock(unit)
    if said["from"] == "debian":
        apt = apt_of(unit, said, cache)
        try:
            _again(unit, [*apt, "download", *wants], into, 1)
        except FetchFailed:  # lists of another day may name files that are gone
            update(unit, apt)
            _again(unit, [*apt, "download", *wants], into, FETCH_TRIES_MAX)
    else:
        asked = into / "wanted.txt"
        lines = (" ".join([want, *(f"--hash=sha256:{h}" for h in hashes)]) for want, hashes in wants.items())
        asked.write_text("\n".join(lines))
        # Named one by one: with :all: pip would also build what it needs to look at a source archive.
        names = ",".join(want.partition("==")[0] for want in wants)
        kind = [f"--no-binary={names}"] if said.get("source") else ["--only-binary=:all:"]
        where = [f"--platform={tag}" for platform in said.get("platforms", []) for tag in _tags(platform)]
        where += [f"--python-version={said['python']}"] if "python" in said else []
        _again(
            unit,
            [*_pip(unit), "download", "-q", "--no-deps", *kind, *where, "-d", str(into), "-r", str(asked)],
            into,
            FETCH_TRIES_MAX,
        )
        asked.unlink()


def _tags(platform: str) -> list[str]:
    """The platform and, for manylinux, each older one that its glibc loads too: pip takes none by implication."""
    found = re.fullmatch(r"manylinux_2_(\d+)_(\w+)", platform)
    if not found:
        return [platform]
    newest, arch = int(found[1]), found[2]
    older = [name for name, n in (("manylinux2014", 17), ("manylinux2010", 12), ("manylinux1", 5)) if n <= newest]
    return [*(f"manylinux_2_{n}_{arch}" for n in range(newest, 4, -1)), *(f"{name}_{arch}" for name in older)]


def _pip(unit: Unit) -> list[str]:
    for python in (sys.executable, "/usr/bin/python3"):
        if subprocess.run([python, "-c", "import pip"], capture_output=True, check=False).returncode == 0:
            return [python, "-m", "pip", "--disable-pip-version-check"]
    raise FetchFailed(lock_of(unit), "from", "pip is not on this machine", "Run: apt-get install python3-pip")


def apt_of(unit: Unit, said: dict[str, Any], cache: Path) -> list[str]:
    """apt-get for another architecture and suite, from this machine's own sources, with lists and state of its own."""
    if shutil.which("apt-get") is None:
        raise FetchFailed(
            lock_of(unit), "from", "apt-get is not on this machine", "Build on Debian, or use a filled store"
        )
    arch, suite = said["architecture"], said["suite"]
    more = [*said.get("components", []), *said.get("pockets", [])]
    state = cache.resolve() / "apt" / "-".join([suite, arch, *more])
    for folder in ("lists/partial", "cache/archives/partial", "parts"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    release = dict(re.findall(r'^(\w+)="?([^"\n]*)', Path("/etc/os-release").read_text(), re.MULTILINE))
    here = release.get("VERSION_CODENAME", suite)
    sources = Path("/etc/apt")
    for file in [sources / "sources.list", *sources.glob("sources.list.d/*")]:
        text = file.read_text() if file.is_file() else ""
        if re.search(rf"\b{re.escape(here)}\b", text):
            (state / "parts" / file.name).write_text(_sources(re.sub(rf"\b{re.escape(here)}\b", suite, text), said))
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


def _sources(text: str, said: Mapping[str, Any]) -> str:
    """A source file with the components and pockets ("backports") that the lock asks for beyond the machine's."""
    suite, lines = said["suite"], []
    pockets = [f"{suite}-{pocket}" for pocket in said.get("pockets", [])]
    for line in text.splitlines():
        words = line.split()
        if line.startswith("deb ") and suite in words:
            lines += [" ".join(pocket if word == suite else word for word in words) for pocket in pockets]
        if line.startswith("Components:") or (line.startswith("deb ") and re.search(rf" {suite}\b", line)):
            line = " ".join(dict.fromkeys([*words, *said.get("components", [])]))
        elif line.startswith("Suites:") and suite in words:
            line = " ".join([*words, *pockets])
        lines.append(line)
    return "\n".join(lines) + "\n"


def update(unit: Unit, apt: Sequence[str]) -> str:
    """Fetch the lists. What was wrong with some is told, not raised: those that could be read may do."""
    try:
        return _again(unit, [*apt, "update"], Path.cwd(), FETCH_TRIES_MAX)[:0]
    except FetchFailed as e:
        return e.what


def _candidates(unit: Unit, said: dict[str, Any], packages: list[str], store: Store, cache: Path) -> list[str]:
    """NAME=VERSION of each of `packages`, as the sources have it today."""
    apt = apt_of(unit, said, cache)
    if wrong := update(unit, apt):
        store.say(f"{lock_of(unit)}: locked without the lists that could not be read: {wrong}")
    shown = _again(unit, ["apt-cache", *apt[2:], "show", "--no-all-versions", *packages], Path.cwd(), 1)
    versions = dict(re.findall(r"^Package: (\S+)$.*?^Version: (\S+)$", shown, re.MULTILINE | re.DOTALL))
    for package in packages:
        if package not in versions:
            cure = "Is it spelled as Debian does?"
            raise FetchFailed(lock_of(unit), f"want {package}", "is not in the sources", cure)
    return [f"{package}={versions[package]}" for package in packages]


def _flat(name: str) -> str:
    """A want and a file name, to be compared: by pip's rules (PEP 503); apt writes an epoch's colon as %3a."""
    return re.sub(r"[-_.=]+", "-", name.replace("%3a", ":")).lower()


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
        why = "\n".join(line[:LINE_SHOWN] for line in (done.stderr or done.stdout).strip().splitlines()[-5:])
    raise _gone(unit, " ".join(argv[-3:]), f"cannot be had: {why}")


def _gone(unit: Unit, what: str, why: str) -> FetchFailed:
    cure = f"If the source no longer has this version, take today's: crossbuild lock {unit.id}"
    return FetchFailed(lock_of(unit), what, why, cure)
