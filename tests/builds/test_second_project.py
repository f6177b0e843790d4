"""Binaries built in one project are used by another: the promise that Bazel 4 and SCons broke (docs/decisions/0006)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from builds.build_places import NewPlace, Place, blobs, needs_sandbox

pytestmark = needs_sandbox


def test_a_unit_is_one_entry_as_a_root_of_its_own_and_inside_a_consumer_elsewhere(at: NewPlace) -> None:
    """native is built as its own root; then a consumer at another path, with the same cache, runs no compiler."""
    own = at("one")
    first = own.build("toy/native", "native:hot@fast", "native:hot@small")
    assert first.code == 0, first.said
    assert first.built == {"native:header", "native:hot@fast", "native:hot@small"}
    entries = blobs(own.cache, "ac")
    other = Place(at("quite/another/place").root, own.cache)
    second = other.build("consumer", "consumer:list")
    assert second.code == 0, second.said
    assert second.built == {"consumer:list", "agent:bundle"}
    assert second.keys["native:hot@fast"] == first.keys["native:hot@fast"]
    assert len(blobs(own.cache, "ac") - entries) == 2


def test_and_the_other_way_round(at: NewPlace) -> None:
    """What a consumer built first is not built again when its owner's project builds it."""
    consumer = at("consumer-first")
    assert consumer.build("consumer", "consumer:list").code == 0
    owner = Place(at("owner").root, consumer.cache)
    again = owner.build("toy/agent", "agent:bundle")
    assert again.code == 0, again.said
    assert again.built == set()


def test_no_path_of_this_machine_is_in_a_key_or_in_a_binary(at: NewPlace) -> None:
    here = at("some/where")
    assert here.build("consumer", "consumer:list", "--out", "out").code == 0
    place = str(here.root)
    for entry in (here.cache / "ac").iterdir():
        assert place not in entry.read_text()
        assert "/tmp" not in json.dumps(json.loads(entry.read_text())["made_from"])
    for blob in (here.cache / "cas").iterdir():
        assert place.encode() not in blob.read_bytes()


@pytest.mark.parametrize("upper", ["agent:bundle", "consumer:list"])
def test_an_upper_unit_brings_its_lower_ones(at: NewPlace, upper: str) -> None:
    """With an empty cache the upper one builds the lower by itself; with a filled one nothing runs."""
    here = at("empty")
    cold = here.build("consumer", upper)
    assert {"native:header", "native:hot@fast", upper} <= cold.built
    warm = here.build("consumer", upper)
    assert warm.built == set()
    assert set(warm.units) == set(cold.units)


def test_only_the_bytes_that_are_used_are_fetched_back(at: NewPlace, tmp_path: Path) -> None:
    """Keys need the digests of what is below, not its bytes: a filled remote store makes one download."""
    full = at("full")
    assert full.build("consumer", "consumer:list").code == 0
    empty = at("fresh")
    done = empty.build("consumer", "consumer:list", "--remote", str(full.cache), "--out", str(tmp_path / "out"))
    assert done.built == set()
    assert len(blobs(empty.cache, "cas")) == 1
    assert (tmp_path / "out/consumer/list.txt").read_text().count("\n") == 5
