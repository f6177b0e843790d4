"""Words for the build tests: places, runs of `crossbuild` as a person would start it, and what a run did."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

ENGINE = Path(__file__).parents[2] / "cross-build"
TOY = Path(__file__).parent / "toy"
NOBODY = 65534


@dataclass(frozen=True, slots=True)
class Ran:
    """How a run ended: its code, what it said, and the statuses of its units."""

    code: int
    said: str
    units: dict[str, str]
    keys: dict[str, str]

    @property
    def built(self) -> set[str]:
        """The units whose command ran: the only moments at which a compiler can have run."""
        return {unit for unit, status in self.units.items() if status == "built"}


@dataclass(frozen=True, slots=True)
class Place:
    """A folder with a checkout and a cache of its own; `user` runs there, with `umask`."""

    root: Path
    cache: Path
    user: int | None = None
    umask: int = 0o022

    def run(self, verb: str, *words: str) -> Ran:
        python = sys.executable if self.user is None else "/usr/bin/python3"
        options = ["--cache", str(self.cache)]
        argv = [python, "-m", "crossbuild", verb, *words, *options]
        env = {**os.environ, "PYTHONPATH": str(self.engine), "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(self.root)}
        ids = {} if self.user is None else {"user": self.user, "group": self.user, "extra_groups": []}
        done = subprocess.run(
            argv, cwd=self.root, env=env, capture_output=True, text=True, check=False, umask=self.umask, **ids
        )  # type: ignore[call-overload]
        return read(done.returncode, done.stdout, done.stderr)

    def build(self, workspace: str, *words: str) -> Ran:
        return self.run("build", *words, "--root", workspace, "--output", "json")

    @property
    def engine(self) -> Path:
        """The engine, copied to where another user may read it."""
        return ENGINE if self.user is None else self.root / "engine"


def checkout(where: Path) -> Path:
    """What git would have of this checkout, edits included, at `where`."""
    root = ENGINE.parent
    said = subprocess.run(["git", "ls-files", "-coz", "--exclude-standard"], cwd=root, capture_output=True, check=True)
    for name in said.stdout.decode().split("\0"):
        if name and (root / name).is_file():
            (where / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, where / name, follow_symlinks=False)
    return where


def read(code: int, out: str, said: str) -> Ran:
    told = json.loads(out) if out.startswith("[") else []
    return Ran(code, said + out, {u["unit"]: u["status"] for u in told}, {u["unit"]: u["key"] for u in told})


def place(where: Path, shared_tools: Path, *, user: int | None = None, umask: int = 0o022, name: str = "toy") -> Place:
    """A checkout of the toy at `where`/`name`, its consumer beside it, and an empty cache.

    The unpacked host packages are shared between places of one user: unpacking gcc takes longer than the tests.
    """
    root, cache = where, where / "cache"
    shutil.copytree(TOY, root / name, ignore=shutil.ignore_patterns("consumer"))
    shutil.copytree(TOY / "consumer", root / "consumer")
    cache.mkdir()
    tools = shared_tools / str(user)
    tools.mkdir(exist_ok=True)
    (cache / "tools").symlink_to(tools)
    if user is not None:
        shutil.copytree(ENGINE / "crossbuild", root / "engine/crossbuild", ignore=shutil.ignore_patterns("__pycache__"))
        give(tools, user)
        give(root, user)
    return Place(root, cache, user, umask)


def give(folder: Path, user: int) -> None:
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, user, user, follow_symlinks=False)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The URL of a web server of its own process that gives out the files of `folder`, as any would."""
    folder.mkdir(exist_ok=True)
    argv = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(folder)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as serving:
        assert serving.stdout is not None
        try:
            yield f"http://127.0.0.1:{serving.stdout.readline().split()[5]}"
        finally:
            serving.kill()


class NewPlace(Protocol):
    """The fixture `at`."""

    def __call__(self, where: str, *, user: int | None = None, umask: int = 0o022, name: str = "toy") -> Place: ...


def blobs(cache: Path, kind: str) -> set[str]:
    return {p.name for p in (cache / kind).iterdir()} if (cache / kind).is_dir() else set()


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


needs_sandbox = pytest.mark.skipif(
    shutil.which("bwrap") is None or shutil.which("gcc", path="/usr/bin") is None,
    reason="needs the Debian packages bubblewrap and gcc",
)
