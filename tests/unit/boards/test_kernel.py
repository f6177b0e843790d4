"""Fragments of kernel options: what is asked for, what contradicts, what a kernel lacks."""

from __future__ import annotations

import pytest

from image.kernel import lacking, wanted
from image.refusal import Refusal

CONFIG = "CONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\nCONFIG_D=250\n"


def test_y_is_more_than_m() -> None:
    options = wanted([("one", "CONFIG_A=m\n"), ("two", "CONFIG_A=y\n"), ("three", "CONFIG_A=m\n")])
    assert (options["CONFIG_A"].value, options["CONFIG_A"].source) == ("y", "two")


@pytest.mark.parametrize("first", ["CONFIG_A=y", "CONFIG_A=m"])
def test_fragments_that_contradict_are_both_named(first: str) -> None:
    for texts in ((first, "# CONFIG_A is not set"), ("# CONFIG_A is not set", first)):
        with pytest.raises(Refusal) as told:
            wanted(zip(("one.config", "two.config"), texts, strict=True))
        assert (told.value.where, told.value.key) == ("two.config", "CONFIG_A")
        assert "one.config" in told.value.why


def test_what_a_kernel_lacks_is_told_with_who_wants_it() -> None:
    options = wanted([("f", "# why\n\nCONFIG_A=m\nCONFIG_B=y\nCONFIG_C=m\n# CONFIG_A2 is not set\nCONFIG_E=y\n")])
    assert [line.partition(":")[0] for line in lacking(options, CONFIG)] == ["CONFIG_B", "CONFIG_C", "CONFIG_E"]
    assert "f wants y, the kernel has m" in lacking(options, CONFIG)[0]


def test_an_option_that_must_be_off() -> None:
    assert lacking(wanted([("f", "# CONFIG_C is not set\n")]), CONFIG) == []
    assert len(lacking(wanted([("f", "# CONFIG_A is not set\n")]), CONFIG)) == 1


@pytest.mark.parametrize("line", ["CONFIG_A=yes", "A=y", "# CONFIG_A is set", "CONFIG_A"])
def test_a_line_that_says_nothing_is_refused(line: str) -> None:
    with pytest.raises(Refusal) as told:
        wanted([("f.config", f"CONFIG_B=y\n{line}\n")])
    assert (told.value.where, told.value.key) == ("f.config", "line 2")
