"""What is said of a pod: phases, container states and back-off as kubelet's, from looks and the journaled status."""

from __future__ import annotations

from dataclasses import replace

import pytest

from skerry.errors import Refused
from skerry.model.manifest import RefusedPod
from skerry.model.observed import PodSeen
from skerry.model.pod import Container
from skerry.model.report import Life, Phase
from skerry.plan.verdict import LOST, refusal, restart_due
from unit.plan.scenes import APP, CREATED, EXITED, RUNNING, UNKNOWN, WALL, Story, box, made, pod, seen

SIDE = Container("side", "example.com/side:1")


def test_before_anything_exists_the_pod_is_pending() -> None:
    story = Story(pod())
    story.sees()
    assert (story.phase, story.said().life, story.said().reason) == ("Pending", Life.WAITING, "ContainerCreating")
    assert story.status is not None
    assert (story.status.pod_ip, story.status.started_at) == ("", WALL + 1000)
    story.sees(box(), after_s=5)
    assert (story.phase, story.status.pod_ip, story.status.started_at) == ("Pending", "10.0.0.1", WALL + 1000)


def test_trouble_with_an_image_or_the_whole_pod_is_the_reason() -> None:
    story = Story(pod())
    story.memory.trouble["app"] = ("ErrImagePull", "x" * 5000)
    story.sees(box())
    assert story.said().reason == "ErrImagePull"
    assert len(story.said().message) == 1024
    story.memory.trouble = {"": ("FailedMount", "no disk")}
    story.sees()
    assert story.status is not None
    assert (story.status.reason, story.status.message, story.said().reason) == ("FailedMount", "no disk", "FailedMount")


@pytest.mark.parametrize("state", [RUNNING, UNKNOWN])
def test_running_is_running(state: object) -> None:
    story = Story(pod())
    story.sees(box(), made("c0", state))  # type: ignore[arg-type]
    c = story.said()
    assert (story.phase, c.life, c.container_id, c.restarts, c.started_at) == (
        "Running",
        Life.RUNNING,
        "c0",
        0,
        WALL - 5,
    )


def test_one_container_still_starting_keeps_the_pod_pending() -> None:
    story = Story(pod(APP, SIDE))
    story.sees(box(), made())
    assert story.phase == "Pending"
    story.sees(box(), made(), made("s0", CREATED, of=SIDE))
    assert story.phase == "Pending"
    story.sees(box(), made(), made("s0", of=SIDE))
    assert story.phase == "Running"


@pytest.mark.parametrize(
    ("policy", "code", "phase", "life"),
    [
        ("Always", 0, "Running", Life.TERMINATED),  # the first restart is immediate: no back-off to wait for
        ("Always", 1, "Running", Life.TERMINATED),
        ("OnFailure", 0, "Succeeded", Life.TERMINATED),
        ("OnFailure", 1, "Running", Life.TERMINATED),
        ("Never", 0, "Succeeded", Life.TERMINATED),
        ("Never", 1, "Failed", Life.TERMINATED),
    ],
)
def test_restart_policy_and_exit_code_make_the_phase(policy: str, code: int, phase: str, life: Life) -> None:
    story = Story(pod(policy=policy))
    story.sees(box(), made())
    story.sees(box(), made("c0", EXITED, code=code))
    c = story.said()
    assert (story.phase, c.life, c.exit_code, c.finished_at) == (phase, life, code, WALL)
    assert c.reason == ("Completed" if code == 0 else "Error")


def test_a_pod_ends_when_its_last_container_does_and_fails_if_one_did() -> None:
    story = Story(pod(APP, SIDE, policy="Never"))
    story.sees(box(), made("c0", EXITED, code=0), made("s0", of=SIDE))
    assert story.phase == "Running"
    story.sees(box(), made("c0", EXITED, code=0), made("s0", EXITED, of=SIDE, code=2))
    assert story.phase == "Failed"


def test_final_phases_stay_whatever_is_seen_later() -> None:
    for code, phase in ((0, "Succeeded"), (1, "Failed")):
        story = Story(pod(policy="Never"))
        story.sees(box(), made("c0", EXITED, code=code))
        for look in ((), (box(ready=False),), (box(), made("c1", attempt=1))):
            story.sees(*look)
            assert story.phase == phase


