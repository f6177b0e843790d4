"""What the packages weigh and how long they take: `python -m builds.figures` measures it and writes the table of
docs/boards.md. Times are of whatever else this machine does, and the page says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from builds.build_places import ENGINE, checkout, served
from crossbuild.cli import HOME
from crossbuild.store import Store

PAGE = ENGINE.parent / "docs/boards.md"
BLOCK, BLOCK_END = "<!-- packages: made by tests/builds/figures.py -->", "<!-- /packages -->"
EDGECORE_MIB = 88.7
PACKAGES = (
    *(f"agent:deb@{target}" for target in ("aarch64-bookworm", "aarch64-jammy", "aarch64-trixie", "armhf-bookworm")),
    *(f"hub:deb@{target}" for target in ("aarch64-bookworm", "aarch64-trixie", "amd64-bookworm", "amd64-trixie")),
)


@dataclass(frozen=True, slots=True)
class Figures:
    """One package: bytes of the .deb, KiB installed, seconds. `cold_s` is of all commands below it, no downloads."""

    file: str
    deb_bytes: int
    installed_kib: int
    cold_s: float
    cached_s: float
    second_checkout_s: float
    over_http_s: float


def with_table(page: str, rows: Sequence[Figures]) -> str:
    """The page with its block of packages replaced."""
    heads = ("package", ".deb", "installed", "of edgecore's 88.7 MiB", "cold", "cached", "second checkout", "over HTTP")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        mib = row.installed_kib / 1024
        cells = [row.file, f"{row.deb_bytes / 1e6:.2f} MB", f"{mib:.1f} MiB", f"{100 * mib / EDGECORE_MIB:.1f} %"]
        cells += [f"{row.cold_s:.0f} s"]
        cells += [f"{seconds:.1f} s" for seconds in (row.cached_s, row.second_checkout_s, row.over_http_s)]
        lines.append(f"| {' | '.join(cells)} |")
    before, _, rest = page.partition(BLOCK)
    _, _, after = rest.partition(BLOCK_END)
    return "\n".join([before + BLOCK, *lines, BLOCK_END + after])


def built(unit: str, root: Path, cache: Path, *words: str) -> tuple[float, list[dict[str, str]]]:
    """Seconds of the whole run, and what became of each unit."""
    argv = [sys.executable, "-m", "crossbuild", "build", unit, "--cache", str(cache), "--output", "json", *words]
    env = {**os.environ, "PYTHONPATH": str(root / "cross-build")}
    started = time.monotonic()
    done = subprocess.run(argv, cwd=root, env=env, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - started
    if done.returncode:
        sys.exit(done.stderr)
    said: list[dict[str, str]] = json.loads(done.stdout)
    return seconds, said


def figures(unit: str, root: Path, second: Path, url: str, place: Path) -> Figures:
    """Raises SystemExit: the unit does not build, or another checkout had to build something."""
    _, said = built(unit, root, HOME)
    store = Store(HOME, b"", print)
    entries = [store.entry(one["key"]) for one in said if one["status"] != "source"]
    cached_s, _ = built(unit, root, HOME)
    second_s, again = built(unit, second, HOME)
    over_s, remote = built(unit, second, place / "cache", "--remote", url, "--out", str(place / "out"))
    if wrong := [one["unit"] for one in (*again, *remote) if one["status"] == "built"]:
        sys.exit(f"{unit}: built again: {', '.join(wrong)}")
    (deb,) = place.glob("out/*/*/*.deb")
    size = subprocess.run(["dpkg-deb", "-f", deb, "Installed-Size"], capture_output=True, check=True, text=True)
    cold_s = sum(entry.seconds for entry in entries if entry)
    return Figures(deb.name, deb.stat().st_size, int(size.stdout), cold_s, cached_s, second_s, over_s)


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as name, served(HOME) as url:
        first, second = (checkout(Path(name) / where) for where in ("first", "a/second/checkout"))
        for n, unit in enumerate(PACKAGES):
            rows.append(figures(unit, first, second, url, Path(name) / str(n)))
            print(rows[-1], flush=True)
    PAGE.write_text(with_table(PAGE.read_text(), rows))


if __name__ == "__main__":
    main()
