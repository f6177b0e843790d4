"""Debian packages that lie in a folder: what they are, and a folder of them that apt can read. Fetches nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .refusal import ToolFailed
from .tool import run, sha256_of

WORKERS = 4


def described(debs: Sequence[Path]) -> list[dict[str, str]]:
    """Package, Version, Architecture and SHA256 of each."""
    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(_described, debs))


def repository(folder: Path, debs: Sequence[Path], suite: str, arch: str) -> None:
    """Make `folder` an archive of just these packages, which apt reads as `deb [trusted=yes] copy:FOLDER ./`."""
    folder.mkdir(parents=True)
    for deb in debs:
        shutil.copyfile(deb, folder / deb.name)
    with ThreadPoolExecutor(WORKERS) as pool:
        stanzas = list(pool.map(_stanza, debs))
    packages = folder / "Packages"
    packages.write_text("\n".join(stanzas))
    # mmdebstrap asks apt for the essential packages of this suite: an archive without a name has none.
    (folder / "Release").write_text(
        f"Suite: {suite}\nCodename: {suite}\nArchitectures: {arch}\nDate: Thu, 01 Jan 2026 00:00:00 UTC\n"
        f"SHA256:\n {sha256_of(packages)} {packages.stat().st_size} Packages\n"
    )


def unpack(debs: Iterable[Path], folder: Path) -> None:
    """The files of these packages, nothing configured."""
    for deb in debs:
        run(["dpkg-deb", "-x", deb, folder])


def named(folder: Path, names: Iterable[str]) -> list[Path]:
    """The packages `names` in `folder`. Raises ToolFailed for one that is not there."""
    found = {path.name.partition("_")[0]: path for path in folder.glob("*.deb")}
    lacking = [name for name in names if name not in found]
    if lacking:
        raise ToolFailed(f"{folder}: has no package {', '.join(lacking)}")
    return [found[name] for name in names]


def _described(deb: Path) -> dict[str, str]:
    said = run(["dpkg-deb", "-W", "--showformat", "${Package}\n${Version}\n${Architecture}", deb]).split("\n")
    return dict(zip(("Package", "Version", "Architecture"), said, strict=True)) | {"SHA256": sha256_of(deb)}


def _stanza(deb: Path) -> str:
    control = run(["dpkg-deb", "--field", deb]).strip()
    return f"{control}\nFilename: ./{deb.name}\nSize: {deb.stat().st_size}\nSHA256: {sha256_of(deb)}\n"
