"""Reconcile against a perfect runtime: from anything that can be seen it reaches what is wanted in a few rounds, then
is quiet; and nothing that the link can do ever stops an unchanged pod."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from properties.amount import examples
from skerry.model.action import (
    Action,
    MountVolumes,
    PullImage,
    RemoveContainer,
    RemovePodSandbox,
    RemoveVolumes,
    RunContainer,
    RunPodSandbox,
    StartContainer,
    StopContainer,
    StopPodSandbox,
    UpdateContainerResources,
)
from skerry.model.manifest import read_pod
from skerry.model.observed import ContainerSeen, PodSeen, SandboxSeen
from skerry.model.pod import Container, Pod
from skerry.plan.memory import PodMemory
from skerry.plan.reconcile import QUIET, Plan, forced, spec_mark
from unit.model.manifests import full, pod_object
from unit.plan.scenes import APP, CREATED, EXITED, RUNNING, UNKNOWN, WALL, Story, box, made, pod, seen

ROUNDS_MAX = 6  # rounds with steps from any state to the wanted one
SIDE, GHOST = Container("side", "example.com/side:1"), Container("ghost", "example.com/ghost:1")
STATES = [CREATED, RUNNING, EXITED, UNKNOWN]


@dataclass
class PerfectRuntime:
    """Does every step at once and well. It refuses what would be a mistake on a real board."""

    boxes: dict[str, SandboxSeen] = field(default_factory=dict)
    containers: dict[str, ContainerSeen] = field(default_factory=dict)
    volumes: bool = True
    made: int = 0
    stopped: list[str] = field(default_factory=list)

    def parts(self) -> list[SandboxSeen | ContainerSeen]:
        return [*self.boxes.values(), *self.containers.values()]

    def exits(self, ident: str, code: int, ran_s: int = 5) -> None:
        c = self.containers[ident]
        end = c.started_ns + ran_s * 10**9
        self.containers[ident] = replace(c, state=EXITED, exit_code=code, finished_ns=end)

    def reboots(self, remembers: bool) -> None:
        self.boxes = {k: replace(b, ready=False, ip="") for k, b in self.boxes.items()} if remembers else {}
        self.containers = {k: replace(c, state=EXITED, exit_code=255) for k, c in self.containers.items() if remembers}

    def does(self, action: Action, memory: PodMemory) -> None:
        match action:
            case PullImage(image=image):
                memory.images.add(image)
            case MountVolumes():
                memory.volumes, self.volumes = {}, True
            case RunPodSandbox(attempt=attempt):
                if attempt not in {b.attempt for b in self.boxes.values()}:  # else it gives the one that exists
                    self.made += 1
                    self.boxes[f"nb{self.made}"] = box(f"nb{self.made}", attempt)
            case RunContainer():
                self._run(action, memory)
            case StartContainer(container_id=ident):
                assert self.containers[ident].state is CREATED
                self.containers[ident] = replace(self.containers[ident], state=RUNNING, started_ns=WALL * 10**9)
            case UpdateContainerResources(container_id=ident, container=c):
                memory.resources[ident] = spec_mark(pod(c), c).partition(".")[2]
            case StopContainer(container_id=ident):
                self.stopped.append(ident)
                self.exits(ident, 137)
            case RemoveContainer(container_id=ident):
                assert self.containers[ident].state not in (RUNNING, UNKNOWN), "removed while it runs"
                del self.containers[ident]
                memory.exit_seen.pop(ident, None)
            case StopPodSandbox(sandbox_id=ident):
                self.boxes[ident] = replace(self.boxes[ident], ready=False, ip="")
                for inner in list(self.containers.values()):  # CRI: it takes along what runs in it
                    if inner.sandbox_id == ident and inner.state in (RUNNING, UNKNOWN):
                        self.stopped.append(inner.id)
                        self.exits(inner.id, 137)
            case RemovePodSandbox(sandbox_id=ident):
                inside = [c for c in self.containers.values() if c.sandbox_id == ident]
                assert not [c for c in inside if c.state is RUNNING], "removed with a running container in it"
                self.containers = {k: c for k, c in self.containers.items() if c not in inside}
                del self.boxes[ident]
            case RemoveVolumes():
                self.volumes, memory.volumes = False, None

    def _run(self, action: RunContainer, memory: PodMemory) -> None:
        assert self.boxes[action.sandbox_id].ready
        assert action.container.image in memory.images, "its image was not asked for"
        names = {(c.name, c.attempt) for c in self.containers.values()}
        if (action.container.name, action.attempt) in names:
            return  # it gives the one that exists
        self.made += 1
        ident = f"nc{self.made}"
        new = made(ident, of=action.container, attempt=action.attempt, sandbox=action.sandbox_id)
        self.containers[ident] = replace(new, fingerprint=action.mark)


def rounds(story: Story, runtime: PerfectRuntime) -> int:
    """Look and act until nothing is left to do; the number of rounds that had steps."""
    count = 0
    for _ in range(4 * ROUNDS_MAX):
        plan = story.sees(*runtime.parts())
        for action in plan.actions:
            runtime.does(action, story.memory)
        count += plan.actions != ()
        if plan == QUIET:
            return count
        if not plan.actions:
            assert plan.wake_at is not None
            story.now = max(story.now, plan.wake_at)
    raise AssertionError("it never gets quiet")


@st.composite
def worlds(draw: st.DrawFn) -> PerfectRuntime:
    """Anything that could lie about on a board under one pod's uid."""
    attempts = draw(st.lists(st.integers(0, 4), max_size=3, unique=True))
    boxes = {f"b{a}": box(f"b{a}", a, draw(st.booleans())) for a in attempts}
    homes = [*boxes, "lost"]
    runtime = PerfectRuntime(boxes)
    for name, attempt in draw(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4)), max_size=6, unique=True)):
        of, ident = (APP, SIDE, GHOST)[name], f"c{name}{attempt}"
        c = made(
            ident,
            draw(st.sampled_from(STATES)),
            of=of,
            attempt=attempt,
            sandbox=draw(st.sampled_from(homes)),
            code=draw(st.sampled_from([0, 1, 137])),
            ran_s=draw(st.sampled_from([1, 1000])),
        )
        foreign = draw(st.booleans())
        runtime.containers[ident] = replace(c, fingerprint="0" * 32 + ".0-0-0") if foreign else c
    return runtime


