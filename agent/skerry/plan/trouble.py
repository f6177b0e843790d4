"""What a failed step is called in a pod's status, and how long its next try waits. Pure."""

from __future__ import annotations

from skerry.errors import ImagePullFailed, Refused, RuntimeAway, SkerryError
from skerry.limits import PULL_BACKOFF_S, STEP_BACKOFF_S
from skerry.model.action import Action, MountVolumes, PullImage, RunContainer, RunPodSandbox
from skerry.plan.memory import PodMemory

FIRST_PULL, LATER_PULL = "ErrImagePull", "ImagePullBackOff"


def reason(action: Action, why: SkerryError, failures: int) -> str:
    """The kubelet's word for it."""
    match action:
        case PullImage():
            return FIRST_PULL if failures == 1 else LATER_PULL
        case RunContainer():
            return why.reason if isinstance(why, Refused) else "RunContainerError"
        case RunPodSandbox():
            return "FailedCreatePodSandBox"
        case MountVolumes():
            return why.reason if isinstance(why, Refused) else "FailedMount"
        case _:
            return "FailedStep"


def backoff(action: Action, why: SkerryError) -> tuple[float, float]:
    """First and last delay in seconds."""
    pull = isinstance(why, ImagePullFailed) or (isinstance(action, PullImage) and not isinstance(why, RuntimeAway))
    return PULL_BACKOFF_S if pull else STEP_BACKOFF_S


def without_image(memory: PodMemory) -> list[str]:
    """The containers whose image could not be pulled."""
    return [name for name, (said, _) in memory.trouble.items() if said in (FIRST_PULL, LATER_PULL)]
