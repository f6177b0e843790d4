"""Storms over both real session machines: any frame may be lost, repeated, late or out of order.

At every step Board asserts that the generation never falls and that a foreign or restored hub deletes and changes
nothing. After the storm `Pair.calm` fails if the ends differ while neither has a deadline (a dead-end), if they talk
without end, or if they have not agreed within its bound.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from skerry.model.desired import Object
from skerry.model.report import Phase
from skerry.wire.session import State
from skerry_hub.cloudhub import session as hub
from skerry_hub.sets import Target
from unit.wire.pair import EPOCH, OTHER_EPOCH, OTHER_STORE, STORE, Pair, config, desired, objects, pod

# Few sets and few objects, so that a storm often comes back to a set that it had before: that is where beliefs about
# the other end go wrong unnoticed.
SETS: tuple[tuple[Object, ...], ...] = (
    (),
    (pod("a"), config("c")),
    (pod("a", "busybox:2"), config("c")),
    (pod("a"), pod("b"), config("c", "y")),
    tuple(pod(f"big{i}", size=60_000) for i in range(4)),
    tuple(pod(f"big{i}", "v2", size=60_000) for i in range(4)),
)
CALM_S = 4_000.0  # the longest hail of a hub that believes its device away, and one back-off


class Storm:
    """A scheduler without mercy: `steps` times, something happens that may happen."""

    def __init__(self, pair: Pair, random: Random, loss: float) -> None:
        self.pair, self.random, self.loss = pair, random, loss
        self.version = pair.target.resource_version

    def blow(self, steps: int) -> None:
        for _ in range(steps):
            self.random.choice(self.possible())()

    def possible(self) -> list[Callable[[], None]]:
        pair, may = self.pair, [self.told, self.told]
        if pair.device.state is State.DOWN:
            may += [pair.connect] * 4
        else:
            may += [pair.cut]
        may += [self.to_hub] * 8 if pair.to_hub else []
        may += [self.to_device] * 8 if pair.to_device else []
        may += [pair.device_ticks] * 2 if pair.device.deadline is not None else []
        may += [pair.hub_ticks] if pair.hub.deadline is not None else []
        may += [pair.store] * 3 if pair.storing else []
        may += [self.change, self.change, pair.sync_informers, self.disk, pair.will]
        if self.random.random() < 0.2:
            may += [pair.restart_hub]
        return may

    def to_hub(self) -> None:
        self.move(self.pair.to_hub, self.pair.hub_gets)

    def to_device(self) -> None:
        self.move(self.pair.to_device, self.pair.device_gets)

    def move(self, pipe: list[bytes], gets: Callable[[int, bool], None]) -> None:
        at = self.random.randrange(len(pipe)) if self.random.random() < 0.3 else 0
        luck = self.random.random()
        if luck < self.loss:
            self.pair.note("lost")
            pipe.pop(at)
        else:
            gets(at, luck > 1 - self.loss / 2)

    def told(self) -> None:
        uid, phase = self.random.choice("abc"), self.random.choice([Phase.PENDING, Phase.RUNNING])
        self.pair.tell(uid, phase, str(self.random.randrange(3)))

    def change(self) -> None:
        self.version += self.random.choice([0, 1, 1])
        now = self.pair.target
        what = objects(*self.random.choice(SETS))
        self.pair.set_target(Target(now.store, now.epoch, self.version, what, now.adopted))

    def disk(self) -> None:
        self.pair.board.full = self.random.random() < 0.2


def quiet(pair: Pair) -> None:
    """What ends a storm: the device has a connection and room on its disk."""
    pair.board.full = False
    if pair.device.state is State.DOWN:
        pair.connect()


@pytest.mark.parametrize("loss", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("seed", range(30))
def test_after_any_storm_both_ends_agree_and_no_state_is_a_dead_end(seed: int, loss: float) -> None:
    random = Random(f"{seed}{loss}")
    pair = Pair(Target(STORE, EPOCH, 1, objects()), seed=seed)
    storm = Storm(pair, random, loss)
    for _ in range(4):
        storm.blow(60)
        quiet(pair)
        pair.calm(CALM_S)
    said = len(pair.said)
    pair.cut()
    pair.connect()
    pair.calm()
    assert [type(m).__name__ for m in pair.said[said:]] == ["Hello", "Ack"]


@pytest.mark.parametrize("seed", range(30))
def test_no_storm_makes_a_foreign_hub_delete_or_change_before_it_is_adopted(seed: int) -> None:
    random = Random(seed)
    mine = (pod("a", "mine"), pod("mine"), config("c", "mine"))
    store, epoch = random.choice([(OTHER_STORE, OTHER_EPOCH), (STORE, OTHER_EPOCH)])
    pair = Pair(Target(store, epoch, 1, objects()), start=desired(*mine), seed=seed)
    storm = Storm(pair, random, 0.2)
    storm.blow(120)
    quiet(pair)
    pair.calm(CALM_S)
    assert pair.held is True
    have = pair.board.desired
    assert all(have.objects[o.key] == o for o in mine)
    assert (have.store, have.epoch, have.resource_version) == (STORE, EPOCH, 5)
    now = pair.target
    pair.set_target(Target(store, epoch, now.resource_version, now.objects, adopted=True))
    storm.blow(60)
    quiet(pair)
    pair.calm(CALM_S)
    assert (pair.board.desired.store, pair.board.desired.epoch) == (store, epoch)
    assert pair.held is False


@pytest.mark.parametrize("seed", range(20))
def test_no_storm_makes_an_older_backup_delete_or_change_before_it_is_adopted(seed: int) -> None:
    """Same store and epoch, lower resourceVersion: nothing at all is sent until a new epoch is open."""
    random = Random(seed)
    mine = (pod("a", "mine"), pod("mine"))
    pair = Pair(Target(STORE, EPOCH, 1, objects()), start=desired(*mine, version=1_000), seed=seed)
    Storm(pair, random, 0.2).blow(120)
    assert pair.board.commits == []
    quiet(pair)
    pair.sync_informers()
    for _ in range(400):
        pair.deliver()
        if pair.epochs:
            break
        due = [t for t in (pair.device.deadline, pair.hub.deadline) if t is not None]
        assert due, "neither end has a deadline and no epoch was opened\n" + pair.story()
        if pair.device.deadline == min(due):
            pair.device_ticks()
        else:
            pair.hub_ticks()
    assert pair.epochs
    pair.set_target(Target(STORE, OTHER_EPOCH, 1, pair.target.objects))
    pair.calm(CALM_S)
    assert pair.held is True
    assert all(pair.board.desired.objects[o.key] == o for o in mine)


def test_the_storms_reach_every_state_and_message() -> None:
    """Else they would prove little."""
    seen: set[str] = set()
    for seed in range(6):
        pair = Pair(Target(STORE, EPOCH, 1, objects()), seed=seed)
        storm = Storm(pair, Random(seed), 0.1)
        for _ in range(150):
            storm.blow(1)
            seen |= {f"device {pair.device.state.value}", f"hub {pair.hub.state.value}"}
        seen |= {type(m).__name__ for m in pair.said}
    messages = {"Hello", "Welcome", "Inventory", "Delta", "Ack", "Reject", "Report"}
    assert seen == messages | {f"device {s.value}" for s in State} | {f"hub {s.value}" for s in hub.State}
