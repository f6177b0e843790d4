"""Debian packages of another architecture or suite, through the machine's own apt sources.

Which mirror that is, is the machine's business: its address is read from its configuration and written nowhere but into
the temporary folder that apt works in.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from refusal import Refusal

SOURCES = Path("/etc/apt")
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
TRIES_MAX = 3


@dataclass(frozen=True, slots=True, order=True)
class Pinned:
    """One line of a .debs file: NAME VERSION SHA256."""

    name: str
    version: str
    sha256: str


def pinned(where: str, text: str) -> list[Pinned]:
    """Raises Refusal with the line."""
    pins = []
    for number, line in enumerate(text.splitlines(), 1):
        if line and not line.startswith("#"):
            said = line.split()
            if len(said) != 3 or not re.fullmatch(r"[0-9a-f]{64}", said[2]):
                raise Refusal(where, f"line {number}", repr(line[:60]), "NAME VERSION SHA256")
            pins.append(Pinned(*said))
    return pins


def own_places(os_release: str, sources: str) -> dict[str, str]:
    """The address of the main archive under "" and of the security archive under "-security"."""
    codename = re.search(r"^VERSION_CODENAME=(\w+)", os_release, re.MULTILINE)
    suite = codename.group(1) if codename else "stable"
    found: dict[str, str] = {}
    for block in re.split(r"\n\s*\n", re.sub(r"^\s*#.*\n", "", sources, flags=re.MULTILINE)):
        uris = re.search(r"^URIs:\s*(\S+)", block, re.MULTILINE)
        suites = re.search(r"^Suites:\s*(.+)", block, re.MULTILINE)
        for name in suites.group(1).split() if uris and suites else ():
            found.setdefault(name, uris.group(1) if uris else "")
        for uri, name in re.findall(r"^deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)", block, re.MULTILINE):
            found.setdefault(name, uri)
    if suite not in found:
        raise Refusal("apt sources", "suite", f"none for {suite}", "the machine's Debian archive")
    return {end: found[suite + end] for end in ("", "-security") if suite + end in found}


def machine_places() -> dict[str, str]:
    files = [SOURCES / "sources.list", *sorted((SOURCES / "sources.list.d").glob("*.list"))]
    files += sorted((SOURCES / "sources.list.d").glob("*.sources"))
    text = "\n\n".join(file.read_text() for file in files if file.is_file())
    return own_places(Path("/etc/os-release").read_text(), text)


class Archive:
    """apt for one suite and architecture, with a state of its own below `work`; nothing of the machine's is touched."""

    def __init__(self, work: Path, suite: str, deb_arch: str) -> None:
        for folder in ("lists/partial", "cache/archives/partial"):
            (work / folder).mkdir(parents=True, exist_ok=True)
        (work / "status").touch()
        places, here = machine_places(), work.resolve()
        lines = [f"deb [signed-by={_KEYRING}] {places['']} {suite} main"]
        if "-security" in places:
            lines.append(f"deb [signed-by={_KEYRING}] {places['-security']} {suite}-security main")
        self._list = here / "sources.list"
        self._list.write_text("\n".join(lines) + "\n")
        settings = {
            "APT::Architecture": deb_arch, "APT::Architectures": deb_arch, "APT::Sandbox::User": "root",
            "Acquire::Languages": "none", "Acquire::Retries": str(TRIES_MAX),
            "Dir::State": here, "Dir::State::lists": here / "lists", "Dir::State::status": here / "status",
            "Dir::Cache": here / "cache", "Dir::Etc::sourcelist": self._list,
            "Dir::Etc::sourceparts": "/dev/null",
        }  # fmt: skip
        self._options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]

    def update(self) -> None:
        """A security archive that cannot be read is done without: the one for armhf is out of step for days."""
        try:
            self._run("apt-get", "update", "-q")
        except subprocess.CalledProcessError:
            main = [line for line in self._list.read_text().splitlines() if not line.endswith("-security main")]
            self._list.write_text("\n".join(main) + "\n")
            self._run("apt-get", "update", "-q")

    def newest(self, name: str) -> str:
        """Raises Refusal for a package that the suite has not."""
        said = self._run("apt-cache", "policy", name)
        found = re.search(r"Candidate: (\S+)", said)
        if not found or found.group(1) == "(none)":
            raise Refusal("apt", name, "no such package", "a package of the suite")
        return found.group(1)

    def digest(self, name: str, version: str) -> str:
        said = self._run("apt-cache", "show", f"{name}={version}")
        found = re.search(r"^SHA256: ([0-9a-f]{64})", said, re.MULTILINE)
        if not found:
            raise Refusal("apt", name, f"no {version}", "a version that the archive has: run cross-build/lock")
        return found.group(1)

    def download(self, pins: list[Pinned], out: Path) -> None:
        self._run("apt-get", "download", "-q", *(f"{pin.name}={pin.version}" for pin in pins), cwd=out)

    def _run(self, program: str, *words: str, cwd: Path | None = None) -> str:
        argv = [program, *self._options, *words]
        return subprocess.run(argv, cwd=cwd, capture_output=True, check=True, text=True).stdout
