# ruff: noqa: T201 — a program that says what it does.
"""A .deb from this checkout in one go, by hand and in CI: fetch what the locks name, then one action after another.

    python cross-build/make_deb.py [--target aarch64-bookworm] [--package skerry] [--out build/deb] [--cold]

Decides nothing about bytes: that is the actions' business, and the build units run the same ones. Everything fetched
lies in .cache/cross-build. Says path, sizes and seconds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
ACTIONS = HERE / "actions"
sys.path.insert(0, str(ACTIONS))

import deb  # noqa: E402
import target as targets  # noqa: E402
from refusal import entry  # noqa: E402

CACHE = ROOT / ".cache/cross-build"
# PyPI has no wheels of these for 32-bit ARM, or only ones that do not work there.
BUILT_HERE = {"armv7l": ("cbor2", "lmdb", "uvloop")}
SIZE_MAX_MIB = {"skerry": "6", "skerry-hub": "40"}
# What edgecore takes on a device, measured before; where the figures go.
EDGECORE_MIB = 88.7
FIGURES, PAGE = ROOT / "docs/packages.json", ROOT / "docs/boards.md"
BLOCK, BLOCK_END = "<!-- packages: made by cross-build/make_deb.py --figures -->", "<!-- /packages -->"
FETCHED = ("wheels",)
QEMU = {"aarch64": "qemu-aarch64-static", "armv7l": "qemu-arm-static"}


@dataclass
class Build:
    """One package for one target, and the seconds that its steps took."""

    name: str
    package: str
    out: Path
    cold: bool
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.file = HERE / f"targets/{self.name}.toml"
        self.target = targets.read(self.file)
        self.work = CACHE / f"work/{self.package}-{self.name}"
        self.lock = HERE / f"locks/{'hub' if self.package == 'skerry-hub' else 'agent'}-{self.target.python}.txt"

    def step(self, name: str, argv: Sequence[object]) -> str:
        start = time.monotonic()
        done = subprocess.run([str(word) for word in argv], cwd=ROOT, capture_output=True, text=True, check=False)
        self.seconds[name] = round(time.monotonic() - start, 1)
        if done.returncode:
            print(done.stdout + done.stderr, file=sys.stderr)
            sys.exit(f"{self.package} for {self.name}: {name} failed")
        print(f"{name}: {self.seconds[name]} s; {done.stdout.strip()}".rstrip("; "), flush=True)
        return done.stdout

    def action(self, script: str, *words: object) -> Sequence[object]:
        return [CACHE / "tools/bin/python", ACTIONS / script, "--target", self.file, *words]


def tools() -> None:
    """The pinned compiler and Cython, in an environment of their own."""
    lock, stamp = HERE / "requirements.txt", CACHE / "tools/.lock"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text() == digest:
        return
    python, uv = CACHE / "tools/bin/python", ROOT / ".venv/bin/uv"
    subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(CACHE / "tools")], check=True)
    subprocess.run([str(uv), "pip", "sync", "-q", "--python", str(python), "--require-hashes", str(lock)], check=True)
    stamp.write_text(digest)


def fetched(build: Build, name: str) -> Path:
    """The sysroot of a target."""
    place = CACHE / f"sysroot/{name}"
    words = ["--target", HERE / f"targets/{name}.toml", "--lock", HERE / f"locks/{name}.debs", "--out", place]
    build.step(f"sysroot of {name}", [sys.executable, ACTIONS / "fetch.py", "sysroot", *words])
    return place


def interpreter(build: Build) -> str | None:
    """The target's own Python, as a command; None for a suite that Debian has not."""
    if not (HERE / f"locks/{build.name}.debs").is_file():
        return None
    place = fetched(build, build.name)
    python = place / f"usr/bin/python{build.target.python}"
    emulator = QEMU.get(build.target.arch)
    return f"{emulator} -L {place} {python}" if emulator else f"{place}/usr/bin/python{build.target.python}"


