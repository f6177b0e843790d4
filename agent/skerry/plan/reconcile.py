"""Desired and Observed meet here, and nowhere else: the next safe steps for one pod.

Not a long plan: act, look again, ask again. A pod that is as it should be gets no steps (a fixpoint is quiet), and an
unchanged pod is never stopped, whatever the link did: nothing about the link is an argument.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from skerry.limits import FORCED_GRACE_S
from skerry.model.action import (
    Action,
    MountVolumes,
    PullImage,
    RefreshVolumes,
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
from skerry.model.observed import ContainerSeen, ContainerState, PodSeen, SandboxSeen
from skerry.model.pod import Container, Pod, Resources, RestartPolicy, fingerprint
from skerry.model.report import ContainerStatus, Life, PodStatus
from skerry.plan.memory import ABSENT_CONFIRM_S, FREE, PodMemory
from skerry.plan.verdict import FINAL, current, restart_due, wants_restart

DEAD_KEPT = 1  # dead containers kept per name, for their logs


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in order; a failed one ends the round. `wake_at` (monotonic): ask again then even if nothing happens;
    `look`: look at the runtime again first."""

    actions: tuple[Action, ...] = ()
    wake_at: float | None = None
    look: bool = False


QUIET = Plan()


def spec_mark(pod: Pod, container: Container) -> str:
    """What a container is marked with: its fingerprint, and the resources it was made with."""
    return f"{fingerprint(container, pod.volumes)}.{resources_mark(container.resources)}"


def resources_mark(r: Resources) -> str:
    return f"{r.cpu_limit_millis}-{r.cpu_request_millis}-{r.memory_limit_bytes}"


def next_steps(
    pod: Pod, seen: PodSeen, status: PodStatus, memory: PodMemory, now: float, volumes: bool = False
) -> Plan:
    """The next steps for a pod that this device should run. `status` is the verdict on the same `seen`; `volumes`:
    whether it has some here, which for a pod that has ended is too long, as in kubelet: they may hold Secrets."""
    if now < memory.hold.until:
        return Plan(wake_at=memory.hold.until)
    if pod.deleting:
        assert pod.deleting_grace_s is not None
        if seen.empty and memory.absent_since is not None and memory.doubts(now):
            return Plan(wake_at=memory.absent_since + ABSENT_CONFIRM_S, look=True)
        return dismantle(pod.uid, seen, pod.deleting_grace_s, "it is being deleted", memory, now)
    if status.phase in FINAL:
        why = f"the pod has {status.phase.value.lower()}"
        steps = tuple(_finish(seen, pod.grace_s, why))
        return Plan(steps or ((RemoveVolumes(pod.uid, why),) if volumes else ()))
    if memory.absent_since is not None and memory.doubts(now):
        return Plan(wake_at=memory.absent_since + ABSENT_CONFIRM_S, look=True)
    box = next((s for s in seen.sandboxes if s.ready), None)
    stale = tuple(_clear_sandboxes(seen, box, pod.grace_s))
    if stale and not _may_linger(pod, box, seen, memory):
        return Plan(stale)
    if box is None:
        plan = _new_sandbox(pod, seen, status, now, memory)
    else:
        inside = replace(seen, containers=tuple(c for c in seen.containers if c.sandbox_id == box.id))
        plan = _in_sandbox(pod, box, inside, status, memory, now)
        plan = _refreshed(pod, inside, memory, now, plan)
    return plan if plan.actions else replace(plan, actions=stale)


def dismantle(uid: str, seen: PodSeen, grace_s: int, why: str, memory: PodMemory, now: float) -> Plan:
    """Stop and remove everything of a pod: gracefully stopped first, removed once nothing runs."""
    if now < memory.hold.until:
        return Plan(wake_at=memory.hold.until)
    stops = tuple(_stop_all(seen, grace_s, why))
    if stops:
        return Plan(stops)
    steps: list[Action] = [StopPodSandbox(s.id, why) for s in seen.sandboxes]
    steps += [RemoveContainer(c.id, why) for c in seen.containers]
    steps += [RemovePodSandbox(s.id, why) for s in seen.sandboxes]
    return Plan((*steps, RemoveVolumes(uid, why))) if steps else QUIET


def forced(uid: str, seen: PodSeen, volumes: bool, memory: PodMemory, now: float) -> Plan:
    """For a pod that is not in the set any more; `volumes`: whether it has some here."""
    why = "it is not in the desired set"
    if seen.empty and volumes and now >= memory.hold.until:
        return Plan((RemoveVolumes(uid, why),))
    return dismantle(uid, seen, FORCED_GRACE_S, why, memory, now)


