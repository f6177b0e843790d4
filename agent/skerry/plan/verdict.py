"""What the device says of a pod: its PodStatus, from what the runtime shows and what was said before.

Also decides what counts as an early exit (`failures`), because that is part of what must survive a restart of skerry.
Source: kubelet's documented behaviour, "Pod Lifecycle" (phases, container states, back-off).
"""

from __future__ import annotations

from dataclasses import replace

from skerry.limits import STATUS_MESSAGE_CHARS_MAX
from skerry.model.manifest import RefusedPod
from skerry.model.observed import ContainerSeen, ContainerState, PodSeen
from skerry.model.pod import Container, Pod, RestartPolicy
from skerry.model.report import ContainerStatus, Life, Phase, PodStatus
from skerry.plan.backoff import failures_after, restart_delay
from skerry.plan.memory import PodMemory

FINAL = (Phase.SUCCEEDED, Phase.FAILED)
LOST = "ContainerStatusUnknown"  # kubelet's word for a container that vanished


def verdict(pod: Pod, seen: PodSeen, before: PodStatus | None, memory: PodMemory, now: float, wall: float) -> PodStatus:
    """The status of a supported pod. `before` is the journaled one; one that was gone and is wanted again, because its
    hub was restored to a time before its deletion, starts anew."""
    if before is not None and before.gone and not pod.deleting:
        before = None
    said = {c.name: c for c in before.containers} if before else {}
    box = next((s for s in seen.sandboxes if s.ready), None)
    containers = tuple(_container(pod, c, seen, said.get(c.name), memory, now, wall) for c in pod.containers)
    final = before is not None and before.phase in FINAL and bool(before.containers)  # a refusal is not an end
    reason, message = memory.trouble.get("", ("", ""))
    gone = pod.deleting and seen.empty and not memory.doubts(now)
    phase = before.phase if before is not None and final else _phase(pod, containers, gone)
    return PodStatus(
        uid=pod.uid,
        namespace=pod.namespace,
        name=pod.name,
        phase=phase,
        containers=containers,
        reason=before.reason if before is not None and final else reason,
        message=before.message if before is not None and final else message[:STATUS_MESSAGE_CHARS_MAX],
        pod_ip=box.ip if box else before.pod_ip if before is not None and final else "",
        started_at=before.started_at if before and before.started_at else max(0, int(wall)),
        gone=gone,
    )


def refusal(pod: RefusedPod, seen: PodSeen, before: PodStatus | None, wall: float) -> PodStatus:
    """The status of a pod that is not run: Failed, with the path of the first field that is not supported.

    What an earlier spec of it started runs on, and is told as it was: an agent's upgrade never stops a pod.
    """
    running = any(c.state is ContainerState.RUNNING for c in seen.containers)
    return PodStatus(
        uid=pod.uid,
        namespace=pod.namespace,
        name=pod.name,
        phase=Phase.RUNNING if running else Phase.FAILED,
        containers=before.containers if running and before is not None else (),
        pod_ip=before.pod_ip if running and before is not None else "",
        reason=pod.refused.reason,
        message=str(pod.refused)[:STATUS_MESSAGE_CHARS_MAX],
        started_at=before.started_at if before and before.started_at else max(0, int(wall)),
        gone=pod.deleting and seen.empty,
    )


def restart_due(container: ContainerStatus, exit_seen: float) -> float:
    """Monotonic second from which a terminated container may run again."""
    return exit_seen + restart_delay(container.failures)


def current(seen: PodSeen, name: str, restarts: int, container_id: str) -> ContainerSeen | None:
    """The newest container of that name; None when the journal knows a newer one that the runtime does not show."""
    c = seen.latest(name)
    return None if c is not None and c.id != container_id and c.attempt < restarts else c


def wants_restart(policy: RestartPolicy, exit_code: int) -> bool:
    return policy is RestartPolicy.ALWAYS or (policy is RestartPolicy.ON_FAILURE and exit_code != 0)


