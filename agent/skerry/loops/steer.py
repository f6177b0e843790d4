"""Journal → runtime. For each pod that changed: say what is (verdict), choose the next steps (reconcile), take them.

One worker per pod at a time, so that a slow pull or a long grace period of one pod never delays another; what costs
memory and CPU (sandboxes, containers, pulls) is bounded over all. Knows nothing of the link, and cannot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby

from skerry.errors import Malformed, Refused, RuntimeAway, RuntimeFailed, SkerryError, StoreFull, VolumeFailed
from skerry.journal.journal import Journal
from skerry.limits import POD_STEP_S_MAX, POD_WORKERS_MAX, STEP_BACKOFF_S
from skerry.loops.act import Hands
from skerry.loops.configs import Configs
from skerry.loops.pulse import Beat
from skerry.loops.report import Counters, Log
from skerry.loops.warn import NO_MEMORY_CGROUP, Warnings
from skerry.model.action import (
    Action,
    PullImage,
    RefreshVolumes,
    RemoveContainer,
    RemovePodSandbox,
    RunContainer,
    RunPodSandbox,
    StopContainer,
    StopPodSandbox,
    container_of,
    told,
)
from skerry.model.desired import Kind, Object
from skerry.model.manifest import RefusedPod, read_pod
from skerry.model.observed import PodSeen
from skerry.model.pod import Pod
from skerry.model.report import Event, PodStatus
from skerry.plan.backoff import full_jitter
from skerry.plan.memory import FREE, TAKEN, Hold, PodMemory, Stamp
from skerry.plan.ports import Claim, claim, host_ports, waits_for
from skerry.plan.reconcile import QUIET, Plan, absent, dismantle, forced, next_steps
from skerry.plan.resolve import MISSING
from skerry.plan.transitions import transitions
from skerry.plan.trouble import backoff, reason, without_image
from skerry.plan.verdict import FINAL, refusal, verdict
from skerry.ports import Clock, Entropy, Host, Runtime
from skerry.wire.codec import decode
from skerry.wire.sealed import Unseal

HEAVY = (PullImage, RunPodSandbox, RunContainer)
# Clearing up after a failed step does not make the next attempt any more promising.
CLEARING = (StopContainer, RemoveContainer, StopPodSandbox, RemovePodSandbox)


@dataclass(slots=True)
class Worker:
    """A pod being worked on."""

    obj: Object | None
    task: asyncio.Task[None]
    yields: bool = False  # what it does now may take long (a pull, a grace period): a new wish ends it


@dataclass(slots=True)
class Steer:
    """All that steer owns. `run` never returns; StoreBroken ends the process."""

    runtime: Runtime
    host: Host
    journal: Journal
    clock: Clock
    entropy: Entropy
    log: Log
    counters: Counters
    beat: Beat
    hands_beat: Beat  # of the workers together: as long as there is one, some step ends now and then
    secret_env: bool = False
    unseal: Unseal | None = None  # opens what is sealed to this device
    booted: bool = False  # the board booted since the journal was last written: nothing of the runtime survived
    _memories: dict[str, PodMemory] = field(default_factory=dict)
    _workers: dict[str, Worker] = field(default_factory=dict)
    _wakes: dict[str, float] = field(default_factory=dict)
    _looks_due: set[str] = field(default_factory=set)  # pods whose wake is for a look
    _parsed: dict[str, tuple[Object, Pod | RefusedPod]] = field(default_factory=dict)
    _configs: dict[bool, Configs] = field(init=False)  # for pods of the folder or not
    _heavy: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(POD_WORKERS_MAX))
    _followed: object = None  # up to where the set and the folder were followed
    _twins: dict[str, tuple[Object, RefusedPod]] = field(default_factory=dict)  # hub's pods whose name is taken here
    _warnings: Warnings = field(init=False)
    _full: bool = False  # the journal had no room for the last status

    def __post_init__(self) -> None:
        journal = self.journal
        self._warnings = Warnings(journal, self.clock, self.entropy)
        self._configs = {
            local: Configs(
                partial(journal.objects, local),
                lambda: (journal.desired.generation, journal.local_changes),
                self.unseal,
            )
            for local in (False, True)
        }

    async def run(self) -> None:
        pending: set[str] = {o.uid for o in self.journal.pods()}
        pending |= set(self.journal.statuses) | self.host.volume_pods()
        self.hands_beat.waits()
        if not self.host.memory_cgroup:
            self.log(f"memory limits are ignored: {NO_MEMORY_CGROUP}")
        try:
            while True:
                self.beat.works()
                pending |= self.journal.take_dirty() | self._due() | self._retry_missing()
                pending -= {uid for uid in sorted(pending) if self._begin(uid)}  # sorted: a life can be replayed
                await self._wait()
                self._reap(pending)
        finally:
            for worker in self._workers.values():
                worker.task.cancel()

    # --- which pods to work on ----------------------------------------------------------------------------------------

    def _begin(self, uid: str) -> bool:
        """Start a worker for a pod; False to ask again later."""
        obj = self.journal.pod(uid)
        worker = self._workers.get(uid)
        if worker is not None:
            if worker.yields and worker.obj is not obj:
                worker.task.cancel()
            return False
        if not self.journal.runtime_up or self.journal.look_pending(uid):
            return False
        self._wakes.pop(uid, None)
        task = asyncio.ensure_future(self._work(uid, obj))
        self._workers[uid] = Worker(obj, task)
        self.hands_beat.works(POD_STEP_S_MAX)
        return True

    def _due(self) -> set[str]:
        now = self.clock.now()
        due = {uid for uid, at in self._wakes.items() if at <= now}
        for uid in due:
            del self._wakes[uid]
        for uid in due & self._looks_due:
            self.journal.want_look(uid)
        self._looks_due -= due
        return due

    def _retry_missing(self) -> set[str]:
        """Pods that waited for a ConfigMap or Secret, or whose files are old, or which could not pull an image with the
        pull secrets that they had, once the set or the folder changed."""
        follows = (self.journal.desired.generation, self.journal.local_changes)
        if self._followed == follows:
            return set()
        self._followed = follows
        waiting = {u for u, m in self._memories.items() if any(r == MISSING for r, _ in m.trouble.values())}
        for uid in waiting:
            self._memories[uid].hold = FREE
            self._memories[uid].holds.clear()
        for uid, memory in self._memories.items():
            failed = without_image(memory)
            if failed and self._new_keys(memory):
                waiting.add(uid)
                for name in failed:
                    memory.holds.pop(name, None)
        return waiting | {u for u, m in self._memories.items() if isinstance(m.wish, Pod) and self._compare(m.wish, m)}

    def _compare(self, pod: Pod, memory: PodMemory) -> bool:
        """Whether the pod's files are not what they should be; a change does not wait for the back-off of another."""
        due = self._configs_of(pod.uid).stamp(pod)
        if due != memory.files_due:
            memory.files_due, memory.refresh = due, FREE
        return memory.stale

    def _new_keys(self, memory: PodMemory) -> bool:
        """Whether its pull secrets are others than when its last pull began."""
        return memory.keys != self._keys(memory)

    def _keys(self, memory: PodMemory) -> Stamp:
        pod = memory.wish
        return self._configs_of(pod.uid).keys(pod) if isinstance(pod, Pod) else ()

    def _configs_of(self, uid: str) -> Configs:
        return self._configs[(Kind.POD, uid) in self.journal.local]

    async def _wait(self) -> None:
        """Until the journal rings, a worker ends or a wake is due."""
        waits: list[asyncio.Future[None]] = [asyncio.ensure_future(self.journal.for_steer.wait())]
        if self._wakes:
            waits.append(asyncio.ensure_future(self.clock.sleep_until(min(self._wakes.values()))))
        tasks = [w.task for w in self._workers.values()]
        self.beat.waits()
        try:
            await asyncio.wait([*waits, *tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                if not wait.done():
                    wait.cancel()

    def _reap(self, pending: set[str]) -> None:
        ended = [u for u, w in self._workers.items() if w.task.done()]
        blocked = {u for u, m in self._memories.items() if m.waits_for_port}
        if not blocked.issuperset(ended):  # what another pod did may have set a port free
            pending |= blocked
        for uid in ended:
            task = self._workers.pop(uid).task
            if task.cancelled():
                pending.add(uid)
                self.journal.want_look(uid)
            else:
                task.result()
        if not self._workers:
            self.hands_beat.waits()

    # --- one pod ------------------------------------------------------------------------------------------------------

    async def _work(self, uid: str, obj: Object | None) -> None:
        """Say what is, choose, act. A failure becomes trouble in the memory, with a time to try again."""
        memory = self._memories.setdefault(uid, PodMemory())
        seen = self.journal.seen.get(uid, PodSeen(uid))
        pod = self._pod(obj)
        if pod != memory.wish:  # a deletion or another image does not wait for the back-off of what was before
            memory.wish, memory.hold = pod, FREE
            memory.holds.clear()
            memory.trouble.clear()
            if pod is not None:
                self.journal.note(self.clock.wall(), f"{pod.namespace}/{pod.name}", uid, "Wanted", "as the set says")
        if pod is None and seen.empty and uid not in self.host.volume_pods():
            await self._forget(uid)
            return
        now = self.clock.now()
        if pod is None:
            plan = forced(uid, seen, uid in self.host.volume_pods(), memory, now)
        else:
            blocked = isinstance(pod, Pod) and not pod.deleting and self._port_taken(pod, seen, memory)
            status = self._verdict(pod, seen, memory, now)
            await self._tell(status, memory)
            plan = QUIET if blocked else self._choose(pod, seen, status, memory, now)
        if plan.wake_at is not None:
            self._wakes[uid] = plan.wake_at
            if plan.look:
                self._looks_due.add(uid)
        if plan.actions:
            name = pod.namespace + "/" + pod.name if pod is not None else uid
            try:
                await self._act(uid, name, plan.actions, memory)
                if isinstance(pod, Pod):
                    await self._warnings.lacking(pod, memory)
                    if not self.host.memory_cgroup:
                        await self._warnings.unlimited(pod, plan.actions, memory)
            finally:
                self.journal.want_look(uid)

    def _pod(self, obj: Object | None) -> Pod | RefusedPod | None:
        if obj is None:
            return None
        known = self._parsed.get(obj.uid)
        if known is None or known[0] is not obj:
            try:
                value = decode(obj.body)
            except Malformed as why:
                value = {"spec": str(why)}
            known = self._parsed[obj.uid] = (obj, read_pod(obj, value, self.secret_env))
        return self._twin(obj, known[1]) or known[1]

    def _twin(self, obj: Object, pod: Pod | RefusedPod) -> RefusedPod | None:
        """The hub's pod as a refused one while a manifest on this device has its name: that one needs no hub, and goes
        on."""
        file = self.journal.local_names.get(f"{pod.namespace}/{pod.name}")
        if file is None or (Kind.POD, obj.uid) in self.journal.local:
            self._twins.pop(obj.uid, None)
            return None
        known = self._twins.get(obj.uid)
        if known is None or known[0] is not obj:
            why = Refused("metadata.name", f"manifest {file} on the device has a pod of this name", "NameTaken")
            known = self._twins[obj.uid] = (obj, RefusedPod(obj.uid, pod.namespace, pod.name, why, pod.deleting))
        return known[1]

    def _port_taken(self, pod: Pod, seen: PodSeen, memory: PodMemory) -> bool:
        """Whether it must wait for a host port of another pod; that is its trouble then."""
        own = claim(self.journal.statuses.get(pod.uid), seen, memory.granted)
        taken = waits_for(pod, own, self._claims(pod.uid)) if host_ports(pod) and own is not Claim.HELD else ""
        memory.granted = not taken
        if taken:
            memory.trouble[""] = (TAKEN, taken)
        elif memory.waits_for_port:
            del memory.trouble[""]
        return bool(taken)

    def _claims(self, besides: str) -> Iterator[tuple[Pod, Claim]]:
        """What the other pods' claims are worth; those that left the set count until they are forgotten."""
        for obj in self.journal.pods():
            self._pod(obj)
        for uid, (_, pod) in self._parsed.items():
            if uid != besides and isinstance(pod, Pod) and uid not in self._twins:
                memory, seen = self._memories.get(uid), self.journal.seen.get(uid, PodSeen(uid))
                yield pod, claim(self.journal.statuses.get(uid), seen, memory is not None and memory.granted)

    def _verdict(self, pod: Pod | RefusedPod, seen: PodSeen, memory: PodMemory, now: float) -> PodStatus:
        before, wall = memory.untold or self.journal.statuses.get(pod.uid), self.clock.wall()
        if isinstance(pod, RefusedPod):
            return refusal(pod, seen, before, wall)
        missing = absent(pod, seen, before)
        memory.met = memory.met or not missing
        if not missing or (self.booted and not memory.met):
            memory.absent_since = None
        elif memory.absent_since is None:
            memory.absent_since = now
        return verdict(pod, seen, before, memory, now, wall)

    def _choose(
        self, pod: Pod | RefusedPod, seen: PodSeen, status: PodStatus, memory: PodMemory, now: float
    ) -> Plan:
        if isinstance(pod, RefusedPod):
            return dismantle(pod.uid, seen, 0, "it is being deleted", memory, now) if pod.deleting else QUIET
        self._compare(pod, memory)
        volumes = status.phase in FINAL and pod.uid in self.host.volume_pods()
        return next_steps(pod, seen, status, memory, now, volumes)

    async def _tell(self, status: PodStatus, memory: PodMemory) -> None:
        """Journal a changed status. A full journal must not keep a pod from running: it is told later."""
        before = self.journal.statuses.get(status.uid)
        memory.untold = None
        if status == before:
            return
        at = max(0, int(self.clock.wall()))
        events = [
            Event(status.uid, status.namespace, status.name, reason, message, warning, at, self.entropy.token(8).hex())
            for reason, message, warning in transitions(before, status)
        ]
        for event in events:
            pod = f"{status.namespace}/{status.name}"
            self.journal.note(self.clock.wall(), pod, status.uid, event.reason, event.message)
        try:
            await self.journal.tell(status, events)
            if self._full:
                self.log("journal: there is room again")
            self._full = False
        except StoreFull as why:
            self.counters["store_full"] += 1
            if not self._full:
                self.log(f"{why}; pods run on, the hub is told once there is room")
            self._full, memory.untold = True, status
            self._wakes[status.uid] = self.clock.now() + full_jitter(STEP_BACKOFF_S, 6, self.entropy.uniform())

    async def _forget(self, uid: str) -> None:
        try:
            await self.journal.forget(uid)
        except StoreFull:
            self._wakes[uid] = self.clock.now() + full_jitter(STEP_BACKOFF_S, 6, self.entropy.uniform())
            return
        for known in (self._memories, self._parsed, self._wakes, self._twins):
            known.pop(uid, None)

    # --- acting -------------------------------------------------------------------------------------------------------

    async def _act(self, uid: str, name: str, actions: tuple[Action, ...], memory: PodMemory) -> None:
        """Take the steps in order; stops of the same pod run at the same time. A failure ends the round, or of a step
        that is for one container, the round of that container."""
        hands = Hands(self.runtime, self.host, self._configs_of(uid).find)
        failed: set[str] = set()
        for stops, group in groupby(actions, key=lambda a: isinstance(a, StopContainer)):
            steps = [a for a in group if not container_of(a) or container_of(a) not in failed]
            worker = self._workers[uid]
            if stops:
                worker.yields = True
                results = await asyncio.gather(*(self._step(hands, name, uid, a, memory) for a in steps))
                worker.yields = False
                failed |= {container_of(a) for a, good in zip(steps, results, strict=True) if not good}
            else:
                for action in steps:
                    worker.yields = isinstance(action, PullImage)
                    if container_of(action) not in failed and not await self._step(hands, name, uid, action, memory):
                        failed.add(container_of(action))
                    if "" in failed:
                        return
            if "" in failed:
                return

    async def _step(self, hands: Hands, name: str, uid: str, action: Action, memory: PodMemory) -> bool:
        what, outcome = type(action).__name__, ""
        if isinstance(action, PullImage):
            memory.keys = self._keys(memory)
        try:
            if isinstance(action, HEAVY):
                async with self._heavy:
                    await hands.do(action, memory)
            else:
                await hands.do(action, memory)
        except (RuntimeAway, RuntimeFailed, VolumeFailed, Refused) as why:
            outcome = str(why)
            self._trouble(action, why, memory)
        self.hands_beat.works(POD_STEP_S_MAX)
        self.counters[what] += 1
        self.journal.note(self.clock.wall(), name, uid, told(action), action.why, outcome)
        if isinstance(action, RefreshVolumes):  # it is about no step that a container waits for
            memory.refresh = memory.refresh if outcome else FREE
        elif not outcome:
            if not isinstance(action, CLEARING):
                memory.hold = FREE
            if isinstance(action, RunContainer):
                memory.holds.pop(container_of(action), None)
            memory.trouble.pop(container_of(action), None)
        return not outcome

    def _trouble(self, action: Action, why: SkerryError, memory: PodMemory) -> None:
        """Remember a failed step, and when to try again."""
        if isinstance(action, RefreshVolumes):
            if not isinstance(why, Refused):  # what is not here is no matter of time
                tries = memory.refresh.failures + 1
                delay = full_jitter(STEP_BACKOFF_S, tries, self.entropy.uniform())
                memory.refresh = Hold(self.clock.now() + delay, tries)
            return
        if isinstance(action, RunContainer):  # its image may have been collected: ask again
            memory.images.discard(action.container.image)
        self.counters["failed_steps"] += 1
        container = container_of(action)
        failures = (memory.holds.get(container, FREE) if container else memory.hold).failures + 1
        delay = full_jitter(backoff(action, why), failures, self.entropy.uniform())
        hold = Hold(self.clock.now() + delay, failures)
        if isinstance(action, PullImage) and self._new_keys(memory):  # they changed while it was tried
            hold = replace(hold, until=0.0)
        if container:
            memory.holds[container] = hold
        else:
            memory.hold = hold
        if isinstance(why, RuntimeAway):
            self.journal.want_look()
            return
        memory.trouble[container] = (reason(action, why, failures), str(why))
