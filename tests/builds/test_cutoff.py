"""What rebuilds what: keys are content, so a change that changes no output stops there."""

from __future__ import annotations

from builds.build_places import NewPlace, Place, edit, needs_sandbox

pytestmark = needs_sandbox

UPPER = {"native:hot@fast", "native:hot@small", "agent:bundle", "consumer:list"}


def filled(at: NewPlace) -> Place:
    here = at("here")
    assert here.build("consumer", "consumer:list").built == UPPER | {"native:header"}
    return here


def test_a_comment_rebuilds_its_unit_and_nothing_after_it(at: NewPlace) -> None:
    here = filled(at)
    edit(here.root / "toy/native/table.py", "squares =", "# A comment.\nsquares =")
    again = here.build("consumer", "consumer:list")
    assert again.units == {
        "native:header": "built", "native:hot@fast": "cut off", "native:hot@small": "cut off",
        "agent:bundle": "cached", "consumer:list": "cached",
    }  # fmt: skip


def test_a_change_of_the_output_rebuilds_all_that_needs_it(at: NewPlace) -> None:
    here = filled(at)
    edit(here.root / "toy/native/table.py", "n * n", "n + n")
    assert here.build("consumer", "consumer:list").built == UPPER | {"native:header"}


def test_a_comment_in_c_rebuilds_the_libraries_and_nothing_after_them(at: NewPlace) -> None:
    """Both are compiled; stripped of debug lines they would be equal, with them they differ: so strip."""
    here = at("here")
    edit(here.root / "toy/native/build.toml", '"-g", ', '"-s", ')
    assert here.build("consumer", "consumer:list").code == 0
    edit(here.root / "toy/native/hot.c", "/* A path", "/* Another comment. */\n/* A path")
    assert here.build("consumer", "consumer:list").built == {"native:hot@fast", "native:hot@small"}


def test_a_target_of_its_own_file_rebuilds_that_target_alone(at: NewPlace) -> None:
    here = filled(at)
    edit(here.root / "toy/native/targets/small.toml", "-Os", "-O1")
    assert here.build("consumer", "consumer:list").built == {"native:hot@small", "consumer:list"}


def test_mode_bit_and_name_count_and_mtime_and_undeclared_files_do_not(at: NewPlace) -> None:
    here = filled(at)
    bundle = here.root / "toy/agent"
    (bundle / "main.txt").touch()
    (bundle / "another.txt").write_text("nobody declares this")
    (bundle / "main.txt").chmod(0o600)
    assert here.build("consumer", "consumer:list").built == set()
    (bundle / "start").chmod(0o644)
    assert "agent:bundle" in here.build("consumer", "consumer:list").built


def test_explain_says_what_a_key_is_made_of_and_what_differs(at: NewPlace) -> None:
    here = filled(at)
    before = here.build("consumer", "agent:bundle").keys["agent:bundle"]
    shown = here.run("explain", "agent:bundle", "--root", "consumer")
    assert before in shown.said
    assert '"argv"' in shown.said
    edit(here.root / "toy/agent/main.txt", "A bundle", "The bundle")
    differs = here.run("explain", "agent:bundle", "--root", "consumer", "--against", before)
    assert differs.code == 0
    assert differs.said.count("\n") == 1
    assert differs.said.startswith("inputs main.txt: file ")


def test_explain_of_a_unit_whose_needs_are_not_built_says_which(at: NewPlace) -> None:
    asked = at("here").run("explain", "agent:bundle", "--root", "consumer")
    assert asked.code == 1
    assert "native:header is in no store" in asked.said.replace("needs native:header: ", "native:header ")
