"""One device as the page shows it: from its Node, the pods bound to it and, where a hub's socket is read, its session.

Pure. Decides in which state a device is and which one error is told; refuses to know how any of it came.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from skerry_hub.limits import FLEET_TEXT_CHARS_MAX
from skerry_hub.ports import Obj

# States, the most urgent first: the page sorts by this order.
PROBLEM, HELD, HOLDOVER, NEW, LIVE = "problem", "held", "holdover", "new", "live"
STATES = (PROBLEM, HELD, HOLDOVER, NEW, LIVE)
_CALM_WAITING = ("", "ContainerCreating", "PodInitializing")
_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(\.\d+)?Z")


@dataclass(frozen=True, slots=True)
class PodShown:
    """What the page needs of a pod. `wanted`: it should run or have run; `good`: it does, or has."""

    name: str
    wanted: bool
    good: bool
    error: str


@dataclass(frozen=True, slots=True)
class Row:
    """`since`: when the state began, in seconds since 1970, 0 if unknown. `drift`: what is not as it should be, "" if
    nothing is. The last four are a hub's, None without one."""

    name: str
    state: str
    since: int
    ready: int
    pods: int
    drift: str
    error: str
    generation: int | None = None
    received: int | None = None
    sent: int | None = None
    queue: int | None = None


def row(node: Obj, pods: Iterable[PodShown], session: Mapping[str, Any] | None) -> Row:
    """The device's row. `session` is one of `devices` in a hub's snapshot."""
    shown = sorted(pods, key=lambda pod: pod.name)
    wanted = [pod for pod in shown if pod.wanted]
    good = sum(pod.good for pod in wanted)
    state, since = _state(node)
    told = session if session is not None else {}
    return Row(
        name=node["metadata"]["name"],
        state=state,
        since=since,
        ready=good,
        pods=len(wanted),
        drift=_drift(len(wanted) - good, len(shown) - len(wanted), told.get("drift") is True),
        error=_cut(_node_error(node) or next((pod.error for pod in shown if pod.error), "") or _note(told)),
        generation=_number(told.get("generation")),
        received=_number(told.get("bytes_in")),
        sent=_number(told.get("bytes_out")),
        queue=_number(told.get("queue")),
    )


def pod_shown(pod: Obj) -> PodShown:
    """A pod of the API, whatever it looks like."""
    meta, status = pod["metadata"], _dict(pod.get("status"))
    phase = status.get("phase")
    ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in _list(status.get("conditions")))
    name = f"{meta.get('namespace', '')}/{meta['name']}"
    error = _pod_error(status)
    return PodShown(
        name=name,
        wanted=not meta.get("deletionTimestamp"),
        good=(phase == "Running" and ready) or phase == "Succeeded",
        error=f"{name}: {error}" if error else "",
    )


# --- private ----------------------------------------------------------------------------------------------------------


def _state(node: Obj) -> tuple[str, int]:
    conditions = _conditions(node)
    ready = conditions.get("Ready")
    if ready is None:
        return NEW, unix_s(node["metadata"].get("creationTimestamp"))
    since = unix_s(ready.get("lastTransitionTime"))
    if ready.get("status") == "False":
        return PROBLEM, since
    if ready.get("status") != "True":
        return HOLDOVER, since
    for kind, state in (("DiskPressure", PROBLEM), ("RestoredHub", HELD)):
        if conditions.get(kind, {}).get("status") == "True":
            return state, unix_s(conditions[kind].get("lastTransitionTime"))
    return LIVE, since


def _node_error(node: Obj) -> str:
    conditions = _conditions(node)
    if conditions.get("Ready", {}).get("status") == "False":
        return str(conditions["Ready"].get("message") or conditions["Ready"].get("reason") or "not ready")
    for kind in ("DiskPressure", "RestoredHub", "DeviceProblem"):
        if conditions.get(kind, {}).get("status") == "True":
            return f"{kind}: {conditions[kind].get('message') or conditions[kind].get('reason') or ''}"
    return ""


def _pod_error(status: Obj) -> str:
    for container in (*_list(status.get("initContainerStatuses")), *_list(status.get("containerStatuses"))):
        waiting = _dict(_dict(container.get("state")).get("waiting"))
        reason = str(waiting.get("reason") or "")
        if reason not in _CALM_WAITING:
            return f"{reason} {waiting.get('message') or ''}".strip()
    if status.get("phase") == "Failed" or status.get("reason"):
        return f"{status.get('reason') or 'Failed'} {status.get('message') or ''}".strip()
    return ""


def _drift(not_good: int, leaving: int, set_differs: bool) -> str:
    parts = [f"{not_good} {'pod' if not_good == 1 else 'pods'} not ready"] if not_good else []
    parts += [f"{leaving} leaving"] if leaving else []
    parts += ["change not applied"] if set_differs else []
    return ", ".join(parts)


def _note(session: Mapping[str, Any]) -> str:
    return f"hub: {session['note']}" if session.get("note") else ""


def _conditions(node: Obj) -> dict[str, Obj]:
    return {str(c.get("type")): c for c in _list(_dict(node.get("status")).get("conditions"))}


def unix_s(stamp: Any) -> int:
    """RFC 3339 in UTC as Kubernetes writes it; 0 for anything else."""
    found = _TIME.fullmatch(stamp) if isinstance(stamp, str) else None
    return calendar.timegm((*(int(part) for part in found.groups()[:6]), 0, 0, 0)) if found is not None else 0


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= FLEET_TEXT_CHARS_MAX else f"{text[: FLEET_TEXT_CHARS_MAX - 1]}…"


def _number(value: Any) -> int | None:
    return value if type(value) is int else None


def _dict(value: Any) -> Obj:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Obj]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
