"""What of a pod may change after its creation: images, deadline, tolerations that are added, gates that go.

Pure; answers causes. Source: Pod API reference, "Pod update and replacement".
"""

from __future__ import annotations

import copy
import json
from typing import Any

from .status import Cause, forbidden_value, invalid_value

Obj = dict[str, Any]
MIRROR = "kubernetes.io/config.mirror"
_WHY = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def causes(new: Obj, old: Obj) -> list[Cause]:
    """What an update of `old` to `new` may not do."""
    spec, was = new["spec"], old["spec"]
    out = _counts(spec, was)
    if out:
        return out
    out += _deadline(spec, was)
    out += _tolerations(spec, was)
    out += _mirror(new, old)
    if _frozen(spec, was) != was:
        out.append(forbidden_value("spec", _WHY))
    return out


def _counts(spec: Obj, was: Obj) -> list[Cause]:
    why = "pod updates may not add or remove containers"
    kinds = [kind for kind in ("containers", "initContainers") if len(spec.get(kind, [])) != len(was.get(kind, []))]
    return [forbidden_value(f"spec.{kind}", why) for kind in kinds]


def _deadline(spec: Obj, was: Obj) -> list[Cause]:
    new, old = spec.get("activeDeadlineSeconds"), was.get("activeDeadlineSeconds")
    if old is None or new == old:
        return []
    if new is None:
        why = "must not update from a positive integer to nil value"
        return [invalid_value("spec.activeDeadlineSeconds", None, why)]
    if new > old:
        why = "must be less than or equal to previous value"
        return [invalid_value("spec.activeDeadlineSeconds", new, why)]
    return []


def _tolerations(spec: Obj, was: Obj) -> list[Cause]:
    def bare(t: Obj) -> str:
        return json.dumps({k: v for k, v in t.items() if k != "tolerationSeconds"}, sort_keys=True)

    kept = [bare(t) for t in spec.get("tolerations", [])]
    if all(bare(t) in kept for t in was.get("tolerations", [])):
        return []
    why = "existing toleration can not be modified except its tolerationSeconds"
    return [forbidden_value("spec.tolerations", why)]


def _mirror(new: Obj, old: Obj) -> list[Cause]:
    """Whether a pod is a node's picture of its own pod is said once, by who made it."""
    now, was = (((pod.get("metadata") or {}).get("annotations") or {}).get(MIRROR) for pod in (new, old))
    if now == was:
        return []
    why = "may not add mirror pod annotation" if was is None else "may not remove or update mirror pod annotation"
    return [forbidden_value(f"metadata.annotations[{MIRROR}]", why)]


def _frozen(spec: Obj, was: Obj) -> Obj:
    """The new spec with everything that may change set back to the old."""
    out = copy.deepcopy(spec)
    for kind in ("containers", "initContainers"):
        for c, before in zip(out.get(kind, []), was.get(kind, []), strict=False):
            c["image"] = before.get("image", "")
    for key in ("activeDeadlineSeconds", "tolerations", "schedulingGates"):
        out.pop(key, None)
        if key in was:
            out[key] = was[key]
    if out.get("terminationGracePeriodSeconds") == 1 and was.get("terminationGracePeriodSeconds", 0) < 0:
        out["terminationGracePeriodSeconds"] = was["terminationGracePeriodSeconds"]
    return out
