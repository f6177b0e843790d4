"""What the container runtime shows. Desired and Observed are different types and meet only in `plan.reconcile`.

Source: CRI v1, PodSandboxStatus and ContainerStatus.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class ContainerState(str, Enum):
    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"
    UNKNOWN = "unknown"  # the runtime lost track; treated as exited once it is asked to stop it


@dataclass(frozen=True, slots=True)
class SandboxSeen:
    id: str
    pod_uid: str
    namespace: str
    name: str
    attempt: int
    ready: bool
    created_ns: int  # wall clock, nanoseconds since 1970
    ip: str = ""


@dataclass(frozen=True, slots=True)
class ContainerSeen:
    id: str
    sandbox_id: str
    pod_uid: str
    name: str
    attempt: int  # CRI's attempt: how often this container was replaced before
    fingerprint: str  # model.pod.fingerprint of what it was made from
    state: ContainerState
    image: str = ""
    image_id: str = ""
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    created_ns: int = 0
    started_ns: int = 0
    finished_ns: int = 0


@dataclass(frozen=True, slots=True)
class PodSeen:
    """All sandboxes and containers that carry one pod's uid, newest attempt first."""

    uid: str
    sandboxes: tuple[SandboxSeen, ...] = ()
    containers: tuple[ContainerSeen, ...] = ()

    @property
    def empty(self) -> bool:
        return not self.sandboxes and not self.containers

    @property
    def running(self) -> tuple[str, ...]:
        """Ids of the containers that run."""
        return tuple(c.id for c in self.containers if c.state is ContainerState.RUNNING)

    def latest(self, name: str) -> ContainerSeen | None:
        """The newest container of that name, whatever its sandbox."""
        return next((c for c in self.containers if c.name == name), None)


def pods_seen(sandboxes: list[SandboxSeen], containers: list[ContainerSeen]) -> dict[str, PodSeen]:
    """Group a listing by pod uid, newest attempt first."""
    uids = {s.pod_uid for s in sandboxes} | {c.pod_uid for c in containers}
    boxes = sorted(sandboxes, key=lambda s: (-s.attempt, -s.created_ns, s.id))
    rest = sorted(containers, key=lambda c: (-c.attempt, -c.created_ns, c.id))
    return {
        uid: PodSeen(
            uid, tuple(s for s in boxes if s.pod_uid == uid), tuple(c for c in rest if c.pod_uid == uid)
        )
        for uid in sorted(uids)
    }
