"""What a build.toml may not say: each an error that names file, key and cure, before anything is written."""

from __future__ import annotations

import hashlib
import re
import shutil
import zipfile
from pathlib import Path

import pytest

from builds.build_places import ENGINE, NewPlace, edit, needs_sandbox
from crossbuild.declare import Command, read_units
from crossbuild.errors import BuildError, DeclarationInvalid

GOOD = """
[workspace]
name = "a"
targets = "targets"

[unit.one]
inputs = ["*.txt"]
tools = ["debian:dash"]
needs = { two = "a:two@{target}" }
command = ["sh", "{needs.two}/x", "{target.flag}", "${HOME}", "{other}"]
environment = { FLAG = "{target.flag}", AT = "{needs.two}" }
outputs = ["one-{target}"]
targets = ["*"]

[unit.two]
inputs = ["*.txt"]
command = ["sh"]
outputs = ["two/{target}/"]
targets = ["t1", "t2"]
"""


def write(folder: Path, text: str) -> Path:
    (folder / "targets").mkdir(parents=True, exist_ok=True)
    for n in (1, 2):
        (folder / f"targets/t{n}.toml").write_text(f'flag = "-O{n}"\nlist = [1]\n')
    (folder / "build.toml").write_text(text)
    (folder / "x.txt").write_text("x")
    return folder


def test_units_are_made_for_each_target(tmp_path: Path) -> None:
    units = read_units(write(tmp_path, GOOD))
    assert set(units) == {"a:one@t1", "a:one@t2", "a:two@t1", "a:two@t2"}
    unit = units["a:one@t2"]
    assert isinstance(unit.work, Command)
    assert unit.needs == {"two": "a:two@t2"}
    assert unit.work.argv == ("sh", "/needs/two/x", "-O2", "${HOME}", "{other}")
    assert unit.work.environment == {"FLAG": "-O2", "AT": "/needs/two"}
    assert unit.outputs == ("one-t2",)


@pytest.mark.parametrize(
    ("old", "new", "key", "said"),
    [
        ('name = "a"', 'name = "a"\nneed = []', "workspace.need", "unknown key. Known are name, needs, targets"),
        ('name = "a"', 'name = "A b"', "workspace.name", "is no name"),
        ('name = "a"', "name = 1", "workspace.name", "another type"),
        ("[unit.one]", "[units.one]", "units", "unknown key. Known are unit, workspace"),
        ("[unit.one]", "[unit.One]", "unit.One", "is no name"),
        ("outputs = [\"one", "output = [\"one", "unit.one.output", "unknown key"),
        ('"*.txt"]\ntools', '"/etc/passwd"]\ntools', "unit.one.inputs", "leaves the unit's folder"),
        ('"*.txt"]\ntools', '"../x.txt"]\ntools', "unit.one.inputs", "leaves the unit's folder"),
        ('"one-{target}"', '"../one-{target}"', "unit.one.outputs", "leaves the unit's folder"),
        ('"one-{target}"', '"one"', "unit.one.outputs", "a:one@t2 and a:one@t1 both write one"),
        ('"two/{target}/"', '"one-{target}/in/"', "unit.two.outputs", "both write"),
        ('"a:two@{target}"', '"a:three"', "unit.one.needs.two", "no unit a:three"),
        ('"a:two@{target}"', '"a:two"', "unit.one.needs.two", "Write one of a:two@t1, a:two@t2"),
        ('"a:two@{target}"', '"a:one@t1"', "unit.one.needs", "a cycle"),
        ('"{target.flag}", "$', '"{target.nothing}", "$', "unit.one.command", "{target.nothing} stands for nothing"),
        ('"{target.flag}", "$', '"{target.list}", "$', "unit.one.command", "{target.list} stands for nothing"),
        ("{needs.two}/x", "{needs.three}/x", "unit.one.command", "{needs.three} stands for nothing"),
        ('["t1", "t2"]', '["t1", "t3"]', "unit.two.targets", "no target t3. There are ['t1', 't2']"),
        ("[unit.two]", '[unit."two@t1"]', "unit.two@t1.targets", "its name has a target already. Remove one"),
        ("[unit.two]", '[unit."one@t1"]\ninputs = ["x.txt"]\n[unit.two]', "unit.one@t1", "is declared twice"),
        ('command = ["sh"]\n', "", "unit.two.outputs", "does not go with inputs"),
        ('command = ["sh"]\n', 'fetch = "l"\n', "unit.two.inputs", "does not go with fetch"),
        ('outputs = ["two/{target}/"]', "", "unit.two.outputs", "is missing or empty"),
        ('command = ["sh"]', 'command = ["sh"]\ntimeout_s = 99999999', "unit.two.timeout_s", "At most"),
        ('command = ["sh"]', "command = [1]", "unit.two.command", "another type"),
        ('targets = "targets"', 'targets = "targets"\nneeds = ["nowhere"]', "", "cannot be read"),
        ("[unit.one]", "[unit.one", "", "is not TOML"),
    ],
)  # fmt: skip
def test_what_cannot_be_names_file_key_and_cure(tmp_path: Path, old: str, new: str, key: str, said: str) -> None:
    assert old in GOOD
    with pytest.raises(DeclarationInvalid) as refused:
        read_units(write(tmp_path, GOOD.replace(old, new, 1)))
    assert refused.value.key == key
    assert refused.value.file.startswith(str(tmp_path))
    assert said in str(refused.value)
    assert refused.value.cure


