"""Builds units twice from nothing in two places and compares the outputs byte by byte.

The second place differs in path, length of path, umask, mtimes of the sources and, for root, user; it also runs later.
Only pinned downloads are shared. Differences are shown by diffoscope where it is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from crossbuild.build import plan
from crossbuild.declare import Command, Fetch, Unit, read_toml
from crossbuild.errors import CommandFailed
from crossbuild.keys import file_digest
from crossbuild.locks import lock_of, locked

NOBODY = 65534
LONG_AGO_S = 1_000_000_000
DIFFERENCE_LINES_SHOWN = 60
_PYTHON = "/usr/bin/python3"  # readable by every user, which sys.executable need not be


def run(root: Path, names: Sequence[str], units: Mapping[str, Unit], cache: Path, say: Callable[[str], None]) -> int:
    """0 when both builds gave the same bytes, 1 when not. Raises BuildError."""
    with tempfile.TemporaryDirectory(prefix="reproduce-") as place:
        one, two = Path(place) / "a", Path(place) / "another/and/longer/path"
        two.mkdir(parents=True)
        for folder in (Path(place), *two.parents[:3]):
            folder.chmod(0o755)  # for the other user
        works = [p.unit.work for p in plan(units, list(names)).values()]
        needs_root = any(isinstance(work, Command) and work.root for work in works)
        other_user = NOBODY if os.geteuid() == 0 and Path(_PYTHON).exists() and not needs_root else None
        # Both copies first: the sources may be edited while the first is built.
        first = _copied(root.resolve(), names, units, cache, one, None)
        second = _copied(root.resolve(), names, units, cache, two, LONG_AGO_S)
        _build(one, first, names, 0o022, None)
        _build(two, second, names, 0o077, other_user)
        outs = [_contents(where / "out") for where in (one, two)]
        differing = sorted(p for p in outs[0].keys() | outs[1].keys() if outs[0].get(p) != outs[1].get(p))
        for path in differing:
            say(f"differs: {path}")
            _show(one / "out" / path, two / "out" / path, say)
        user = "two users" if other_user else "one user"
        same = len(outs[0]) - len(differing)
        say(f"{same} of {len(outs[0])} files equal: two paths, umask 022 and 077, {user}, two ages of the sources")
        return 1 if differing else 0


def _copied(
    root: Path, names: Sequence[str], units: Mapping[str, Unit], cache: Path, where: Path, mtime: int | None
) -> Path:
    """Copy declarations, inputs and locks of what is needed, and the engine, to below `where`. Returns the new root."""
    plans = plan(units, list(names))
    files = {unit.file for unit in units.values()}
    for file in list(files):
        if targets := read_toml(file)["workspace"].get("targets"):
            files |= {f.resolve() for f in (file.parent / targets).glob("*.toml")}
    for p in plans.values():
        files |= {p.unit.folder / path for path in p.inputs}
    (where / "cache/cas").mkdir(parents=True)
    for unit in units.values():
        if isinstance(unit.work, Fetch):
            files.add(lock_of(unit).resolve())
            for output in locked(unit) if unit.id in plans else ():
                shutil.copyfile(cache / "cas" / output.sha256, where / "cache/cas" / output.sha256)
    above = Path(os.path.commonpath([root, *files]))
    for file in files:
        to = where / "tree" / file.relative_to(above)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, to, follow_symlinks=False)
        if mtime is not None:
            os.utime(to, (mtime, mtime), follow_symlinks=False)
    shutil.copytree(Path(__file__).parent, where / "engine/crossbuild", ignore=shutil.ignore_patterns("__pycache__"))
    return where / "tree" / root.relative_to(above)


def _build(where: Path, tree: Path, names: Sequence[str], umask: int, user: int | None) -> None:
    if user is not None:
        for path in [where, *where.rglob("*")]:
            os.chown(path, user, user, follow_symlinks=False)
    python = sys.executable if user is None else _PYTHON
    words = ["build", *names, "--root", str(tree), "--cache", str(where / "cache"), "--out", str(where / "out")]
    ids = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    env = {"PATH": os.environ.get("PATH", ""), "HOME": str(where), "PYTHONPATH": str(where / "engine")}
    argv = [python, "-B", "-m", "crossbuild", *words]
    code = subprocess.run(argv, cwd=where, env=env, umask=umask, check=False, **ids).returncode  # type: ignore[call-overload]
    if code != 0:
        raise CommandFailed(where, "", f"the build there ended with code {code}", "Does it build here?")


def _contents(folder: Path) -> dict[str, str]:
    """Every file and link below `folder`: its mode bit and digest, or where it points to."""

    def said(p: Path) -> str:
        return f"→ {p.readlink()}" if p.is_symlink() else f"{p.stat().st_mode & 0o100:o} {file_digest(p)}"

    found = (p for p in sorted(folder.rglob("*")) if p.is_symlink() or p.is_file())
    return {str(p.relative_to(folder)): said(p) for p in found}


def _show(one: Path, two: Path, say: Callable[[str], None]) -> None:
    diffoscope = shutil.which("diffoscope")
    if diffoscope is None or not (one.is_file() and two.is_file()):
        say("  (install diffoscope to see how)" if diffoscope is None else "  only in one of the two")
        return
    done = subprocess.run([diffoscope, str(one), str(two)], capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines()[:DIFFERENCE_LINES_SHOWN]:
        say(f"  {line}")
