"""Reads build.toml files into one checked graph of units. Decides nothing about building and touches no other file.

A workspace is a folder with a build.toml; a unit is named `workspace:unit`, or `workspace:unit@target` when it is
declared for targets: by a list, or by a table of its own, [unit."name@target"]. All of every reachable workspace is
checked, whatever is asked for.
"""

from __future__ import annotations

import graphlib
import importlib
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from crossbuild.errors import DeclarationInvalid
from crossbuild.limits import COMMAND_TIMEOUT_S, COMMAND_TIMEOUT_S_MAX, DECLARATION_BYTES_MAX

NEEDS = "/needs"  # where a command finds the outputs of its needs: /needs/<name>/<output>
_NAME = re.compile(r"[a-z0-9][a-z0-9.+_-]*")
_BRACES = re.compile(r"\{(target|needs)(?:\.([\w-]+))?\}")


@dataclass(frozen=True, slots=True)
class Command:
    """Runs argv in the sandbox; `tools` as declared, "debian:gcc"; `root`: with uid 0 and its capabilities."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    tools: tuple[str, ...]
    timeout_s: float
    root: bool = False


@dataclass(frozen=True, slots=True)
class Files:
    """Hands its inputs on as its outputs."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """Pinned files from this machine's own package sources; the lock says which bytes."""

    lock: Path


@dataclass(frozen=True, slots=True)
class Unit:
    """One node of the graph. `needs` maps the name under /needs to the id of a unit; "x/" in outputs is a folder."""

    id: str
    file: Path
    inputs: tuple[str, ...]
    needs: Mapping[str, str]
    outputs: tuple[str, ...]
    work: Command | Files | Fetch
    table: str = ""  # its table in the file, below [unit]

    @property
    def folder(self) -> Path:
        return self.file.parent

    @property
    def key(self) -> str:
        """The unit's table in its build.toml, for errors."""
        return f"unit.{self.table}"


# Key → type of what a unit may say. Lists are of strings, tables are from string to string.
UNIT_KEYS: dict[str, type] = {
    "command": list, "environment": dict, "fetch": str, "inputs": list, "needs": dict, "outputs": list,
    "root": bool, "targets": list, "timeout_s": int, "tools": list,
}  # fmt: skip
KIND_KEYS = {"command": UNIT_KEYS.keys() - {"fetch"}, "fetch": {"fetch"}, "inputs": {"inputs"}}
WORKSPACE_KEYS: dict[str, type] = {"name": str, "needs": list, "targets": str}


def read_units(root: Path) -> dict[str, Unit]:
    """All units of the workspace in folder `root` and of those that it needs, by id.

    Raises DeclarationInvalid: unknown keys, units or targets, cycles, two units that write one output.
    """
    units: dict[str, Unit] = {}
    for file, table in _workspaces(root):
        units |= {unit.id: unit for unit in _units_of(file, table)}
    for unit in units.values():
        for name, need in unit.needs.items():
            if need not in units:
                near = sorted(u for u in units if u.partition("@")[0] == need.partition("@")[0])
                cure = f"Write one of {', '.join(near)}" if near else "Is its workspace in workspace.needs?"
                raise DeclarationInvalid(unit.file, f"{unit.key}.needs.{name}", f"no unit {need}", cure)
    try:
        graphlib.TopologicalSorter({u.id: set(u.needs.values()) for u in units.values()}).prepare()
    except graphlib.CycleError as e:
        cycle = e.args[1]
        unit = units[cycle[0]]
        what, cure = f"a cycle: {' ← '.join(cycle)}", "Remove one of these needs"
        raise DeclarationInvalid(unit.file, f"{unit.key}.needs", what, cure) from e
    return units


def read_toml(file: Path) -> dict[str, Any]:
    """One TOML file. Raises DeclarationInvalid: absent, too big, not TOML."""
    toml: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        if file.stat().st_size > DECLARATION_BYTES_MAX:
            raise DeclarationInvalid(file, "", f"more than {DECLARATION_BYTES_MAX} bytes", "Split it")
        table: dict[str, Any] = toml.loads(file.read_text())
    except (OSError, UnicodeError) as e:
        raise DeclarationInvalid(file, "", f"cannot be read ({e})", "Is the path right?") from e
    except toml.TOMLDecodeError as e:
        raise DeclarationInvalid(file, "", f"is not TOML ({e})", "Mend that line") from e
    return table


