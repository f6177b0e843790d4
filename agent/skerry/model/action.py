"""The closed list of what steer may do to the runtime. `plan.reconcile` chooses, `loops.steer` acts.

Every action is idempotent at the Runtime seam and carries `why`, one sentence for `skerry explain`.
"""

from __future__ import annotations

from dataclasses import dataclass

from skerry.model.pod import Container, Pod, PullPolicy


@dataclass(frozen=True, slots=True)
class PullImage:
    """`policy` Always asks the registry even if the image is present; a present one serves when that fails, so that a
    pod with the tag latest starts offline. `secrets` names the pod's pull secrets, which are opened for the pull."""

    image: str
    policy: PullPolicy
    container: str
    why: str
    namespace: str = ""
    secrets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MountVolumes:
    """Prepare the folders and files of the pod's volumes."""

    pod: Pod
    why: str


@dataclass(frozen=True, slots=True)
class RefreshVolumes:
    """Give the files of the pod's ConfigMap and Secret volumes what these hold now. Its containers run on, and see the
    old files or the new ones of a volume, never a mixture."""

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
    mark: str  # plan.reconcile.spec_mark
    sandbox_id: str
    sandbox_attempt: int
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
    container: str = ""  # its name, where another is to take its place: not stopped if that cannot be had


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
    | RefreshVolumes
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


def container_of(action: Action) -> str:
    """The container that a step is for: its failure holds up that container only. Empty: the whole pod."""
    match action:
        case PullImage(container=name) | StopContainer(container=name):
            return name
        case RunContainer(container=container):
            return container.name
        case _:
            return ""


def told(action: Action) -> str:
    """An action in a few words, for `skerry explain`."""
    match action:
        case PullImage(image=image):
            return f"PullImage {image}"
        case RunPodSandbox(attempt=attempt):
            return f"RunPodSandbox attempt {attempt}"
        case RunContainer(container=container, attempt=attempt):
            return f"RunContainer {container.name} attempt {attempt}"
        case StopContainer(container_id=container_id, grace_s=grace_s):
            return f"StopContainer {container_id[:12]} grace {grace_s} s"
        case _:
            ident = getattr(action, "container_id", "") or getattr(action, "sandbox_id", "")
            return f"{type(action).__name__} {ident[:12]}".rstrip()