def test_the_crash_loop_waits_longer_each_time_and_forgets_after_ten_minutes() -> None:
    story, waits = Story(pod()), []
    for n in range(8):
        story.sees(box(), made(f"c{n}", attempt=n, at_s=WALL + n))
        dead = made(f"c{n}", EXITED, attempt=n, code=1, at_s=WALL + n)
        plan = story.sees(box(), dead)
        waits.append(round((plan.wake_at or story.now) - story.now))
        assert story.said().reason == ("Error" if n == 0 else "CrashLoopBackOff")
        assert story.said().failures == n + 1
    assert waits == [0, 10, 20, 40, 80, 160, 300, 300]
    assert story.said().life is Life.WAITING
    assert (story.said().last_exit_code, story.said().last_reason, story.said().restarts) == (1, "Error", 7)
    story.sees(box(), made("c8", attempt=8))
    plan = story.sees(box(), made("c8", EXITED, attempt=8, code=1, ran_s=600))
    assert plan.wake_at is None
    assert story.said().failures == 1


def test_an_exit_is_counted_once_however_often_it_is_seen_and_over_a_restart_of_skerry() -> None:
    story = Story(pod())
    story.sees(box(), made("c0", EXITED, code=1))
    story.sees(box(), made("c1", EXITED, attempt=1, code=1))
    assert story.said().failures == 2
    for _ in range(3):
        story.sees(box(), made("c1", EXITED, attempt=1, code=1), after_s=1)
    story.skerry_restarts()
    story.sees(box(), made("c1", EXITED, attempt=1, code=1))
    assert (story.said().failures, story.said().reason) == (2, "CrashLoopBackOff")


def test_a_container_that_cannot_be_started_backs_off_like_one_that_crashes() -> None:
    """A wrong command, say: it never ran, so nothing about it is a long run that lets the back-off begin anew."""
    story = Story(pod())
    waits = []
    for attempt in range(4):
        dead = replace(made(f"c{attempt}", EXITED, attempt=attempt, code=128), started_ns=0)
        story.sees(box(), dead, after_s=1000)
        waits.append(restart_due(story.said(), 0.0))
    assert waits == [0.0, 10.0, 20.0, 40.0]


def test_another_spec_starts_with_no_failures() -> None:
    story = Story(pod())
    for n in range(3):
        story.sees(box(), made(f"c{n}", EXITED, attempt=n, code=1))
    new = replace(APP, image="example.com/app:2")
    story.wishes(new)
    story.sees(box(), made("c3", of=new, attempt=3))
    story.sees(box(), made("c3", EXITED, of=new, attempt=3, code=1))
    assert story.said().failures == 1


def test_the_end_of_the_one_before_is_the_last_state() -> None:
    story = Story(pod())
    story.sees(box(), made("c0", EXITED, code=3, message="oops"))
    story.sees(box(), made("c1", attempt=1))
    c = story.said()
    assert (c.life, c.restarts, c.exit_code, c.message) == (Life.RUNNING, 1, 0, "")
    assert (c.last_container_id, c.last_exit_code, c.last_reason, c.last_finished_at) == ("c0", 3, "Error", WALL)


def test_an_end_between_two_looks_is_told_as_it_was_if_the_dead_one_is_still_there() -> None:
    story = Story(pod())
    story.sees(box(), made())
    story.sees(box(), made("c1", attempt=1), made("c0", EXITED, code=7))
    assert (story.said().last_exit_code, story.said().last_reason) == (7, "Error")


def test_and_as_unknown_if_it_is_not() -> None:
    story = Story(pod())
    story.sees(box(), made())
    story.sees(box(), made("c1", attempt=1))
    assert (story.said().last_exit_code, story.said().last_reason) == (137, LOST)


def test_a_container_that_never_started_is_no_last_state() -> None:
    story = Story(pod())
    story.sees(box(), made("c0", CREATED))
    assert story.said().life is Life.WAITING
    story.sees(box(), made("c1", attempt=1))
    assert story.said().last_container_id == ""


def test_a_hidden_container_is_believed_gone_after_two_seconds() -> None:
    story = Story(pod(policy="Never"))
    story.sees(box(), made())
    story.sees(box())
    assert (story.phase, story.said().life) == ("Running", Life.RUNNING)
    story.sees(box(), made(), after_s=1)  # it was a lie
    story.sees(box(), after_s=5)
    assert story.phase == "Running"
    story.sees(box(), after_s=2.1)
    c = story.said()
    assert (story.phase, c.life, c.reason, c.exit_code) == ("Failed", Life.TERMINATED, LOST, 137)
    assert c.finished_at == WALL + int(story.now)


