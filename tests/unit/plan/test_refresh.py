"""When the files of a running pod are written anew, and that nothing else comes of it."""

from __future__ import annotations

from dataclasses import replace

from skerry.model.action import RefreshVolumes
from skerry.model.pod import Container, ObjectVolume
from skerry.plan.memory import Hold, PodMemory
from skerry.plan.reconcile import QUIET
from unit.plan.scenes import APP, EXITED, RUNNING, Story, box, made, names, pod

CONF = ObjectVolume("conf", "conf", False)
OLD, NEW = (("conf", b"1"),), (("conf", b"2"),)


def story(**memory: object) -> Story:
    told = Story(pod(volumes=(CONF,)))
    told.memory = PodMemory(volumes={"conf": "/v/conf"}, images={"example.com/app:1"}, files=OLD, files_due=NEW)
    for name, value in memory.items():
        setattr(told.memory, name, value)
    return told


def test_a_change_is_written_beside_running_containers_and_nothing_else_happens() -> None:
    it = story()
    assert names(it.sees(box(), made("c0", RUNNING))) == ["RefreshVolumes"]
    it.memory.files = NEW
    assert it.sees(box(), made("c0", RUNNING)) == QUIET


def test_after_a_restart_of_the_agent_nobody_knows_what_was_written_so_it_is_compared_once() -> None:
    assert names(story(volumes=None, files=None).sees(box(), made("c0", RUNNING))) == ["RefreshVolumes"]


def test_a_pod_without_configuration_has_nothing_to_refresh() -> None:
    assert story(files=None, files_due=()).sees(box(), made("c0", RUNNING)) == QUIET


def test_a_container_that_starts_has_its_volumes_written_anyway() -> None:
    plan = story(volumes=None, files=None).sees(box(), made("c0", EXITED, code=1))
    assert names(plan) == ["MountVolumes", "RunContainer app 1"]


def test_what_a_container_waits_for_comes_first() -> None:
    side = Container("side", "example.com/app:1")
    it = story()
    it.pod = replace(it.pod, containers=(APP, side))
    steps = names(it.sees(box(), made("c0", EXITED, code=1), made("c1", RUNNING, of=side)))
    assert steps == ["RunContainer app 1", "RefreshVolumes"]


def test_a_refresh_that_failed_is_tried_again_later_and_holds_up_nothing() -> None:
    it = story(refresh=Hold(until=1050.0, failures=1))
    plan = it.sees(box(), made("c0", RUNNING))
    assert (plan.actions, plan.wake_at) == ((), 1050.0)
    it.now = 1050.0
    assert isinstance(it.sees(box(), made("c0", RUNNING)).actions[0], RefreshVolumes)
