"""A private image and its pod's pull secrets, in a real agent: what waits, what is told, what starts when they come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest

from sim.broker import Broker
from sim.device import Device
from sim.loop import bury
from sim.world import World
from skerry.journal.record import OUTBOX, read_outbox
from skerry.limits import PULL_BACKOFF_S
from skerry.model.desired import Kind, Object, object_of
from skerry.model.report import Event, ReportKind
from skerry.ports import AuthConfig
from skerry.wire.codec import encode
from skerry.wire.report import decode_report
from unit.journal.memory_store import change

IMAGE = "example.com/app:1"
PASSWORD = "nobody-may-read-this"
POD = "u1"


def pod(*secrets: str) -> Object:
    container = {"name": "app", "image": IMAGE, "args": ["run"]}
    spec = {"containers": [container], "imagePullSecrets": [{"name": name} for name in secrets]}
    return object_of(
        Kind.POD, POD, encode({"metadata": {"namespace": "default", "name": "p", "uid": POD}, "spec": spec})
    )


def keys(password: str = PASSWORD, kind: str = "kubernetes.io/dockerconfigjson", at: str = "example.com") -> Object:
    auths = {at: {"username": "tide", "password": password}}
    data = {".dockerconfigjson": json.dumps({"auths": auths}).encode()}
    meta = {"namespace": "default", "name": "keys", "uid": "s1"}
    return object_of(Kind.SECRET, "s1", encode({"metadata": meta, "type": kind, "data": data}))


class Site:
    def __init__(self) -> None:
        self.world = World("pull secrets")
        self.device = Device(self.world, Broker(self.world, self.world.rng("broker")), "n0")
        self.device.weather.registry.add(IMAGE)
        self.device.weather.private[IMAGE] = AuthConfig("tide", PASSWORD)
        self.device.reach.up = False
        self.generation = 0

    async def wants(self, *objects: Object) -> None:
        assert self.device.journal is not None
        self.generation += 1
        await self.device.journal.apply(change(self.generation, *objects))

    async def until(self, what: Callable[[], bool], seconds: float) -> None:
        for _ in range(int(seconds * 10)):
            if what():
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"not within {seconds} s: {self.said()}")

    def runs(self) -> bool:
        return bool(self.device.engine.running(POD))

    def said(self) -> tuple[str, str]:
        """Reason and message of the container."""
        assert self.device.journal is not None
        status = self.device.journal.statuses.get(POD)
        return (status.containers[0].reason, status.containers[0].message) if status else ("", "")

    def events(self) -> list[Event]:
        items = [read_outbox(k, self.device.disk.records[k]) for k in self.device.disk.keys(OUTBOX)]
        events = [decode_report(item.kind, item.body) for item in items if item.kind is ReportKind.EVENT]
        return [event for event in events if isinstance(event, Event)]

    async def begin(self) -> None:
        self.device.start()
        await asyncio.sleep(5)


def live(story: Callable[[Site], object]) -> None:
    site = Site()

    async def whole() -> None:
        await site.begin()
        await story(site)  # type: ignore[misc]

    try:
        site.world.loop.run_until_complete(whole())
    finally:
        bury(site.world.loop)
    texts = [f"{e.reason} {e.message}" for e in site.events()] + site.device.log
    assert not [text for text in texts if PASSWORD in text]


def test_a_pod_with_the_right_secret_runs_and_a_change_of_it_touches_nothing() -> None:
    async def story(site: Site) -> None:
        await site.wants(pod("keys"), keys())
        await site.until(site.runs, 300)
        before = site.device.engine.running(POD)
        await site.wants(pod("keys"), keys("another"))
        await site.wants(pod("others"), keys("another"))
        await site.wants(pod())
        await asyncio.sleep(900)
        assert site.device.engine.running(POD) == before
        assert site.device.engine.starts == 1

    live(story)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (keys(at="example.org"), f"{IMAGE}: 401 Unauthorized"),
        (keys("guessed"), "what it says is not shown, because a password"),
        (keys("guessed-of-" + PASSWORD), "what it says is not shown"),
        (keys(kind="Opaque"), "Secret default/keys: type: is neither kubernetes.io/dockerconfigjson nor"),
    ],
)
def test_with_a_wrong_one_it_waits_with_the_reason_and_starts_once_it_is_right(wrong: Object, message: str) -> None:
    async def story(site: Site) -> None:
        await site.wants(pod("keys"), wrong)
        await site.until(lambda: site.said()[0] == "ErrImagePull", 300)
        assert message in site.said()[1]
        await site.until(lambda: site.said()[0] == "ImagePullBackOff", 600)
        await asyncio.sleep(3600)  # the back-off is as long as it gets
        assert message in site.said()[1]
        assert [e.reason for e in site.events() if message in e.message] == ["Failed", "BackOff"]
        site.device.weather.slow = 0.001  # pulls take no time: what is left is the back-off
        await site.wants(pod("keys"), keys())
        await site.until(site.runs, PULL_BACKOFF_S[0])

    live(story)


def test_a_missing_one_is_told_once_and_holds_up_no_pull_that_needs_none() -> None:
    async def story(site: Site) -> None:
        del site.device.weather.private[IMAGE]
        await site.wants(pod("gone", "keys"), keys())
        await site.until(site.runs, 300)

    site: list[Site] = []

    async def noted(one: Site) -> None:
        site.append(one)
        await story(one)

    live(noted)
    told = [e for e in site[0].events() if e.reason == "FailedToRetrieveImagePullSecret"]
    assert [(e.message, e.warning) for e in told] == [
        ("Unable to retrieve some image pull secrets (gone); attempting to pull the image may not succeed.", True)
    ]


def test_a_missing_one_that_is_needed_is_waited_for() -> None:
    async def story(site: Site) -> None:
        await site.wants(pod("keys"))
        await site.until(lambda: site.said()[0] == "ImagePullBackOff", 600)
        await asyncio.sleep(3600)
        told = [e for e in site.events() if e.reason == "FailedToRetrieveImagePullSecret"]
        assert len(told) == 1
        site.device.weather.slow = 0.001
        await site.wants(pod("keys"), keys())
        await site.until(site.runs, PULL_BACKOFF_S[0])

    live(story)


def test_one_that_comes_while_the_pull_is_tried_without_it_is_tried_next() -> None:
    async def story(site: Site) -> None:
        site.device.weather.slow = 30.0
        await site.wants(pod("keys"), keys("guessed"))
        await asyncio.sleep(3)  # the pull is under way
        await site.wants(pod("keys"), keys())
        await site.until(lambda: site.said()[0] == "ErrImagePull" or site.runs(), 6000)
        site.device.weather.slow = 0.001
        await site.until(site.runs, PULL_BACKOFF_S[0] / 2)

    live(story)