def test_a_table_of_its_own_declares_a_unit_for_one_target(tmp_path: Path) -> None:
    other = '[unit."two@t2"]\ninputs = ["x.txt"]\ncommand = ["sh", "{target.flag}"]\noutputs = ["two/{target}/"]\n'
    units = read_units(write(tmp_path, GOOD.replace('["t1", "t2"]', '["t1"]') + other))
    assert set(units) == {"a:one@t1", "a:one@t2", "a:two@t1", "a:two@t2"}
    assert (units["a:two@t2"].key, units["a:two@t2"].work) != (units["a:two@t1"].key, units["a:two@t1"].work)
    assert units["a:two@t2"].key == "unit.two@t2"


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        ('flag = "-O3"\nlist = [1]\nflga = "-O3"\n', "flga", "unknown key. Other targets have flag, list"),
        ('flag = "-O3"\n', "list", "is missing. Other targets have it, t1 list = [1]"),
    ],
)
def test_a_target_with_an_unknown_or_missing_key_is_named(tmp_path: Path, text: str, key: str, said: str) -> None:
    write(tmp_path, GOOD)
    (tmp_path / "targets/t3.toml").write_text(text)
    with pytest.raises(DeclarationInvalid, match=re.escape(f"targets/t3.toml: {key}: {said}")):
        read_units(tmp_path)


@needs_sandbox
def test_a_foreign_wheel_stops_the_build_with_its_name_and_nothing_is_kept(at: NewPlace) -> None:
    """By the action that skerry's own wheelhouses are made with."""
    here = at("here")
    shutil.copytree(ENGINE, here.root / "house", ignore=lambda *_: ["crossbuild", "image", "__pycache__"])
    name = "tide-1.0-cp311-cp311-manylinux_2_17_x86_64.whl"
    (here.root / "house/wheels").mkdir()
    with zipfile.ZipFile(here.root / "house/wheels" / name, "w") as wheel:
        wheel.writestr("tide.py", "")
    digest = hashlib.sha256((here.root / "house/wheels" / name).read_bytes()).hexdigest()
    (here.root / "house/lock.txt").write_text(f"tide==1.0 --hash=sha256:{digest}\n")
    (here.root / "house/build.toml").write_text("""
[workspace]
name = "house"
targets = "targets"
[unit.libraries]
targets = ["aarch64-bookworm"]
inputs = ["actions/*.py", "targets/{target}.toml", "lock.txt", "thin.toml", "wheels/*"]
tools = ["debian:python3"]
command = ["python3", "actions/wheelhouse.py", "--target", "targets/{target}.toml", "--lock", "lock.txt",
           "--wheels", "wheels", "--thin", "thin.toml", "--strip", "strip", "--out", "out"]
outputs = ["out/"]
""")
    failed = here.build("house", "house:libraries@aarch64-bookworm", "--out", "out")
    assert failed.code == 1
    assert "house/build.toml: unit.libraries.command: " in failed.said
    assert f"{name}: platform: found manylinux_2_17_x86_64, wanted any, or manylinux for aarch64" in failed.said
    assert not (here.cache / "ac").exists()
    assert not (here.cache / "cas").exists()
    assert not (here.root / "out").exists()


def test_one_name_is_one_folder(tmp_path: Path) -> None:
    write(tmp_path / "one", '[workspace]\nname = "same"\nneeds = ["../two"]\n')
    write(tmp_path / "two", '[workspace]\nname = "same"\n')
    with pytest.raises(DeclarationInvalid, match="has this name too"):
        read_units(tmp_path / "one")


def test_workspaces_may_need_each_other_but_units_may_not(tmp_path: Path) -> None:
    text = '[workspace]\nname = "NAME"\nneeds = ["../OTHER"]\n[unit.u]\ninputs = ["x.txt"]\n'
    for name, other in (("one", "two"), ("two", "one")):
        write(tmp_path / name, text.replace("NAME", name).replace("OTHER", other))
    assert set(read_units(tmp_path / "one")) == {"one:u", "two:u"}


@needs_sandbox
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"hot.c", "hot.h"', '"hot.c", "cold.h"', "unit.hot.inputs: no file matches 'cold.h'"),
        ('"debian:gcc"', '"debian:no-such-gcc"', "apt-get install --no-install-recommends no-such-gcc"),
        ('"debian:gcc"', '"/usr/bin/gcc"', "unit.hot.tools: '/usr/bin/gcc' is no tool. Write \"debian:PACKAGE\""),
        ("inputs", "unknown", "unit.header.unknown: unknown key"),
    ],
)
def test_nothing_is_written_before_all_is_known(at: NewPlace, old: str, new: str, said: str) -> None:
    here = at("here")
    edit(here.root / "toy/native/build.toml", old, new)
    failed = here.build("consumer", "consumer:list")
    assert failed.code == 1
    assert "toy/native/build.toml" in failed.said
    assert said in failed.said
    assert "Traceback" not in failed.said
    assert not (here.cache / "ac").exists()
    assert not (here.cache / "cas").exists()


def test_a_unit_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    from crossbuild.build import plan

    with pytest.raises(BuildError, match="There are a:two@t1, a:two@t2"):
        plan(read_units(write(tmp_path, GOOD)), ["a:two"])
