"""What a device reports → what the API shows: patches of pod and node status, and Events. Pure.

A patch holds only what differs from `have`, the status that the API shows now; None stands for nothing to write. Lists
that the API replaces as a whole are compared as a whole, conditions one by one. Source: Kubernetes API reference,
PodStatus, NodeStatus and Event v1 core; the reasons are kubelet's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from hashlib import sha256
from typing import Any

from skerry.limits import NAME_CHARS_MAX
from skerry.model.report import ContainerStatus, Event, Life, NodeFacts, Phase, PodStatus
from skerry_hub.edgecontroller.registration import CALM, CALM_MESSAGE, CALM_REASON
from skerry_hub.limits import EVENT_MESSAGE_CHARS_MAX, EVENT_REASON_CHARS_MAX
from skerry_hub.ports import Obj

DONE = (Phase.SUCCEEDED, Phase.FAILED)
COUNTS_FAILURES = ("Job", "Node")  # kinds of owners that make no pod without end in the place of a Failed one
RUNTIME_SCHEME = "containerd://"
RESTORED = "RestoredHub"
DISK_PRESSURE = "DiskPressure"
PROBLEM = "DeviceProblem"
NOT_READY = "KubeletNotReady"
READY, CONTAINERS_READY = "Ready", "ContainersReady"
COMPONENT = "skerry"
WALL_S_MAX = 253_402_300_799  # the last second that RFC 3339 can write


def awaiting(said: PodStatus, meta: Mapping[str, Any]) -> PodStatus:
    """What is shown of it where a controller owns the pod. A device's refusal is Failed and has no containers. It is no
    end, since another agent or configuration may run the pod, but a ReplicaSet makes another in its place at once, and
    again without end (kubernetes/kubernetes issue 72593): so there it is Pending."""
    refused = said.phase is Phase.FAILED and not said.containers and not said.gone
    owners = [owner.get("kind") for owner in meta.get("ownerReferences") or () if owner.get("controller")]
    again = any(kind not in COUNTS_FAILURES for kind in owners)
    return replace(said, phase=Phase.PENDING) if refused and again else said


def pod_patch(
    said: PodStatus, spec: Mapping[str, Any], have: Mapping[str, Any], host_ip: str, wall: float
) -> Obj | None:
    """The strategic merge patch of a pod's `status`. `spec` is the pod's at the API: the order of its containers."""
    order = [str(c.get("name")) for c in spec.get("containers") or ()]
    shown = sorted((c for c in said.containers if c.name in order), key=lambda c: order.index(c.name))
    want: Obj = {
        "phase": said.phase.value,
        "reason": said.reason or None,
        "message": said.message or None,
        "startTime": timestamp(said.started_at) if said.started_at else have.get("startTime"),
        "hostIP": host_ip or None,
        "podIP": said.pod_ip or None,
        "containerStatuses": [_container(c) for c in shown] or None,
    }
    patch = {name: value for name, value in want.items() if value != (have.get(name) or None)}
    for name in ("podIP", "hostIP"):
        if name in patch:  # the lists beside them are merged by the address, so an old one would stay
            instead = [{"$patch": "replace"}] if have.get(f"{name}s") else []
            patch[f"{name}s"] = [*instead, *([{"ip": want[name]}] if want[name] else [])]
    conditions = _changed(_pod_conditions(said, order), have, wall)
    if conditions:
        patch["conditions"] = conditions
    return patch or None


def ready_patch(have: Mapping[str, Any], wall: float) -> Obj | None:
    """The strategic merge patch of a pod's `status` whose Ready somebody set to False: it follows ContainersReady, and
    that only reports change."""
    known = {c.get("type"): c.get("status") for c in have.get("conditions") or () if isinstance(c, dict)}
    if known.get(CONTAINERS_READY) != "True" or known.get(READY) != "False":
        return None
    return {"conditions": _changed([(READY, "True", "", "")], have, wall)}


def node_patch(facts: NodeFacts, have: Mapping[str, Any], wall: float) -> Obj | None:
    """The strategic merge patch of a node's `status` for what the device says about itself. Its problem becomes a
    condition of its own, so that Ready follows from it whichever hub process writes it, and whenever."""
    amounts = {
        "cpu": _cpu(facts.cpu_millis),
        "memory": _memory(facts.memory_bytes // 1024),
        "pods": str(facts.pods_max),
    }
    info = {
        "machineID": facts.machine_id,
        "systemUUID": facts.machine_id,
        "bootID": facts.boot_id,
        "kernelVersion": facts.kernel,
        "osImage": facts.os_image,
        "containerRuntimeVersion": facts.runtime,
        "kubeletVersion": f"v{facts.agent}+skerry",
        "kubeProxyVersion": "",
        "operatingSystem": facts.operating_system,
        "architecture": facts.architecture,
    }
    # Not InternalIP: that is where the API server looks for logs and exec, and it cannot reach a device behind NAT.
    # Nor Hostname, which by default it asks for first, and no resolver knows the names of devices.
    addresses = [{"type": "ExternalIP", "address": address} for address in facts.addresses[:1]]
    patch: Obj = {}
    for name in ("capacity", "allocatable"):
        if any((have.get(name) or {}).get(key) != value for key, value in amounts.items()):
            patch[name] = amounts
    if any((have.get("nodeInfo") or {}).get(key, "") != value for key, value in info.items()):
        patch["nodeInfo"] = info
    mine = [a for a in have.get("addresses") or () if a.get("type") in ("Hostname", "ExternalIP")]
    if mine != addresses:
        gone = [a["type"] for a in mine if a["type"] not in {b["type"] for b in addresses}]
        patch["addresses"] = [*addresses, *({"type": kind, "$patch": "delete"} for kind in gone)]
    problem = (PROBLEM, "True", NOT_READY, facts.problem) if facts.problem else (PROBLEM, "False", "NoProblem", "")
    return (patch | (_exceptional(problem, have, wall) or {})) or None


def presence_patch(live: bool, have: Mapping[str, Any], wall: float) -> Obj | None:
    """The node's Ready condition: while the session lives True, or False with the problem that the device told; after
    it Unknown with reason Holdover."""
    problems = [c for c in have.get("conditions") or () if (c.get("type"), c.get("status")) == (PROBLEM, "True")]
    if live and problems:
        want = (READY, "False", NOT_READY, str(problems[0].get("message") or ""))
    elif live:
        want = (READY, "True", "SessionLive", "the device is connected to the hub")
    else:
        want = (READY, "Unknown", "Holdover", "the device is not connected; its pods go on by themselves")
    conditions = _changed([want], have, wall, heartbeat="lastHeartbeatTime")
    return {"conditions": conditions} if conditions else None


def calm_patch(have: Mapping[str, Any], wall: float) -> Obj | None:
    """The conditions that every connected node shows, where they are missing, or Unknown from when it was away."""
    known = {c.get("type"): c.get("status") for c in have.get("conditions") or ()}
    calm = [(kind, "False", CALM_REASON, CALM_MESSAGE) for kind in CALM if known.get(kind, "Unknown") == "Unknown"]
    conditions = _changed(calm, have, wall, heartbeat="lastHeartbeatTime")
    return {"conditions": conditions} if conditions else None


def held_patch(held: bool, why: str, have: Mapping[str, Any], wall: float) -> Obj | None:
    """The node's RestoredHub condition."""
    return _exceptional((RESTORED, str(held), "ForeignSet" if held else "SetIsOurs", why), have, wall)


