"""Debian packages: which versions a list resolves to today, the files themselves, and a folder that apt can read.

Versions and digests come from the machine's own apt sources, through apt and its signature check, into the lock file.
A build afterwards takes exactly those, from .cache/debs/ or the same sources, each verified by its digest.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import limits
from .lock import Pinned
from .read import CACHE, sha256_of
from .refusal import Refusal, ToolFailed
from .tool import run

DEBS = CACHE / "debs"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
COMPONENTS = "main non-free-firmware"
_FIELD = re.compile(r"^(Package|Version|Architecture|SHA256|Size): (.+)$", re.MULTILINE)
_INST = re.compile(r"^Inst (\S+) \((\S+) .*\[(\w+)\]\)", re.MULTILINE)


class Apt:
    """apt for another architecture and suite, with lists and cache of its own; nothing of the machine's is changed."""

    def __init__(self, suite: str, arch: str) -> None:
        self.suite, self.arch = suite, arch
        self.folder = CACHE / "apt" / f"{suite}-{arch}"

    def update(self) -> str:
        """Fetch the lists; returns a remark for the lock, or nothing. Raises ToolFailed after the last try.

        A mirror may serve one architecture's security lists torn for weeks: then the rest is taken, and that is told.
        """
        for part in ("lists/partial", "cache/archives/partial"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        (self.folder / "status").write_text("")
        sources, remark = self._sources(), ""
        self._write(sources)
        try:
            _again(self._lists)
        except ToolFailed:
            self._write([line for line in sources if "-security" not in line])
            _again(self._lists)
            remark = f"the mirror's {self.suite}-security could not be read for {self.arch}: packages without its fixes"
        return remark

    def _write(self, sources: Sequence[str]) -> None:
        (self.folder / "sources.list").write_text("".join(f"{line}\n" for line in sources))

    def _lists(self) -> None:
        self._apt("apt-get", "-qq", "-o", "APT::Update::Error-Mode=any", "update")

    def resolve(self, install: Sequence[str], unpack: Sequence[str]) -> list[Pinned]:
        """The packages that `install` needs, all of them, and `unpack` without what it needs."""
        said = self._apt("apt-get", "-s", "-o", "APT::Install-Recommends=false", "install", "?essential", *install)
        rows = [f"{name.partition(':')[0]}={version}" for name, version, _ in _INST.findall(said)]
        return [*self._pinned("install", rows), *self._pinned("unpack", unpack)]

    def fetch(self, pins: Iterable[Pinned]) -> None:
        """Bring the files that are missing into .cache/debs/. Raises Refusal for one that the mirror has no more."""
        missing = [pin for pin in pins if not path_of(pin).is_file()]
        if not missing:
            return
        if not (self.folder / "sources.list").is_file():
            self.update()
        DEBS.mkdir(parents=True, exist_ok=True)
        try:
            _again(lambda: self._download(missing))
        except ToolFailed:
            self.update()  # lists of another day name files that are gone
            try:
                self._download(missing)
            except ToolFailed as why:
                gone = ", ".join(f"{p.name} {p.version}" for p in missing[:3])
                cure = "run make lock-image, or use a mirror that keeps old versions"
                raise Refusal(f"firmware-configs/locks/{self.suite}-{self.arch}.lock", gone, str(why), cure) from why

    def _download(self, pins: Sequence[Pinned]) -> None:
        left = [pin for pin in pins if not path_of(pin).is_file()]
        folder = self.folder / "download"
        folder.mkdir(exist_ok=True)
        if left:
            self._apt("apt-get", "-qq", "download", *(f"{p.name}={p.version}" for p in left), cwd=folder)
        for pin in left:
            got = next(iter(folder.glob(f"{pin.name}_*_{pin.arch}.deb")), None)
            if got is None or (digest := sha256_of(got)) != pin.sha256:
                seen = digest if got is not None else "nothing"
                raise ToolFailed(f"{pin.name} {pin.version}: sha256 {pin.sha256} is locked, the mirror gave {seen}")
            got.rename(path_of(pin))

    def _pinned(self, use: str, names: Sequence[str]) -> list[Pinned]:
        """One question for all names: apt reads its lists anew for each."""
        if not names:
            return []
        pins = []
        for stanza in self._apt("apt-cache", "show", "--no-all-versions", *names).strip().split("\n\n"):
            field = dict(_FIELD.findall(stanza))
            said = [field[key] for key in ("Package", "Version", "Architecture", "SHA256")]
            pins.append(Pinned(use, said[0], said[1], said[2], said[3], int(field["Size"])))
        return pins

    def _apt(self, tool: str, *args: str, cwd: Path | None = None) -> str:
        f = self.folder
        options = {
            "APT::Architecture": self.arch, "APT::Architectures": self.arch, "Dir::State": f,
            "Dir::State::lists": f / "lists", "Dir::State::status": f / "status", "Dir::Cache": f / "cache",
            "Dir::Etc::sourcelist": f / "sources.list", "Dir::Etc::sourceparts": "/dev/null",
            "Acquire::Languages": "none", "APT::Sandbox::User": "root",
        }  # fmt: skip
        return run([tool, *(w for k, v in options.items() for w in ("-o", f"{k}={v}")), *args], cwd=cwd)

    def _sources(self) -> list[str]:
        """The machine's own Debian sources, for this suite. Raises ToolFailed when it has none."""
        asked = ("apt-get", "indextargets", "--format", "$(SITE) $(RELEASE) $(COMPONENT)", "Created-By: Packages")
        said = run([*asked])
        if "-security " not in said:  # apt names only the lists it has: a machine fresh from its image may lack some
            run(["apt-get", "-qq", "update"])
            said = run([*asked])
        options = f" [signed-by={KEYRING}]" if KEYRING.exists() else ""
        found: dict[str, None] = {}
        for line in said.splitlines():
            site, release, component = [*line.split(), "", "", ""][:3]
            own, dash, pocket = release.partition("-")
            if component == "main" and own in ("bookworm", "trixie") and pocket in ("", "updates", "security"):
                found[f"deb{options} {site} {self.suite}{dash}{pocket} {COMPONENTS}"] = None
        if not found:
            raise ToolFailed("this machine's apt has no lists of Debian; run apt-get update")
        return list(found)


def path_of(pin: Pinned) -> Path:
    """Where a package lies: by its digest too, so that two builds of one version are two files."""
    return DEBS / f"{pin.sha256[:16]}-{pin.file_name}"


def repository(folder: Path, pins: Sequence[Pinned], suite: str, arch: str) -> None:
    """Make `folder` an archive of just these packages, which apt reads as `deb [trusted=yes] copy:FOLDER ./`."""
    folder.mkdir(parents=True)
    for pin in pins:
        (folder / _plain(pin)).hardlink_to(path_of(pin))
    with ThreadPoolExecutor(4) as pool:
        stanzas = list(pool.map(_stanza, pins))
    packages = folder / "Packages"
    packages.write_text("\n".join(stanzas))
    # mmdebstrap asks apt for the essential packages of this suite: an archive without a name has none.
    (folder / "Release").write_text(
        f"Suite: {suite}\nCodename: {suite}\nArchitectures: {arch}\nDate: Thu, 01 Jan 2026 00:00:00 UTC\n"
        f"SHA256:\n {sha256_of(packages)} {packages.stat().st_size} Packages\n"
    )


def _plain(pin: Pinned) -> str:
    return pin.file_name.replace("~", "_")


def _stanza(pin: Pinned) -> str:
    control = run(["dpkg-deb", "--field", path_of(pin)]).strip()
    return f"{control}\nFilename: ./{_plain(pin)}\nSize: {pin.bytes_count}\nSHA256: {pin.sha256}\n"


def unpack(pins: Iterable[Pinned], folder: Path) -> None:
    """The files of these packages, nothing configured."""
    for pin in pins:
        run(["dpkg-deb", "-x", path_of(pin), folder])


def _again(act: object) -> None:
    """A mirror that fails for a while is asked again."""
    assert callable(act)
    for attempt in range(1, limits.FETCH_TRIES_MAX + 1):
        try:
            act()
        except ToolFailed:
            if attempt == limits.FETCH_TRIES_MAX:
                raise
            time.sleep(limits.FETCH_PAUSE_S * attempt)
        else:
            return
