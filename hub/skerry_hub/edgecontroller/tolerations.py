"""Which tolerations keep a pod on a device that is away. Pure.

Kubernetes evicts a pod from a node with a NoExecute taint after the smallest tolerationSeconds of the tolerations that
match, so a second toleration without one does not help: those there are lose theirs. Of a pod's tolerations an update
may only add some and change tolerationSeconds (API server's validation of pod updates), which is all that is done here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skerry_hub.ports import Obj

AWAY = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
NO_EXECUTE = "NoExecute"


def lasting(spec: Mapping[str, Any]) -> list[Obj] | None:
    """The tolerations with which a pod stays on a device for ever; None when it has them."""
    have = [dict(t) for t in spec.get("tolerations") or ()]
    want = [{k: v for k, v in t.items() if k != "tolerationSeconds"} if _about(t, AWAY) else t for t in have]
    for key in AWAY:
        if not any(_about(t, (key,)) for t in want):
            want.append({"key": key, "operator": "Exists", "effect": NO_EXECUTE})
    return want if want != have else None


def _about(toleration: Mapping[str, Any], keys: tuple[str, ...]) -> bool:
    """Whether it tolerates one of these taints, whose value is empty, with NoExecute."""
    exists = toleration.get("operator") == "Exists"
    key = toleration.get("key") or ""
    matches = (key in keys and (exists or not toleration.get("value"))) or (not key and exists)
    return matches and toleration.get("effect") in (None, "", NO_EXECUTE)
