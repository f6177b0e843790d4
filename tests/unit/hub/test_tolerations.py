"""Which tolerations a pod on a device gets, and that the API's rule for updates of pods takes them."""

from __future__ import annotations

from typing import Any

import pytest

from skerry_hub.apiserver import pod_updates
from skerry_hub.edgecontroller.tolerations import AWAY, lasting

NOT_READY, UNREACHABLE = AWAY


def tolerates(key: str, **more: Any) -> dict[str, Any]:
    return {"key": key, "operator": "Exists", "effect": "NoExecute", **more}


ADMITTED = [tolerates(key, tolerationSeconds=300) for key in AWAY]


def test_the_five_minutes_that_admission_gives_become_for_ever_in_their_place() -> None:
    assert lasting({"tolerations": ADMITTED}) == [tolerates(key) for key in AWAY]


def test_a_pod_without_any_gets_both() -> None:
    assert lasting({}) == lasting({"tolerations": []}) == [tolerates(key) for key in AWAY]


@pytest.mark.parametrize(
    "have",
    [
        [tolerates(key) for key in AWAY],
        [{"operator": "Exists"}],
        [{"operator": "Exists", "effect": "NoExecute"}],
        [{"key": key, "operator": "Equal", "effect": "NoExecute"} for key in AWAY],
    ],
    ids=["both", "all", "all NoExecute", "the empty value"],
)
def test_a_pod_that_stays_anyway_is_left_alone(have: list[dict[str, Any]]) -> None:
    assert lasting({"tolerations": have}) is None


def test_the_least_counts_so_each_one_loses_its_seconds() -> None:
    have = [{"operator": "Exists"}, tolerates(UNREACHABLE, tolerationSeconds=60)]
    assert lasting({"tolerations": have}) == [{"operator": "Exists"}, tolerates(UNREACHABLE)]


def test_tolerations_of_other_taints_stay_as_they_are() -> None:
    others = [
        tolerates("example.com/drain", tolerationSeconds=60),
        {"key": NOT_READY, "operator": "Exists", "effect": "NoSchedule"},
        {"key": UNREACHABLE, "operator": "Equal", "value": "x", "effect": "NoExecute", "tolerationSeconds": 5},
    ]
    assert lasting({"tolerations": [*others, *ADMITTED]}) == [*others, *(tolerates(key) for key in AWAY)]


@pytest.mark.parametrize("have", [[], ADMITTED, [{"operator": "Exists"}, *ADMITTED[1:]]])
def test_the_api_takes_it_on_a_pod_that_exists_and_once_is_enough(have: list[dict[str, Any]]) -> None:
    spec = {"containers": [], "tolerations": have}
    want = lasting(spec)
    assert want is not None
    assert pod_updates.causes({"spec": {**spec, "tolerations": want}}, {"spec": spec}) == []
    assert lasting({"tolerations": want}) is None
