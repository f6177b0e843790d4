"""The next steps for one pod, as tables: what is seen × what is wanted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from skerry.model.action import StopContainer
from skerry.model.observed import PodSeen
from skerry.model.pod import Container, EmptyDir, Mount, Port, Resources
from skerry.plan.memory import Hold, PodMemory
from skerry.plan.reconcile import QUIET, forced
from unit.plan.scenes import APP, CREATED, EXITED, RUNNING, UNKNOWN, WALL, Story, box, made, names, pod, seen

NEW = replace(APP, image="example.com/app:2")
SIDE = Container("side", "example.com/side:1")


def steps(*parts: Any, policy: str = "Always") -> list[str]:
    """For one look, after a look at the same pod running well."""
    return names(Story(pod(policy=policy)).sees(*parts))


# --- from nothing to running ------------------------------------------------------------------------------------------


def test_a_new_pod_gets_volumes_and_sandbox_then_images_and_containers() -> None:
    wanted = replace(APP, mounts=(Mount("v", "/v"),))
    story = Story(pod(wanted, volumes=(EmptyDir("v"),)))
    story.memory.images.clear()
    assert names(story.sees()) == ["MountVolumes", "RunPodSandbox 0"]
    story.memory.volumes = {"v": "/x"}
    assert names(story.sees(box())) == ["PullImage example.com/app:1", "RunContainer app 0"]
    story.memory.images = {wanted.image}
    assert names(story.sees(box())) == ["RunContainer app 0"]
    assert names(story.sees(box(), made("c0", CREATED, of=wanted))) != []


def test_a_pod_that_is_as_it_should_be_gets_nothing() -> None:
    story = Story(pod(APP, SIDE))
    for _ in range(3):
        assert story.sees(box(), made(), made("s0", of=SIDE)) == QUIET


def test_skerry_itself_restarting_changes_nothing() -> None:
    story = Story(pod())
    story.sees(box(), made())
    story.skerry_restarts()
    assert story.sees(box(), made()) == QUIET


# --- exits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "code", "told"),
    [
        ("Always", 0, ["RunContainer app 1"]),
        ("Always", 1, ["RunContainer app 1"]),
        ("OnFailure", 0, ["StopPodSandbox b0"]),
        ("OnFailure", 1, ["RunContainer app 1"]),
        ("Never", 0, ["StopPodSandbox b0"]),
        ("Never", 1, ["StopPodSandbox b0"]),
    ],
)
def test_restart_policy(policy: str, code: int, told: list[str]) -> None:
    assert steps(box(), made("c0", EXITED, code=code), policy=policy) == told


def test_a_finished_pod_is_quiet_once_its_sandbox_is_down_and_keeps_its_dead_for_their_logs() -> None:
    story = Story(pod(policy="Never"))
    story.sees(box(), made("c0", EXITED))
    for _ in range(2):
        assert story.sees(box(ready=False), made("c0", EXITED)) == QUIET
    assert story.sees() == QUIET


def test_the_second_early_exit_waits_and_wakes_itself() -> None:
    story = Story(pod())
    story.sees(box(), made("c0", EXITED, code=1))
    story.sees(box(), made("c1", attempt=1))
    plan = story.sees(box(), made("c1", EXITED, attempt=1, code=1))
    assert (names(plan), plan.wake_at) == ([], story.now + 10)
    plan = story.sees(box(), made("c1", EXITED, attempt=1, code=1), after_s=9.9)
    assert names(plan) == []
    assert plan.wake_at == pytest.approx(story.now + 0.1)
    plan = story.sees(box(), made("c1", EXITED, attempt=1, code=1), after_s=0.1)
    assert (names(plan), plan.wake_at) == (["RunContainer app 2"], None)


def test_one_container_in_back_off_does_not_hold_the_other() -> None:
    story = Story(pod(APP, SIDE))
    for n in range(2):
        story.sees(box(), made(f"c{n}", EXITED, attempt=n, code=1), made("s0", of=SIDE))
    dead = made("c1", EXITED, attempt=1, code=1)
    plan = story.sees(box(), dead, made("s0", EXITED, of=SIDE, code=1))
    assert names(plan) == ["RunContainer side 1"]
    assert plan.wake_at is not None


def test_only_the_newest_dead_and_one_more_are_kept() -> None:
    story = Story(pod())
    dead = [made(f"c{n}", EXITED, attempt=n, code=1) for n in range(4)]
    assert names(story.sees(box(), made("c4", attempt=4), *dead)) == [f"RemoveContainer c{n}" for n in (2, 1, 0)]


def test_a_failed_step_holds_back_every_step_until_its_time() -> None:
    story = Story(pod())
    story.memory.hold = Hold(story.now + 7)
    plan = story.sees(box(), made("c0", EXITED, code=1))
    assert (plan.actions, plan.wake_at) == ((), story.now + 7)


def test_a_container_that_is_held_up_does_not_hold_up_its_siblings() -> None:
    story = Story(pod(APP, SIDE))
    story.memory.holds["app"] = Hold(story.now + 30, 3)
    plan = story.sees(box())
    assert names(plan) == ["RunContainer side 0"]
    assert plan.wake_at == story.now + 30
    assert names(story.sees(box(), made("s0", of=SIDE), after_s=31)) == ["RunContainer app 0"]


# --- left by a crash between two steps --------------------------------------------------------------------------------


def test_created_and_never_started_is_started() -> None:
    assert steps(box(), made("c0", CREATED)) == ["StartContainer c0"]


def test_created_from_another_spec_is_replaced_even_with_policy_never() -> None:
    for policy in ("Always", "OnFailure", "Never"):
        story = Story(pod(NEW, policy=policy))
        assert names(story.sees(box(), made("c0", CREATED))) == ["RemoveContainer c0"]
        assert names(story.sees(box())) == ["RunContainer app 1"]


def test_lost_track_of_is_stopped_then_runs_again() -> None:
    story = Story(pod())
    assert names(story.sees(box(), made("c0", UNKNOWN))) == ["StopContainer c0"]
    assert names(story.sees(box(), made("c0", EXITED, code=137))) == ["RunContainer app 1"]


def test_of_two_sandboxes_the_newer_ready_one_stays() -> None:
    told = steps(box("b1", 1), box("b0", 0), made("c0", sandbox="b0"), made("c1", attempt=1, sandbox="b1"))
    assert told == ["StopContainer c0", "StopPodSandbox b0", "RemoveContainer c0", "RemovePodSandbox b0"]


def test_of_two_containers_the_newer_stays() -> None:
    assert steps(box(), made("c0"), made("c1", attempt=1)) == ["StopContainer c0"]


def test_what_the_spec_does_not_name_goes() -> None:
    assert steps(box(), made(), made("s0", of=SIDE)) == ["StopContainer s0", "RemoveContainer s0"]


# --- reboot -----------------------------------------------------------------------------------------------------------


OLD, DEAD = box(ready=False), made("c0", EXITED, code=255)
CLEARED = ["StopPodSandbox b0", "RemoveContainer c0", "RemovePodSandbox b0"]


def rebooted(*containers: Container, **fields: Any) -> Story:
    story = Story(pod(*containers, **fields))
    story.sees(box(), made())
    story.board_reboots()
    return story


def test_after_a_reboot_everything_starts_again_and_then_the_old_sandbox_is_cleared() -> None:
    story = rebooted()
    assert names(story.sees(OLD, DEAD)) == ["RunPodSandbox 1"]
    story.skerry_restarts()  # a second power cut changes nothing
    assert names(story.sees(OLD, DEAD)) == ["RunPodSandbox 1"]
    assert names(story.sees(OLD, DEAD, box("b1", 1))) == ["RunContainer app 1"]
    again = box("b1", 1), made("c1", attempt=1, sandbox="b1")
    assert names(story.sees(OLD, DEAD, *again)) == CLEARED
    assert story.sees(*again) == QUIET
    said = story.said()
    assert (said.container_id, said.restarts, said.last_container_id, said.last_exit_code) == ("c1", 1, "c0", 255)


def test_what_died_in_the_old_sandbox_does_not_hold_back_what_runs_in_the_new_one() -> None:
    """As if it were removed already: a crash loop begins anew, its count and attempts go on."""
    story = Story(pod())
    for attempt in range(3):
        story.sees(box(), made(f"c{attempt}", attempt=attempt), after_s=600)
        story.sees(box(), made(f"c{attempt}", EXITED, code=1, attempt=attempt, ran_s=1, at_s=WALL + attempt))
    assert story.said().reason == "CrashLoopBackOff"
    failures = story.said().failures
    story.board_reboots()
    old = OLD, made("c2", EXITED, code=1, attempt=2, ran_s=1, at_s=WALL + 2)
    assert names(story.sees(*old)) == ["RunPodSandbox 1"]
    assert names(story.sees(*old, box("b1", 1))) == ["RunContainer app 3"]
    story.sees(*old, box("b1", 1), made("c3", attempt=3, sandbox="b1"))
    assert (story.said().container_id, story.said().restarts, story.said().failures) == ("c3", 3, failures)


def test_the_old_sandbox_goes_first_if_anything_of_it_could_run_beside_the_new() -> None:
    for state in (RUNNING, UNKNOWN):
        assert names(rebooted().sees(OLD, made("c0", state))) == ["StopContainer c0", *CLEARED]
    two = names(rebooted().sees(box("b1", 1), OLD, made("c0", sandbox="b0")))
    assert two == ["StopContainer c0", *CLEARED]


def test_the_old_sandbox_goes_first_if_it_may_hold_what_the_new_one_needs() -> None:
    port = replace(APP, ports=(Port(80, host_port=8080),))
    assert names(rebooted(port).sees(OLD, DEAD)) == CLEARED
    story = rebooted()
    story.memory.hold = Hold(0.0, failures=1)  # no address was left for the new one, say
    assert names(story.sees(OLD, DEAD)) == CLEARED


def test_the_old_sandbox_goes_while_the_new_containers_cannot_run_yet() -> None:
    story = rebooted()
    story.memory.holds["app"] = Hold(5000.0, failures=1)
    plan = story.sees(OLD, DEAD, box("b1", 1))
    assert (names(plan), plan.wake_at) == (CLEARED, 5000.0)


def test_a_pod_that_ends_before_the_old_sandbox_was_cleared_keeps_only_its_last() -> None:
    story = rebooted(policy="OnFailure")
    story.sees(OLD, DEAD, box("b1", 1))
    ended = made("c1", EXITED, attempt=1, sandbox="b1")
    assert names(story.sees(OLD, DEAD, box("b1", 1), ended)) == ["StopPodSandbox b1", *CLEARED]
    assert story.sees(box("b1", 1, ready=False), ended) == QUIET


@pytest.mark.parametrize(("policy", "runs"), [("Always", True), ("OnFailure", True), ("Never", False)])
@pytest.mark.parametrize("remembered", [True, False])
def test_after_a_reboot_restart_policy_decides(policy: str, runs: bool, remembered: bool) -> None:
    """Whether the runtime remembers the dead (containerd) or nothing at all (crun under /run)."""
    story = Story(pod(policy=policy))
    story.sees(box(), made())
    story.board_reboots()
    if remembered:
        story.sees(box(ready=False), made("c0", EXITED, code=255))
    assert names(story.sees()) == (["RunPodSandbox 1"] if runs else [])
    assert story.phase == ("Running" if runs else "Failed")


def test_a_never_pod_that_had_not_started_before_the_power_cut_starts_after_it() -> None:
    story = Story(pod(policy="Never"))
    story.sees(box(), made("c0", CREATED))
    story.board_reboots()
    assert names(story.sees()) == ["RunPodSandbox 1"]
    assert names(story.sees(box("b1", 1))) == ["RunContainer app 1"]


def test_a_pod_that_had_ended_stays_ended() -> None:
    for code in (0, 1):
        story = Story(pod(policy="Never"))
        story.sees(box(), made("c0", EXITED, code=code))
        story.board_reboots()
        assert story.sees() == QUIET


def test_the_volumes_of_a_pod_that_has_ended_go_once_nothing_of_it_runs() -> None:
    """They may hold Secrets; a pod that may run again keeps them."""
    story = Story(pod(policy="Never"))
    ended = made("c0", EXITED, code=1)
    assert story.sees(box(), made(), volumes=True) == QUIET
    assert names(story.sees(box(), ended, volumes=True)) == ["StopPodSandbox b0"]
    assert names(story.sees(box(ready=False), ended, volumes=True)) == ["RemoveVolumes"]
    assert story.sees(box(ready=False), ended) == QUIET
    lasting = Story(pod())
    assert "RemoveVolumes" not in names(lasting.sees(box(), ended, volumes=True))


# --- a runtime that hides ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "look",
    [
        pytest.param((), id="everything"),
        pytest.param((box(),), id="the container"),
        pytest.param((made("c1", attempt=1),), id="the sandbox"),
        pytest.param((box(), made("c0", EXITED, code=1)), id="the newer of two"),
    ],
)
def test_what_the_runtime_hides_is_asked_for_again_before_anything_is_done(look: tuple[Any, ...]) -> None:
    story = Story(pod())
    dead = made("c0", EXITED, code=1)
    story.sees(box(), dead)
    story.sees(box(), dead, made("c1", attempt=1))
    plan = story.sees(*look)
    assert (plan.actions, plan.wake_at, plan.look) == ((), story.now + 2, True)
    assert story.sees(box(), dead, made("c1", attempt=1), after_s=1) == QUIET
    story.sees(*look)
    assert story.sees(*look, after_s=2).actions != ()


def test_a_container_that_is_truly_lost_runs_again_with_a_new_attempt() -> None:
    story = Story(pod())
    story.sees(box(), made("c3", attempt=3))
    story.sees(box())
    assert names(story.sees(box(), after_s=2)) == ["RunContainer app 4"]


# --- changes of the spec ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["Always", "OnFailure", "Never"])
def test_a_running_container_whose_spec_changed_is_replaced_once_the_new_image_is_here(policy: str) -> None:
    story = Story(pod(policy=policy, grace_s=7))
    story.sees(box(), made())
    story.wishes(NEW)
    story.memory.images.clear()
    plan = story.sees(box(), made())
    assert names(plan) == ["PullImage example.com/app:2", "StopContainer c0", "RunContainer app 1"]
    assert [a.grace_s for a in plan.actions if isinstance(a, StopContainer)] == [7]


def test_a_crash_looping_container_whose_spec_changed_does_not_wait() -> None:
    story = Story(pod())
    for n in range(4):
        plan = story.sees(box(), made(f"c{n}", EXITED, attempt=n, code=1))
    assert plan.wake_at is not None
    story.wishes(NEW)
    assert names(story.sees(box(), made("c3", EXITED, attempt=3, code=1))) == ["RunContainer app 4"]


def test_resources_are_updated_in_place_once() -> None:
    story = Story(pod())
    story.sees(box(), made())
    story.wishes(replace(APP, resources=Resources(cpu_limit_millis=500, cpu_request_millis=500)))
    plan = story.sees(box(), made())
    assert names(plan) == ["UpdateContainerResources c0"]
    story.memory.resources["c0"] = "500-500-0"  # as loops.act notes it
    assert story.sees(box(), made()) == QUIET


@pytest.mark.parametrize(
    "change",
    [
        {"labels": (("a", "b"),)},
        {"annotations": (("a", "b"),)},
        {"grace_s": 99},
        {"volumes": (EmptyDir("unused"),)},
        {"hostname": "other"},
    ],
)
def test_what_is_not_a_containers_own_never_touches_it(change: dict[str, Any]) -> None:
    story = Story(pod())
    story.memory.volumes = {}
    story.sees(box(), made())
    story.pod = replace(story.pod, **change)
    assert story.sees(box(), made()) == QUIET


# --- deletion ---------------------------------------------------------------------------------------------------------


def test_deletion_stops_with_its_grace_then_removes_everything() -> None:
    story = Story(pod())
    story.sees(box(), made(), made("s0", of=SIDE))
    story.pod = replace(story.pod, deleting_grace_s=9)
    plan = story.sees(box(), made())
    assert names(plan) == ["StopContainer c0"]
    assert [a.grace_s for a in plan.actions if isinstance(a, StopContainer)] == [9]
    assert names(story.sees(box(), made("c0", EXITED, code=143))) == [
        "StopPodSandbox b0",
        "RemoveContainer c0",
        "RemovePodSandbox b0",
        "RemoveVolumes",
    ]
    assert story.sees() == QUIET


def test_deletion_starts_nothing() -> None:
    for look in ((), (box(),), (box(), made("c0", CREATED)), (box(), made("c0", EXITED, code=1))):
        told = names(Story(pod(deleting_grace_s=1)).sees(*look))
        assert not [t for t in told if t.startswith(("Run", "Start", "Pull"))]


def test_absence_from_the_set_is_a_forced_deletion() -> None:
    memory = PodMemory()
    plan = forced("u1", seen(box(), made("c0", RUNNING)), True, memory, 0.0)
    assert [a.grace_s for a in plan.actions if isinstance(a, StopContainer)] == [1]
    assert names(forced("u1", seen(box(ready=False)), True, memory, 0.0))[-1] == "RemoveVolumes"
    assert names(forced("u1", PodSeen("u1"), True, memory, 0.0)) == ["RemoveVolumes"]
    assert forced("u1", PodSeen("u1"), False, memory, 0.0) == QUIET
    memory.hold = Hold(5.0)
    for what in (seen(box()), PodSeen("u1")):
        assert (forced("u1", what, True, memory, 0.0).actions, forced("u1", what, True, memory, 5.0).actions != ()) == (
            (),
            True,
        )