def built(build: Build) -> Path:
    """Run the steps; the package."""
    target, work = build.target, build.work
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    # The limited API makes one wheel for every Python of an architecture, so one suite's headers do for all.
    headers = fetched(build, next(p.stem for p in sorted((HERE / "targets").glob("*-bookworm.toml"))
                                  if targets.read(p).arch == target.arch)) / "usr/include"  # fmt: skip
    ours, wheels = BUILT_HERE.get(target.arch, ()), CACHE / f"wheels/{build.package}-{build.name}"
    words = ["--target", build.file, "--lock", build.lock, "--out", wheels, "--from-source", *ours]
    build.step("wheels", [sys.executable, ACTIONS / "fetch.py", "wheels", *words])
    zig = work / "zig" if build.cold else CACHE / "zig"
    words = ["--source", ROOT, "--headers", headers, "--zig-cache", zig, "--out", work / "native"]
    build.step("native wheel", build.action("native_wheel.py", *words))
    words = ["--lock", build.lock, "--wheels", wheels, "--thin", HERE / "thin.toml"]
    if ours:
        make: list[object] = ["--lock", build.lock, "--sysroot", fetched(build, build.name), "--sources", wheels]
        make += ["--zig-cache", zig, "--out", work / "built"]
        build.step("wheels built here", build.action("sdist_wheel.py", *make))
        words += ["--built", work / "built"]
    words += ["--strip", f"{target.triple}-strip", "--out", work / "wheelhouse"]
    build.step("wheelhouse", build.action("wheelhouse.py", *words))
    python = interpreter(build)
    side = "hub" if build.package == "skerry-hub" else "agent"
    code = [ROOT / "agent/skerry", *([ROOT / "hub/skerry_hub"] if side == "hub" else [])]
    project = ROOT / ("hub/pyproject.toml" if side == "hub" else "pyproject.toml")
    words = ["--project", project, "--packaging", ROOT / side / "packaging", "--wheelhouse", work / "wheelhouse"]
    words += ["--native", next((work / "native").glob("*.whl")), "--out", build.out]
    words += [word for folder in code for word in ("--code", folder)]
    words += ["--size-max-mib", SIZE_MAX_MIB[build.package], *(["--python", python] if python else [])]
    build.step("deb", build.action("deb.py", *words))
    package = deb.described(project.read_text(), target)
    return build.out / f"{package.name}_{package.version}_{target.deb_arch}.deb"


def noted(build: Build, made: Path, total: float) -> None:
    """Add this build to the figures, and write the table of docs/boards.md from all of them."""
    said = subprocess.run(["dpkg-deb", "-f", str(made), "Installed-Size"], capture_output=True, check=True, text=True)
    figures = json.loads(FIGURES.read_text()) if FIGURES.is_file() else {}
    row = figures.setdefault(build.name, {}).setdefault(build.package, {})
    row |= {"deb_bytes": made.stat().st_size, "installed_kib": int(said.stdout)}
    steps = {name: took for name, took in build.seconds.items() if name not in FETCHED and "sysroot" not in name}
    row["cold" if build.cold else "cached"] = {"steps_s": steps, "total_s": round(total, 1)}
    FIGURES.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n")
    PAGE.write_text(with_table(PAGE.read_text(), figures))


def with_table(page: str, figures: dict[str, dict[str, dict[str, Any]]]) -> str:
    """The page with its block of packages replaced."""
    lines = [
        "| package | .deb | installed | of edgecore's 88.7 MiB | compiler and packing, cold / cached |",
        "|---|---|---|---|---|",
    ]
    for target, packages in sorted(figures.items()):
        for package, row in sorted(packages.items()):
            mib = row["installed_kib"] / 1024
            cold, cached = (f"{sum(row[k]['steps_s'].values()):.0f} s" if k in row else "–" for k in ("cold", "cached"))
            cells = [f"{package}, {target}", f"{row['deb_bytes'] / 1e6:.2f} MB", f"{mib:.1f} MiB"]
            lines.append(f"| {' | '.join([*cells, f'{100 * mib / EDGECORE_MIB:.1f} %', f'{cold} / {cached}'])} |")
    before, _, rest = page.partition(BLOCK)
    _, _, after = rest.partition(BLOCK_END)
    return before + BLOCK + "\n" + "\n".join(lines) + "\n" + BLOCK_END + after


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--target", default="aarch64-bookworm", choices=[p.stem for p in (HERE / "targets").iterdir()])
    words.add_argument("--package", default="skerry", choices=["skerry", "skerry-hub"])
    words.add_argument("--out", type=Path, default=ROOT / "build/deb")
    words.add_argument("--cold", action="store_true", help="with an empty cache of the compiler")
    words.add_argument("--figures", action="store_true", help="add sizes and seconds to docs/packages.json, boards.md")
    args = words.parse_args()
    start = time.monotonic()
    tools()
    build = Build(args.target, args.package, args.out.resolve(), args.cold)
    made = built(build)
    total = time.monotonic() - start
    if args.figures:
        noted(build, made, total)
    print(f"{made}: {made.stat().st_size} bytes, {total:.1f} s")


if __name__ == "__main__":
    entry(main)
