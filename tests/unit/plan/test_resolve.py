"""Variables and files from ConfigMaps and Secrets, as the Kubernetes API reference describes them."""

from __future__ import annotations

from typing import Any

import pytest

from skerry.errors import Refused
from skerry.limits import ENV_BYTES_MAX
from skerry.model.manifest import ConfigData
from skerry.model.pod import Container, EnvFrom, EnvVar, KeyPath, KeyRef, ObjectVolume
from skerry.plan.resolve import MISSING, environment, expand, files
from skerry.ports import VolumeFile

MAP = ConfigData(
    "default", "m", False, (("A", b"from m"), ("B", b"two"), ("bin", b"\xff"), ("nul", b"a\0b"), ("x=y", b"odd")),
    frozenset({"bin"}),
)  # fmt: skip
SECRET = ConfigData("default", "s", True, (("A", b"from s"), ("P", b"pass")))


def lookup(name: str, secret: bool) -> ConfigData | None:
    return {("m", False): MAP, ("s", True): SECRET, ("m", True): None}.get((name, secret))


def env(*variables: EnvVar, sources: tuple[EnvFrom, ...] = ()) -> dict[str, str]:
    return dict(environment(Container("c", "i", env=variables, env_from=sources), lookup))


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("plain", "plain"),
        ("$(A)", "1"),
        ("a$(A)b$(B)", "a1b2"),
        ("$(MISSING)", "$(MISSING)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$$$$(A)", "$$(A)"),
        ("$", "$"),
        ("$$", "$"),
        ("$A ${A}", "$A ${A}"),
        ("$(A", "$(A"),
        ("$(A $$", "$(A $"),
        ("$()", "$()"),
        ("$(A$(B))", "$(A$(B))"),  # the name goes up to the first bracket
        ("$(LOOP)", "$(LOOP)x"),  # what was put in is not looked at again
        ("", ""),
    ],
)
def test_references_expand_as_kubernetes_does(text: str, means: str) -> None:
    assert expand(text, {"A": "1", "B": "2", "LOOP": "$(LOOP)x"}) == means


def test_env_wins_over_env_from_and_the_later_over_the_earlier() -> None:
    both = (EnvFrom("s", True), EnvFrom("m", False))
    assert env(EnvVar("P", "own"), sources=(EnvFrom("s", True),)) == {"A": "from s", "P": "own"}
    with pytest.raises(Refused):
        env(sources=both)  # key nul cannot be a variable
    assert env(EnvVar("A", "1"), EnvVar("A", "2")) == {"A": "2"}


def test_a_reference_sees_what_stands_before_it_and_env_from() -> None:
    got = env(
        EnvVar("X", "$(A)/$(Y)"), EnvVar("Y", "y"), EnvVar("Z", "$(Y)"), EnvVar("A", "$(A)+"),
        sources=(EnvFrom("s", True),),
    )  # fmt: skip
    assert got == {"A": "from s+", "P": "pass", "X": "from s/$(Y)", "Y": "y", "Z": "y"}


def test_a_value_from_an_object_is_not_expanded() -> None:
    objects = {("m", False): ConfigData("default", "m", False, (("k", b"$(A)"),))}
    container = Container("c", "i", env=(EnvVar("A", "1"), EnvVar("B", "", KeyRef("m", "k", False))))
    assert dict(environment(container, lambda n, s: objects.get((n, s)))) == {"A": "1", "B": "$(A)"}


def test_a_prefix_goes_before_each_key_and_binary_data_never_becomes_a_variable() -> None:
    objects = {("m", False): ConfigData("default", "m", False, (("a", b"1"), ("b", b"\xff")), frozenset("b"))}
    container = Container("c", "i", env_from=(EnvFrom("m", False, "P_"),))
    assert environment(container, lambda n, s: objects.get((n, s))) == (("P_a", "1"),)
    with pytest.raises(Refused, match="has no key b"):
        environment(Container("c", "i", env=(EnvVar("B", "", KeyRef("m", "b", False)),)), lambda n, s: objects[n, s])


@pytest.mark.parametrize(
    ("container", "path"),
    [
        (Container("c", "i", env=(EnvVar("A", "", KeyRef("no", "k", False)),)), "spec.containers[c].env[0]"),
        (Container("c", "i", env=(EnvVar("A", "", KeyRef("m", "no", False)),)), "spec.containers[c].env[0]"),
        (Container("c", "i", env=(EnvVar("A", "", KeyRef("m", "A", True)),)), "spec.containers[c].env[0]"),
        (Container("c", "i", env_from=(EnvFrom("no", False),)), "spec.containers[c].envFrom[0]"),
        (Container("c", "i", env=(EnvVar("A", "", KeyRef("m", "nul", False)),)), "spec.containers[c].env[0]"),
    ],
)
def test_what_is_missing_or_no_text_is_refused_with_its_path(container: Container, path: str) -> None:
    with pytest.raises(Refused) as why:
        environment(container, lookup)
    assert (why.value.path, why.value.reason) == (path, MISSING)


def test_what_is_optional_may_be_missing() -> None:
    variables = (EnvVar("A", "", KeyRef("no", "k", False, True)), EnvVar("B", "", KeyRef("m", "no", False, True)))
    assert env(*variables, sources=(EnvFrom("no", True, "", True),)) == {}


def test_an_environment_too_large_for_exec_is_refused_by_its_bytes() -> None:
    for letter in ("x", "ü"):
        with pytest.raises(Refused):
            env(EnvVar("A", letter * (ENV_BYTES_MAX // len(letter.encode()))))


def volume(**fields: Any) -> ObjectVolume:
    return ObjectVolume("v", fields.pop("object_name", "m"), **{"secret": False, **fields})


def test_a_volume_holds_every_key_or_the_items_named() -> None:
    whole = files(volume(default_mode=0o600), lookup)
    assert [f.path for f in whole.files] == ["A", "B", "bin", "nul", "x=y"]
    assert {f.mode for f in whole.files} == {0o600}
    picked = files(volume(items=(KeyPath("B", "d/b"), KeyPath("A", "a", 0o400))), lookup)
    assert picked.files == (VolumeFile("d/b", b"two", 0o644), VolumeFile("a", b"from m", 0o400))


def test_a_missing_object_or_key_is_refused_unless_optional() -> None:
    for wrong in (volume(object_name="no"), volume(items=(KeyPath("no", "p"),))):
        with pytest.raises(Refused) as why:
            files(wrong, lookup)
        assert why.value.path.startswith("spec.volumes[v]")
        assert why.value.reason == MISSING
    assert files(volume(object_name="no", optional=True), lookup).files == ()
    assert files(volume(items=(KeyPath("no", "p"),), optional=True), lookup).files == ()