def full_patch(why: str, have: Mapping[str, Any], wall: float) -> Obj | None:
    """The node's DiskPressure condition: its journal has no room for a change, because of `why`; empty when it has."""
    text = f"{why}; its pods run on, what was changed waits for room" if why else "the device journals what it is sent"
    return _exceptional((DISK_PRESSURE, str(bool(why)), "JournalFull" if why else "JournalHasRoom", text), have, wall)


def event_object(said: Event, node: str, wall: float) -> Obj:
    """A core/v1 Event whose name follows from the device's id for it, so that a repeat exists already."""
    about = {"apiVersion": "v1", "kind": "Pod", "namespace": said.namespace, "name": said.name, "uid": said.pod_uid}
    if not said.pod_uid:
        about = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": node}
    return _event(about, said.reason, said.message, said.warning, said.at or int(wall), f"{node}/{said.id}", node)


def refusal_event(pod: Obj, problem: str, node: str, wall: float) -> Obj:
    """A Warning on a pod that does not fit the device; the same problem of the same pod is told once."""
    meta = pod["metadata"]
    about = {"apiVersion": "v1", "kind": "Pod", **{name: meta[name] for name in ("namespace", "name", "uid")}}
    ident = f"refused/{meta['uid']}/{problem}"
    return _event(about, "RefusedByHub", f"not sent to {node}: {problem}", True, int(wall), ident, node)


def timestamp(wall: float) -> str:
    """RFC 3339 in whole seconds."""
    at = datetime.fromtimestamp(min(max(0, int(wall)), WALL_S_MAX), timezone.utc)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")


# --- private ----------------------------------------------------------------------------------------------------------

Condition = tuple[str, str, str, str]  # type, status, reason, message