def test_an_older_dead_one_does_not_stand_for_a_hidden_newer_one() -> None:
    story, dead = Story(pod()), made("c0", EXITED, code=1)
    story.sees(box(), dead)
    story.sees(box(), dead, made("c1", attempt=1))
    story.sees(box(), dead)
    assert (story.said().life, story.said().container_id, story.said().restarts) == (Life.RUNNING, "c1", 1)


def test_restarts_grow_over_a_reboot() -> None:
    story = Story(pod())
    story.sees(box(), made("c0", EXITED, code=1))
    story.sees(box(), made("c1", attempt=1))
    story.board_reboots()
    story.sees()  # the runtime remembers nothing
    assert (story.said().life, story.said().reason) == (Life.TERMINATED, LOST)
    story.sees(box("b1"), made("c2", attempt=2, sandbox="b1"))
    c = story.said()
    assert (story.phase, c.life, c.restarts, c.last_container_id) == ("Running", Life.RUNNING, 2, "c1")


def test_a_deleted_pod_is_gone_when_nothing_of_it_is_left() -> None:
    story = Story(pod())
    story.sees(box(), made())
    story.pod = replace(story.pod, deleting_grace_s=5)
    story.sees(box(), made())
    assert (story.phase, story.status and story.status.gone) == ("Running", False)
    story.sees(box(), made("c0", EXITED, code=143))
    assert story.said().life is Life.TERMINATED  # no back-off is told of what will not run again
    story.sees()
    assert (story.phase, story.status and story.status.gone) == ("Failed", True)
    assert story.said().exit_code == 143


def test_a_deleted_pod_that_the_runtime_only_hides_is_not_told_as_gone() -> None:
    story = Story(pod())
    story.sees(box(), made())
    story.pod = replace(story.pod, deleting_grace_s=5)
    plan = story.sees()
    assert story.status is not None
    assert (story.status.gone, plan.look, plan.wake_at) == (False, True, story.now + 2)
    story.sees(after_s=2)
    assert (story.status.gone, story.said().reason) == (True, LOST)


@pytest.mark.parametrize(("code", "phase"), [(0, "Succeeded"), (1, "Failed")])
def test_how_a_deleted_pod_ended_decides_its_last_phase(code: int, phase: str) -> None:
    story = Story(pod(deleting_grace_s=1))
    story.sees(box(), made("c0", EXITED, code=code))
    story.sees()
    assert story.phase == phase


def test_a_pod_that_never_ran_is_gone_too() -> None:
    story = Story(pod(deleting_grace_s=1))
    story.sees()
    assert (story.phase, story.status and story.status.gone) == ("Failed", True)


def test_a_refused_pod_fails_with_the_fields_path() -> None:
    no = RefusedPod("u1", "default", "web", Refused("spec.hostPID", "is not supported"), deleting=False)
    status = refusal(no, PodSeen("u1"), None, WALL)
    assert (status.phase, status.reason, status.gone) == (Phase.FAILED, "Unsupported", False)
    assert status.message == "spec.hostPID: is not supported"
    later = refusal(replace(no, deleting=True), PodSeen("u1"), status, WALL + 60)
    assert (later.gone, later.started_at) == (True, WALL)
    assert not refusal(replace(no, deleting=True), seen(box()), status, WALL).gone


def test_a_refused_spec_tells_what_runs_on_and_is_no_end() -> None:
    story = Story(pod())
    story.sees(box(), made())
    assert story.status is not None
    refused = RefusedPod("u1", "default", "web", Refused("spec.hostPID", "is not supported", "Unsupported"), False)
    told = refusal(refused, seen(box(), made()), story.status, WALL)
    assert (told.phase, told.reason) == (Phase.RUNNING, "Unsupported")
    assert told.containers == story.status.containers
    failed = refusal(refused, seen(), None, WALL)
    assert failed.phase is Phase.FAILED
    again = Story(pod(), failed)
    again.sees()
    assert again.status is not None
    assert again.status.phase is Phase.PENDING, "a spec that is supported after all runs"