def absent(pod: Pod, seen: PodSeen, before: PodStatus | None) -> bool:
    """Whether the runtime hides what must be there: a container that the journal says is running, or the sandbox of one
    that runs. A lie or a loss."""
    boxes = {s.id for s in seen.sandboxes}
    if any(c.state is ContainerState.RUNNING and c.sandbox_id not in boxes for c in seen.containers):
        return True
    names, ids = {c.name for c in pod.containers}, {c.id for c in seen.containers}
    running = [c for c in before.containers if c.life is Life.RUNNING and c.name in names] if before else []
    return any(c.container_id not in ids and current(seen, c.name, c.restarts, c.container_id) is None for c in running)


# --- private ----------------------------------------------------------------------------------------------------------


def _stop_all(seen: PodSeen, grace_s: int, why: str) -> Iterator[Action]:
    yield from (StopContainer(c.id, grace_s, why) for c in seen.containers if _alive(c))


def _finish(seen: PodSeen, grace_s: int, why: str) -> Iterator[Action]:
    """Of a pod that has ended nothing runs on, its sandbox neither; dead containers stay for their logs."""
    yield from _stop_all(seen, grace_s, why)
    older = () if any(_alive(c) for c in seen.containers) else seen.sandboxes[1:]
    kept = [c for c in seen.containers if c.sandbox_id not in {s.id for s in older}]
    yield from (RemoveContainer(c.id, why) for c in kept if c.state is ContainerState.CREATED)
    yield from (StopPodSandbox(s.id, why) for s in seen.sandboxes if s.ready)
    for box in older:
        yield from _clear(box, seen, grace_s)


def _alive(c: ContainerSeen) -> bool:
    return c.state in (ContainerState.RUNNING, ContainerState.UNKNOWN)


def _may_linger(pod: Pod, keep: SandboxSeen | None, seen: PodSeen, memory: PodMemory) -> bool:
    """Whether what is left of earlier sandboxes may wait until the pod runs again, since removing it takes long. Not if
    anything of it could run beside the new, nor if it may hold what the new one needs: a port of the host, or whatever
    the last attempt failed for."""
    if any(s.ready for s in seen.sandboxes if s != keep) or any(p.host_port for c in pod.containers for p in c.ports):
        return False
    if keep is None and memory.hold.failures:
        return False
    return not any(_alive(c) for c in seen.containers if keep is None or c.sandbox_id != keep.id)


def _clear_sandboxes(seen: PodSeen, keep: SandboxSeen | None, grace_s: int) -> Iterator[Action]:
    """Take down every sandbox but the one to keep, with what is in it: after a reboot, or a crash between two steps."""
    for box in seen.sandboxes:
        if keep is None or box.id != keep.id:
            yield from _clear(box, seen, grace_s)
    boxes = {s.id for s in seen.sandboxes}
    orphans = tuple(c for c in seen.containers if c.sandbox_id not in boxes)
    yield from _stop_all(replace(seen, containers=orphans), grace_s, "its sandbox is gone")
    yield from (RemoveContainer(c.id, "its sandbox is gone") for c in orphans)


def _clear(box: SandboxSeen, seen: PodSeen, grace_s: int) -> Iterator[Action]:
    why = "its sandbox is not running any more"
    inside = tuple(c for c in seen.containers if c.sandbox_id == box.id)
    yield from _stop_all(replace(seen, containers=inside), grace_s, why)
    yield StopPodSandbox(box.id, why)
    yield from (RemoveContainer(c.id, why) for c in inside)
    yield RemovePodSandbox(box.id, why)


def _new_sandbox(pod: Pod, seen: PodSeen, status: PodStatus, now: float, memory: PodMemory) -> Plan:
    said = {c.name: c for c in status.containers}
    if not any(_may_run(pod, said[c.name]) for c in pod.containers):
        return QUIET
    attempt = max((s.attempt + 1 for s in seen.sandboxes), default=_runs(status))
    mount = pod.volumes and memory.volumes is None
    steps = (MountVolumes(pod, "its volumes must be ready"),) if mount else ()
    return Plan((*steps, RunPodSandbox(pod, attempt, "it has no running sandbox")))


def _runs(status: PodStatus) -> int:
    """A sandbox attempt that no earlier life of this pod can have used."""
    return sum(c.restarts + 1 for c in status.containers if c.container_id)


def _may_run(pod: Pod, said: ContainerStatus) -> bool:
    """Whether restartPolicy lets this container run (again), by what the journal says of it."""
    if not said.container_id or pod.restart_policy is RestartPolicy.ALWAYS:
        return True
    if said.life is Life.WAITING:
        return True  # it never started, or waits for its next turn
    if said.life is Life.RUNNING:
        return pod.restart_policy is not RestartPolicy.NEVER
    return wants_restart(pod.restart_policy, said.exit_code)


def _refreshed(pod: Pod, seen: PodSeen, memory: PodMemory, now: float, plan: Plan) -> Plan:
    """The plan, and as its last step the refresh of files that running containers may see: nothing waits for it."""
    mounts = any(isinstance(a, MountVolumes) for a in plan.actions)
    if not memory.stale or mounts or not any(_alive(c) for c in seen.containers):
        return plan
    if now < memory.refresh.until:
        wakes = [at for at in (plan.wake_at, memory.refresh.until) if at is not None]
        return replace(plan, wake_at=min(wakes))
    return replace(plan, actions=(*plan.actions, RefreshVolumes(pod, "a ConfigMap or Secret that it mounts changed")))