POLICIES = st.sampled_from(["Always", "OnFailure", "Never"])


@settings(max_examples=examples(400))
@given(worlds(), POLICIES)
def test_from_any_state_to_the_wanted_one_and_then_quiet(runtime: PerfectRuntime, policy: str) -> None:
    story = Story(pod(APP, SIDE, policy=policy))
    story.memory.images.clear()
    assert rounds(story, runtime) <= ROUNDS_MAX
    assert story.sees(*runtime.parts()) == QUIET
    alive = [c for c in runtime.containers.values() if c.state is not EXITED]
    ready = [b for b in runtime.boxes.values() if b.ready]
    assert {c.name for c in alive} <= {"app", "side"}
    assert len({c.name for c in alive}) == len(alive), "one of each"
    for c in alive:
        assert c.state is RUNNING
        assert c.fingerprint == spec_mark(story.pod, {"app": APP, "side": SIDE}[c.name])
        assert [b.id for b in ready] == [c.sandbox_id]
    if policy == "Always":
        assert (len(alive), story.phase) == (2, "Running")
        assert set(runtime.boxes) == {b.id for b in ready}
    assert (story.phase in ("Succeeded", "Failed")) == (not alive)
    if not alive:
        assert not ready


@settings(max_examples=examples(200))
@given(worlds())
def test_from_any_state_a_deletion_leaves_nothing(runtime: PerfectRuntime) -> None:
    story = Story(pod(APP, SIDE, deleting_grace_s=3))
    assert rounds(story, runtime) <= 2
    assert runtime.parts() == []
    assert story.status is not None
    assert story.status.gone


@settings(max_examples=examples(200))
@given(worlds())
def test_from_any_state_absence_from_the_set_leaves_nothing_not_even_volumes(runtime: PerfectRuntime) -> None:
    memory = PodMemory()
    plan = Plan((StopContainer("", 0, ""),))
    for _ in range(4):
        plan = forced("u1", seen(*runtime.parts()), runtime.volumes, memory, 0.0)
        for action in plan.actions:
            runtime.does(action, memory)
    assert plan == QUIET
    assert (runtime.parts(), runtime.volumes) == ([], False)


STORM = st.one_of(
    st.tuples(st.just("exit"), st.integers(0, 1), st.sampled_from([0, 1]), st.sampled_from([1, 1000])),
    st.tuples(st.just("reboot"), st.booleans()),
    st.tuples(st.just("restart")),
    st.tuples(st.just("hide"), st.sampled_from(["all", "boxes", "containers"]), st.booleans()),
    st.tuples(st.just("image"), st.integers(1, 3)),
    st.tuples(st.just("round")),
)


