"""Which container a stream is for, and the words of a refusal: those that kubectl's users know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from skerry.errors import StreamBroken
from skerry.model.observed import ContainerSeen, ContainerState, PodSeen, SandboxSeen
from skerry.model.pod import Container, Pod
from skerry.model.report import ContainerStatus, Life, Phase, PodStatus
from skerry.model.streams import Attach, CloseCode, Exec, Logs
from skerry.plan.streams import log_source, network_target, process_target

RUNNING, EXITED, CREATED = ContainerState.RUNNING, ContainerState.EXITED, ContainerState.CREATED
POD = Pod("u1", "default", "tide", (Container("ebb", "image:1"), Container("flow", "image:1")))
ALONE = replace(POD, containers=POD.containers[:1])


def one(attempt: int, state: ContainerState, name: str = "ebb") -> ContainerSeen:
    return ContainerSeen(f"{name}{attempt}", "box0", "u1", name, attempt, "mark", state)


def seen(*containers: ContainerSeen, ready: bool = True) -> PodSeen:
    return PodSeen("u1", (SandboxSeen("box0", "u1", "default", "tide", 0, ready, 1),), containers)


def status(**said: str) -> PodStatus:
    return PodStatus("u1", "default", "tide", Phase.PENDING, (ContainerStatus("ebb", Life.WAITING, **said),))  # type: ignore[arg-type]


def logs(container: str = "ebb", previous: bool = False) -> Logs:
    return Logs("default", "tide", container, previous=previous)


def refused(call: Callable[[], str], code: CloseCode) -> str:
    with pytest.raises(StreamBroken) as why:
        call()
    assert why.value.code == code
    return str(why.value)


def test_the_log_is_that_of_the_newest_that_ran() -> None:
    assert log_source(POD, seen(one(1, RUNNING), one(0, EXITED)), None, logs()) == "ebb1"
    assert log_source(POD, seen(one(1, EXITED), one(0, EXITED)), None, logs()) == "ebb1"
    assert log_source(POD, seen(one(1, CREATED), one(0, EXITED)), None, logs()) == "ebb0"
    assert log_source(POD, seen(one(0, RUNNING), one(0, RUNNING, "flow")), None, logs("flow")) == "flow0"


def test_without_a_name_it_is_the_only_one() -> None:
    assert log_source(ALONE, seen(one(0, RUNNING)), None, logs("")) == "ebb0"
    said = refused(lambda: log_source(POD, seen(one(0, RUNNING)), None, logs("")), CloseCode.INVALID)
    assert said == "a container name must be specified for pod tide, choose one of: [ebb flow]"
    said = refused(lambda: log_source(POD, None, None, logs("spring")), CloseCode.INVALID)
    assert said == "container spring is not valid for pod tide"


def test_previous_is_the_last_that_ended() -> None:
    both = seen(one(1, RUNNING), one(0, EXITED))
    assert log_source(POD, both, status(last_container_id="ebb0"), logs(previous=True)) == "ebb0"
    # in a crash loop it is the newest
    crashed = seen(one(1, EXITED), one(0, EXITED))
    assert log_source(POD, crashed, status(last_container_id="ebb1"), logs(previous=True)) == "ebb1"


@pytest.mark.parametrize(
    "told", [None, status(), status(last_container_id="removed"), status(last_container_id="ebb0")]
)
def test_previous_without_one(told: PodStatus | None) -> None:
    said = refused(lambda: log_source(POD, seen(one(0, RUNNING)), told, logs(previous=True)), CloseCode.NOT_FOUND)
    assert said == 'previous terminated container "ebb" in pod "tide" not found'


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (None, "ContainerCreating"),
        (status(reason="CreateContainerConfigError"), "CreateContainerConfigError"),
        (status(reason="ErrImagePull"), "image can't be pulled"),
        (status(reason="ImagePullBackOff"), "trying and failing to pull image"),
    ],
)
@pytest.mark.parametrize("runtime", [None, seen(), seen(one(0, CREATED))])
def test_a_container_that_waits_has_no_log(told: PodStatus | None, words: str, runtime: PodSeen | None) -> None:
    said = refused(lambda: log_source(POD, runtime, told, logs()), CloseCode.UNAVAILABLE)
    assert said == f'container "ebb" in pod "tide" is waiting to start: {words}'


@pytest.mark.parametrize("kind", [Exec, Attach])
def test_a_process_is_one_of_a_running_container(kind: type[Exec | Attach]) -> None:
    request = Exec("default", "tide", "ebb", ("sh",)) if kind is Exec else Attach("default", "tide", "ebb")
    assert process_target(POD, seen(one(1, RUNNING), one(0, EXITED)), request) == "ebb1"
    for none in (None, seen(), seen(one(0, EXITED)), seen(one(0, RUNNING, "flow"))):
        assert refused(lambda none=none: process_target(POD, none, request), CloseCode.NOT_FOUND) == (  # type: ignore[misc]
            'container not found ("ebb")'
        )


def test_a_command_must_be_something() -> None:
    empty = Exec("default", "tide", "ebb", ())
    refused(lambda: process_target(POD, seen(one(0, RUNNING)), empty), CloseCode.INVALID)


def test_a_port_is_one_of_a_ready_sandbox() -> None:
    assert network_target(POD, seen()) == "box0"
    for none in (None, seen(ready=False)):
        refused(lambda none=none: network_target(POD, none), CloseCode.UNAVAILABLE)  # type: ignore[misc]
