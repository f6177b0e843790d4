"""The cells of a Table's rows: what `kubectl get` shows of each kind. Pure functions of the object and the clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from .normalize import parse_time
from .resources import Column
from .signing_requests import word

Obj = dict[str, Any]
NAME = Column("Name", format="name")
AGE = Column("Age")


def age(stamp: str | None, now: datetime | None = None) -> str:
    """How long ago `stamp` was, in kubectl's short form."""
    if not stamp:
        return "<unknown>"
    now = now or datetime.now(timezone.utc)
    try:
        return human((now - parse_time(stamp)).total_seconds())
    except ValueError:
        return "<unknown>"


def human(seconds: float) -> str:
    """A duration with two units at most, as k8s.io/apimachinery/pkg/util/duration prints it."""
    s = int(seconds)
    if s < -1:
        return "<invalid>"
    s = max(s, 0)
    m, h, d = s // 60, s // 3600, s // 86400
    if s < 120:
        return f"{s}s"
    if m < 10:
        return f"{m}m{s % 60}s" if s % 60 else f"{m}m"
    if m < 180:
        return f"{m}m"
    if h < 8:
        return f"{h}h{m % 60}m" if m % 60 else f"{h}h"
    if h < 48:
        return f"{h}h"
    if h < 192:
        return f"{d}d{h % 24}h" if h % 24 else f"{d}d"
    if d < 365 * 2:
        return f"{d}d"
    if d < 365 * 8:
        return f"{d // 365}y{d % 365}d" if d % 365 else f"{d // 365}y"
    return f"{d // 365}y"


def _created(obj: Obj) -> str:
    return age(obj["metadata"].get("creationTimestamp"))


def generic(obj: Obj) -> list[Any]:
    return [obj["metadata"]["name"], _created(obj)]


def namespace(obj: Obj) -> list[Any]:
    return [obj["metadata"]["name"], obj["status"].get("phase", ""), _created(obj)]


def config_map(obj: Obj) -> list[Any]:
    return [obj["metadata"]["name"], len(obj.get("data", {})) + len(obj.get("binaryData", {})), _created(obj)]


def secret(obj: Obj) -> list[Any]:
    return [obj["metadata"]["name"], obj.get("type", ""), len(obj.get("data", {})), _created(obj)]


def service_account(obj: Obj) -> list[Any]:
    return [obj["metadata"]["name"], len(obj.get("secrets", [])), _created(obj)]


def lease(obj: Obj) -> list[Any]:
    return [obj["metadata"]["name"], obj["spec"].get("holderIdentity", ""), _created(obj)]


def signing_request(obj: Obj) -> list[Any]:
    spec = obj["spec"]
    seconds = spec.get("expirationSeconds")
    duration = human(seconds) if seconds is not None else "<none>"
    signer, user = spec.get("signerName", ""), spec.get("username", "")
    return [obj["metadata"]["name"], _created(obj), signer, user, duration, word(obj)]


def event(obj: Obj) -> list[Any]:
    involved, source = obj["involvedObject"], obj.get("source") or {}
    series = obj.get("series") or {}
    first = obj.get("firstTimestamp") or obj.get("eventTime")
    last = series.get("lastObservedTime") or obj.get("lastTimestamp") or first
    count = series.get("count") or obj.get("count") or 1
    component = source.get("component") or obj.get("reportingComponent", "")
    host = source.get("host") or obj.get("reportingInstance", "")
    what = f"{involved.get('kind', '').lower()}/{involved.get('name', '')}"
    origin = f"{component}, {host}" if host else component
    return [
        age(last), obj.get("type", ""), obj.get("reason", ""), what, involved.get("fieldPath", ""), origin,
        obj.get("message", "").strip(), age(first), count, obj["metadata"]["name"],
    ]  # fmt: skip


def node(obj: Obj) -> list[Any]:
    status, spec, meta = obj["status"], obj["spec"], obj["metadata"]
    ready = next((c["status"] for c in status.get("conditions", []) if c["type"] == "Ready"), None)
    state = {"True": "Ready", None: "Unknown"}.get(ready, "NotReady")
    if spec.get("unschedulable"):
        state += ",SchedulingDisabled"
    roles = sorted(
        key.partition("/")[2] for key in meta.get("labels", {}) if key.startswith("node-role.kubernetes.io/")
    )
    kind = meta.get("labels", {}).get("kubernetes.io/role")
    roles += [kind] if kind and kind not in roles else []
    addresses = status.get("addresses", [])

    def address(kind: str) -> str:
        return next((a["address"] for a in addresses if a["type"] == kind), "<none>")

    info = status.get("nodeInfo") or {}
    return [
        meta["name"], state, ",".join(r for r in roles if r) or "<none>", _created(obj),
        info.get("kubeletVersion", ""), address("InternalIP"), address("ExternalIP"),
        info.get("osImage") or "<unknown>", info.get("kernelVersion") or "<unknown>",
        info.get("containerRuntimeVersion") or "<unknown>",
    ]  # fmt: skip


