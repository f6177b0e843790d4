"""A pod's condition Ready: given back where a node lifecycle controller took it, and only then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from skerry_hub.edgecontroller.readiness import Readiness
from skerry_hub.ports import PODS, Conflict, NotFound, Obj, Resource
from unit.hub.fakes import Dice, ManualClock, ScriptedCluster
from unit.hub.manifests import api_pod


class Site:
    """An informer that shows one pod as the API has it, and hears what was written."""

    def __init__(self) -> None:
        self.api, self.clock = ScriptedCluster(), ManualClock()
        self.log: list[str] = []
        self.readiness = Readiness(
            self.api, self.clock, Dice(), self.log.append, pod=lambda uid: self.pod if uid == "uid-web" else None,
            pods_of=lambda node: [self.pod] if node == "pi" else [], era=lambda resource: 1, learn=self.learn,
        )  # fmt: skip
        self.pod = self.shown("True")

    def shown(self, ready: str, containers: str = "True") -> Obj:
        """With the reason that it had: a node lifecycle controller changes the status alone."""
        conditions = [{"type": "Ready", "status": ready}, {"type": "ContainersReady", "status": containers}]
        pod = {**api_pod(), "status": {"phase": "Running", "conditions": conditions}}
        self.pod = self.api.put(PODS, pod)
        return self.pod

    def learn(self, resource: Resource, obj: Obj, era: int) -> None:
        self.pod = obj
        self.readiness.look(obj)

    def say(self, ready: str, containers: str = "True") -> None:
        self.readiness.look(self.shown(ready, containers))

    @property
    def patches(self) -> list[Any]:
        return [what for verb, plural, _, what in self.api.writes if (verb, plural) == ("patch", "pods")]


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    task = asyncio.ensure_future(site.readiness.run())
    yield site
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_pod_is_ready_again_that_somebody_marked_while_its_device_was_there(site: Site) -> None:
    """No report will say it: on the device nothing has changed."""
    site.readiness.presence("pi", True)
    site.say("True")
    await site.clock.advance(1)
    assert site.patches == []
    site.say("False")
    at = site.pod["metadata"]["resourceVersion"]
    await site.clock.advance(60)
    (patch,) = site.patches
    (condition,) = patch["status"]["conditions"]
    assert (condition["type"], condition["status"]) == ("Ready", "True")
    assert patch["metadata"] == {"uid": "uid-web", "resourceVersion": at}


async def test_what_its_device_calls_not_ready_stays_so(site: Site) -> None:
    site.readiness.presence("pi", True)
    site.say("False", containers="False")
    await site.clock.advance(60)
    assert site.patches == []


async def test_nobody_calls_a_pod_ready_whose_device_is_away(site: Site) -> None:
    site.readiness.presence("pi", True)
    site.readiness.presence("pi", False)
    site.say("False")
    await site.clock.advance(60)
    assert site.patches == []
    site.readiness.presence("pi", True)
    await site.clock.advance(1)
    assert len(site.patches) == 1


async def test_a_report_that_came_first_is_looked_at_again(site: Site) -> None:
    site.readiness.presence("pi", True)
    site.api.write_failures = [Conflict("somebody else was faster")]
    site.say("False")
    await site.clock.advance(0)
    site.say("False", containers="False")
    await site.clock.advance(60)
    assert site.patches == []


async def test_a_pod_that_is_gone_is_forgotten(site: Site) -> None:
    site.readiness.presence("pi", True)
    site.api.write_failures = [NotFound("web")]
    site.say("False")
    await site.clock.advance(60)
    assert site.patches == []
    assert site.log == []


async def test_an_api_that_keeps_no_condition_is_not_patched_in_a_hot_loop(site: Site) -> None:
    site.readiness.presence("pi", True)
    site.api.forgetful = True
    site.say("False")
    await site.clock.advance(120)
    assert 2 <= len(site.patches) < 60