def _container(
    pod: Pod,
    want: Container,
    seen: PodSeen,
    before: ContainerStatus | None,
    memory: PodMemory,
    now: float,
    wall: float,
) -> ContainerStatus:
    before = before or ContainerStatus(want.name, Life.WAITING, image=want.image, reason="ContainerCreating")
    c = current(seen, want.name, before.restarts, before.container_id)
    if c is None:
        return _absent(pod, want, before, memory, now, wall)
    restarts = max(before.restarts, c.attempt)
    if c.id != before.container_id:
        before = _shift(before, c, seen)
    mark = c.fingerprint.partition(".")[0]
    if mark != before.mark:
        before = replace(before, mark=mark, failures=0)
    status = replace(
        before, image=c.image or want.image, image_id=c.image_id, container_id=c.id, restarts=restarts, message=""
    )
    trouble = memory.trouble.get(want.name)
    match c.state:
        case ContainerState.RUNNING | ContainerState.UNKNOWN:
            # It may run on while what should replace it cannot be had: that is told beside it.
            reason, message = trouble or ("", "")
            told = replace(status, reason=reason, message=message[:STATUS_MESSAGE_CHARS_MAX])
            return replace(told, life=Life.RUNNING, exit_code=0, started_at=c.started_ns // 10**9, finished_at=0)
        case ContainerState.CREATED:
            reason, message = trouble or ("ContainerCreating", "")
            return replace(status, life=Life.WAITING, reason=reason, message=message, exit_code=0)
        case ContainerState.EXITED:
            return _exited(pod, status, before, c, memory, now)


def _exited(
    pod: Pod, status: ContainerStatus, before: ContainerStatus, c: ContainerSeen, memory: PodMemory, now: float
) -> ContainerStatus:
    counted = before.container_id == c.id and before.finished_at == max(1, c.finished_ns // 10**9)
    failures = before.failures
    if not counted:
        ran_ns = max(0, c.finished_ns - c.started_ns) if c.started_ns else 0  # one that failed to start never ran
        failures = failures_after(before.failures, ran_ns / 1e9)
    ended = replace(
        status,
        life=Life.TERMINATED,
        reason=_why(c),
        message=c.message[:STATUS_MESSAGE_CHARS_MAX],
        exit_code=c.exit_code,
        started_at=c.started_ns // 10**9,
        finished_at=max(1, c.finished_ns // 10**9),
        failures=failures,
    )
    exit_seen = memory.exit_seen.setdefault(c.id, now)
    if pod.deleting or not wants_restart(pod.restart_policy, c.exit_code):
        return ended
    if (trouble := memory.trouble.get(c.name)) is not None:
        return replace(_waiting(ended), reason=trouble[0], message=trouble[1][:STATUS_MESSAGE_CHARS_MAX])
    if now < restart_due(ended, exit_seen):
        delay = int(restart_delay(failures))
        text = f"back-off {delay}s restarting failed container={c.name} pod={pod.full_name}"
        return replace(_waiting(ended), reason="CrashLoopBackOff", message=text)
    return ended


def _waiting(ended: ContainerStatus) -> ContainerStatus:
    """The same container as waiting, its end told as the last state; `finished_at` keeps the exit counted."""
    return replace(
        ended,
        life=Life.WAITING,
        exit_code=0,
        last_container_id=ended.container_id,
        last_exit_code=ended.exit_code,
        last_reason=ended.reason,
        last_started_at=ended.started_at,
        last_finished_at=ended.finished_at,
    )


def _shift(before: ContainerStatus, c: ContainerSeen, seen: PodSeen) -> ContainerStatus:
    """A new container takes the place of the one told of before, whose end becomes the last state."""
    if not before.container_id or before.life is Life.WAITING:
        return replace(before, finished_at=0)  # none before, or one that never started, or whose end is told already
    if before.life is Life.TERMINATED:
        code, reason, finished = before.exit_code, before.reason, before.finished_at
    else:  # its end was not seen as long as it was the newest
        old = next((o for o in seen.containers if o.id == before.container_id), None)
        code, reason, finished = 137, LOST, c.created_ns // 10**9
        if old is not None and old.state is ContainerState.EXITED:
            code, reason, finished = old.exit_code, _why(old), old.finished_ns // 10**9
    return replace(
        before,
        finished_at=0,
        last_container_id=before.container_id,
        last_exit_code=code,
        last_reason=reason,
        last_started_at=before.started_at,
        last_finished_at=max(1, finished),
    )


def _why(c: ContainerSeen) -> str:
    return c.reason or ("Completed" if c.exit_code == 0 else "Error")


def _absent(
    pod: Pod, want: Container, before: ContainerStatus, memory: PodMemory, now: float, wall: float
) -> ContainerStatus:
    """The runtime shows no container of this name."""
    trouble = memory.trouble.get(want.name) or memory.trouble.get("")
    if not before.container_id:
        reason, message = trouble or ("ContainerCreating", "")
        return replace(before, life=Life.WAITING, reason=reason, message=message[:STATUS_MESSAGE_CHARS_MAX])
    if before.life is not Life.RUNNING:
        return before
    if memory.doubts(now):
        return before  # not believed yet
    return replace(before, life=Life.TERMINATED, reason=LOST, exit_code=137, finished_at=max(1, int(wall)))


def _phase(pod: Pod, containers: tuple[ContainerStatus, ...], gone: bool) -> Phase:
    fresh = [c for c in containers if c.life is Life.WAITING and not c.last_container_id]
    ended = [c for c in containers if c.life is Life.TERMINATED]
    if gone:
        return Phase.SUCCEEDED if ended and all(c.exit_code == 0 for c in ended) else Phase.FAILED
    if fresh:
        return Phase.PENDING
    if len(ended) == len(containers) and not any(wants_restart(pod.restart_policy, c.exit_code) for c in ended):
        return Phase.SUCCEEDED if all(c.exit_code == 0 for c in ended) else Phase.FAILED
    return Phase.RUNNING
