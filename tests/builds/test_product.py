"""skerry's own workspaces, and a second project that uses what they build.

What is declared is checked always; the builds run with SKERRY_BUILDS=1 (`make reproduce`): cold they download a
compiler of 90 MB and take minutes.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
from wheelhouse import locked, normal

from builds.build_places import ENGINE, NOBODY, Place, checkout, edit, give, needs_sandbox, served
from builds.figures import BLOCK, BLOCK_END, PAGE, Figures, with_table
from crossbuild.declare import Command, Fetch, read_units
from crossbuild.locks import files_of, read_lock, wanted

ROOT = ENGINE.parent
SECOND = "tests/builds/second-project"
UNIT = "second-project:contents"
LOWER = {
    "cross-build:zig", "cross-build:python-tools", "cross-build:sysroot@aarch64-bookworm",
    "cross-build:agent-wheelhouse@aarch64-bookworm", "native:wheel@aarch64-bookworm", "agent:deb@aarch64-bookworm",
}  # fmt: skip
builds = pytest.mark.skipif("SKERRY_BUILDS" not in os.environ, reason="minutes: make reproduce")


def below(name: str) -> set[str]:
    """The units with a command that `name` needs, at any depth, and itself."""
    units = read_units(ROOT / SECOND)
    found, todo = set(), [name]
    while todo:
        unit = units[todo.pop()]
        found.add(unit.id)
        todo += unit.needs.values()
    return {unit for unit in found if isinstance(units[unit].work, Command)}


def test_the_second_project_imports_the_package_the_wheelhouse_and_all_below() -> None:
    assert below(UNIT) == LOWER | {UNIT}


def test_all_workspaces_are_declared_well() -> None:
    named = {unit.partition(":")[0] for unit in read_units(ROOT) | read_units(ROOT / "tests")}
    assert named >= {"skerry", "native", "agent", "hub", "cross-build", "tests"}


@pytest.mark.parametrize("part", ["agent", "hub"])
def test_packages_carry_the_versions_that_the_tests_run_with(part: str) -> None:
    """The locks of builds follow requirements/: after a change there, run cross-build/lock."""
    ours = locked((ROOT / f"requirements/{part}.txt").read_text())
    names = {normal(name) for name in re.findall(r"^([a-z][\w.-]*)[ >=<]", top_level(part), re.MULTILINE)}
    for file in (ROOT / "cross-build/locks").glob(f"{part}-3*.txt"):
        theirs = locked(file.read_text())
        absent = {name for name in names if name not in theirs} - {"tomli"}  # Python before 3.11 alone
        assert not absent, f"{file.name} lacks {absent}: run cross-build/lock"
        other = {
            name: pin.version for name, pin in theirs.items() if name in ours and pin.version != ours[name].version
        }
        assert not other, f"{file.name}: run cross-build/lock"


def top_level(part: str) -> str:
    """What is asked for by name; the hub has all that the agent has."""
    asked = (ROOT / f"requirements/{part}.in").read_text()
    return asked + (top_level("agent") if "-r agent.in" in asked else "")


def test_each_lock_of_files_has_what_its_requirements_ask_for() -> None:
    for unit in read_units(ROOT / "tests").values():
        if isinstance(unit.work, Fetch) and isinstance(read_lock(unit).get("want"), str):
            asked = set(wanted(unit, read_lock(unit)))
            assert asked == {file.want for file in files_of(unit)}, f"run: crossbuild lock {unit.id}"


def test_the_table_of_packages_stands_in_its_block_alone() -> None:
    page = f"before\n{BLOCK}\nstale\n{BLOCK_END}\nafter\n"
    told = with_table(page, [Figures("skerry_1+bookworm_arm64.deb", 1451108, 5707, 51.7, 0.84, 0.9, 2.0)])
    row = "| skerry_1+bookworm_arm64.deb | 1.45 MB | 5.6 MiB | 6.3 % | 52 s | 0.8 s | 0.9 s | 2.0 s |"
    assert row in told
    assert (told.startswith("before\n"), told.endswith("\nafter\n"), "stale" in told) == (True, True, False)
    assert BLOCK in PAGE.read_text()


@builds
@needs_sandbox
def test_a_second_checkout_and_a_second_user_over_http_build_nothing(open_tmp: Path) -> None:
    first = Place(checkout(open_tmp / "first"), open_tmp / "cache")
    cold = first.build(SECOND, UNIT)
    assert cold.code == 0, cold.said
    assert cold.built == LOWER | {UNIT}  # the upper one alone was asked for
    second = Place(open_tmp / "a/second/checkout", first.cache)
    shutil.copytree(first.root, second.root)
    again = second.build(SECOND, UNIT)
    assert again.code == 0, again.said
    assert again.built == set()
    assert again.keys == cold.keys
    own = second.build("native", "native:wheel@aarch64-bookworm")  # as a root of its own, at another path
    assert own.built == set()
    edit(second.root / "setup.py", '"""Compile', '# A comment.\n"""Compile')
    cut = second.build(SECOND, UNIT)
    assert cut.built == {"native:wheel@aarch64-bookworm"}
    assert cut.units["agent:deb@aarch64-bookworm"] == "cut off"
    if os.geteuid() == 0:
        third = Place(open_tmp / "of/another/user", open_tmp / "of/another/user/cache", NOBODY, 0o077)
        shutil.copytree(first.root, third.root)
        shutil.copytree(ENGINE / "crossbuild", third.engine / "crossbuild")
        give(third.root, NOBODY)
        with served(first.cache) as url:
            remote = third.build(SECOND, UNIT, "--remote", url, "--out", str(third.root / "out"))
        assert remote.code == 0, remote.said
        assert remote.built == set()
        assert "usr/lib/skerry" in (third.root / "out/second-project/contents.txt").read_text()