def _pod_conditions(said: PodStatus, order: list[str]) -> list[Condition]:
    running = {c.name for c in said.containers if c.life is Life.RUNNING}
    if said.phase in DONE:
        reason = "PodCompleted" if said.phase is Phase.SUCCEEDED else "PodFailed"
        ready: tuple[str, str, str] = ("False", reason, "")
    else:
        unready = [name for name in order if name not in running]
        text = f"containers with unready status: [{' '.join(unready)}]"
        ready = ("False", "ContainersNotReady", text) if unready or not order else ("True", "", "")
    completed = "PodCompleted" if said.phase is Phase.SUCCEEDED else ""
    return [
        ("Initialized", "True", completed, ""),
        (READY, *ready),
        (CONTAINERS_READY, *ready),
        ("PodScheduled", "True", "", ""),
    ]


def _exceptional(want: Condition, have: Mapping[str, Any], wall: float) -> Obj | None:
    """A condition of the node that is normally absent or calm: a False one is written only over one that is not."""
    kind, state, reason, message = want
    shown = next((c.get("status") for c in have.get("conditions") or () if c.get("type") == kind), None)
    if state == "False" and shown in (None, "False"):
        return None
    want = (kind, state, reason, message[:EVENT_MESSAGE_CHARS_MAX])
    conditions = _changed([want], have, wall, heartbeat="lastHeartbeatTime")
    return {"conditions": conditions} if conditions else None


def _changed(
    want: Iterable[Condition], have: Mapping[str, Any], wall: float, heartbeat: str = "lastProbeTime"
) -> list[Obj]:
    """The conditions that differ; lastTransitionTime moves only when the status does."""
    known = {c.get("type"): c for c in have.get("conditions") or () if isinstance(c, dict)}
    out = []
    for kind, status, reason, message in want:
        before = known.get(kind, {})
        said = (before.get("status"), before.get("reason") or "", before.get("message") or "")
        if said == (status, reason, message):
            continue
        since = before.get("lastTransitionTime") if before.get("status") == status else None
        condition: Obj = {"type": kind, "status": status, "lastTransitionTime": since or timestamp(wall)}
        condition["reason"], condition["message"] = reason or None, message or None
        if heartbeat == "lastHeartbeatTime":
            condition[heartbeat] = timestamp(wall)
        out.append(condition)
    return out


def _container(said: ContainerStatus) -> Obj:
    running = said.life is Life.RUNNING
    out: Obj = {
        "name": said.name,
        "state": _state(said),
        "lastState": _last(said),
        "ready": running,
        "started": running,
        "restartCount": said.restarts,
        "image": said.image,
        "imageID": said.image_id,
    }
    if said.container_id:
        out["containerID"] = RUNTIME_SCHEME + said.container_id
    return out


def _state(said: ContainerStatus) -> Obj:
    match said.life:
        case Life.WAITING:
            return {"waiting": _told(reason=said.reason or "ContainerCreating", message=said.message)}
        case Life.RUNNING:
            return {"running": {"startedAt": timestamp(said.started_at)}}
        case Life.TERMINATED:
            return {
                "terminated": {
                    "exitCode": said.exit_code,
                    **_told(reason=said.reason, message=said.message),
                    **_times(said.started_at, said.finished_at),
                    **_told(containerID=RUNTIME_SCHEME + said.container_id if said.container_id else ""),
                }
            }


def _last(said: ContainerStatus) -> Obj:
    if not said.last_container_id:
        return {}
    ended = {
        "exitCode": said.last_exit_code,
        **_told(reason=said.last_reason),
        **_times(said.last_started_at, said.last_finished_at),
        "containerID": RUNTIME_SCHEME + said.last_container_id,
    }
    return {"terminated": ended}


def _times(started: int, finished: int) -> Obj:
    return {"startedAt": timestamp(started), "finishedAt": timestamp(finished)}


def _told(**fields: str) -> Obj:
    return {name: value for name, value in fields.items() if value}


def _cpu(millis: int) -> str:
    return str(millis // 1000) if millis % 1000 == 0 else f"{millis}m"


def _memory(kib: int) -> str:
    """As the API writes it: with the largest unit that divides it, else it would never equal what is shown."""
    for unit in ("Ki", "Mi", "Gi"):
        if kib % 1024 or not kib:
            return f"{kib}{unit}" if kib else "0"
        kib //= 1024
    return f"{kib}Ti"


def _event(about: Obj, reason: str, message: str, warning: bool, at: int, ident: str, node: str) -> Obj:
    tail = "." + sha256(ident.encode()).hexdigest()[:16]
    when = timestamp(at)
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": about["name"][: NAME_CHARS_MAX - len(tail)].rstrip(".-") + tail,
            "namespace": about.get("namespace") or "default",
        },
        "involvedObject": about,
        "reason": reason[:EVENT_REASON_CHARS_MAX] or "Unknown",
        "message": message[:EVENT_MESSAGE_CHARS_MAX],
        "type": "Warning" if warning else "Normal",
        "count": 1,
        "firstTimestamp": when,
        "lastTimestamp": when,
        "source": {"component": COMPONENT, "host": node},
        "reportingComponent": COMPONENT,
        "reportingInstance": node,
    }
