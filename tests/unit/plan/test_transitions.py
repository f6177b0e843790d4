"""Which change of status becomes an Event; the reasons are kubelet's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from skerry.model.report import ContainerStatus, Life, Phase, PodStatus
from skerry.plan.transitions import transitions

WAITING = ContainerStatus("app", Life.WAITING, reason="ContainerCreating")
UP = ContainerStatus("app", Life.RUNNING, container_id="c0")
DOWN = ContainerStatus("app", Life.TERMINATED, container_id="c0", exit_code=3, reason="Error")


def status(*containers: ContainerStatus, **fields: Any) -> PodStatus:
    return PodStatus("u1", "default", "web", fields.pop("phase", Phase.RUNNING), containers, **fields)


def reasons(before: PodStatus | None, after: PodStatus) -> list[tuple[str, bool]]:
    return [(reason, warning) for reason, _, warning in transitions(before, after)]


def test_a_quiet_beginning_and_no_change_are_worth_nothing() -> None:
    assert reasons(None, status(WAITING)) == []
    for s in (status(WAITING), status(UP), status(DOWN), status(UP, reason="FailedMount", message="m")):
        assert reasons(s, s) == []


def test_each_start_is_told_once() -> None:
    assert reasons(status(WAITING), status(UP)) == [("Started", False)]
    assert reasons(None, status(UP)) == [("Started", False)]
    assert reasons(status(UP), status(replace(UP, container_id="c1"))) == [("Started", False)]
    assert reasons(status(UP), status(replace(UP, restarts=1))) == []


def test_each_end_with_an_error_is_told_once_also_without_a_start_between() -> None:
    assert reasons(status(UP), status(DOWN)) == [("Failed", True)]
    assert reasons(status(DOWN), status(replace(DOWN, container_id="c1"))) == [("Failed", True)]
    assert reasons(status(UP), status(replace(DOWN, exit_code=0))) == []


def test_waiting_is_told_when_its_reason_changes() -> None:
    crash = replace(WAITING, reason="CrashLoopBackOff", message="back-off 10s")
    longer = replace(crash, message="back-off 20s")
    assert reasons(status(UP), status(crash)) == [("BackOff", True)]
    assert reasons(status(crash), status(longer)) == []
    pull = replace(WAITING, reason="ErrImagePull")
    assert reasons(status(WAITING), status(pull)) == [("Failed", True)]
    assert reasons(status(pull), status(replace(pull, reason="ImagePullBackOff"))) == [("BackOff", True)]


def test_trouble_of_the_whole_pod_is_told_when_it_changes() -> None:
    trouble = status(WAITING, reason="FailedMount", message="no ConfigMap m")
    assert transitions(status(WAITING), trouble) == [("FailedMount", "no ConfigMap m", True)]
    assert reasons(trouble, status(WAITING)) == []


def test_a_finished_deletion_is_told_unless_the_pod_had_succeeded() -> None:
    assert reasons(status(), status(gone=True)) == [("Killing", False)]
    assert reasons(status(gone=True), status(gone=True)) == []
    assert reasons(status(), status(gone=True, phase=Phase.SUCCEEDED)) == []
