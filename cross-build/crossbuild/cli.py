"""The command line: `python3 -m crossbuild build|explain|lock|reproduce|gc`. Reads words, prints results."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from crossbuild import fetch, gc, reproduce
from crossbuild.build import BUILT, SOURCE, Build, Done, plan
from crossbuild.declare import Fetch, read_units
from crossbuild.errors import BuildError
from crossbuild.keys import differences, digest_of
from crossbuild.store import Folder, Remote, Store

HOME = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "skerry-builds"


class Terminal:
    """What a person sees: a line per unit, when its command starts and when it is finished."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet

    def done(self, done: Done) -> None:
        if not self.quiet and done.status != SOURCE:
            print(f"{done.status:8} {done.seconds:7.2f} s  {done.unit}", flush=True)

    def say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)


def main(words: Sequence[str] | None = None) -> int:
    said = _parser().parse_args(words)
    try:
        return int(said.verb(said))
    except (BuildError, OSError) as e:
        print(f"crossbuild: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _build(said: argparse.Namespace) -> int:
    terminal = Terminal(said.output == "json")
    build = _started(said, said.unit, terminal)
    started = time.monotonic()
    done = build.all(said.jobs)
    written = [path for name in said.unit for path in (build.export(name, said.out) if said.out else ())]
    if said.output == "json":
        print(json.dumps([asdict(done[name]) for name in sorted(done)], indent=1))
    else:
        for path in written:
            print(f"{'wrote':8} {'':9}  {path}")
        built = sum(d.status == BUILT for d in done.values())
        print(f"{built} of {len(done)} units built in {time.monotonic() - started:.1f} s")
    return 0


def _explain(said: argparse.Namespace) -> int:
    """Nothing is built: a need that is in no store has no digest yet."""
    (name,) = said.unit
    terminal = Terminal(quiet=True)
    build = _started(said, said.unit, terminal)
    made = build.look(name)
    if made is None:
        raise BuildError(name, "", "runs no command, so it has no key", "Explain a unit that needs it")
    if said.against:
        entry = build.store.entry(said.against)
        if entry is None:
            raise BuildError(name, "--against", f"no entry {said.against}", f"Entries are in {said.cache}/ac")
        print("\n".join(differences(entry.made_from, made)) or "the same")
    else:
        print(json.dumps({"unit": name, "key": digest_of(made), "made_from": made}, indent=1))
    return 0


def _lock(said: argparse.Namespace) -> int:
    units = read_units(said.root)
    locks = sorted(u.id for u in units.values() if isinstance(u.work, Fetch))
    for name in said.unit or locks:
        if name not in locks:
            raise BuildError(name, "", "is no fetch unit", f"There are {', '.join(locks)}")
        print(f"wrote {fetch.lock(units[name], _store(said, Terminal(quiet=True)), said.cache)}", flush=True)
    return 0


def _reproduce(said: argparse.Namespace) -> int:
    units = read_units(said.root)
    build = _started(said, said.unit, Terminal(quiet=False))
    build.fetch_all()
    return reproduce.run(said.root, said.unit, units, said.cache, print)


def _gc(said: argparse.Namespace) -> int:
    files, size = gc.collect(said.cache, time.time(), said.days * 86400, int(said.gigabytes * 1e9))
    print(f"{files} files, {size / 1e6:.1f} MB removed")
    return 0


def _started(said: argparse.Namespace, names: list[str], terminal: Terminal) -> Build:
    plans = plan(read_units(said.root), names)
    return Build(plans, _store(said, terminal), said.cache, terminal.done)


def _store(said: argparse.Namespace, terminal: Terminal) -> Store:
    store = Store(said.cache, said.seal.read_bytes() if said.seal else b"", terminal.say)
    if said.remote and said.remote.startswith(("http://", "https://")):
        store.layers.append(Remote(said.remote, store.temporary, terminal.say))
    elif said.remote:
        store.layers.append(Folder(Path(said.remote)))
    if said.push:
        if not isinstance(store.layers[-1], Folder) or not said.remote:
            raise BuildError("--push", "", "what is built can be pushed to a folder", "Write --remote DIR")
        store.pushed_to = store.layers[-1]
    return store


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("crossbuild", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, about: str, run: object, unit: str | int | None) -> argparse.ArgumentParser:
        words = verbs.add_parser(name, help=about, description=about)
        words.set_defaults(verb=run)
        words.add_argument("--cache", type=Path, default=HOME, help="the store of this machine [%(default)s]")
        if unit:
            words.add_argument("unit", nargs=unit, help="workspace:unit or workspace:unit@target")
            words.add_argument("--root", type=Path, default=Path(), help="folder of the root workspace [.]")
            words.add_argument("--remote", metavar="URL|DIR", help="another store to read from")
            words.add_argument("--push", action="store_true", help="write to that DIR too")
            words.add_argument("--seal", type=Path, metavar="FILE", help="secret that entries are sealed with")
        return words

    words = verb("build", "build units and all that they need", _build, "+")
    words.add_argument("--out", type=Path, metavar="DIR", help="write their outputs to DIR/WORKSPACE/")
    words.add_argument("--output", choices=("text", "json"), default="text")
    words.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N")
    words = verb("explain", "what is in a unit's key", _explain, 1)
    words.add_argument("--against", metavar="KEY", help="what differs from the entry KEY")
    verb("lock", "pin what fetch units want, all or these, as it is today", _lock, "*")
    verb("reproduce", "build twice in two places and compare", _reproduce, "+")
    words = verb("gc", "remove what was not used lately, or does not fit", _gc, None)
    words.add_argument("--days", type=float, default=30.0)
    words.add_argument("--gigabytes", type=float, default=10.0)
    return parser
