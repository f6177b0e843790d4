"""What the device tells the hub: pod statuses, events and facts about itself.

Times are whole seconds since 1970 by the device's wall clock (0: not yet); they are for people, nothing compares them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum


class Phase(str, Enum):
    """Pod phases of the Kubernetes API."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class Life(str, Enum):
    """The three container states of the Kubernetes API."""

    WAITING = "waiting"
    RUNNING = "running"
    TERMINATED = "terminated"


@dataclass(frozen=True, slots=True)
class ContainerStatus:
    name: str
    life: Life
    image: str = ""
    image_id: str = ""
    container_id: str = ""  # as the runtime names it, without scheme
    restarts: int = 0
    reason: str = ""
    message: str = ""
    exit_code: int = 0
    started_at: int = 0
    finished_at: int = 0
    failures: int = 0  # exits in a row that came too early; decides the back-off, travels no further than the journal
    mark: str = ""  # fingerprint of what the failures belong to; travels no further than the journal
    last_container_id: str = ""  # the one before, as `lastState.terminated`
    last_exit_code: int = 0
    last_reason: str = ""
    last_started_at: int = 0
    last_finished_at: int = 0


@dataclass(frozen=True, slots=True)
class PodStatus:
    uid: str
    namespace: str
    name: str
    phase: Phase
    containers: tuple[ContainerStatus, ...] = ()
    reason: str = ""
    message: str = ""
    pod_ip: str = ""
    started_at: int = 0
    gone: bool = False  # a deletion is complete on this device: the hub may finish it at the API


@dataclass(frozen=True, slots=True)
class Event:
    """A Kubernetes Event about a pod (or about the node, with an empty pod_uid)."""

    pod_uid: str
    namespace: str
    name: str
    reason: str  # CamelCase
    message: str
    warning: bool
    at: int
    id: str  # unique on this device: repeated reports of one event are shown once


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What `kubectl get node -o wide` shows of the device."""

    cpu_millis: int
    memory_bytes: int
    pods_max: int
    architecture: str  # Go's name: amd64, arm64, arm
    operating_system: str
    os_image: str
    kernel: str
    boot_id: str
    machine_id: str
    runtime: str  # containerd://1.6.20
    agent: str  # skerry's version
    addresses: tuple[str, ...] = ()
    problem: str = ""  # why the device cannot look after its pods now, in one line; empty: it can


@dataclass(frozen=True, slots=True)
class LocalPod:
    """A pod that a manifest on the device asks for, not the hub. `uid` is the one that its status carries."""

    uid: str
    namespace: str
    name: str
    file: str  # the manifest's name in the folder
    body: bytes  # the pod as the journal holds it, deterministic CBOR


@dataclass(frozen=True, slots=True)
class LocalPods:
    """All pods from the device's folder of manifests: what the hub shows mirror pods of, and of no others."""

    pods: tuple[LocalPod, ...]


class ReportKind(IntEnum):
    """The number on the wire and in the outbox."""

    POD_STATUS = 1
    EVENT = 2
    NODE = 3
    LOCAL_PODS = 4


@dataclass(frozen=True, slots=True)
class OutboxItem:
    """One thing still to be told. `seq` grows by one within a journal id; `subject` is what a later one supersedes."""

    seq: int
    kind: ReportKind
    subject: str
    body: bytes  # wire.message encodes the value above
