"""Builds that run at the same time: over one store, into one folder, and beside someone who edits the sources."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from builds.build_places import NewPlace, blobs, edit, needs_sandbox
from crossbuild.store import Store
from crossbuild.trees import settle

pytestmark = needs_sandbox

PROBE = """
[workspace]
name = "probe"

[unit.given]
inputs = ["given.txt"]

[unit.slow]
inputs = ["seen.txt"]
tools = ["debian:dash", "debian:coreutils"]
command = ["sh", "-c", "mkdir out && cp seen.txt out && sleep 2 && touch out/whole"]
outputs = ["out/"]

[unit.upper]
tools = ["debian:dash", "debian:coreutils"]
needs = { slow = "probe:slow", given = "probe:given" }
command = ["sh", "-c", "cat {needs.slow}/out/seen.txt {needs.given}/given.txt > upper.txt"]
outputs = ["upper.txt"]
"""


def probe(root: Path) -> None:
    (root / "probe").mkdir()
    (root / "probe/build.toml").write_text(PROBE)
    (root / "probe/seen.txt").write_text("seen\n")
    (root / "probe/given.txt").write_text("given\n")


def test_two_builds_of_one_unit_run_it_once_and_both_get_it(at: NewPlace) -> None:
    here = at("here")
    probe(here.root)
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(here.build, "probe", "probe:slow", "--out", "out") for _ in range(2)]
        ended = [run.result() for run in runs]
    assert [run.code for run in ended] == [0, 0], [run.said for run in ended]
    assert sorted(run.units["probe:slow"] for run in ended) == ["built", "cached"]
    assert sorted(p.name for p in (here.root / "out/probe/out").iterdir()) == ["seen.txt", "whole"]
    assert not list((here.cache / "tmp").iterdir())


def test_a_key_is_held_by_one_at_a_time_and_let_go_on_failure(at: NewPlace, tmp_path: Path) -> None:
    store = Store(tmp_path, b"", print)
    order: list[str] = []

    def second() -> None:
        with store.alone("key"):
            order.append("second")

    with store.alone("key"):
        waiting = threading.Thread(target=second)
        waiting.start()
        time.sleep(0.2)
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]
    with pytest.raises(RuntimeError), store.alone("key"):
        raise RuntimeError
    with store.alone("key"):
        pass


def test_a_folder_that_another_process_settled_first_is_kept(tmp_path: Path) -> None:
    for name in ("mine", "theirs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    settle(tmp_path / "theirs", tmp_path / "at")
    settle(tmp_path / "mine", tmp_path / "at")
    assert (tmp_path / "at/file").read_text() == "theirs"


@pytest.mark.parametrize("edited", ["handed on", "own input"])
def test_an_input_that_is_edited_during_the_build_never_counts_as_what_it_was(at: NewPlace, edited: str) -> None:
    """The key was made from the old text; the new one must not come out under it."""
    here = at("here")
    probe(here.root)
    if edited == "own input":
        edit(here.root / "probe/build.toml", "needs = { slow", 'inputs = ["given.txt"]\nneeds = { slow')
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(here.build, "probe", "probe:upper")
        while not list((here.cache / "tmp").glob("build-*")):
            time.sleep(0.02)
        (here.root / "probe/given.txt").write_text("other\n")
        ended = run.result()
    assert ended.code == 1
    assert "probe/build.toml: unit." in ended.said
    assert "given.txt was changed during the build. Build again" in ended.said
    assert "Traceback" not in ended.said
    assert here.build("probe", "probe:upper", "--out", "out").built == {"probe:upper"}
    assert (here.root / "out/probe/upper.txt").read_text() == "seen\nother\n"
    assert not [line for line in ended.said.splitlines() if line.startswith("refused")]
    assert len(blobs(here.cache, "ac")) == 2
