"""Which Kubernetes Events a change of status is worth. Pure: (before, after) → (reason, message, warning).

Reasons are kubelet's, so that `kubectl describe` reads as people expect.
"""

from __future__ import annotations

from skerry.model.report import ContainerStatus, Life, Phase, PodStatus

Told = tuple[str, str, bool]

QUIET_REASONS = frozenset({"", "ContainerCreating", "PodInitializing"})


def transitions(before: PodStatus | None, after: PodStatus) -> list[Told]:
    said = {c.name: c for c in before.containers} if before else {}
    told: list[Told] = []
    if after.reason and (before is None or (before.reason, before.message) != (after.reason, after.message)):
        told.append((after.reason, after.message, True))
    for c in after.containers:
        told += _container(said.get(c.name), c)
    if after.gone and not (before and before.gone) and after.phase is not Phase.SUCCEEDED:
        told.append(("Killing", "Stopped all containers", False))
    return told


def _container(before: ContainerStatus | None, c: ContainerStatus) -> list[Told]:
    same = before is not None and (before.container_id, before.life) == (c.container_id, c.life)
    if c.life is Life.RUNNING and not same:
        return [("Started", f"Started container {c.name}", False)]
    if c.life is not Life.TERMINATED and c.reason not in QUIET_REASONS:
        if before is not None and (before.life, before.reason) == (c.life, c.reason):
            return []
        reason = "BackOff" if c.reason in ("CrashLoopBackOff", "ImagePullBackOff") else "Failed"
        return [(reason, f"{c.name}: {c.reason}: {c.message}", True)]
    if c.life is Life.TERMINATED and c.exit_code != 0 and not same:
        return [("Failed", f"Container {c.name} ended with exit code {c.exit_code} ({c.reason})", True)]
    return []
