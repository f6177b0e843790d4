"""What a failed step is called, and how long the next try waits."""

from __future__ import annotations

import pytest

from skerry.errors import ImagePullFailed, Refused, RuntimeAway, RuntimeFailed, SkerryError, VolumeFailed
from skerry.limits import PULL_BACKOFF_S, STEP_BACKOFF_S
from skerry.model.action import Action, MountVolumes, PullImage, RunContainer, RunPodSandbox, StopPodSandbox
from skerry.model.pod import Container, Pod, PullPolicy
from skerry.plan.memory import PodMemory
from skerry.plan.trouble import backoff, reason, without_image

C = Container("c", "app:1")
POD = Pod("u", "default", "p", (C,))
PULL = PullImage("app:1", PullPolicy.IF_NOT_PRESENT, "c", "why")
RUN = RunContainer(POD, C, "mark", "box", 0, 0, "why")
FAILED, REFUSED = RuntimeFailed("Call", "UNKNOWN", "no"), Refused("spec", "no", "CreateContainerConfigError")


@pytest.mark.parametrize(
    ("action", "why", "failures", "word"),
    [
        (PULL, ImagePullFailed("PullImage", "UNKNOWN", "401"), 1, "ErrImagePull"),
        (PULL, ImagePullFailed("PullImage", "UNKNOWN", "401"), 2, "ImagePullBackOff"),
        (PULL, REFUSED, 1, "ErrImagePull"),
        (PULL, REFUSED, 3, "ImagePullBackOff"),
        (RUN, FAILED, 1, "RunContainerError"),
        (RUN, REFUSED, 1, "CreateContainerConfigError"),
        (RunPodSandbox(POD, 0, "why"), FAILED, 1, "FailedCreatePodSandBox"),
        (MountVolumes(POD, "why"), VolumeFailed("v", "no"), 1, "FailedMount"),
        (MountVolumes(POD, "why"), REFUSED, 1, "CreateContainerConfigError"),
        (StopPodSandbox("box", "why"), FAILED, 1, "FailedStep"),
    ],
)
def test_each_step_has_the_kubelets_word(action: Action, why: SkerryError, failures: int, word: str) -> None:
    assert reason(action, why, failures) == word


def test_a_pull_waits_longer_than_any_other_step_unless_the_runtime_was_away() -> None:
    pulls = (ImagePullFailed("PullImage", "UNKNOWN", "401"), REFUSED, FAILED)
    assert {backoff(PULL, why) for why in pulls} == {PULL_BACKOFF_S}
    assert backoff(PULL, RuntimeAway("gone")) == STEP_BACKOFF_S
    assert {backoff(RUN, why) for why in (REFUSED, FAILED, RuntimeAway("gone"))} == {STEP_BACKOFF_S}


def test_containers_without_their_image() -> None:
    words = {"a": "ErrImagePull", "b": "ImagePullBackOff", "c": "RunContainerError", "": "FailedMount"}
    memory = PodMemory(trouble={name: (word, "message") for name, word in words.items()})
    assert without_image(memory) == ["a", "b"]
