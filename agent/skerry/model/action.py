"""The closed list of what steer may do to the runtime. `plan.reconcile` chooses, `loops.steer` acts.

Every action is idempotent at the Runtime seam and carries `why`, one sentence for `skerry explain`.
"""

from __future__ import annotations

from dataclasses import dataclass

from skerry.model.pod import Container, Pod


@dataclass(frozen=True, slots=True)
class PullImage:
    image: str
    always: bool  # ask the registry even if the image is present; a present image serves when that fails
    why: str


@dataclass(frozen=True, slots=True)
class MountVolumes:
    """Prepare the folders and files of the pod's volumes."""

    pod: Pod
    why: str


@dataclass(frozen=True, slots=True)
class RunPodSandbox:
    pod: Pod
    attempt: int
    why: str


@dataclass(frozen=True, slots=True)
class RunContainer:
    """CreateContainer, then StartContainer."""

    pod: Pod
    container: Container
    fingerprint: str
    sandbox_id: str
    attempt: int
    why: str


@dataclass(frozen=True, slots=True)
class StartContainer:
    """Start one that was created before a crash."""

    container_id: str
    why: str


@dataclass(frozen=True, slots=True)
class UpdateContainerResources:
    container_id: str
    container: Container
    why: str


@dataclass(frozen=True, slots=True)
class StopContainer:
    container_id: str
    grace_s: int
    why: str


@dataclass(frozen=True, slots=True)
class RemoveContainer:
    container_id: str
    why: str


@dataclass(frozen=True, slots=True)
class StopPodSandbox:
    sandbox_id: str
    why: str


@dataclass(frozen=True, slots=True)
class RemovePodSandbox:
    sandbox_id: str
    why: str


@dataclass(frozen=True, slots=True)
class RemoveVolumes:
    pod_uid: str
    why: str


Action = (
    PullImage
    | MountVolumes
    | RunPodSandbox
    | RunContainer
    | StartContainer
    | UpdateContainerResources
    | StopContainer
    | RemoveContainer
    | StopPodSandbox
    | RemovePodSandbox
    | RemoveVolumes
)
