"""Walks the graph: each unit's key as soon as its needs' outputs are known, and its command only on a miss.

Bytes move late: a key takes the digests of the needs' outputs, so a filled store builds nothing and, but for what is
asked for, copies nothing. Bytes that a store lost or that are refused are made again on the way, and must come out the
same.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

from crossbuild import fetch, sandbox
from crossbuild.declare import Command, Fetch, Files, Unit
from crossbuild.errors import BuildError, CommandFailed, EntryRefused, InputMissing, ToolMissing
from crossbuild.keys import (
    Input,
    Made,
    Output,
    digest_of,
    file_digest,
    handed_on,
    inputs_of,
    made_from,
    outputs_digest,
    read_input,
)
from crossbuild.limits import LOG_LINES_SHOWN
from crossbuild.locks import locked
from crossbuild.store import Entry, Store
from crossbuild.tools import tools_of, tree_of
from crossbuild.trees import pack, settle, stamp, unpack

BUILT, CACHED, CUT_OFF, SOURCE = "built", "cached", "cut off", "source"


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one unit. `key` names the entry; of a unit that runs nothing it is the digest of its outputs."""

    unit: str
    status: str  # built, cached, cut off (a need was built, with the same result), source (runs nothing)
    seconds: float
    key: str
    outputs: tuple[Output, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A unit that is known to be buildable: all inputs are there, all tools installed."""

    unit: Unit
    inputs: Mapping[str, Input]
    tools: Mapping[str, str]


def plan(units: Mapping[str, Unit], wanted: list[str]) -> dict[str, Plan]:
    """What has to be known before anything is written: the wanted units and all below, with inputs and tools.

    Raises BuildError: an unknown unit, an absent input or tool.
    """
    found: dict[str, Plan] = {}
    todo = list(wanted)
    while todo:
        name = todo.pop()
        if name not in units:
            near = sorted(u for u in units if u.startswith(name.partition("@")[0])) or sorted(units)
            raise BuildError(name, "", "no such unit", f"There are {', '.join(near)}")
        if name not in found:
            unit = units[name]
            found[name] = Plan(unit, inputs_of(unit), tools_of(unit))
            todo += unit.needs.values()
    return found


class Build:
    """One run over one plan. Thread-safe: each unit is produced once at a time."""

    def __init__(self, plans: Mapping[str, Plan], store: Store, cache: Path, tell: Callable[[Done], None]) -> None:
        self.plans, self.store, self.cache, self.tell = plans, store, cache, tell
        self.done: dict[str, Done] = {}
        self._locks = {name: threading.RLock() for name in plans}
        self._tools_lock = threading.Lock()

    def all(self, jobs: int) -> dict[str, Done]:
        """Bring every unit of the plan to where its outputs are known. Raises the first BuildError."""
        order = TopologicalSorter({name: set(p.unit.needs.values()) for name, p in self.plans.items()})
        order.prepare()
        with ThreadPoolExecutor(jobs) as pool:
            pending: dict[Future[Done], str] = {}
            while order.is_active():
                pending |= {pool.submit(self._one, name): name for name in order.get_ready()}
                finished, _ = wait(pending, return_when=FIRST_COMPLETED)
                for future in finished:
                    if future.exception() is not None:
                        pool.shutdown(cancel_futures=True)
                    self.done[pending[future]] = future.result()
                    order.done(pending.pop(future))
        return self.done

    def export(self, name: str, out: Path) -> list[Path]:
        """Write the outputs of a unit that is done to `out`/<workspace>/, as readable files. Returns their paths."""
        made = self._needed(name)
        written = []
        with self.store.alone("export"):
            for output in self.done[name].outputs:
                to = out / name.partition(":")[0] / output.path
                if to.is_dir() and not to.is_symlink():
                    shutil.rmtree(to)
                to.parent.mkdir(parents=True, exist_ok=True)
                if output.kind == "tree":
                    shutil.copytree(made / output.path, to, symlinks=True)
                else:
                    shutil.copy2(made / output.path, to)
                written.append(to)
        return written

    def look(self, name: str) -> Made | None:
        """What the key of `name` is made of, found without building; None for a unit without a command.

        Raises BuildError: a need is in no store, so the digest of its outputs is unknown.
        """
        for need in self.plans[name].unit.needs.values():
            if need in self.done:
                continue
            made = self.look(need)
            outputs = self._known(need) if made is None else None
            entry = self.store.entry(digest_of(made)) if made is not None else None
            if outputs is None and entry is None:
                raise BuildError(
                    name, f"needs {need}", "is in no store, so its digest is unknown", f"Build {need} first"
                )
            self.done[need] = Done(need, CACHED, 0.0, "", outputs or (entry.outputs if entry else ()))
        return self.made_from(name) if isinstance(self.plans[name].unit.work, Command) else None

    def fetch_all(self) -> None:
        """Bring the bytes of every fetch unit of the plan into the cache."""
        for p in self.plans.values():
            if isinstance(p.unit.work, Fetch):
                fetch.fetch(p.unit, self.store, self.cache)

    def made_from(self, name: str) -> Made:
        """What the unit's key is the digest of; its needs are done."""
        p = self.plans[name]
        return made_from(p.unit, p.inputs, p.tools, {
            alias: outputs_digest(self.done[need].outputs) for alias, need in p.unit.needs.items()
        })  # fmt: skip

    def _one(self, name: str) -> Done:
        started = time.monotonic()
        unit = self.plans[name].unit
        if not isinstance(unit.work, Command):
            outputs = self._known(name)
            done = Done(name, SOURCE, 0.0, outputs_digest(outputs), outputs)
        else:
            made = self.made_from(name)
            key, below = digest_of(made), any(self.done[need].status == BUILT for need in unit.needs.values())
            status, entry = CUT_OFF if below else CACHED, self.store.entry(key)
            if entry is None:
                with self.store.alone(key):  # another build may be at it: then this one takes what it made
                    entry = self.store.entry(key)
                    if entry is None:
                        status, entry = BUILT, self._run(name, made)
            done = Done(name, status, time.monotonic() - started, entry.key, entry.outputs)
        self.tell(done)
        return done

    def _known(self, name: str) -> tuple[Output, ...]:
        """The outputs of a unit that runs no command: they are declared, or locked."""
        unit = self.plans[name].unit
        if isinstance(unit.work, Fetch):
            return locked(unit)
        return handed_on(unit, self.plans[name].inputs)

    def _run(self, name: str, made: Made) -> Entry:
        """Run the unit's command in the sandbox and keep what it wrote. Raises CommandFailed."""
        p = self.plans[name]
        work = p.unit.work
        assert isinstance(work, Command)
        if work.root and (refused := sandbox.why_not_root()):
            why = f"this unit is in no store, and building it takes root ({refused})"
            cure = "Build as root, or use a store that has it, or install uidmap and grant this user ids in /etc/subuid"
            raise ToolMissing(p.unit.file, f"{p.unit.key}.root", why, cure)
        needs = {alias: self._needed(need) for alias, need in p.unit.needs.items()}
        with self._tools_lock:
            tools = tree_of(p.tools, self.cache / "tools")
        self.store.say(f"{'runs':8} {'':9}  {name}")
        started = time.monotonic()
        with tempfile.TemporaryDirectory(dir=self.store.temporary, prefix="build-") as place:
            folder = Path(place) / "build"
            folder.mkdir()
            _lay_out(p, folder)
            ended = sandbox.run(work.argv, work.environment, folder, needs, tools, work.timeout_s, work.root)
            if ended.code != 0:
                raise _failed(p.unit, ended, work.timeout_s)
            outputs = tuple(self._keep(p.unit, folder, path, Path(place), ended.said) for path in p.unit.outputs)
        entry = Entry(digest_of(made), name, made, outputs, round(time.monotonic() - started, 3))
        self.store.keep_entry(entry)
        return entry

    def _keep(self, unit: Unit, folder: Path, path: str, spare: Path, said: str) -> Output:
        file = folder / path.rstrip("/")
        if file.is_symlink() or not (file.is_dir() if path.endswith("/") else file.is_file()):
            cure = f"It must write it below /build; it said:\n{_tail(said)}"
            raise CommandFailed(unit.file, f"{unit.key}.outputs", f"the command did not write {path}", cure)
        kind = "program" if file.stat().st_mode & 0o100 else "file"
        if path.endswith("/"):
            kind, packed = "tree", spare / "packed.tar"
            pack(file, packed)
            file = packed
        sha256 = file_digest(file)
        self.store.keep_blob(file, sha256)
        return Output(path.rstrip("/"), kind, sha256)

    def _needed(self, name: str) -> Path:
        """A folder with the outputs of a unit that is done, of this machine only; made from the store when absent."""
        outputs = self.done[name].outputs
        tree = self.cache / "trees" / outputs_digest(outputs)
        with self._locks[name]:
            if not tree.exists():
                try:
                    blobs = [(output, self.store.blob(output.sha256)) for output in outputs]
                except EntryRefused:
                    self._again(name)
                    blobs = [(output, self.store.blob(output.sha256)) for output in outputs]
                tree.parent.mkdir(exist_ok=True)
                with tempfile.TemporaryDirectory(dir=tree.parent, prefix=".new-") as new:
                    made = Path(new) / "made" / "tree"
                    made.mkdir(parents=True)
                    for output, blob in blobs:
                        _place(output, blob, made)
                    stamp(made)
                    settle(made.parent, tree)
            os.utime(tree)  # used now, for gc
        return tree / "tree"

    def _again(self, name: str) -> None:
        """Make the bytes of a unit once more, the same bytes. Raises CommandFailed: they came out otherwise."""
        p, work = self.plans[name], self.plans[name].unit.work
        match work:
            case Files():
                with tempfile.TemporaryDirectory(dir=self.store.temporary, prefix="files-") as place:
                    for n, (path, found) in enumerate(p.inputs.items()):
                        _take(p.unit, path, found, Path(place) / str(n))
                        self.store.keep_blob(Path(place) / str(n), found.digest)
            case Fetch():
                fetch.fetch(p.unit, self.store, self.cache)
            case Command():
                entry = self._run(name, self.made_from(name))
                if entry.outputs != self.done[name].outputs:
                    cure = f"See what differs: crossbuild reproduce {name}"
                    raise CommandFailed(p.unit.file, p.unit.key, "does not repeat to the bit", cure)
                self.done[name] = Done(name, BUILT, entry.seconds, entry.key, entry.outputs)
                self.tell(self.done[name])


def _lay_out(p: Plan, folder: Path) -> None:
    """The declared inputs, and the folders that outputs go to, below `folder`; all of one time, modes 755 and 644."""
    for path, found in p.inputs.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        _take(p.unit, path, found, folder / path)
    for output in p.unit.outputs:
        (folder / output.rstrip("/")).parent.mkdir(parents=True, exist_ok=True)
    stamp(folder)


def _take(unit: Unit, path: str, found: Input, to: Path) -> None:
    """Copy an input as it was when the key was made. Raises InputMissing: it was changed since."""
    source = unit.folder / path
    try:
        if found.kind == "link":
            to.symlink_to(source.readlink())
        else:
            shutil.copyfile(source, to)
            to.chmod(0o755 if found.kind == "program" else 0o644)
        same = read_input(to) == found
    except OSError:
        same = False
    if not same:
        raise InputMissing(unit.file, f"{unit.key}.inputs", f"{path} was changed during the build", "Build again")


def _place(output: Output, blob: Path, into: Path) -> None:
    to = into / output.path
    to.parent.mkdir(parents=True, exist_ok=True)
    if output.kind == "tree":
        unpack(blob, to)
    else:
        shutil.copyfile(blob, to)
        to.chmod(0o755 if output.kind == "program" else 0o644)


def _failed(unit: Unit, ended: sandbox.Ended, timeout_s: float) -> CommandFailed:
    how = f"took more than {timeout_s:.0f} s" if ended.code is None else f"ended with code {ended.code}"
    cure = f"It sees only its declared inputs, needs and tools. It said:\n{_tail(ended.said)}"
    return CommandFailed(unit.file, f"{unit.key}.command", f"{unit.id} {how}", cure)


def _tail(said: str) -> str:
    return "\n".join(said.splitlines()[-LOG_LINES_SHOWN:])
