"""Which of two pods has a host port: one of them always, and never both."""

from __future__ import annotations

from dataclasses import replace

import pytest

from skerry.model.observed import PodSeen
from skerry.model.pod import Pod, Port
from skerry.model.report import ContainerStatus, Life, Phase, PodStatus
from skerry.plan.ports import Claim, claim, waits_for
from unit.plan.scenes import APP, box, pod, seen

NOTHING = PodSeen("u1")


def asks(uid: str, *ports: Port) -> Pod:
    return replace(pod(replace(APP, ports=ports)), uid=uid, name=uid)


def status(phase: Phase, container: str = "", gone: bool = False) -> PodStatus:
    containers = (ContainerStatus("app", Life.WAITING, container_id=container),) if container else ()
    return PodStatus("u1", "default", "web", phase, containers, gone=gone)


@pytest.mark.parametrize(
    ("said", "what", "granted", "worth"),
    [
        (None, NOTHING, False, Claim.NEW),
        (status(Phase.PENDING), NOTHING, False, Claim.NEW),
        (None, NOTHING, True, Claim.HELD),
        (None, seen(box()), False, Claim.HELD),
        (status(Phase.RUNNING, "c1"), seen(box(ready=False)), False, Claim.BEGAN),
        (status(Phase.SUCCEEDED, "c1"), NOTHING, True, Claim.NONE),
        (status(Phase.FAILED, "c1"), seen(box()), True, Claim.HELD),
        (status(Phase.RUNNING, "c1", gone=True), NOTHING, True, Claim.NONE),
    ],
)
def test_what_a_claim_is_worth(said: PodStatus | None, what: PodSeen, granted: bool, worth: Claim) -> None:
    assert claim(said, what, granted) is worth


@pytest.mark.parametrize("mine", list(Claim)[1:])
@pytest.mark.parametrize("its", list(Claim)[1:])
def test_of_two_that_ask_for_one_port_exactly_one_waits(mine: Claim, its: Claim) -> None:
    a, b = asks("a", Port(80, host_port=8080)), asks("b", Port(81, host_port=8080))
    waiting = [waits_for(a, mine, [(b, its)]), waits_for(b, its, [(a, mine)])]
    assert sum(bool(w) for w in waiting) == 1
    assert waiting[0] in ("", "hostPort 8080/TCP is taken by pod default/b")


def test_a_pod_that_has_ended_holds_nothing() -> None:
    a, b = asks("a", Port(80, host_port=8080)), asks("b", Port(80, host_port=8080))
    assert waits_for(b, Claim.NEW, [(a, Claim.NONE)]) == ""


@pytest.mark.parametrize(
    ("one", "two", "clash"),
    [
        (Port(80, host_port=1), Port(80, host_port=2), False),
        (Port(80, "UDP", 1), Port(80, "TCP", 1), False),
        (Port(80, "TCP", 1, "10.0.0.1"), Port(80, "TCP", 1, "10.0.0.2"), False),
        (Port(80, "TCP", 1, "10.0.0.1"), Port(80, "TCP", 1, "10.0.0.1"), True),
        (Port(80, "TCP", 1, "10.0.0.1"), Port(80, "TCP", 1, "0.0.0.0"), True),
        (Port(80, "TCP", 1), Port(80, "TCP", 1, "10.0.0.2"), True),
        (Port(80), Port(80), False),
    ],
)
def test_which_ports_are_the_same(one: Port, two: Port, clash: bool) -> None:
    assert bool(waits_for(asks("b", one), Claim.NEW, [(asks("a", two), Claim.NEW)])) is clash