def _workspaces(root: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """build.toml files with their tables, the root's first; one name is one folder."""
    todo, seen = [root.resolve()], dict[str, Path]()
    while todo:
        file = todo.pop() / "build.toml"
        if file in seen.values():
            continue
        table = read_toml(file)
        _known(file, "", table, {"workspace": dict, "unit": dict})
        about = table.get("workspace", {})
        _known(file, "workspace.", about, WORKSPACE_KEYS)
        name = about.get("name", "")
        if not _NAME.fullmatch(name):
            raise DeclarationInvalid(file, "workspace.name", f"{name!r} is no name", "Use a-z, 0-9 and . + _ -")
        if name in seen:
            raise DeclarationInvalid(file, "workspace.name", f"{seen[name]} has this name too", "Rename one")
        seen[name] = file
        yield file, table
        todo += [(file.parent / need).resolve() for need in about.get("needs", [])]


def _units_of(file: Path, table: dict[str, Any]) -> Iterator[Unit]:
    """The units of one build.toml, each once for every target; their outputs together must be one tree."""
    about = table["workspace"]
    targets = _targets(file.parent / about["targets"]) if "targets" in about else {}
    seen, written = set[str](), dict[str, str]()
    for titled, said in table.get("unit", {}).items():
        key, (name, _, own) = f"unit.{titled}", titled.partition("@")
        if not _NAME.fullmatch(name):
            raise DeclarationInvalid(file, key, "is no name", "Use a-z, 0-9 and . + _ -")
        _known(file, f"{key}.", said, UNIT_KEYS)
        if own and "targets" in said:
            raise DeclarationInvalid(file, f"{key}.targets", "its name has a target already", "Remove one of the two")
        wanted = list(targets) if said.get("targets") == ["*"] else said.get("targets", [own or None])
        for target in wanted:
            if target is not None and target not in targets:
                raise DeclarationInvalid(file, f"{key}.targets", f"no target {target}", f"There are {sorted(targets)}")
            unit = _Said(file, titled, said, target, targets.get(target or "", {})).unit(f"{about['name']}:{name}")
            if unit.id in seen:
                cure = "Take it out of the other's targets"
                raise DeclarationInvalid(file, key, f"{unit.id} is declared twice", cure)
            seen.add(unit.id)
            for output in unit.outputs:
                for other in [o for o in written if _inside(output, o) or _inside(o, output)]:
                    what = f"{unit.id} and {written[other]} both write {output.rstrip('/')}"
                    cure = "Give each its own path, for targets by {target}"
                    raise DeclarationInvalid(file, f"{key}.outputs", what, cure)
                written[output] = unit.id
            yield unit


def _targets(folder: Path) -> dict[str, dict[str, Any]]:
    """The targets of a folder by name. All of them say the same keys, so a misspelt one is found before a build."""
    targets = {file.stem: read_toml(file) for file in sorted(folder.glob("*.toml"))}
    for key in sorted(set().union(*targets.values())):
        having = [name for name, facts in targets.items() if key in facts]
        lacking = [name for name in targets if name not in having]
        if lacking and len(having) <= len(lacking):
            known = ", ".join(sorted(targets[lacking[0]]))
            raise DeclarationInvalid(folder / f"{having[0]}.toml", key, "unknown key", f"Other targets have {known}")
        if lacking:
            cure = f"Other targets have it, {having[0]} {key} = {targets[having[0]][key]!r}"
            raise DeclarationInvalid(folder / f"{lacking[0]}.toml", key, "is missing", cure)
    return targets


@dataclass(frozen=True, slots=True)
class _Said:
    """What one table says of a unit, read for one target or none; `facts` are the target's values."""

    file: Path
    table: str
    said: dict[str, Any]
    target: str | None
    facts: dict[str, Any]

    def wrong(self, part: str, what: str, cure: str) -> DeclarationInvalid:
        return DeclarationInvalid(self.file, f"unit.{self.table}.{part}", what, cure)

    def filled(self, part: str, text: str) -> str:
        """`text` with {target}, {target.KEY} and, in commands, {needs.NAME} replaced; other braces stay."""
        needs = self.said.get("needs", {}) if part in ("command", "environment") else ()

        def one(found: re.Match[str]) -> str:
            what, name = found.groups()
            if what == "needs" and name in needs:
                return f"{NEEDS}/{name}"
            if what == "target" and self.target and (name is None or isinstance(self.facts.get(name), str | int)):
                return self.target if name is None else str(self.facts[name])
            raise self.wrong(part, f"{found[0]} stands for nothing here", "Declare it, or spell it otherwise")

        return _BRACES.sub(one, text)

    def list(self, part: str) -> tuple[str, ...]:
        return tuple(self.filled(part, text) for text in self.said.get(part, []))

    def paths(self, part: str) -> tuple[str, ...]:
        paths = self.list(part)
        for path in paths:
            if path.lstrip("!").startswith("/") or ".." in PurePosixPath(path).parts or not path.strip("/"):
                raise self.wrong(part, f"{path!r} leaves the unit's folder", "Import it by a need")
        return paths

    def unit(self, name: str) -> Unit:
        needs = {alias: self.filled(f"needs.{alias}", need) for alias, need in self.said.get("needs", {}).items()}
        at = f"@{self.target}" if self.target else ""
        inputs, outputs = self.paths("inputs"), self.paths("outputs")
        return Unit(f"{name}{at}", self.file, inputs, needs, outputs, self.work(), self.table)

    def work(self) -> Command | Files | Fetch:
        """Which of the three kinds of unit this is, and that it says no key of another kind."""
        said = self.said
        kind = next((kind for kind in ("command", "fetch") if kind in said), "inputs")
        if wrong := sorted(said.keys() - KIND_KEYS[kind] - {"targets"}):
            raise self.wrong(wrong[0], f"does not go with {kind}", "Remove one of the two")
        for part in (kind, "outputs") if kind == "command" else (kind,):
            if not said.get(part):
                cure = "A unit has command and outputs, or fetch, or inputs"
                raise self.wrong(part, "is missing or empty", cure)
        if kind == "fetch":
            return Fetch(self.file.parent / self.filled("fetch", said["fetch"]))
        if kind == "inputs":
            return Files()
        timeout_s = float(said.get("timeout_s", COMMAND_TIMEOUT_S))
        if not 0 < timeout_s <= COMMAND_TIMEOUT_S_MAX:
            raise self.wrong("timeout_s", f"{timeout_s} s", f"At most {COMMAND_TIMEOUT_S_MAX:.0f} s")
        environment = {key: self.filled("environment", value) for key, value in said.get("environment", {}).items()}
        # No Debian package has an underscore in its name: binutils-{target.triple} is binutils-x86-64-linux-gnu.
        tools = tuple(sorted({tool.replace("_", "-") for tool in self.list("tools")}))
        return Command(self.list("command"), environment, tools, timeout_s, said.get("root", False))


def _known(file: Path, prefix: str, table: dict[str, Any], keys: dict[str, type]) -> None:
    for key, value in table.items():
        if key not in keys:
            raise DeclarationInvalid(file, prefix + key, "unknown key", f"Known are {', '.join(sorted(keys))}")
        inner = value if isinstance(value, list) else value.values() if isinstance(value, dict) and prefix else ()
        if not isinstance(value, keys[key]) or (prefix and not all(isinstance(v, str) for v in inner)):
            cure = f"Write a {keys[key].__name__} (of strings)"
            raise DeclarationInvalid(file, prefix + key, "has another type", cure)


def _inside(path: str, folder: str) -> bool:
    return path.rstrip("/") == folder.rstrip("/") or path.startswith(folder.rstrip("/") + "/")
