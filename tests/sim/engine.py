"""A simulated container engine: what containerd with its shims is to a board. It survives the agent, not a power cut.

State changes here are immediate and real; the seam in front of it (runtime.py) adds slowness, failures and lies. What a
container does is read from its first argument: `run` until it is stopped, `stubborn` does not hear SIGTERM,
`exit:CODE:S` ends by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from zlib import crc32

from sim.world import SimClock, World
from skerry.errors import RuntimeFailed
from skerry.model.observed import ContainerSeen, ContainerState, PodSeen, SandboxSeen, pods_seen
from skerry.model.pod import Pod, Resources
from skerry.ports import ContainerSpec

if TYPE_CHECKING:
    from sim.streams import SimDuplex

START_S = (0.01, 0.2)
TALK_BYTES_S = (0, 0, 100, 150_000)
TALK_S = 600.0
BURST_BYTES_S = 50_000_000  # of some that were silent
BURST_AFTER_S, BURST_S = 200.0, 20.0
POLITE_S = 0.5  # a polite program ends within this after SIGTERM


@dataclass(slots=True)
class Made:
    """A container with what it was made from."""

    seen: ContainerSeen
    pod: Pod
    spec: ContainerSpec
    resources: Resources
    run: int = 0  # which start its end timer belongs to
    logs: dict[int, int] = field(default_factory=dict)  # bytes of its log's files, as far as they were counted
    counted_at: float = 0.0
    silent_at: float = 0.0
    bytes_s: int = 0  # what it writes to its log until then


@dataclass(slots=True)
class Engine:
    world: World
    name: str
    clock: SimClock
    images: set[str] = field(default_factory=set)
    sandboxes: dict[str, SandboxSeen] = field(default_factory=dict)
    containers: dict[str, Made] = field(default_factory=dict)
    listeners: list[Callable[[str], None]] = field(default_factory=list)
    readers: list[Callable[[str], None]] = field(default_factory=list)  # told of writes to logs that were silent
    talkative: bool = True
    stopping: Callable[[Made, str], None] = lambda made, how: None  # told before a running container is stopped by us
    starts: int = 0
    streams: list[SimDuplex] = field(default_factory=list)  # those that were opened; closed ones for a while
    _made: int = 0

    # --- looking ------------------------------------------------------------------------------------------------------

    def look(self) -> dict[str, PodSeen]:
        return pods_seen(list(self.sandboxes.values()), [m.seen for m in self.containers.values()])

    def running(self, uid: str) -> dict[str, Made]:
        """Running containers of a pod by name."""
        return {
            m.seen.name: m
            for m in self.containers.values()
            if m.seen.pod_uid == uid and m.seen.state is ContainerState.RUNNING
        }

    # --- making -------------------------------------------------------------------------------------------------------

    def run_pod_sandbox(self, pod: Pod, attempt: int) -> str:
        for box in self.sandboxes.values():
            if (box.pod_uid, box.attempt) == (pod.uid, attempt):
                return box.id
        box_id = self._id("box")
        ip = f"10.88.{self._made // 250 % 250}.{self._made % 250 + 2}"
        self.sandboxes[box_id] = SandboxSeen(box_id, pod.uid, pod.namespace, pod.name, attempt, True, self._ns(), ip)
        self._tell(pod.uid)
        return box_id

    def create_container(self, pod: Pod, sandbox_id: str, spec: ContainerSpec) -> str:
        for made in self.containers.values():
            if (made.seen.pod_uid, made.seen.name, made.seen.attempt) == (pod.uid, spec.name, spec.attempt):
                return made.seen.id
        box = self.sandboxes.get(sandbox_id)
        if box is None or not box.ready:
            raise RuntimeFailed("CreateContainer", "NOT_FOUND", f"sandbox {sandbox_id} is not running")
        if spec.image not in self.images:
            raise RuntimeFailed("CreateContainer", "NOT_FOUND", f"image {spec.image} is not here")
        own_id = self._id("ctr")
        seen = ContainerSeen(
            own_id, sandbox_id, pod.uid, spec.name, spec.attempt, spec.fingerprint, ContainerState.CREATED,
            image=spec.image, image_id=f"sha256:{spec.image}", created_ns=self._ns(),
        )  # fmt: skip
        self.containers[own_id] = Made(seen, pod, spec, spec.resources)
        return own_id

    def start_container(self, own_id: str) -> None:
        made = self.containers.get(own_id)
        if made is None:
            raise RuntimeFailed("StartContainer", "NOT_FOUND", own_id)
        if made.seen.state is ContainerState.RUNNING:
            return
        box = self.sandboxes.get(made.seen.sandbox_id)
        if made.seen.state is not ContainerState.CREATED or box is None or not box.ready:
            raise RuntimeFailed("StartContainer", "UNKNOWN", f"{own_id} is {made.seen.state.value}")
        made.seen = replace(made.seen, state=ContainerState.RUNNING, started_ns=max(self._ns(), made.seen.created_ns))
        made.run += 1
        made.logs, made.counted_at = {0: 0}, self.world.now
        self.starts += 1
        where = f"{self.name} {made.pod.full_name}/{made.seen.name}.{made.seen.attempt}"
        self.world.tell("run", f"{where} runs as {own_id}")
        self._tell(made.seen.pod_uid)
        word = behaviour(made.spec)
        if word.startswith("exit:"):
            _, code, seconds = word.split(":")
            self.world.after(float(seconds), self._ends, own_id, made.run, int(code))
        if self.talkative:
            self.talk(own_id, talk_bytes_s(own_id), TALK_S)
            if bursts(own_id):
                self.world.after(BURST_AFTER_S, self._bursts, own_id, made.run)

    def talk(self, own_id: str, bytes_s: int, seconds: float) -> None:
        """From now on a container writes so much to its log."""
        made = self.containers[own_id]
        self.log_files(own_id)
        made.counted_at, made.bytes_s, made.silent_at = self.world.now, bytes_s, self.world.now + seconds
        if bytes_s:
            self._read(own_id)

    def write(self, own_id: str, size: int) -> None:
        """A container writes to its log at this moment."""
        files = self.log_files(own_id)
        files[min(files)] += size
        self._read(own_id)

    def talks(self, own_id: str) -> bool:
        made = self.containers.get(own_id)
        return made is not None and made.bytes_s > 0 and self.world.now < made.silent_at

    def log_files(self, own_id: str) -> dict[int, int]:
        """What a container says goes into number 0, or where that was renamed to; it falls silent after a while."""
        made = self.containers.get(own_id)
        if made is None:
            return {}
        until = min(self.world.now, made.silent_at) if made.seen.state is ContainerState.RUNNING else 0.0
        if until > made.counted_at:
            made.logs[min(made.logs)] += int((until - made.counted_at) * made.bytes_s)
            made.counted_at = until
        return made.logs

    def update_resources(self, own_id: str, resources: Resources) -> None:
        if own_id not in self.containers:
            raise RuntimeFailed("UpdateContainerResources", "NOT_FOUND", own_id)
        self.containers[own_id].resources = resources

    # --- unmaking -----------------------------------------------------------------------------------------------------

    def stop_takes(self, own_id: str, grace_s: int) -> float:
        """Seconds that StopContainer will need."""
        made = self.containers.get(own_id)
        if made is None or made.seen.state is not ContainerState.RUNNING:
            return 0.0
        return float(grace_s) if behaviour(made.spec) == "stubborn" else min(POLITE_S, float(grace_s))

    def kill(self, own_id: str, code: int, why: str = "") -> None:
        """A running container ends, for whatever reason."""
        made = self.containers.get(own_id)
        if made is not None and made.seen.state is ContainerState.RUNNING:
            now = max(self._ns(), made.seen.started_ns)
            made.seen = replace(made.seen, state=ContainerState.EXITED, exit_code=code, reason=why, finished_ns=now)
            where = f"{self.name} {made.pod.full_name}/{made.seen.name}.{made.seen.attempt}"
            self.world.tell("run", f"{where} ended with {code} ({own_id})")
            self._tell(made.seen.pod_uid)

    def stop_container(self, own_id: str, how: str) -> None:
        made = self.containers.get(own_id)
        if made is not None and made.seen.state is ContainerState.RUNNING:
            self.stopping(made, how)
            self.kill(own_id, 137 if behaviour(made.spec) == "stubborn" else 0)
        elif made is not None and made.seen.state is ContainerState.UNKNOWN:
            made.seen = replace(made.seen, state=ContainerState.EXITED, exit_code=255, finished_ns=self._ns())

    def remove_container(self, own_id: str) -> None:
        self.stop_container(own_id, "RemoveContainer")
        self.containers.pop(own_id, None)

    def stop_pod_sandbox(self, box_id: str) -> None:
        box = self.sandboxes.get(box_id)
        if box is not None and box.ready:
            for made in [m for m in self.containers.values() if m.seen.sandbox_id == box_id]:
                self.stop_container(made.seen.id, "StopPodSandbox")
            self.sandboxes[box_id] = replace(box, ready=False)
            self._tell(box.pod_uid)

    def remove_pod_sandbox(self, box_id: str) -> None:
        self.stop_pod_sandbox(box_id)
        for made in [m for m in self.containers.values() if m.seen.sandbox_id == box_id]:
            self.containers.pop(made.seen.id)
        self.sandboxes.pop(box_id, None)

    # --- what the world does to it ------------------------------------------------------------------------------------

    def power_cut(self) -> None:
        """Nothing runs any more; the engine remembers what it had."""
        for made in self.containers.values():
            if made.seen.state is ContainerState.RUNNING:
                made.seen = replace(made.seen, state=ContainerState.EXITED, exit_code=255, finished_ns=self._ns())
        self.sandboxes = {i: replace(box, ready=False) for i, box in self.sandboxes.items()}
        self.listeners.clear()
        self.readers.clear()

    def forget_all(self) -> None:
        """As power_cut, and its database is gone, too."""
        self.power_cut()
        self.sandboxes.clear()
        self.containers.clear()

    def lose_sandbox(self, box_id: str) -> None:
        """The sandbox's pause process dies, and with it what shares its namespaces."""
        box = self.sandboxes.get(box_id)
        if box is not None and box.ready:
            for made in [m for m in self.containers.values() if m.seen.sandbox_id == box_id]:
                self.kill(made.seen.id, 137, "Error")
            self.sandboxes[box_id] = replace(box, ready=False)
            self._tell(box.pod_uid)

    # --- private ------------------------------------------------------------------------------------------------------

    def _ends(self, own_id: str, run: int, code: int) -> None:
        made = self.containers.get(own_id)
        if made is not None and made.run == run:
            self.kill(own_id, code, "Completed" if code == 0 else "Error")

    def _bursts(self, own_id: str, run: int) -> None:
        made = self.containers.get(own_id)
        if made is not None and made.run == run and made.seen.state is ContainerState.RUNNING:
            self.world.tell("run", f"{self.name} {own_id} bursts")
            self.talk(own_id, BURST_BYTES_S, BURST_S)

    def _read(self, own_id: str) -> None:
        for reader in list(self.readers):
            reader(own_id)

    def _tell(self, uid: str) -> None:
        for listener in list(self.listeners):
            listener(uid)

    def _id(self, kind: str) -> str:
        self._made += 1
        return f"{kind}{self._made:06d}{self.name}"

    def _ns(self) -> int:
        return max(1, int(self.clock.wall() * 1e9))


def talk_bytes_s(own_id: str) -> int:
    """What a container writes to its log once it has begun."""
    return TALK_BYTES_S[crc32(own_id.encode()) % len(TALK_BYTES_S)]


def bursts(own_id: str) -> bool:
    """Whether it is one that is silent at first and then writes as fast as it can."""
    return crc32(own_id.encode()) % (2 * len(TALK_BYTES_S)) == 0


def behaviour(spec: ContainerSpec) -> str:
    """The word that says what a program does; a real argv is understood as the contract suite writes it."""
    words = (*spec.command, *spec.args)
    if words[:2] == ("/bin/sleep", "100000"):
        return "stubborn"
    if words[:2] == ("/bin/sh", "-c") and len(words) == 4:
        return f"exit:{words[3]}:0.01"
    return next((w for w in words if w in ("run", "stubborn") or w.startswith("exit:")), "run")