def pod_conditions(obj: Obj) -> list[Obj]:
    """A finished pod's row says so."""
    phase = obj["status"].get("phase")
    if phase == "Succeeded":
        message = "The pod has completed successfully."
    elif phase == "Failed":
        message = "The pod failed."
    else:
        return []
    return [{"type": "Completed", "status": "True", "reason": phase, "message": message}]


def pod(obj: Obj) -> list[Any]:
    spec, status = obj["spec"], obj["status"]
    word, ready, restarts, last = _pod_state(obj)
    again = f"{restarts} ({age(last)} ago)" if restarts and last else str(restarts)
    gates = spec.get("readinessGates", [])
    good = {c["type"] for c in status.get("conditions", []) if c.get("status") == "True"}
    passed = sum(g["conditionType"] in good for g in gates)
    ips = status.get("podIPs") or []
    total = len(spec.get("containers", [])) + sum(_sidecar(c) for c in spec.get("initContainers", []))
    return [
        obj["metadata"]["name"], f"{ready}/{total}", word, again, _created(obj),
        (ips[0]["ip"] if ips else status.get("podIP")) or "<none>", spec.get("nodeName") or "<none>",
        status.get("nominatedNodeName") or "<none>", f"{passed}/{len(gates)}" if gates else "<none>",
    ]  # fmt: skip


def _sidecar(container: Obj) -> bool:
    return container.get("restartPolicy") == "Always"


def _pod_state(obj: Obj) -> tuple[str, int, int, str | None]:
    """The Status word, ready containers, restarts and when the last one was."""
    status = obj["status"]
    conditions = {c["type"]: c for c in status.get("conditions", [])}
    word = status.get("reason") or status.get("phase", "")
    if conditions.get("PodScheduled", {}).get("reason") == "SchedulingGated":
        word = "SchedulingGated"
    count = _Counted()
    halted = _init_word(obj, count)
    if halted is not None and conditions.get("Initialized", {}).get("status") != "True":
        word = halted
    else:
        count.restarts, count.last = count.side_restarts, count.side_last
        word = _main_word(status, count, word, conditions.get("Ready", {}).get("status") == "True")
    if obj["metadata"].get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            word = "Unknown"
        elif status.get("phase") not in ("Succeeded", "Failed"):
            word = "Terminating"
    return word, count.ready, count.restarts, count.last


@dataclass
class _Counted:
    """Ready containers and restarts while the statuses are walked; `side_` of restartable init containers alone."""

    ready: int = 0
    restarts: int = 0
    last: str | None = None
    side_restarts: int = 0
    side_last: str | None = None


def _init_word(obj: Obj, count: _Counted) -> str | None:
    """What a pod that is not past its init containers shows; None when it is."""
    inits = {c["name"]: c for c in obj["spec"].get("initContainers", [])}
    for i, c in enumerate(obj["status"].get("initContainerStatuses", [])):
        count.restarts += c.get("restartCount", 0)
        count.last = _later(count.last, c)
        sidecar = _sidecar(inits.get(c["name"], {}))
        if sidecar:
            count.side_restarts += c.get("restartCount", 0)
            count.side_last = _later(count.side_last, c)
        ended = c.get("state", {}).get("terminated")
        waiting = c.get("state", {}).get("waiting") or {}
        if ended is not None and ended.get("exitCode", 0) == 0:
            continue
        if sidecar and c.get("started"):
            count.ready += bool(c.get("ready"))
            continue
        if ended is not None:
            return "Init:" + (ended.get("reason") or _ended(ended))
        if waiting.get("reason") and waiting["reason"] != "PodInitializing":
            return "Init:" + str(waiting["reason"])
        return f"Init:{i}/{len(inits)}"
    return None


def _main_word(status: Obj, count: _Counted, word: str, pod_ready: bool) -> str:
    """The word of a pod whose init containers are done."""
    running = False
    for c in reversed(status.get("containerStatuses", [])):
        count.restarts += c.get("restartCount", 0)
        count.last = _later(count.last, c)
        state = c.get("state", {})
        waiting, ended = state.get("waiting") or {}, state.get("terminated")
        if waiting.get("reason"):
            word = waiting["reason"]
        elif ended is not None:
            word = ended.get("reason") or _ended(ended)
        elif c.get("ready") and state.get("running") is not None:
            running = True
            count.ready += 1
    if word == "Completed" and running:
        return "Running" if pod_ready else "NotReady"
    return word


def _later(last: str | None, status: Obj) -> str | None:
    ended = (status.get("lastState") or {}).get("terminated") or {}
    finished = ended.get("finishedAt")
    return max(filter(None, (last, finished)), default=None)


def _ended(state: Obj) -> str:
    return f"Signal:{state['signal']}" if state.get("signal") else f"ExitCode:{state.get('exitCode', 0)}"
