"""Pods and observations in few words, for the tests of plan/."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from skerry.model.observed import ContainerSeen, ContainerState, PodSeen, SandboxSeen, pods_seen
from skerry.model.pod import Container, Pod, RestartPolicy
from skerry.model.report import ContainerStatus, PodStatus
from skerry.plan.memory import PodMemory
from skerry.plan.reconcile import Plan, absent, next_steps, spec_mark
from skerry.plan.verdict import verdict

CREATED, RUNNING, EXITED, UNKNOWN = ContainerState
APP = Container("app", "example.com/app:1")
POLICY = {"Always": RestartPolicy.ALWAYS, "OnFailure": RestartPolicy.ON_FAILURE, "Never": RestartPolicy.NEVER}
WALL = 1_700_000_000


def pod(*containers: Container, policy: str = "Always", **fields: Any) -> Pod:
    return Pod("u1", "default", "web", containers or (APP,), restart_policy=POLICY[policy], **fields)


def box(ident: str = "b0", attempt: int = 0, ready: bool = True) -> SandboxSeen:
    return SandboxSeen(ident, "u1", "default", "web", attempt, ready, attempt, "10.0.0.1" if ready else "")


def made(
    ident: str = "c0",
    state: ContainerState = RUNNING,
    *,
    of: Container = APP,
    attempt: int = 0,
    sandbox: str = "b0",
    code: int = 0,
    ran_s: int = 5,
    at_s: int = WALL,
    **fields: Any,
) -> ContainerSeen:
    """A container made from `of`; it ran for `ran_s` and, if exited, ended at `at_s`."""
    ended = state is EXITED
    return ContainerSeen(
        id=ident,
        sandbox_id=sandbox,
        pod_uid="u1",
        name=of.name,
        attempt=attempt,
        fingerprint=spec_mark(pod(of), of),
        state=state,
        image=of.image,
        exit_code=code,
        created_ns=(at_s - ran_s) * 10**9,
        started_ns=0 if state is CREATED else (at_s - ran_s) * 10**9,
        finished_ns=at_s * 10**9 if ended else 0,
        **fields,
    )


def seen(*parts: SandboxSeen | ContainerSeen) -> PodSeen:
    boxes = [p for p in parts if isinstance(p, SandboxSeen)]
    return pods_seen(boxes, [p for p in parts if isinstance(p, ContainerSeen)]).get("u1", PodSeen("u1"))


class Story:
    """One pod on one board, told look by look: keeps the journaled status and the memory as steer does."""

    def __init__(self, of: Pod, before: PodStatus | None = None) -> None:
        self.pod, self.status, self.memory, self.now = of, before, PodMemory(images={"*"}), 1000.0
        self.memory.images = {c.image for c in of.containers}
        self.booted = False

    def sees(self, *parts: SandboxSeen | ContainerSeen, after_s: float = 0.0, volumes: bool = False) -> Plan:
        self.now += after_s
        what = seen(*parts)
        if not absent(self.pod, what, self.status) or self.booted:
            self.memory.absent_since = None
        elif self.memory.absent_since is None:
            self.memory.absent_since = self.now
        self.status = verdict(self.pod, what, self.status, self.memory, self.now, WALL + self.now)
        return next_steps(self.pod, what, self.status, self.memory, self.now, volumes)

    def wishes(self, *containers: Container) -> None:
        self.pod = replace(self.pod, containers=containers)
        self.memory.images = {c.image for c in containers}

    def skerry_restarts(self) -> None:
        self.memory = PodMemory(images=set(self.memory.images))

    def board_reboots(self) -> None:
        self.skerry_restarts()
        self.booted = True

    @property
    def phase(self) -> str:
        assert self.status is not None
        return self.status.phase.value

    def said(self, name: str = "app") -> ContainerStatus:
        assert self.status is not None
        return next(c for c in self.status.containers if c.name == name)


def names(plan: Plan) -> list[str]:
    """The steps by name and what they are about."""
    out = []
    for a in plan.actions:
        about = getattr(a, "container_id", "") or getattr(a, "sandbox_id", "")
        container = getattr(a, "container", None)
        if type(a).__name__ == "RunContainer":
            about = f"{container.name} {a.attempt}"  # type: ignore[union-attr]
        elif type(a).__name__ == "RunPodSandbox":
            about = str(a.attempt)  # type: ignore[union-attr]
        elif type(a).__name__ == "PullImage":
            about = a.image  # type: ignore[union-attr]
        out.append(f"{type(a).__name__} {about}".rstrip())
    return out