@settings(max_examples=examples(300))
@given(st.lists(STORM, max_size=15), POLICIES)
def test_after_any_storm_it_converges_and_restarts_never_fall(storm: list[tuple[Any, ...]], policy: str) -> None:
    story, runtime, restarts = Story(pod(APP, SIDE, policy=policy)), PerfectRuntime(), 0
    rounds(story, runtime)
    for what, *args in storm:
        story.booted = False
        if what == "exit":
            alive = sorted(k for k, c in runtime.containers.items() if c.state is RUNNING)
            if alive:
                runtime.exits(alive[args[0] % len(alive)], args[1], args[2])
        elif what == "reboot":
            runtime.reboots(args[0])
            story.board_reboots()
            story.sees(*runtime.parts())
        elif what == "restart":
            story.skerry_restarts()
        elif what == "hide":
            both = (SandboxSeen, ContainerSeen)
            hidden = {"all": both, "boxes": both[:1], "containers": both[1:]}[args[0]]
            kept = [part for part in runtime.parts() if not isinstance(part, hidden)]
            running = [c for c in runtime.containers.values() if c.state is RUNNING]
            plan = story.sees(*kept, after_s=600)
            ended = story.phase in ("Succeeded", "Failed")
            assert ended or not running or plan.actions == (), "acted on a listing that hides what runs"
            if args[1]:  # it goes on hiding until it is believed
                for action in story.sees(*kept, after_s=5).actions:
                    runtime.does(action, story.memory)
            story.sees(*runtime.parts(), after_s=1)
        elif what == "image":
            story.wishes(replace(APP, image=f"example.com/app:{args[0]}"), SIDE)
        else:
            for action in story.sees(*runtime.parts()).actions:
                runtime.does(action, story.memory)
            story.sees(*runtime.parts())
        if story.status is not None:
            now = sum(c.restarts for c in story.status.containers)
            assert now >= restarts
            restarts = now
    story.booted = False
    rounds(story, runtime)
    assert story.sees(*runtime.parts()) == QUIET
    if policy == "Always":
        alive_now = [c for c in runtime.containers.values() if c.state is RUNNING]
        assert sorted(c.fingerprint for c in alive_now) == sorted(spec_mark(story.pod, c) for c in story.pod.containers)


# --- what the link can do ---------------------------------------------------------------------------------------------

NOISE = st.dictionaries(st.text("ab/-ü", max_size=5), st.text("ab/-ü", max_size=5), max_size=2)
DELIVERY = st.one_of(
    st.tuples(st.just("same")),
    st.tuples(st.just("metadata"), st.sampled_from(["labels", "annotations"]), NOISE),
    st.tuples(st.just("metadata"), st.just("resourceVersion"), st.integers(0, 10**9).map(str)),
    st.tuples(st.just("metadata"), st.sampled_from(["generation", "managedFields", "ownerReferences"]), st.none()),
    st.tuples(st.just("spec"), st.just("tolerations"), st.lists(NOISE, max_size=2)),
    st.tuples(st.just("spec"), st.just("terminationGracePeriodSeconds"), st.integers(0, 60)),
    st.tuples(st.just("top"), st.just("status"), NOISE),
    st.tuples(st.just("restart")),
    st.tuples(st.just("time"), st.integers(0, 10**6)),
)


@settings(max_examples=examples(200))
@given(st.lists(DELIVERY, max_size=12))
def test_nothing_that_the_link_can_do_stops_an_unchanged_pod(deliveries: list[tuple[Any, ...]]) -> None:
    def parsed(manifest: dict[str, Any]) -> Pod:
        got = read_pod(pod_object(), manifest, secret_env=True)
        assert isinstance(got, Pod)
        return got

    manifest = full()
    story, runtime = Story(parsed(manifest)), PerfectRuntime()
    rounds(story, runtime)
    for what, *args in deliveries:
        manifest = copy.deepcopy(manifest)
        if what == "restart":
            story.skerry_restarts()
        elif what == "time":
            story.now += args[0]
        elif what != "same":
            (manifest if what == "top" else manifest[what])[args[0]] = args[1]
        story.pod = parsed(manifest)
        assert story.sees(*runtime.parts()) == QUIET
        assert all(c.state is RUNNING for c in runtime.containers.values())
    assert (runtime.stopped, len(runtime.containers)) == ([], 2)


def test_the_perfect_runtime_refuses_mistakes() -> None:
    runtime = PerfectRuntime({"b0": box()}, {"c0": made()})
    for mistake in (RemoveContainer("c0", ""), RemovePodSandbox("b0", ""), StartContainer("c0", "")):
        with pytest.raises(AssertionError):
            runtime.does(mistake, PodMemory())
    assert PodSeen("u1").empty
