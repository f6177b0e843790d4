"""Strategic merge patches of pod templates as a real server merged them, and the rules one by one."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from skerry_hub.apiserver import defaults
from skerry_hub.apiserver.normalize import normalise
from skerry_hub.apiserver.patch_strategic import BadPatch, apply
from vectors import replay

Obj = dict[str, Any]
STRATEGIC = "application/strategic-merge-patch+json"
VECTORS = json.loads((Path(replay.__file__).parent / "kubernetes" / "strategic-merge-patch.json").read_text())


def cases() -> list[tuple[str, Obj, Obj, Obj | None, str]]:
    """(scenario, pod spec before, its patch, pod spec after or None, message) of every recorded deployment patch."""
    out = []
    for scenario in VECTORS["scenarios"]:
        before: Obj | None = None
        for step in scenario["steps"]:
            request, reply = step.get("request"), step.get("response", {}).get("body", {})
            if request is None or "deployments" not in request["path"]:
                continue
            patch = request.get("body") or {}
            part = ((patch.get("spec") or {}).get("template") or {}).get("spec")
            kind = (request.get("headers") or {}).get("Content-Type")
            if kind == STRATEGIC and before is not None and isinstance(part, dict):
                out.append((scenario["name"], before, part, _pod_spec(reply), reply.get("message", "")))
            before = _pod_spec(reply) or before
    return out


def _pod_spec(reply: Obj) -> Obj | None:
    found: Obj | None = ((reply.get("spec") or {}).get("template") or {}).get("spec")
    return found


@pytest.mark.parametrize(("name", "before", "patch", "after", "message"), cases())
def test_a_pod_template_is_merged_as_recorded(
    name: str, before: Obj, patch: Obj, after: Obj | None, message: str
) -> None:
    kept = copy.deepcopy((before, patch))
    if after is None:
        with pytest.raises(BadPatch) as why:
            apply("PodSpec", before, patch)
        assert str(why.value)[:60] in message
    else:
        pod = {"spec": apply("PodSpec", before, patch)}
        pod, _ = normalise("Pod", pod)
        defaults.pod_spec(pod["spec"])
        assert pod["spec"] == after
    assert (before, patch) == kept, "nothing given is changed"


def test_enough_was_recorded() -> None:
    assert len(cases()) >= 14


def test_null_removes_and_absent_null_does_nothing() -> None:
    assert apply("ConfigMap", {"data": {"a": "1", "b": "2"}}, {"data": {"a": None, "z": None}}) == {"data": {"b": "2"}}
    assert apply("ConfigMap", {}, {"data": {"a": None}}) == {"data": {}}


def test_a_list_without_key_is_replaced() -> None:
    assert apply("Container", {"command": ["a", "b"]}, {"command": ["c"]}) == {"command": ["c"]}


def test_directives_in_a_list() -> None:
    have = {"env": [{"name": "a", "value": "1"}, {"name": "b", "value": "2"}]}
    gone = apply("Container", have, {"env": [{"name": "a", "$patch": "delete"}]})
    assert gone == {"env": [{"name": "b", "value": "2"}]}
    swapped = apply("Container", have, {"env": [{"name": "c"}, {"$patch": "replace"}]})
    assert swapped == {"env": [{"name": "c"}]}
    with pytest.raises(BadPatch):
        apply("Container", have, {"env": [{"name": "a", "$patch": "nonsense"}]})


@pytest.mark.parametrize(
    "patch",
    [
        {"$patch": "odd"}, {"$retainKeys": 1}, {"$setElementOrder/env": 1}, {"$setElementOrder/zz": []}, {"env": [1]},
        {"env": [{}]}, {"$deleteFromPrimitiveList/x": 1}, {"$setElementOrder/env": [{}], "env": []},
        {"$setElementOrder/env": [], "env": 3},
    ],
)  # fmt: skip
def test_a_contradiction_is_refused(patch: Obj) -> None:
    with pytest.raises(BadPatch):
        apply("Container", {"env": [{"name": "a"}]}, patch)
