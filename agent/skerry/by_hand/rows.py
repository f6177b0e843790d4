"""`skerry get`: the pods of this device as kubectl shows them, from the journal alone. Pure but for `get`."""

from __future__ import annotations

import argparse
import time
from typing import Any

from skerry.config import Config
from skerry.inspect_journal import Known, known, table
from skerry.model.desired import Object
from skerry.model.manifest import RefusedPod, read_pod
from skerry.model.pod import Pod
from skerry.model.report import ContainerStatus, Life, PodStatus
from skerry.wire.codec import decode

HEAD = ("NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE")
Report = dict[str, Any]


def get(config: Config, _args: argparse.Namespace) -> Report:
    """Every pod that should be here. Raises SkerryError where there is no journal to read."""
    return report(known(config), config.secret_env, time.time())


def report(journal: Known, secret_env: bool, wall: float) -> Report:
    pods = []
    for obj in journal.pods():
        pod = read_pod(obj, decode(obj.body), secret_env)
        pods.append(_pod(obj, pod, journal.statuses.get(obj.uid), journal.file_of(obj.uid), wall))
    pods.sort(key=lambda p: (p["namespace"], p["name"]))
    problems = [{"file": name, "problem": r.problem} for name, r in sorted(journal.files.items()) if r.problem]
    columns = ("namespace", "name", "ready", "status", "restartsText", "age")
    rows = [HEAD, *(tuple(p[column] for column in columns) for p in pods)]
    lines = table(rows) if pods else ["no pods on this device"]
    lines += [f"manifest {p['file']}: {p['problem']}" for p in problems]
    return {"data": {"pods": pods, "manifests": problems}, "lines": lines}


def word_of(pod: Pod | RefusedPod, status: PodStatus | None) -> str:
    """kubectl's STATUS column (printers/internalversion, printPod)."""
    if pod.deleting and not (status is not None and status.gone):
        return "Terminating"
    if status is None:
        return "Pending"
    word = status.reason or status.phase.value
    for c in reversed(status.containers):
        if c.life is Life.WAITING and c.reason:
            word = c.reason
        elif c.life is Life.TERMINATED:
            word = c.reason or f"ExitCode:{c.exit_code}"
    running = any(c.life is Life.RUNNING for c in status.containers)
    return "Running" if word == "Completed" and running else word


def span(seconds: float) -> str:
    """A duration as kubectl writes it (apimachinery, duration.HumanDuration)."""
    s = max(0, int(seconds))
    minutes, hours, days = s // 60, s // 3600, s // 86400
    if s < 120:
        return f"{s}s"
    if minutes < 10:
        return f"{minutes}m" + (f"{s % 60}s" if s % 60 else "")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h" + (f"{minutes % 60}m" if minutes % 60 else "")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return f"{days}d" + (f"{hours % 24}h" if hours % 24 else "")
    return f"{days}d" if days < 730 else f"{days // 365}y"


# --- private ----------------------------------------------------------------------------------------------------------


def _pod(obj: Object, pod: Pod | RefusedPod, status: PodStatus | None, file: str, wall: float) -> Report:
    said = {c.name: c for c in status.containers} if status is not None else {}
    names = [c.name for c in pod.containers] if isinstance(pod, Pod) else list(said)
    ready = sum(1 for name in names if name in said and said[name].life is Life.RUNNING)
    restarts = sum(c.restarts for c in said.values())
    last = max((c.last_finished_at for c in said.values()), default=0)
    since = f" ({span(wall - last)} ago)" if restarts and last else ""
    return {
        "namespace": pod.namespace,
        "name": pod.name,
        "uid": obj.uid,
        "ready": f"{ready}/{len(names)}",
        "status": word_of(pod, status),
        "restarts": restarts,
        "restartsText": f"{restarts}{since}",
        "age": span(wall - status.started_at) if status is not None and status.started_at else "<unknown>",
        "manifest": file,  # in the device's own folder; empty: from the hub
        "message": _message(pod, status),
        "containers": [_container(c) for c in said.values()],
    }


def _container(c: ContainerStatus) -> Report:
    return {"name": c.name, "id": c.container_id, "image": c.image, "state": c.life.value, "restarts": c.restarts}


def _message(pod: Pod | RefusedPod, status: PodStatus | None) -> str:
    if status is None:
        return str(pod.refused) if isinstance(pod, RefusedPod) else ""
    return status.message or next((c.message for c in status.containers if c.message), "")