def _in_sandbox(pod: Pod, box: SandboxSeen, seen: PodSeen, status: PodStatus, memory: PodMemory, now: float) -> Plan:
    wanted = {c.name: c for c in pod.containers}
    said = {c.name: c for c in status.containers}
    steps: list[Action] = []
    wake: list[float] = []
    newest = {n: current(seen, n, c.restarts, c.container_id) for n, c in said.items()}
    for extra in seen.containers:
        if extra != newest.get(extra.name):
            steps += _discard(extra, seen, extra.name in wanted, pod.grace_s)
    for c in pod.containers:
        hold = memory.holds.get(c.name, FREE)
        if now < hold.until:
            wake.append(hold.until)
            continue
        steps += _one(pod, box, c, newest[c.name], said[c.name], memory, now, wake)
    return Plan(tuple(steps), min(wake, default=None))


def _discard(c: ContainerSeen, seen: PodSeen, replaced: bool, grace_s: int) -> list[Action]:
    """A container that is not in the spec, or an older one of a name that has a newer."""
    why = "a newer one took its place" if replaced else "the pod does not name it any more"
    steps: list[Action] = []
    if _alive(c):
        steps.append(StopContainer(c.id, grace_s, why))
    older = [o for o in seen.containers if o.name == c.name]
    if not replaced or c.state is ContainerState.CREATED or older.index(c) > DEAD_KEPT:
        steps.append(RemoveContainer(c.id, why))
    return steps


def _one(
    pod: Pod,
    box: SandboxSeen,
    want: Container,
    c: ContainerSeen | None,
    said: ContainerStatus,
    memory: PodMemory,
    now: float,
    wake: list[float],
) -> list[Action]:
    """The next step for one container of the spec."""
    mark = spec_mark(pod, want)
    if c is None:
        attempt = said.restarts + 1 if said.container_id else 0
        return _run(pod, box, want, mark, attempt, memory, "it is not there") if _may_run(pod, said) else []
    same = c.fingerprint.partition(".")[0] == mark.partition(".")[0]
    match c.state:
        case ContainerState.RUNNING if not same:
            return _replace(pod, box, want, c, mark, said, memory)
        case ContainerState.RUNNING:
            has = memory.resources.get(c.id, c.fingerprint.partition(".")[2])
            if has != mark.partition(".")[2]:
                return [UpdateContainerResources(c.id, want, "its resources changed")]
            return []
        case ContainerState.UNKNOWN:
            return [StopContainer(c.id, pod.grace_s, "the runtime lost track of it")]
        case ContainerState.CREATED if same:
            return [StartContainer(c.id, "it was created and never started")]
        case ContainerState.CREATED:
            return [RemoveContainer(c.id, "its spec changed before it started")]
        case ContainerState.EXITED:
            return _again(pod, box, want, c, mark, said, memory, now, wake)


def _replace(
    pod: Pod, box: SandboxSeen, want: Container, c: ContainerSeen, mark: str, said: ContainerStatus, memory: PodMemory
) -> list[Action]:
    """A running container whose spec changed: whatever restartPolicy says, another runs, as in kubelet. Unlike there,
    the old one serves until the new image is here, which offline may take long."""
    why = "its spec changed"
    *ready, run = _run(pod, box, want, mark, max(c.attempt, said.restarts) + 1, memory, why)
    return [*ready, StopContainer(c.id, pod.grace_s, why, want.name), run]


def _again(
    pod: Pod,
    box: SandboxSeen,
    want: Container,
    c: ContainerSeen,
    mark: str,
    said: ContainerStatus,
    memory: PodMemory,
    now: float,
    wake: list[float],
) -> list[Action]:
    if not wants_restart(pod.restart_policy, c.exit_code):
        return []
    changed = c.fingerprint.partition(".")[0] != mark.partition(".")[0]
    due = now if changed else restart_due(said, memory.exit_seen.get(c.id, now))
    if now < due:
        wake.append(due)
        return []
    attempt = max(c.attempt, said.restarts) + 1
    return _run(pod, box, want, mark, attempt, memory, "its spec changed" if changed else f"it exited ({c.exit_code})")


def _run(
    pod: Pod, box: SandboxSeen, want: Container, mark: str, attempt: int, memory: PodMemory, why: str
) -> list[Action]:
    steps: list[Action] = []
    if want.image not in memory.images:
        why_pull = "its image must be here"
        steps.append(PullImage(want.image, want.pull_policy, want.name, why_pull, pod.namespace, pod.pull_secrets))
    if pod.volumes and memory.volumes is None:
        steps.append(MountVolumes(pod, "its volumes must be ready"))
    return [*steps, RunContainer(pod, want, mark, box.id, box.attempt, attempt, why)]
